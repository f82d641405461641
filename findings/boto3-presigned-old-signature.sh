#!/usr/bin/env bash
# boto3: a presigned S3 link of an old region has signature version 2 and the global host; JavaScript's has version 4.
set -euo pipefail

command -v npm >/dev/null || {
  echo "npm not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset AWS_PROFILE AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_CONFIG_FILE=/dev/null NODE_NO_WARNINGS=1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check boto3==1.44.8
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts @aws-sdk/client-s3@3.1175.0 @aws-sdk/s3-request-presigner@3.1169.0
cat >sign.py <<'END'
import sys

import boto3

client = boto3.client("s3", region_name=sys.argv[1])
print(client.generate_presigned_url("get_object", Params={"Bucket": "gpu-releases", "Key": "bill.json"}))
END
cat >sign.mjs <<'END'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
const client = new S3Client({ region: process.argv[2] })
console.log(await getSignedUrl(client, new GetObjectCommand({ Bucket: 'gpu-releases', Key: 'bill.json' })))
END
# The host, and the version by the parameter that only this version has.
short() {
  local host=${1#https://} version=none
  [[ $1 == *[\?\&]AWSAccessKeyId=* ]] && version=2
  [[ $1 == *[\?\&]X-Amz-Algorithm=AWS4-* ]] && version=4
  echo "${host%%/*} version $version"
}
old=$(short "$(venv/bin/python sign.py us-west-2)")
new=$(short "$(venv/bin/python sign.py eu-central-1)")
js=$(short "$(node sign.mjs us-west-2)")
echo "versions:   boto3 1.44.8, @aws-sdk/s3-request-presigner 3.1169.0"
echo "good guess: version 4 and the region's own host in every SDK and region (an object under a KMS key takes nothing else)"
echo "seen:       boto3, us-west-2:      $old"
echo "            boto3, eu-central-1:   $new"
echo "            JavaScript, us-west-2: $js"
[[ $old == "gpu-releases.s3.amazonaws.com version 2" && $new == "gpu-releases.s3.amazonaws.com version 4" &&
  $js == "gpu-releases.s3.us-west-2.amazonaws.com version 4" ]] || {
  echo "changed: host or signature of a presigned link" >&2
  exit 1
}
