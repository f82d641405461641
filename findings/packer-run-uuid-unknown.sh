#!/usr/bin/env bash
# Packer: build.PackerRunUUID is the run's id in a provisioner, and the text <unknown> in a post-processor.
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
  provisioner "shell-local" {
    env    = { RUN = build.PackerRunUUID }
    inline = ["printf %s \"$RUN\" >in-provisioner"]
  }
  post-processor "shell-local" {
    env    = { RUN = build.PackerRunUUID }
    inline = ["printf %s \"$RUN\" >in-post-processor; printf %s \"$PACKER_RUN_UUID\" >in-environment"]
  }
  post-processor "manifest" {
    output      = "manifest.json"
    custom_data = { run = "run ${build.PackerRunUUID}", machine = build.ID }
  }
}
END
./packer build -color=false main.pkr.hcl >out.log 2>&1 || { cat out.log >&2 && exit 1; }
seen=$(
  python3 - <<'END'
import json

provisioner, post_processor, environment = (open(f"in-{name}").read() for name in ("provisioner", "post-processor", "environment"))
with open("manifest.json") as file:
    row = json.load(file)["builds"][0]
same = provisioner == environment == row["packer_run_uuid"] and len(provisioner) == 36
print(f"{same}; {post_processor}; {row['custom_data']['run']}; {row['custom_data']['machine']}")
END
)
echo "version:    Packer ${version#v}"
echo "good guess: build.PackerRunUUID is one value in the whole build, so custom_data of the manifest can hold it"
echo "seen:       provisioner, environment and manifest have the same UUID; in a post-processor; custom_data; build.ID there: $seen"
[[ $seen == "True; <unknown>; run <unknown>; Null" ]] || {
  echo "changed: a post-processor sees the run's id, or the build refuses to ask for it" >&2
  exit 1
}
