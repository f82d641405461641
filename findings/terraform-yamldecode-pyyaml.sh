#!/usr/bin/env bash
# Terraform's yamldecode and PyYAML read the same five scalars of one file five different ways.
set -euo pipefail

command -v terraform >/dev/null || {
  echo "terraform not found on PATH; install 1.11.4" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset TF_CLI_CONFIG_FILE TF_WORKSPACE TF_DATA_DIR
export CHECKPOINT_DISABLE=1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check PyYAML==6.0.3

cat >fleet.yaml <<'END'
account: 012345678901
mode: 0644
retries: 1e3
zone: n
until: 2026-11-30
END
hcl=$(terraform console <<<'nonsensitive(jsonencode(yamldecode(file("fleet.yaml"))))' |
  venv/bin/python -c 'import json, sys; print(json.loads(sys.stdin.read()))')
py=$(venv/bin/python -c 'import json, yaml
print(json.dumps(yaml.safe_load(open("fleet.yaml")), default=repr, sort_keys=True))')
want_hcl='{"account":12345678901,"mode":644,"retries":1000,"until":"2026-11-30T00:00:00Z","zone":false}'
want_py='{"account": "012345678901", "mode": 420, "retries": "1e3", "until": "datetime.date(2026, 11, 30)", "zone": "n"}'

cat <<END
version:    $(terraform version | head -1), PyYAML 6.0.3
good guess: both follow YAML's rules, so both give the same values (a date aside)
seen:       Terraform  $hcl
            PyYAML     $py
            the account number loses its zero, the mode is decimal, n is false: in Terraform only
END

[[ $hcl == "$want_hcl" && $py == "$want_py" ]] || {
  echo "changed: one of the two reads a scalar differently now" >&2
  exit 1
}
