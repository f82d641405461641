#!/usr/bin/env bash
# Terraform: taking the initialization rate out of a launch template's volume changes nothing; the old rate stays.
set -euo pipefail

command -v terraform >/dev/null || {
  echo "terraform not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
server=
cleanup() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[ec2,server]==5.2.5'
cat >serve.py <<'END'
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
server._thread.join()
END
venv/bin/python serve.py >port 2>server.log &
server=$!
for _ in $(seq 100); do
  [[ -s port ]] && break
  sleep 0.2
done
cat >main.tf <<END
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "5.100.0" }
  }
}
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "a"
  secret_key                  = "b"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints { ec2 = "http://127.0.0.1:$(cat port)" }
}
variable "rate" {
  type    = number
  default = null
}
variable "size" { type = number }
resource "aws_launch_template" "jobs" {
  name = "jobs"
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size                = var.size
      volume_type                = "gp3"
      volume_initialization_rate = var.rate
    }
  }
}
END
terraform init -input=false >init.log 2>&1 || { cat init.log >&2 && exit 2; }
terraform apply -auto-approve -input=false -var rate=300 -var size=80 >apply.log 2>&1 || { cat apply.log >&2 && exit 2; }
set +e
terraform plan -input=false -detailed-exitcode -var size=80 >plan.log 2>&1
unset_code=$?
terraform plan -input=false -detailed-exitcode -var size=90 -out later >/dev/null 2>&1
set -e
later=$(terraform show -json later | venv/bin/python -c '
import json, sys
change = json.load(sys.stdin)["resource_changes"][0]["change"]
ebs = change["after"]["block_device_mappings"][0]["ebs"][0]
print(ebs["volume_size"], ebs["volume_initialization_rate"])')
echo "version:    Terraform $(terraform version -json | venv/bin/python -c 'import json,sys; print(json.load(sys.stdin)["terraform_version"])'), provider aws 5.100.0, moto 5.2.5"
echo "good guess: an argument that is set to null is as one that is left out: the plan takes the rate of 300 away"
echo "seen:       plan without the rate exits with $unset_code (2 would be a change); with another size it plans: $later"
[[ $unset_code == 0 && $later == "90 300" ]] || {
  echo "changed: the rate can be taken away now" >&2
  exit 1
}
