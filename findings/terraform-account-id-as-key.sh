#!/usr/bin/env bash
# An account number as a bare key of a Terraform map loses its leading zero, with no warning.
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
variable "names" { type = map(string) }
output "keys" { value = keys(var.names) }
END
cat >terraform.tfvars <<'END'
names = {
  012345678901   = "bare"
  "023456789012" = "quoted"
}
END
terraform init -input=false >/dev/null
log=$(terraform apply -auto-approve -input=false -no-color 2>&1)
keys=$(terraform output -json keys)
bare_name=$(terraform console <<<'keys({ dev = 1 })[0]')

cat <<END
version:    $(terraform version | head -1)
good guess: a bare key is taken as written (dev means $bare_name), so 012345678901 is "012345678901"; or it is an error
seen:       $keys
            a bare number is a number first and text afterwards; only the quoted key keeps its zero
END

[[ $keys == '["023456789012","12345678901"]' && $log != *Warning* ]] || {
  echo "changed: the bare key's zero is kept, refused or warned of" >&2
  exit 1
}
