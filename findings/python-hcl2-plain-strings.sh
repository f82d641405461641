#!/usr/bin/env bash
# Writes a variables file from an ordinary dictionary with python-hcl2, reads it again, and shows it to Terraform.
set -euo pipefail

command -v terraform >/dev/null || {
  echo "terraform is not on PATH" >&2
  exit 2
}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check python-hcl2==8.1.4
cat >"$work/main.tf" <<'HCL'
variable "ami_id" { type = string }
output "ami_id" { value = var.ami_id }
HCL
"$work/venv/bin/python" - "$work" <<'PY'
import importlib.metadata
import pathlib
import subprocess
import sys

import hcl2

work = pathlib.Path(sys.argv[1])
value = {"ami_id": "ami-0abc"}
written = hcl2.dumps(value)
again = hcl2.loads(written)
(work / "made.tfvars").write_text(written)
command = ["terraform", "plan", "-no-color", "-input=false", "-var-file=made.tfvars"]
plan = subprocess.run(command, cwd=work, capture_output=True, text=True)
refused = next((line for line in plan.stderr.splitlines() if "Error:" in line), "no error").lstrip("│ ")
exponent = hcl2.loads("timeout = 1e2\n")["timeout"]
release = subprocess.run(["terraform", "version"], capture_output=True, text=True).stdout.splitlines()[0]
print(f"python-hcl2 {importlib.metadata.version('python-hcl2')}, {release}")
print('a good guess: dumps() writes ami_id = "ami-0abc" and Terraform reads it; 1e2 is a number')
print(f"seen: dumps() writes {written!r}; loads() gives back the same {again == value}; Terraform says {refused!r}")
print(f"seen: loads() gives 1e2 as the text {exponent!r}")
if (written, again, refused, exponent) != ("ami_id = ami-0abc\n", value, "Error: Variables not allowed", "${1e2}"):
    sys.exit("the behaviour has changed: strings are quoted, or numbers with an exponent are numbers")
PY
