#!/usr/bin/env bash
# NVIDIA's driver versions, such as 580.95.05, in version libraries: printed without the zero, or refused.
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
venv/bin/pip install --quiet --disable-pip-version-check packaging==26.4 semver==3.1.1
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts semver@7.8.6
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	masterminds "github.com/Masterminds/semver/v3"
	"github.com/hashicorp/go-version"
	"golang.org/x/mod/semver"
)

func main() {
	fmt.Println("hashicorp/go-version", version.Must(version.NewVersion(os.Args[1])))
	fmt.Println("Masterminds/semver", masterminds.MustParse(os.Args[1]))
	fmt.Println("x/mod/semver", map[bool]string{true: "taken", false: "refused"}[semver.IsValid("v"+os.Args[1])])
}
END
cat >read.py <<'END'
import sys

import packaging.version
import semver

print("packaging", packaging.version.Version(sys.argv[1]))
try:
    print("semver (Python)", semver.Version.parse(sys.argv[1]))
except ValueError:
    print("semver (Python) refused")
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/hashicorp/go-version@v1.9.0 -require github.com/Masterminds/semver/v3@v3.5.0 \
  -require golang.org/x/mod@v0.43.0
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
driver=580.95.05
seen=$(./read "$driver" && venv/bin/python read.py "$driver" &&
  node -e 'const semver = require("semver")
console.log("semver (npm)", semver.valid(process.argv[1]) ?? "refused")
console.log("semver (npm), coerce", String(semver.coerce(process.argv[1])))' "$driver")
echo "versions:   go-version 1.9.0, Masterminds/semver 3.5.0, x/mod 0.43.0, packaging 26.4, semver 3.1.1 (Python) and 7.8.6 (npm)"
echo "good guess: $driver comes back as $driver, so it can be put into a package's name or an address"
echo "seen:       ${seen//$'\n'/; }"
[[ $seen == "hashicorp/go-version 580.95.5
Masterminds/semver 580.95.5
x/mod/semver refused
packaging 580.95.5
semver (Python) refused
semver (npm) refused
semver (npm), coerce null" ]] || {
  echo "changed: what one of the libraries makes of it" >&2
  exit 1
}
