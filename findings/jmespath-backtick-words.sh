#!/usr/bin/env bash
# JMESPath: `available` without quotes, as queries of the AWS CLI often have it, is a string in Python and an error in Go.
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
venv/bin/pip install --quiet --disable-pip-version-check jmespath==1.1.0
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts jmespath@0.16.0 @jmespath-community/jmespath@1.3.0
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"github.com/jmespath/go-jmespath"
)

func main() {
	images := []any{map[string]any{"ImageId": "ami-new", "State": "available"}}
	found, err := jmespath.Search(os.Args[1], map[string]any{"Images": images})
	if err != nil {
		fmt.Println("Go: refused")
		return
	}
	fmt.Println("Go:", found)
}
END
cat >ask.mjs <<'END'
const [library, query] = process.argv.slice(2)
const loaded = await import(library)
try {
  const found = (loaded.search ?? loaded.default.search)({ Images: [{ ImageId: 'ami-new', State: 'available' }] }, query)
  console.log(`${library}: ${JSON.stringify(found)}`)
} catch {
  console.log(`${library}: refused`)
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/jmespath/go-jmespath@v0.4.0
go build -o ask . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
# shellcheck disable=SC2016 # The backticks are the query's.
query='Images[?State==`available`].ImageId'
seen=$(
  venv/bin/python -W ignore -c 'import sys
import jmespath
print("Python:", jmespath.search(sys.argv[1], {"Images": [{"ImageId": "ami-new", "State": "available"}]}))' "$query"
  node ask.mjs jmespath "$query"
  node ask.mjs @jmespath-community/jmespath "$query"
  ./ask "$query"
)
echo "versions:   jmespath 1.1.0 (Python), jmespath 0.16.0 and @jmespath-community/jmespath 1.3.0 (npm), go-jmespath 0.4.0"
echo "good guess: a query that \"aws --query\" takes is taken everywhere"
echo "seen:       $query: ${seen//$'\n'/; }"
[[ $seen == "Python: ['ami-new']
jmespath: [\"ami-new\"]
@jmespath-community/jmespath: refused
Go: refused" ]] || {
  echo "changed: who takes a word without quotes" >&2
  exit 1
}
