#!/usr/bin/env bash
# Sizes such as 500GiB and 16Gi in three libraries: each one reads another number of bytes, and none of them complains.
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
venv/bin/pip install --quiet --disable-pip-version-check humanfriendly==10.0
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts bytes@3.1.2
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"github.com/docker/go-units"
)

func main() {
	for _, text := range os.Args[1:] {
		size, err := units.FromHumanSize(text)
		if err != nil {
			fmt.Print("refused ")
			continue
		}
		fmt.Print(size, " ")
	}
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/docker/go-units@v0.5.0
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
sizes=(500GiB 16Gi 512M)
go=$(./read "${sizes[@]}")
python=$(venv/bin/python -c 'import sys
from humanfriendly import parse_size
print(*map(parse_size, sys.argv[1:]), "")' "${sizes[@]}")
js=$(node -e 'console.log(process.argv.slice(1).map(require("bytes").parse).join(" "), "")' "${sizes[@]}")
echo "versions:   go-units 0.5.0 (Docker's), humanfriendly 10.0 (Python), bytes 3.1.2 (npm)"
echo "good guess: 500GiB is 536870912000 in each; 16Gi and 512M are that many GiB and MB, or are refused"
echo "seen:       ${sizes[*]} are, in bytes,"
echo "            go-units, FromHumanSize: ${go}(GiB is taken for GB)"
echo "            humanfriendly:           ${python}(Gi is taken for GB, GiB is not)"
echo "            bytes:                   ${js}(only GB is a unit: what it does not know is left out)"
[[ $go == "500000000000 refused 512000000 " && $python == "536870912000 16000000000 512000000 " && $js == "500 16 512 " ]] || {
  echo "changed: how many bytes one of the three reads" >&2
  exit 1
}
