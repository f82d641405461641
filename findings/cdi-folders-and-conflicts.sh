#!/usr/bin/env bash
# CDI, by which containers get GPUs: .yml is not read, /var/run beats /etc, a device given twice is gone.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir etc run
export GOFLAGS="-mod=mod -buildvcs=false"

version=v1.1.0
go mod init finding >/dev/null 2>&1
go mod edit -require "tags.cncf.io/container-device-interface@$version"
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// spec writes a CDI file with one device, whose environment tells the file it came from.
func spec(path, device string) {
	text := "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"%s\"\n  containerEdits:\n    env: [\"FROM=%s\"]\n"
	os.WriteFile(path, fmt.Appendf(nil, text, device, path), 0o644)
}

func main() {
	spec("etc/other.yml", "1")
	spec("etc/nvidia.yaml", "0")
	spec("run/nvidia.yaml", "0")
	cache, _ := cdi.NewCache(cdi.WithSpecDirs("etc", "run"), cdi.WithAutoRefresh(false))
	fmt.Println(cdi.DefaultSpecDirs, cache.ListDevices(), cache.GetDevice("nvidia.com/gpu=0").ContainerEdits.Env, len(cache.GetErrors()))
	spec("run/second.yaml", "0")
	cache.Refresh()
	fmt.Println(cache.ListDevices(), len(cache.GetErrors()))
}
END
seen=$(go run . 2>build.log) || { cat build.log >&2 && exit 2; }
want='[/etc/cdi /var/run/cdi] [nvidia.com/gpu=0] [FROM=run/nvidia.yaml] 0
[] 2'

cat <<END
version:    container-device-interface $version
good guess: .yml is YAML too; the administrator's /etc/cdi beats /var/run/cdi; of two in one folder one wins
seen:       $seen
            no device 1 and no error for the .yml; /var/run/cdi wins; two in it: not even the one of /etc is left
END

[[ $seen == "$want" ]] || {
  echo "changed: which CDI files are read, or which of them wins" >&2
  exit 1
}
