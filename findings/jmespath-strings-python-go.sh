#!/usr/bin/env bash
# Runs the same JMESPath comparisons in the Python and the Go library.
set -euo pipefail

command -v go >/dev/null || {
  echo "go is not on PATH" >&2
  exit 2
}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check jmespath==1.1.0
cd "$work"
cat >main.go <<'GO'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/jmespath/go-jmespath"
)

func main() {
	var images any
	if err := json.Unmarshal([]byte(os.Args[1]), &images); err != nil {
		panic(err)
	}
	for _, query := range os.Args[2:] {
		found, err := jmespath.Search(query, images)
		text, _ := json.Marshal(found)
		fmt.Println(string(text), err)
	}
}
GO
cat >search.py <<'PY'
import json, sys, jmespath
for query in sys.argv[2:]:
    try:
        print(json.dumps(jmespath.search(query, json.loads(sys.argv[1]))), "<nil>")
    except Exception as error:
        print("null", type(error).__name__)
PY
go mod init example >/dev/null 2>&1
go get -C "$work" github.com/jmespath/go-jmespath@v0.4.0 >/dev/null 2>&1
images='[{"id":"ami-1","on":"2026-01-01","gb":30},{"id":"ami-2","on":"2024-01-01","gb":"40"}]'
# shellcheck disable=SC2016 # a JMESPath number, not a command
ask=("$images" "[?on >= '2025'].id" '[?gb > `20`].id')
python="$(venv/bin/python search.py "${ask[@]}" | paste -sd';')"
go="$(go run . "${ask[@]}" | paste -sd';')"
echo "jmespath 1.1.0 (Python), go-jmespath 0.4.0"
echo "a good guess: one specification, so both find ami-1 by its date, and both skip the size that is a text"
echo "seen (result and error of each query): Python $python; Go $go"
if [[ "$python" != '["ami-1"] <nil>;null TypeError' || "$go" != '[] <nil>;["ami-1"] <nil>' ]]; then
  echo "the behaviour has changed" >&2
  exit 1
fi
