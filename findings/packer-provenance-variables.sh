#!/usr/bin/env bash
# Let Packer's post-processor "provenance" describe an artifact, with a variable of no template in the environment.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
version=v1.16.0
go mod init finding >/dev/null 2>&1
# Packer's own go.mod replaces this one, too, and a replacement holds for the main module alone.
go mod edit -require "github.com/hashicorp/packer@$version" -replace github.com/zclconf/go-cty=github.com/nywilken/go-cty@v1.13.3
cat >main.go <<'END'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer/post-processor/provenance"
)

func main() {
	var made provenance.PostProcessor
	check(made.Configure(map[string]any{"output_dir": "out", "user_variables": map[string]string{"run": "1"}}))
	ui := &packersdk.BasicUi{Reader: os.Stdin, Writer: io.Discard, ErrorWriter: io.Discard}
	id := "us-east-1:ami-0123456789abcdef0"
	artifact := &packersdk.MockArtifact{BuilderIdValue: "mitchellh.amazonebs", IdValue: id, FilesValue: []string{}}
	_, _, _, err := made.PostProcess(context.Background(), ui, artifact)
	check(err)
	text, err := os.ReadFile("out/mitchellh.amazonebs-us-east-1_ami-0123456789abcdef0.provenance.json")
	check(err)
	var said struct {
		Predicate struct {
			BuildDefinition struct{ ExternalParameters map[string]map[string]string }
		}
	}
	check(json.Unmarshal(text, &said))
	fmt.Println(said.Predicate.BuildDefinition.ExternalParameters)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
END
echo "compiling Packer's post-processor: some minutes the first time" >&2
go build -o describe . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
mkdir out
seen=$(PKR_VAR_color=blue ./describe 2>/dev/null)
echo "version:    Packer $version"
echo "good guess: external parameters are what the template's user_variables name: map[userVariables:map[run:1]]"
echo "seen:       with PKR_VAR_color=blue in the environment, which no template declares: $seen"
[[ $seen == "map[userVariables:map[color:blue run:1]]" ]] || {
  echo "changed: the provenance has other parameters now" >&2
  exit 1
}
