#!/usr/bin/env bash
# Text such as "4p3" is a number to Terraform: p is a binary exponent there, in no number it writes.
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
variable "gpus" { type = number }
output "gpus" { value = var.gpus }
output "is_number" { value = [for text in ["4p3", "4e3", "0x4", "4_0"] : can(tonumber(text))] }
END
terraform init -input=false >/dev/null
terraform apply -auto-approve -input=false -var gpus=4p3 >/dev/null
gpus=$(terraform output -json gpus)
is_number=$(terraform output -json is_number)
literal=0
echo '4p3' | terraform console >/dev/null 2>&1 || literal=$?

cat <<END
version:    $(terraform version | head -1)
good guess: -var gpus=4p3 is refused: the error for bad numbers asks for a decimal, and 4p3 as an expression exits $literal
seen:       gpus is $gpus (4 times 2 to the third)
            can(tonumber()) of 4p3, 4e3, 0x4, 4_0: $is_number
END

[[ $gpus == 32 && $is_number == "[true,true,false,false]" && $literal == 1 ]] || {
  echo "changed: what text counts as a number" >&2
  exit 1
}
