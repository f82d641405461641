#!/usr/bin/env bash
# botocore: a paginator's search() yields one None for a listing that is empty, where the member is left out.
set -euo pipefail

unset AWS_PROFILE AWS_ENDPOINT_URL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'moto[s3,ec2]==5.2.5' boto3==1.44.8 botocore==1.44.8
cat >search.py <<'END'
import boto3
import moto

with moto.mock_aws():
    keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    s3, ec2 = boto3.client("s3", **keys), boto3.client("ec2", **keys)
    s3.create_bucket(Bucket="models")
    listing = s3.get_paginator("list_objects_v2")
    print("objects of an empty bucket:", list(listing.paginate(Bucket="models").search("Contents[].Key")))
    for number in range(3):
        s3.put_object(Bucket="models", Key=f"{number}.bin", Body=b"x")
    print("their number, a page of 2 at a time:", list(listing.paginate(Bucket="models", PaginationConfig={"PageSize": 2}).search("length(Contents)")))
    images = ec2.get_paginator("describe_images").paginate(Owners=["self"])
    print("AMIs where there are none:", list(images.search("Images[].ImageId")))
END
seen=$(venv/bin/python -W ignore search.py)
echo "version:    botocore 1.44.8, moto 5.2.5"
echo "good guess: nothing comes of an empty bucket, as nothing comes of an account without AMIs; 3 objects are 3"
printf 'seen:       %s\n' "${seen//$'\n'/; }"
want='objects of an empty bucket: [None]
their number, a page of 2 at a time: [2, 1]
AMIs where there are none: []'
[[ $seen == "$want" ]] || {
  echo "changed: what search() yields of pages without the member" >&2
  exit 1
}
