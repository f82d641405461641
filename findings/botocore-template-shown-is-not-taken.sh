#!/usr/bin/env bash
# botocore: what EC2 shows of a launch template is not what CreateLaunchTemplate takes: the copy is refused unsent.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check botocore==1.44.8
cat >compare.py <<'END'
import botocore.session
from botocore.exceptions import ParamValidationError

session = botocore.session.get_session()
client = session.create_client("ec2", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
shown = {"ImageId": "ami-12345678", "MetadataOptions": {"State": "applied", "HttpTokens": "required"}}
model = client.meta.service_model


def beyond(ours, theirs, path=""):
    """Yield each member of an answer's shape that the request's shape has not."""
    if ours.type_name == "structure":
        for name, shape in ours.members.items():
            if name not in theirs.members:
                yield f"{path}.{name}".lstrip(".")
            else:
                yield from beyond(shape, theirs.members[name], f"{path}.{name}")
    elif ours.type_name == "list":
        yield from beyond(ours.member, theirs.member, f"{path}[]")


answer = model.operation_model("DescribeLaunchTemplateVersions").output_shape
data = answer.members["LaunchTemplateVersions"].member.members["LaunchTemplateData"]
request = model.operation_model("CreateLaunchTemplate").input_shape.members["LaunchTemplateData"]
try:
    client.create_launch_template(LaunchTemplateName="copy", LaunchTemplateData=shown)
except ParamValidationError as exc:
    print(str(exc).splitlines()[1])
print(", ".join(sorted(beyond(data, request))))
END
seen=$(venv/bin/python compare.py)
echo "version:    botocore 1.44.8"
echo "good guess: LaunchTemplateData of DescribeLaunchTemplateVersions can be given to CreateLaunchTemplate, to copy a template"
printf 'seen:       %s\n' "${seen//$'\n'/; only shown: }"
want='Unknown parameter in LaunchTemplateData.MetadataOptions: "State", must be one of: HttpTokens, HttpPutResponseHopLimit, HttpEndpoint, HttpProtocolIpv6, InstanceMetadataTags
MetadataOptions.State, NetworkInterfaces[].Ipv6Addresses[].IsPrimaryIpv6, Operator.HiddenByDefault, Operator.Managed'
[[ $seen == "$want" ]] || {
  echo "changed: a template's data is shown and taken alike now, or differs elsewhere" >&2
  exit 1
}
