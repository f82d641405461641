#!/usr/bin/env bash
# EventBridge's cron(0 10 ? * L *), the last day of the week, in the libraries that are made for such expressions.
set -euo pipefail

command -v npm >/dev/null || {
  echo "npm not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyawscron==1.0.7 aws-cron-expression-validator==1.1.15
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts aws-cron-parser@1.1.12 cronstrue@3.39.0
cat >next.py <<'END'
from datetime import datetime, timezone

from aws_cron_expression_validator.validator import AWSCronExpressionValidator
from pyawscron import AWSCron

LAST = "0 10 ? * L *"
print("aws-cron-expression-validator:", "valid" if AWSCronExpressionValidator.validate(LAST) == LAST else "refused")
try:
    print("pyawscron:", AWSCron(LAST).occurrence(datetime(2026, 12, 1, tzinfo=timezone.utc)).next())
except Exception as exc:
    print("pyawscron: parsed,", str(exc).strip())
END
cat >next.js <<'END'
const parser = require('aws-cron-parser').default ?? require('aws-cron-parser')
console.log('cronstrue:', require('cronstrue').toString('0 10 ? * L *', { dayOfWeekStartIndexZero: false }))
const cron = parser.parse('0 10 ? * L *')
try {
  console.log('aws-cron-parser:', parser.next(cron, new Date(Date.UTC(2026, 11, 1))))
} catch (error) {
  console.log('aws-cron-parser: parsed,', error.message.trim())
}
END
seen=$(venv/bin/python next.py && node next.js)
echo "versions:   pyawscron 1.0.7, aws-cron-expression-validator 1.1.15, aws-cron-parser 1.1.12, cronstrue 3.39.0"
echo "good guess: every Saturday at 10:00; both parsers say that they know the wildcard L"
echo "seen:       ${seen//$'\n'/$'\n'            }"
[[ $seen == "aws-cron-expression-validator: valid
pyawscron: parsed, AwsCronParser : this shouldn't happen, but iter 11 > 10
cronstrue: At 10:00 AM, only on Saturday
aws-cron-parser: parsed, AwsCronParser : this shouldn't happen, but iter > 10" ]] || {
  echo "changed: who can tell the next time" >&2
  exit 1
}
