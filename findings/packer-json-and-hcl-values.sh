#!/usr/bin/env bash
# Packer's two template languages make different settings of the same "010" and the same true.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"

version=v0.6.10
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/hashicorp/packer-plugin-sdk@$version"
cat >main.go <<'END'
package main

import (
	"fmt"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/zclconf/go-cty/cty"
)

type disk struct {
	Size int64             `mapstructure:"volume_size" cty:"volume_size"`
	Tags map[string]string `mapstructure:"tags" cty:"tags"`
}

func (*disk) FlatMapstructure() interface{ HCL2Spec() map[string]hcldec.Spec } { return new(disk) }
func (*disk) HCL2Spec() map[string]hcldec.Spec {
	tags := &hcldec.AttrSpec{Name: "tags", Type: cty.Map(cty.String)}
	return hcldec.ObjectSpec{"volume_size": &hcldec.AttrSpec{Name: "volume_size", Type: cty.Number}, "tags": tags}
}

func main() {
	var fromJSON, fromHCL disk
	raw := map[string]any{"volume_size": "010", "tags": map[string]any{"gpu": true}} // as encoding/json gives it
	file, _ := hclsyntax.ParseConfig([]byte("volume_size = \"010\"\ntags = { gpu = true }\n"), "", hcl.InitialPos)
	value, _ := hcldec.Decode(file.Body, hcldec.ObjectSpec(fromHCL.HCL2Spec()), nil)
	fmt.Println(config.Decode(&fromJSON, nil, raw), config.Decode(&fromHCL, nil, value), fromJSON, fromHCL)
}
END
seen=$(go run . 2>build.log) || { cat build.log >&2 && exit 2; }
cat <<END
version:    packer-plugin-sdk $version
good guess: a value means the same in a JSON and in an HCL template
seen:       (error, error, settings from JSON, settings from HCL) $seen
            JSON reads "010" as octal and true as the text 1; HCL as ten and as the text true
END

[[ $seen == "<nil> <nil> {8 map[gpu:1]} {10 map[gpu:true]}" ]] || {
  echo "changed: one of the two languages converts a value differently now" >&2
  exit 1
}
