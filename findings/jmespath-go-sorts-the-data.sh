#!/usr/bin/env bash
# JMESPath in Go: a query with sort_by() sorts the data that it is asked of, so the next query gets another answer.
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
venv/bin/pip install --quiet --disable-pip-version-check jmespath==1.1.0
cat >answer.json <<'END'
{"Images": [{"ImageId": "ami-new", "CreationDate": "2026-11-30"}, {"ImageId": "ami-old", "CreationDate": "2026-01-01"}]}
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/jmespath/go-jmespath"
)

func main() {
	text, err := os.ReadFile("answer.json")
	if err != nil {
		panic(err)
	}
	var answer any
	if err := json.Unmarshal(text, &answer); err != nil {
		panic(err)
	}
	for _, query := range os.Args[1:] {
		found, err := jmespath.Search(query, answer)
		if err != nil {
			panic(err)
		}
		fmt.Print(found, " ")
	}
}
END
version=v0.4.0
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/jmespath/go-jmespath@$version"
go build -o ask . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
first='Images[0].ImageId'
queries=("$first" 'sort_by(Images, &CreationDate)[-1].ImageId' "$first")
go=$(./ask "${queries[@]}")
python=$(venv/bin/python -c 'import json, sys
import jmespath
with open("answer.json") as file:
    answer = json.load(file)
print(*(jmespath.search(query, answer) for query in sys.argv[1:]), "")' "${queries[@]}")
echo "version:    go-jmespath $version, jmespath 1.1.0"
echo "good guess: a query reads: the same one on the same data has the same answer, whatever was asked in between"
echo "seen:       $first, the newest by sort_by, $first again: Go ${go}; Python ${python}"
[[ $go == "ami-new ami-new ami-old " && $python == "ami-new ami-new ami-new " ]] || {
  echo "changed: sort_by leaves the data as it was, or sorts it in Python, too" >&2
  exit 1
}
