"""The steps of the repository's own bake, for the cases of tests: parsing the template takes each worker a second."""

from __future__ import annotations

import re
from pathlib import Path

PACKER = Path(__file__).parents[2] / "packer"
# One provisioner may run several scripts in a row.
_SHELL = re.compile(r'^  provisioner "shell" \{\n    scripts? += (.+)$', re.MULTILINE)
_SCRIPT = re.compile(r"/scripts/([\w-]+)\.sh")
# `test_these_are_the_steps_of_the_template` in tests/bake/test_packer_run.py holds it to the template.
STEPS = tuple(_SCRIPT.findall("\n".join(_SHELL.findall((PACKER / "aws-gpu-ami.pkr.hcl").read_text(encoding="utf-8")))))
