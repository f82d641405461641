#!/usr/bin/env bash
# Packer: a post-processor fails, and those in later blocks run all the same: the manifest lists the artifact of a failed build.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false" CHECKPOINT_DISABLE=1
version=v1.16.0
go mod init finding >/dev/null 2>&1
# Packer's own go.mod replaces this one, too, and a replacement holds for the main module alone.
go mod edit -require "github.com/hashicorp/packer@$version" -replace github.com/zclconf/go-cty=github.com/nywilken/go-cty@v1.13.3
echo "compiling Packer: some minutes the first time" >&2
go build -o packer github.com/hashicorp/packer >build.log 2>&1 || { cat build.log >&2 && exit 2; }
cat >main.pkr.hcl <<'END'
source "null" "image" { communicator = "none" }
build {
  sources = ["source.null.image"]
  post-processor "shell-local" { inline = ["exit 3"] }
  post-processor "shell-local" { inline = ["touch later"] }
  post-processor "manifest" { output = "manifest.json" }
}
END
code=0
./packer build -color=false main.pkr.hcl >out.log 2>&1 || code=$?
later=no
[[ ! -e later ]] || later=yes
listed=$(grep -c '"artifact_id": "Null"' manifest.json 2>/dev/null || true)
last=$(tail -n 1 out.log)
echo "version:    Packer ${version#v}"
echo "good guess: the first post-processor that fails ends the build: nothing runs behind it, and no manifest lists an artifact of it"
echo "seen:       exit $code, '$last'; the next block ran: $later; artifacts in the manifest: ${listed:-0}"
[[ "$code $later $listed $last" == "1 yes 1 ==> Builds finished but no artifacts were created." ]] || {
  echo "changed: what follows a failed post-processor, or what Packer says of it" >&2
  exit 1
}
