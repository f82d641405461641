#!/usr/bin/env bash
# A Terraform plan that moves or forgets exits 2, yet every count of its summary is 0.
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

plan() { # name -> "exit status | counts | event's action | planned actions of the changed object"
  local rc=0
  terraform plan -json -detailed-exitcode -out=plan >events || rc=$?
  terraform show -json plan >plan.json
  python3 - "$rc" <<'END'
import json, sys
events = [json.loads(line) for line in open("events")]
(counts,) = (e["changes"] for e in events if e["type"] == "change_summary")
(event,) = (e["change"]["action"] for e in events if e["type"] == "planned_change")
changes = json.load(open("plan.json"))["resource_changes"]
actions = [c["change"]["actions"][0] for c in changes if c["address"] != "terraform_data.same"]
print(sys.argv[1], sum(counts[k] for k in ("add", "change", "remove", "import")), event, *actions)
END
}

same='resource "terraform_data" "same" {}'
printf '%s\nresource "terraform_data" "old" {}\n' "$same" >main.tf
terraform init -input=false >/dev/null
terraform apply -auto-approve -input=false >/dev/null
printf '%s\nresource "terraform_data" "new" {}\nmoved {\n  from = terraform_data.old\n  to   = terraform_data.new\n}\n' "$same" >main.tf
move=$(plan)
printf '%s\nremoved {\n  from = terraform_data.old\n  lifecycle {\n    destroy = false\n  }\n}\n' "$same" >main.tf
forget=$(plan)

cat <<END
version:    $(terraform version | head -1)
good guess: a summary of zeros means exit 0, and the event names the action of the plan
seen:       (exit status, sum of the counts, action in plan -json, action in show -json)
            moved:   $move
            removed: $forget
END

[[ $move == "2 0 move no-op" && $forget == "2 0 remove forget" ]] || {
  echo "changed: the summary or the names of moved and forgotten objects" >&2
  exit 1
}
