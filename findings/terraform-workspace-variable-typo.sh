#!/usr/bin/env bash
# TF_WORKSPACE with a name that does not exist is no error: Terraform plans and applies from nothing.
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

echo 'resource "terraform_data" "queue" {}' >main.tf
terraform init -input=false >/dev/null
terraform workspace new production >/dev/null
terraform apply -auto-approve -input=false >/dev/null

select=0
terraform workspace select prodution >/dev/null 2>&1 || select=$?
plan=0
summary=$(TF_WORKSPACE=prodution terraform plan -no-color -input=false -detailed-exitcode) || plan=$?
TF_WORKSPACE=prodution terraform apply -auto-approve -input=false >/dev/null
list=$(terraform workspace list | tr -d '* ' | sort | paste -sd' ' -)
list=${list# }

cat <<END
version:    $(terraform version | head -1)
good guess: a workspace that does not exist is refused, as "workspace select" refuses it (exit $select)
seen:       plan exits $plan: $(grep -o 'Plan:.*' <<<"$summary")
            apply then makes the workspace; there are now: $list
END

[[ $select == 1 && $plan == 2 && $summary == *"Plan: 1 to add"* && $list == "default production prodution" ]] || {
  echo "changed: TF_WORKSPACE with an unknown name" >&2
  exit 1
}
