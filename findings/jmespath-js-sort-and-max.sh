#!/usr/bin/env bash
# JMESPath in JavaScript: sort() orders numbers as text, max_by() of dates is null, and the number of an empty tag is 0.
set -euo pipefail

command -v npm >/dev/null || {
  echo "npm not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jmespath==1.1.0
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts jmespath@0.16.0 @jmespath-community/jmespath@1.3.0
cat >answer.json <<'END'
{"Images": [
  {"ImageId": "ami-old", "CreationDate": "2026-01-01", "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 100}}]},
  {"ImageId": "ami-new", "CreationDate": "2026-11-30", "BlockDeviceMappings": [{"Ebs": {"VolumeSize": 30}}]}
], "Tag": {"Key": "keep-days", "Value": ""}}
END
queries=(
  'sort(Images[].BlockDeviceMappings[].Ebs.VolumeSize)'
  'max_by(Images, &CreationDate).ImageId'
  'to_number(Tag.Value)'
)
cat >ask.mjs <<'END'
import { readFileSync } from 'node:fs'
const [library, ...queries] = process.argv.slice(2)
const loaded = await import(library)
const search = loaded.search ?? loaded.default.search
for (const query of queries) console.log(JSON.stringify(search(JSON.parse(readFileSync('answer.json')), query)))
END
python=$(venv/bin/python -c 'import json, sys
import jmespath
with open("answer.json") as file:
    answer = json.load(file)
for query in sys.argv[1:]:
    print(json.dumps(jmespath.search(query, answer), separators=(",", ":")))' "${queries[@]}")
js=$(node ask.mjs jmespath "${queries[@]}")
community=$(node ask.mjs @jmespath-community/jmespath "${queries[@]}")
echo "versions:   jmespath 0.16.0 and @jmespath-community/jmespath 1.3.0 (npm), jmespath 1.1.0 (Python)"
echo "good guess: the sizes in order, the newest AMI and null for an empty text, as the specification has it, in each"
echo "seen:       Python     ${python//$'\n'/; }"
echo "            JavaScript ${js//$'\n'/; }"
echo "            community  ${community//$'\n'/; }"
[[ $python == $'[30,100]\n"ami-new"\nnull' && $js == $'[100,30]\nnull\n0' && $community == "$js" ]] || {
  echo "changed: JavaScript's or Python's answers" >&2
  exit 1
}
