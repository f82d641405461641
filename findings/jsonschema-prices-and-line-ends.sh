#!/usr/bin/env bash
# JSON Schema: a price of 19.99 is no multiple of 0.01 for some validators, and an id with a line break fits ^...$ for some.
set -euo pipefail

for tool in go npm; do
  command -v "$tool" >/dev/null || {
    echo "$tool not found on PATH" >&2
    exit 2
  }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jsonschema==4.26.0 jsonschema-rs==0.61.2 msgspec==0.23.0
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts ajv@8.20.0
echo '{"type": "number", "multipleOf": 0.01}' >price.json
echo '{"type": "string", "pattern": "^ami-[0-9a-f]+$"}' >id.json
cat >check.py <<'END'
import json
from typing import Annotated

import jsonschema
import jsonschema_rs
import msgspec

PRICE, AMI, VALUES = json.load(open("price.json")), json.load(open("id.json")), (19.99, "ami-0abc\n")
print("jsonschema", *(jsonschema.Draft202012Validator(s).is_valid(v) for s, v in zip((PRICE, AMI), VALUES)))
print("jsonschema-rs", *(jsonschema_rs.Draft202012Validator(s).is_valid(v) for s, v in zip((PRICE, AMI), VALUES)))


def taken(value, kind):
    try:
        return msgspec.convert(value, kind) == value
    except msgspec.ValidationError:
        return False


kinds = (Annotated[float, msgspec.Meta(multiple_of=0.01)], Annotated[str, msgspec.Meta(pattern=AMI["pattern"])])
print("msgspec", *map(taken, VALUES, kinds))
END
cat >check.js <<'END'
const Ajv = require('ajv/dist/2020').default
const valid = (file, value) => (new Ajv().validate(require(file), value) ? 'True' : 'False')
console.log('ajv', valid('./price.json', 19.99), valid('./id.json', 'ami-0abc\n'))
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	fmt.Print("go-jsonschema")
	for file, text := range [2]string{"19.99", `"ami-0abc\n"`} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			panic(err)
		}
		schema := jsonschema.NewCompiler().MustCompile([]string{"price.json", "id.json"}[file])
		fmt.Print(map[bool]string{true: " True", false: " False"}[schema.Validate(value) == nil])
	}
	fmt.Println()
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/santhosh-tekuri/jsonschema/v6@v6.0.3
go build -o check . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
seen=$(venv/bin/python check.py && node check.js && ./check)
echo "versions:   jsonschema 4.26.0, jsonschema-rs 0.61.2, msgspec 0.23.0, ajv 8.20.0, santhosh-tekuri/jsonschema 6.0.3 (Go)"
echo "good guess: 19.99 is valid under multipleOf 0.01 and an id with a line break is not under ^...$, in each: True False"
echo "seen:       ${seen//$'\n'/; }"
[[ $seen == "jsonschema False True
jsonschema-rs True False
msgspec False True
ajv False False
go-jsonschema True False" ]] || {
  echo "changed: what one of the validators accepts" >&2
  exit 1
}
