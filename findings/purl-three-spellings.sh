#!/usr/bin/env bash
# Package URLs: one package has three "canonical" spellings in Python, Go and JavaScript, so bills can't be compared by text.
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
venv/bin/pip install --quiet --disable-pip-version-check packageurl-python==0.17.6
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts packageurl-js@2.0.1
cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/package-url/packageurl-go"
)

func main() {
	registry := map[string]string{"repository_url": "registry.example/gpu"}
	fmt.Println(packageurl.NewPackageURL("oci", "", "jobs", "sha256:0abc", packageurl.QualifiersFromMap(registry), "").ToString())
	fmt.Println(packageurl.NewPackageURL("pypi", "", "torch", "2.9.0+cu130", nil, "").ToString())
}
END
cat >spell.py <<'END'
from packageurl import PackageURL

registry = {"repository_url": "registry.example/gpu"}
print(PackageURL("oci", None, "jobs", "sha256:0abc", registry).to_string())
print(PackageURL("pypi", None, "torch", "2.9.0+cu130").to_string())
END
cat >spell.mjs <<'END'
import { PackageURL } from 'packageurl-js'
const registry = { repository_url: 'registry.example/gpu' }
console.log(new PackageURL('oci', null, 'jobs', 'sha256:0abc', registry, null).toString())
console.log(new PackageURL('pypi', null, 'torch', '2.9.0+cu130', null, null).toString())
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/package-url/packageurl-go@v0.1.7
go build -o spell . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
python=$(venv/bin/python spell.py)
go=$(./spell)
js=$(node spell.mjs)
echo "versions:   packageurl-python 0.17.6, packageurl-go 0.1.7, packageurl-js 2.0.1"
echo "good guess: a package URL has one canonical form, so bills of different tools can be compared by it"
echo "seen:       Python     ${python//$'\n'/  }"
echo "            Go         ${go//$'\n'/  }"
echo "            JavaScript ${js//$'\n'/  }"
image="pkg:oci/jobs@sha256:0abc?repository_url=registry.example"
torch=pkg:pypi/torch@2.9.0
[[ $python == "$image/gpu"$'\n'"$torch%2Bcu130" && $go == "$image%2Fgpu"$'\n'"$torch%2Bcu130" &&
  $js == "$image%2Fgpu"$'\n'"$torch+cu130" ]] || {
  echo "changed: how one of the three spells them" >&2
  exit 1
}
