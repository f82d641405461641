#!/usr/bin/env bash
# cloud-init: of two cloud-config parts in one user data, the second one's lists take the place of the first one's.
set -euo pipefail

command -v apt-get >/dev/null || {
  echo "apt-get not found on PATH (Debian 12)" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
version=22.4.2-1+deb12u4
apt-get download "cloud-init=$version" >apt.log 2>&1 || { cat apt.log >&2 && exit 2; }
dpkg-deb --extract cloud-init_*.deb root
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check configobj==5.0.9 jinja2==3.1.6 jsonpatch==1.33 jsonschema==4.26.0 \
  oauthlib==3.3.1 pyyaml==6.0.3 requests==2.32.5
cat >merge.py <<'END'
import json
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

from cloudinit import handlers, helpers, user_data, util
from cloudinit.handlers.cloud_config import CloudConfigPartHandler

OURS = "#cloud-config\nruncmd: [mount-models]\npackages: [nvme-cli]\nbootcmd: [mask-agent]\n"
THEIRS = "#cloud-config\nruncmd: [join-cluster]\npackages: [jq]\n"
mail = MIMEMultipart()
for text in (OURS, THEIRS):
    mail.attach(MIMEText(text, "cloud-config", "us-ascii"))
paths = helpers.Paths({"cloud_dir": "cloud", "run_dir": "run"})
handler = CloudConfigPartHandler(paths)
handler.handle_part(None, handlers.CONTENT_START, None, None, None, {})
for number, part in enumerate(user_data.UserDataProcessor(paths).process(mail.as_string()).walk()):
    if part.get_content_maintype() != "multipart":
        text = util.decode_binary(part.get_payload(decode=True))
        handler.handle_part(None, part.get_content_type(), f"part-{number}", text, None, dict(part.items()))
print(json.dumps(handler.cloud_buf, sort_keys=True))
END
seen=$(PYTHONPATH=root/usr/lib/python3/dist-packages venv/bin/python -W ignore merge.py 2>error.log) || { cat error.log >&2 && exit 2; }
echo "version:    cloud-init $version"
echo "good guess: the commands and packages of both parts, as with two shell scripts in one user data"
echo "seen:       $seen"
[[ $seen == '{"bootcmd": ["mask-agent"], "packages": ["jq"], "runcmd": ["join-cluster"]}' ]] || {
  echo "changed: how the parts are merged" >&2
  exit 1
}
