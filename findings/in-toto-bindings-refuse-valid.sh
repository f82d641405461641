#!/usr/bin/env bash
# in-toto's own bindings refuse statements that its specification allows, and change the numbers of those they take.
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
venv/bin/pip install --quiet --disable-pip-version-check in-toto-attestation==0.9.3
python3 - <<'END'
import json

digest = {"sha256": "0" * 64}
statement = {"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "gpu", "digest": digest}]}
statement["predicateType"] = "https://example.com/baked/v1"
for name, extra in (("none", {}), ("empty", {"predicate": {}}), ("numbers", {"predicate": {"disks": 2, "bytes": 2**53 + 1}})):
    with open(f"{name}.json", "w") as file:
        json.dump(statement | extra, file)
END
cat >main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	in_toto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	for _, name := range []string{"none", "empty", "numbers"} {
		text, err := os.ReadFile(name + ".json")
		if err != nil {
			panic(err)
		}
		var statement in_toto.Statement
		if err := protojson.Unmarshal(text, &statement); err != nil {
			panic(err)
		}
		if statement.Validate() != nil {
			fmt.Println("refused")
			continue
		}
		text, _ = protojson.Marshal(&statement)
		var written struct{ Predicate json.RawMessage }
		if err := json.Unmarshal(text, &written); err != nil {
			panic(err)
		}
		fmt.Println(string(written.Predicate))
	}
}
END
cat >read.py <<'END'
import json

import in_toto_attestation.v1.statement_pb2 as pb
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement

for name in ("none", "empty", "numbers"):
    with open(f"{name}.json") as file:
        statement = Statement.copy_from_pb(json_format.Parse(file.read(), pb.Statement()))
    try:
        statement.validate()
    except ValueError:
        print("refused")
        continue
    written = json.loads(json_format.MessageToJson(statement.pb))
    print(json.dumps(written["predicate"], sort_keys=True, separators=(",", ":")))
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/in-toto/attestation@v1.2.0
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
go=$(./read)
go=${go// /}
python=$(venv/bin/python read.py)
echo "versions:   in-toto-attestation 0.9.3 (Python), in-toto/attestation 1.2.0 (Go)"
echo "good guess: the predicate is optional, unset as good as empty, and whole numbers come back as they were"
echo "seen:       no predicate, an empty one, and {\"bytes\":9007199254740993,\"disks\":2} read, checked and written again:"
echo "            Python ${python//$'\n'/; }"
echo "            Go     ${go//$'\n'/; }"
[[ $python == $'refused\nrefused\n{"bytes":9007199254740992.0,"disks":2.0}' ]] &&
  [[ $go == $'refused\n{}\n{"bytes":9007199254740992,"disks":2}' ]] || {
  echo "changed: what the bindings refuse, or how numbers come back" >&2
  exit 1
}
