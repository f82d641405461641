#!/usr/bin/env bash
# Reads one .tfvars with Terraform and with python-hcl2 told to strip quotes: it decodes \" and leaves $$ and heredocs as written.
set -euo pipefail

command -v terraform >/dev/null || {
  echo "terraform not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check python-hcl2==8.1.4
cat >values.tfvars <<'END'
plain   = "gpu-batch"
quote   = "say \"yes\""
accent  = "caf\u00e9"
dollar  = "$${HOME}"
heredoc = <<-EOT
  first
  second
EOT
key = { "eu west" = 1 }
END
cat >compare.py <<'END'
import json
import sys

import hcl2

with open("values.tfvars") as file:
    read = hcl2.load(file, serialization_options=hcl2.SerializationOptions(strip_string_quotes=True))
terraform = {name: row["value"] for name, row in json.load(sys.stdin).items()}
print("alike:", *sorted(name for name, value in terraform.items() if read[name] == value))
for name, value in terraform.items():
    if read[name] != value:
        print(f"{name}: {json.dumps(value)} is {json.dumps(read[name])}")
END
for name in plain quote accent dollar heredoc key; do
  printf 'variable "%s" {}\noutput "%s" { value = var.%s }\n' "$name" "$name" "$name"
done >main.tf
terraform apply -auto-approve -input=false -var-file=values.tfvars >apply.log 2>&1 || { cat apply.log >&2 && exit 2; }
seen=$(terraform output -json 2>/dev/null | venv/bin/python compare.py)
echo "version:    python-hcl2 8.1.4, Terraform $(terraform version -json 2>/dev/null | venv/bin/python -c 'import json,sys; print(json.load(sys.stdin)["terraform_version"])')"
echo "good guess: with strip_string_quotes a string is what Terraform has: it decodes escapes"
printf 'seen:       %s\n' "${seen//$'\n'/$'\n'            }"
want=$(
  cat <<'END'
alike: accent key plain quote
dollar: "${HOME}" is "$${HOME}"
heredoc: "first\nsecond\n" is "<<-EOT\n  first\n  second\nEOT"
END
)
[[ $seen == "$want" ]] || {
  echo "changed: python-hcl2 decodes these now, or fewer escapes" >&2
  exit 1
}
