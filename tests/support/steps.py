"""The steps of the repository's own bake, for the cases of tests: parsing the template takes each worker a second."""

from __future__ import annotations

import re
from pathlib import Path

PACKER = Path(__file__).parents[2] / "packer"
_SHELL = re.compile(r'^  provisioner "shell" \{\n    script += "\$\{path\.root\}/scripts/([\w-]+)\.sh"$', re.MULTILINE)
# `test_these_are_the_steps_of_the_template` in tests/bake/test_packer_run.py holds it to the template.
STEPS = tuple(_SHELL.findall((PACKER / "aws-gpu-ami.pkr.hcl").read_text(encoding="utf-8")))
