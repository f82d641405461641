#!/usr/bin/env bash
# Sorts version numbers of the kind Packer prints with Python's packaging and with the library Packer itself uses.
set -euo pipefail

command -v go >/dev/null || {
  echo "go is not on PATH" >&2
  exit 2
}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check packaging==26.4
cd "$work"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"sort"

	version "github.com/hashicorp/go-version"
)

func main() {
	var all version.Collection
	for _, text := range os.Args[1:] {
		all = append(all, version.Must(version.NewVersion(text)))
	}
	sort.Sort(all)
	for _, one := range all {
		fmt.Print(one.Original(), " ")
	}
}
GO
go mod init example >/dev/null 2>&1
go get github.com/hashicorp/go-version@v1.9.0 >/dev/null 2>&1
ask=(1.16.0 1.16.0-dev 1.16.0-beta2 1.16.0-alpha1)
python="$(venv/bin/python -c 'import sys
from packaging.version import Version
print(*sorted(sys.argv[1:], key=Version), "")' "${ask[@]}")"
go="$(go run . "${ask[@]}")"
echo "packaging 26.4, go-version 1.9.0"
echo "a good guess: both read these versions, so both put them in the same order"
echo "seen: Python $python; Go $go"
if [[ "$python" != "1.16.0-dev 1.16.0-alpha1 1.16.0-beta2 1.16.0 " || "$go" != "1.16.0-alpha1 1.16.0-beta2 1.16.0-dev 1.16.0 " ]]; then
  echo "the behaviour has changed: they order development builds alike" >&2
  exit 1
fi
