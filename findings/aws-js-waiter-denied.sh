#!/usr/bin/env bash
# AWS SDK for JavaScript: a waiter that is refused by IAM asks on until its time is over; botocore's ends at the first refusal.
set -euo pipefail

command -v npm >/dev/null || {
  echo "npm not found on PATH" >&2
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
unset AWS_PROFILE AWS_ENDPOINT_URL
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 NODE_NO_WARNINGS=1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check boto3==1.44.8
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts @aws-sdk/client-ec2@3.1169.0
cat >deny.py <<'END'
import http.server

BODY = b"""<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors>
<RequestID>1</RequestID></Response>"""


class Deny(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(403)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


server = http.server.HTTPServer(("127.0.0.1", 0), Deny)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 deny.py >port 2>requests.log &
server=$!
for _ in $(seq 100); do
  [[ -s port ]] && break
  sleep 0.1
done
cat >wait.mjs <<'END'
import { EC2Client, waitUntilImageAvailable } from '@aws-sdk/client-ec2'
const client = new EC2Client({ endpoint: process.argv[2] })
try {
  await waitUntilImageAvailable({ client, minDelay: 1, maxDelay: 1, maxWaitTime: 5 }, { ImageIds: ['ami-0123456789abcdef0'] })
} catch (error) {
  console.log(error.name)
}
END
cat >wait.py <<'END'
import sys

import boto3

waiter = boto3.client("ec2", endpoint_url=sys.argv[1]).get_waiter("image_available")
try:
    waiter.wait(ImageIds=["ami-0123456789abcdef0"], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
except Exception as exc:
    print(type(exc).__name__)
END
count() { grep -c POST requests.log; }
python=$(venv/bin/python wait.py "http://127.0.0.1:$(cat port)")
python_requests=$(count)
js=$(node wait.mjs "http://127.0.0.1:$(cat port)")
js_requests=$(($(count) - python_requests))
echo "versions:   @aws-sdk/client-ec2 3.1169.0 (maxWaitTime of 5 s), botocore 1.44.8 (5 attempts)"
echo "good guess: both end at the first UnauthorizedOperation: the role will not get the right by waiting"
echo "seen:       botocore $python after $python_requests request; JavaScript $js after $js_requests requests"
[[ $python == WaiterError && $python_requests == 1 && $js == TimeoutError && $js_requests -ge 4 ]] || {
  echo "changed: when the two waiters end" >&2
  exit 1
}
