#!/usr/bin/env bash
# cfn-lint: a gp3 volume of 40,000 IOPS, as EC2 has them, is an error; one of 9,000 MiB/s and 70,000 GiB, which it has not, is none.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cfn-lint==1.58.0 botocore==1.44.8
template() {
  cat <<END
Resources:
  Template:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        ImageId: ami-0123456789abcdef0
        BlockDeviceMappings:
          - DeviceName: /dev/xvda
            Ebs: {VolumeType: gp3, VolumeSize: $1, Iops: $2, Throughput: $3}
END
}
template 100 40000 2000 >possible.yaml
template 70000 16000 9000 >impossible.yaml
venv/bin/cfn-lint --regions us-east-1 --format parseable possible.yaml >possible.log && possible=0 || possible=$?
venv/bin/cfn-lint --regions us-east-1 --format parseable impossible.yaml >impossible.log && impossible=0 || impossible=$?
limits=$(venv/bin/python -c 'import re
from botocore.session import Session
disk = Session().get_service_model("ec2").shape_for("LaunchTemplateEbsBlockDeviceRequest").members
limits = {"Iops": "gp3</code>: 3,000 - ([0-9,]+)", "Throughput": "Maximum value of ([0-9,]+)", "VolumeSize": "gp3</code>: 1 - ([0-9,]+)"}
print(*(f"{member} {re.search(limit, disk[member].documentation)[1]}" for member, limit in limits.items()))')
echo "versions:   cfn-lint 1.58.0, botocore 1.44.8"
echo "good guess: the linter has the limits of EC2's own model for gp3: $limits"
echo "seen:       100 GiB, 40000 IOPS, 2000 MiB/s:   exit $possible $(cut -d: -f6- possible.log)"
echo "            70000 GiB, 16000 IOPS, 9000 MiB/s: exit $impossible $(cut -d: -f6- impossible.log)"
[[ $possible == 2 && $(<possible.log) == *"40000 is greater than the maximum of 16000"* && $impossible == 0 &&
$limits == "Iops 80,000 Throughput 2,000 VolumeSize 65,536" ]] || {
  echo "changed: which disks the linter takes" >&2
  exit 1
}
