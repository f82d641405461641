#!/usr/bin/env bash
# One AWS config file, read by boto3 and by the Go SDK of Packer and Terraform: five lines differ.
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
venv/bin/pip install --quiet --disable-pip-version-check botocore==1.44.7
go_version=v1.33.18

mkdir comment quotes twice named spaced
printf '[profile gpu]\nregion = ap-northeast-2 # Seoul\n' >comment/config
printf '[profile gpu]\nregion = "ap-northeast-2"\n' >quotes/config
printf '[profile gpu]\nregion = us-west-2\nregion = ap-northeast-2\n' >twice/config
printf '[profile "gpu"]\nregion = ap-northeast-2\n' >named/config
printf '[ profile gpu ]\nregion = ap-northeast-2\n' >spaced/config
cat >read.py <<'END'
import sys
from botocore import configloader, exceptions
for name in sys.argv[1:]:
    try:
        print(name, configloader.load_config(f"{name}/config")["profiles"].get("gpu", {}).get("region"))
    except exceptions.ConfigParseError:
        print(name, "error")
END
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/aws/aws-sdk-go-v2/config@$go_version"
cat >main.go <<'END'
package main

import ("context"; "fmt"; "os"; "github.com/aws/aws-sdk-go-v2/config")

func main() {
	for _, name := range os.Args[1:] {
		got, err := config.LoadSharedConfigProfile(context.Background(), "gpu", func(o *config.LoadSharedConfigOptions) {
			o.ConfigFiles, o.CredentialsFiles = []string{name + "/config"}, []string{os.DevNull}
		})
		fmt.Println(name, got.Region, err != nil)
	}
}
END
go run . comment quotes twice named spaced >seen 2>build.log || { cat build.log >&2 && exit 2; }
seen_go=$(paste -sd'|' seen)
seen_py=$(venv/bin/python read.py comment quotes twice named spaced | paste -sd'|' -)
echo "version:    botocore 1.44.7, aws-sdk-go-v2/config $go_version"
echo "good guess: two SDKs of AWS read the file that both document alike: the region is ap-northeast-2 in each case"
printf 'seen:       botocore        %s\n            Go (name, region, failed)  %s\n' "$seen_py" "$seen_go"
want_go='comment ap-northeast-2 false|quotes ap-northeast-2 false|twice ap-northeast-2 false|named  true|spaced ap-northeast-2 false'
want_py='comment ap-northeast-2 # Seoul|quotes "ap-northeast-2"|twice error|named ap-northeast-2|spaced None'
[[ $seen_go == "$want_go" && $seen_py == "$want_py" ]] || {
  echo "changed: one of the two SDKs reads its config file differently now" >&2
  exit 1
}
