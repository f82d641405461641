#!/usr/bin/env bash
# credential_process of an AWS profile: a shell runs it in JavaScript and in Go, none in Python.
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
unset AWS_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
export GOFLAGS="-mod=mod -buildvcs=false" NODE_NO_WARNINGS=1 AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_CONFIG_FILE="$work/config" AWS_SHARED_CREDENTIALS_FILE=/dev/null ACCOUNT=jobs
cat >tool <<'END'
#!/bin/sh
echo "{\"Version\": 1, \"AccessKeyId\": \"$1\", \"SecretAccessKey\": \"none\"}"
END
chmod +x tool
cat >config <<END
[profile variable]
credential_process = $work/tool \$ACCOUNT
[profile pipe]
credential_process = $work/tool build | sed s/build/verify/
END
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check botocore==1.44.8
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts @aws-sdk/credential-providers@3.1175.0
cat >main.go <<'END'
package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/config"
)

func main() {
	for _, profile := range []string{"variable", "pipe"} {
		loaded, err := config.LoadDefaultConfig(context.Background(), config.WithSharedConfigProfile(profile))
		if err != nil {
			panic(err)
		}
		keys, err := loaded.Credentials.Retrieve(context.Background())
		fmt.Print(keys.AccessKeyID, " ")
		if err != nil {
			fmt.Print("refused ")
		}
	}
}
END
cat >keys.mjs <<'END'
import { fromProcess } from '@aws-sdk/credential-providers'
for (const profile of ['variable', 'pipe']) process.stdout.write(`${(await fromProcess({ profile })()).accessKeyId} `)
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/aws/aws-sdk-go-v2/config@v1.33.18
go build -o keys . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
go=$(./keys)
js=$(node keys.mjs)
python=$(venv/bin/python -c 'from botocore.session import Session
for profile in ("variable", "pipe"):
    print(Session(profile=profile).get_credentials().access_key, end=" ")')
echo "versions:   aws-sdk-go-v2/config 1.33.18, @aws-sdk/credential-providers 3.1175.0, botocore 1.44.8"
echo "good guess: one line of one file is run in one way: by a shell, or by none"
# shellcheck disable=SC2016 # The profile's own text is meant, not the variable's value.
echo 'seen:       "tool $ACCOUNT" and "tool build | sed s/build/verify/" give the access keys'
echo "            Go ${go}; JavaScript ${js}; Python ${python}"
# shellcheck disable=SC2016
[[ $go == "jobs verify " && $js == "jobs verify " && $python == '$ACCOUNT build ' ]] || {
  echo "changed: who starts a shell for it" >&2
  exit 1
}
