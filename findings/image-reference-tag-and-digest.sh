#!/usr/bin/env bash
# An image's reference with a tag and a digest: what is its repository and what its tag, in four libraries.
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
venv/bin/pip install --quiet --disable-pip-version-check docker==7.2.0
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts docker-parse-image@3.0.1
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
)

func main() {
	docker, err := reference.ParseNormalizedNamed(os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println(docker.Name(), docker.(reference.Tagged).Tag())
	crane, err := name.ParseReference(os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println(crane.Context().Name(), crane.Identifier())
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/distribution/reference@v0.6.0 -require github.com/google/go-containerregistry@v0.22.1
go build -o split . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
digest=sha256:$(printf '0%.0s' {1..64})
image=registry.example/gpu/jobs:v1@$digest
short() { sed "s/$digest/DIGEST/g"; }
go=$(./split "$image" | short)
python=$(venv/bin/python -c 'import sys
from docker.utils import parse_repository_tag
print(*parse_repository_tag(sys.argv[1]))' "$image" | short)
js=$(node -e 'const { registry, namespace, repository, tag } = require("docker-parse-image")(process.argv[1])
console.log([registry, namespace, repository].join("/"), tag)' "$image" | short)
echo "versions:   distribution/reference 0.6.0 (Docker's), go-containerregistry 0.22.1 (crane), docker 7.2.0 (Python),"
echo "            docker-parse-image 3.0.1 (npm)"
echo "good guess: registry.example/gpu/jobs:v1@DIGEST has repository registry.example/gpu/jobs and tag v1 in each"
echo "seen:       Docker, crane      ${go//$'\n'/; }"
echo "            docker (Python)    $python"
echo "            docker-parse-image $js"
[[ $go == $'registry.example/gpu/jobs v1\nregistry.example/gpu/jobs DIGEST' && $python == "registry.example/gpu/jobs:v1 DIGEST" &&
  $js == "registry.example/gpu/jobs v1@DIGEST" ]] || {
  echo "changed: how one of the four splits it" >&2
  exit 1
}
