#!/usr/bin/env bash
# Cyclonedx-go writes a component of type cryptographic-asset as an application, in the version that has that type, too.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
cat >bill.json <<'END'
{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [
  {"type": "machine-learning-model", "name": "detector", "version": "7"},
  {"type": "cryptographic-asset", "name": "signing-key"}]}
END
cat >main.go <<'END'
package main

import (
	"bytes"
	"fmt"
	"os"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	for _, version := range []cdx.SpecVersion{cdx.SpecVersion1_6, cdx.SpecVersion1_4} {
		file, err := os.Open("bill.json")
		if err != nil {
			panic(err)
		}
		var bill, again cdx.BOM
		if err := cdx.NewBOMDecoder(file, cdx.BOMFileFormatJSON).Decode(&bill); err != nil {
			panic(err)
		}
		var text bytes.Buffer
		if err := cdx.NewBOMEncoder(&text, cdx.BOMFileFormatJSON).EncodeVersion(&bill, version); err != nil {
			fmt.Println(version, "refused")
			continue
		}
		if err := cdx.NewBOMDecoder(&text, cdx.BOMFileFormatJSON).Decode(&again); err != nil {
			panic(err)
		}
		fmt.Print(version, ":")
		for _, component := range *again.Components {
			fmt.Print(" ", component.Type)
		}
		fmt.Println()
	}
}
END
cat >write.py <<'END'
import json

from cyclonedx.model.bom import Bom
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open("bill.json") as file:
    text = file.read()
assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None, "the bill is no valid one"
for version in (SchemaVersion.V1_6, SchemaVersion.V1_4):
    try:
        written = json.loads(make_outputter(Bom.from_json(json.loads(text)), OutputFormat.JSON, version).output_as_string())
        print(f"{version.to_version()}:", *sorted((row["type"] for row in written["components"]), reverse=True))
    except Exception as exc:
        print(f"{version.to_version()}:", type(exc).__name__)
END
version=v0.12.0
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/CycloneDX/cyclonedx-go@$version"
go build -o write . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
go=$(./write)
python=$(venv/bin/python -W ignore write.py)
echo "version:    cyclonedx-go $version, cyclonedx-python-lib 11.12.0"
echo "good guess: in its own version 1.6 a bill keeps its types; 1.4, which lacks both, is refused"
echo "seen:       Go     ${go//$'\n'/; }"
echo "            Python ${python//$'\n'/; }"
[[ $go == "1.6: machine-learning-model application
1.4: application application" && $python == "1.6: machine-learning-model cryptographic-asset
1.4: SerializationOfUnsupportedComponentTypeException" ]] || {
  echo "changed: what becomes of the types" >&2
  exit 1
}
