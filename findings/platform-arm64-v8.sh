#!/usr/bin/env bash
# The platform of a container image: arm64 and arm64/v8 are one for containerd and Docker, two for crane and its library.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/containerd/platforms"
	crane "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	for _, pair := range [][2]string{{"linux/arm64/v8", "linux/arm64"}, {"linux/x86_64", "linux/amd64"}, {"linux/arm64", "linux/arm64/v8"}} {
		matches := platforms.OnlyStrict(platforms.MustParse(pair[0])).Match(platforms.MustParse(pair[1]))
		wanted, err := crane.ParsePlatform(pair[0])
		if err != nil {
			panic(err)
		}
		there, err := crane.ParsePlatform(pair[1])
		if err != nil {
			panic(err)
		}
		fmt.Println(pair[0], "wanted,", pair[1], "there: containerd", matches, "crane", there.Satisfies(*wanted))
	}
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/containerd/platforms@v1.0.0-rc.5 -require github.com/google/go-containerregistry@v0.22.1
go build -o match . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
seen=$(./match)
echo "versions:   containerd/platforms 1.0.0-rc.5, go-containerregistry 0.22.1"
echo "good guess: v8 is the only arm64 and x86_64 another name of amd64, so each of these finds its image"
echo "seen:       ${seen//$'\n'/$'\n'            }"
[[ $seen == "linux/arm64/v8 wanted, linux/arm64 there: containerd true crane false
linux/x86_64 wanted, linux/amd64 there: containerd true crane false
linux/arm64 wanted, linux/arm64/v8 there: containerd true crane true" ]] || {
  echo "changed: which platforms are one for one of the two" >&2
  exit 1
}
