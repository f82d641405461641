#!/usr/bin/env bash
# SPDX licence expressions: Python's validator refuses a LicenseRef, that of npm an id in lower case; both are valid.
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
venv/bin/pip install --quiet --disable-pip-version-check license-expression==30.4.4
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts spdx-expression-parse@5.0.0
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"github.com/github/go-spdx/v2/spdxexp"
)

func main() {
	for _, expression := range os.Args[1:] {
		valid, _ := spdxexp.ValidateLicenses([]string{expression})
		fmt.Print(map[bool]string{true: "yes ", false: "no "}[valid])
	}
}
END
cat >check.js <<'END'
const parse = require('spdx-expression-parse')
for (const expression of process.argv.slice(2)) {
  try {
    parse(expression)
    process.stdout.write('yes ')
  } catch {
    process.stdout.write('no ')
  }
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/github/go-spdx/v2@v2.8.0
go build -o check . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
# A licence of one's own, the "or later" sign behind a licence without versions of its own, an id in lower case.
expressions=('LicenseRef-NVIDIA-Driver AND MIT' 'Apache-2.0+' 'apache-2.0')
python=$(venv/bin/python -c 'import sys
from license_expression import get_spdx_licensing
for expression in sys.argv[1:]:
    print("no" if get_spdx_licensing().validate(expression).errors else "yes", end=" ")' "${expressions[@]}")
go=$(./check "${expressions[@]}")
js=$(node check.js "${expressions[@]}")
echo "versions:   license-expression 30.4.4 (Python), go-spdx 2.8.0, spdx-expression-parse 5.0.0 (npm)"
echo "good guess: each takes a LicenseRef, a plus sign and an id in any case, as the specification has them: yes yes yes"
echo "seen:       Python ${python}; Go ${go}; JavaScript ${js}"
[[ $python == "no no yes " && $go == "yes yes yes " && $js == "yes yes no " ]] || {
  echo "changed: which expressions one of them takes" >&2
  exit 1
}
