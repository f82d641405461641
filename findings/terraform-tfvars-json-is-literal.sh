#!/usr/bin/env bash
# Strings of *.tfvars.json are no templates, unlike those of *.tf.json, and "//" is a comment there.
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

# The same text in a default (configuration) and in a variable file.
# shellcheck disable=SC2016
text='$${AWS_REGION} %%{x}'
cat >main.tf.json <<END
{
  "variable": {"default": {"default": "$text"}, "given": {"type": "string"}},
  "locals": {"config": "$text"},
  "output": {
    "config": {"value": "\${local.config}"},
    "default": {"value": "\${var.default}"},
    "given": {"value": "\${var.given}"}
  }
}
END
cat >gpu.auto.tfvars.json <<END
{"//": "written by a tool", "given": "$text"}
END
terraform init -input=false >/dev/null
log=$(terraform apply -auto-approve -input=false -no-color 2>&1)
seen=$(terraform output -json | python3 -c 'import json, sys
print(json.dumps({k: v["value"] for k, v in json.load(sys.stdin).items()}))')

cat <<END
version:    $(terraform version | head -1)
good guess: JSON syntax is one syntax: \$\${ and %%{ are escapes in every file, and "//" is an undeclared variable (a warning)
seen:       $seen
            an escape is undone in the configuration only; doubled in tfvars.json it stays doubled; no warning of "//"
END

cat >want <<'END'
{"config": "${AWS_REGION} %{x}", "default": "$${AWS_REGION} %%{x}", "given": "$${AWS_REGION} %%{x}"}
END
[[ $seen == "$(cat want)" && $log != *Warning* ]] || {
  echo "changed: tfvars.json strings or their comments" >&2
  exit 1
}
