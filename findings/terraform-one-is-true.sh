#!/usr/bin/env bash
# Terraform takes 1 and 0 for a bool, although its documentation has only "true" and "false"; TRUE it refuses.
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
cat >main.tf <<'END'
variable "spot" { type = bool }
output "spot" { value = var.spot }
END
given() { terraform plan -no-color -input=false -var "spot=$1" 2>/dev/null | sed -n 's/^ *+ spot *= *//p' | grep . || echo refused; }
one=$(given 1)
zero=$(given 0)
upper=$(given TRUE)
yes=$(given yes)
function=$(terraform console -var spot=true <<<'tobool("1")')
echo "version:    $(terraform version | head -1)"
echo 'good guess: of texts only "true" and "false" are a bool, as the page of tobool() has it'
echo "seen:       -var spot=1 is $one, spot=0 $zero, spot=TRUE $upper, spot=yes $yes; tobool(\"1\") is $function"
[[ "$one $zero $upper $yes $function" == "true false refused refused true" ]] || {
  echo "changed: which texts are a bool" >&2
  exit 1
}
