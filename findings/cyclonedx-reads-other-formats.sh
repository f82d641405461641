#!/usr/bin/env bash
# CycloneDX's libraries in Python and Go read an SPDX document without an error, as a bill of nothing.
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
venv/bin/pip install --quiet --disable-pip-version-check cyclonedx-python-lib==11.12.0
echo '{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": [{"name": "kernel", "SPDXID": "SPDXRef-kernel"}]}' >spdx.json
echo '{"bomFormat": "CycloneDX", "specVersion": "9.9", "components": [{"type": "library", "name": "kernel"}]}' >later.json
cat >read.py <<'END'
import json

from cyclonedx.model.bom import Bom

for name in ("spdx", "later"):
    with open(f"{name}.json") as file:
        document = json.load(file)
    try:
        print(name, len(Bom.from_json(document).components))
    except Exception as exc:
        print(name, type(exc).__name__)
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	for _, name := range []string{"spdx", "later"} {
		file, err := os.Open(name + ".json")
		if err != nil {
			panic(err)
		}
		var bill cdx.BOM
		if err := cdx.NewBOMDecoder(file, cdx.BOMFileFormatJSON).Decode(&bill); err != nil {
			fmt.Println(name, "error")
		} else if bill.Components == nil {
			fmt.Println(name, 0)
		} else {
			fmt.Println(name, len(*bill.Components))
		}
	}
}
END
version=v0.12.0
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/CycloneDX/cyclonedx-go@$version"
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
python=$(venv/bin/python -W ignore read.py | paste -sd,)
go=$(./read | paste -sd,)
echo "version:    cyclonedx-python-lib 11.12.0, cyclonedx-go $version"
echo "good guess: both refuse a document that is no CycloneDX, or of a version that there is not"
echo "seen:       components that Python reads: ${python/,/, }; Go: ${go/,/, }"
[[ $python == "spdx 0,later 1" && $go == "spdx 0,later error" ]] || {
  echo "changed: what of another format or version is read as a bill" >&2
  exit 1
}
