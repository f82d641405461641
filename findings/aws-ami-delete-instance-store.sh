#!/usr/bin/env bash
# aws-ami-delete: of an AMI with an instance store, as GPU types have one, it deregisters the AMI and leaves snapshots behind.
set -euo pipefail

work=$(mktemp -d)
server=
cleanup() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check aws-ami-delete==0.0.3 boto3==1.44.8
# moto invents an AMI's disks, so a few lines answer as EC2 does.
cat >ec2.py <<'END'
import http.server
import urllib.parse

DISKS = (
    "<item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-00000000000000001</snapshotId></ebs></item>"
    "<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>"
    "<item><deviceName>/dev/sdc</deviceName><ebs><snapshotId>snap-00000000000000002</snapshotId></ebs></item>"
)
IMAGE = f"<item><imageId>ami-00000000000000001</imageId><blockDeviceMapping>{DISKS}</blockDeviceMapping></item>"


class Ec2(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        action = asked["Action"]
        with open("calls", "a") as calls:
            print(action, asked.get("SnapshotId", ""), file=calls)
        inside = f"<imagesSet>{IMAGE}</imagesSet>" if action == "DescribeImages" else "<return>true</return>"
        body = f"<{action}Response>{inside}</{action}Response>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Ec2)
print(server.server_port, flush=True)
server.serve_forever()
END
python3 ec2.py >port 2>server.log &
server=$!
for _ in $(seq 100); do
  [[ -s port ]] && break
  sleep 0.1
done
unset AWS_PROFILE
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1
AWS_ENDPOINT_URL=http://127.0.0.1:$(cat port) venv/bin/python -m aws_ami_delete ami-00000000000000001 >out.log 2>&1 && code=0 || code=$?
calls=$(sed 's/ *$//' calls)
error=$(tail -1 out.log)
echo "version:    aws-ami-delete 0.0.3, boto3 1.44.8"
echo "good guess: the AMI and the snapshots of both volumes go; the instance store has none"
echo "seen:       exit $code, $error, after ${calls//$'\n'/, }"
[[ $code == 1 && $error == "KeyError: 'Ebs'" && $calls == "DescribeImages
DeregisterImage
DeleteSnapshot snap-00000000000000001" ]] || {
  echo "changed: what it does with an AMI that has an instance store" >&2
  exit 1
}
