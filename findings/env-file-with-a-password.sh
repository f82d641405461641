#!/usr/bin/env bash
# One line of an ecs.config, JSON with a password that has a $ and a #, in the readers of such files.
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
venv/bin/pip install --quiet --disable-pip-version-check python-dotenv==1.2.4
echo '{"private": true}' >package.json
npm install --silent --ignore-scripts dotenv@18.0.10
cat >ecs.config <<'END'
ECS_ENGINE_AUTH_DATA={"registry.example":{"password":"up$ONCE#1"}}
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"strings"

	compose "github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/cli/opts"
	"github.com/joho/godotenv"
)

func main() {
	docker, err := opts.ReadKVEnvStrings([]string{"ecs.config"}, nil)
	if err != nil {
		panic(err)
	}
	_, value, _ := strings.Cut(docker[0], "=")
	fmt.Println("docker --env-file", value)
	for name, read := range map[string]func(...string) (map[string]string, error){"godotenv": godotenv.Read, "Compose": compose.Read} {
		values, err := read("ecs.config")
		if err != nil {
			panic(err)
		}
		fmt.Println(name, values["ECS_ENGINE_AUTH_DATA"])
	}
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/joho/godotenv@v1.5.1 -require github.com/compose-spec/compose-go/v2@v2.16.2 \
  -require github.com/docker/cli@v29.9.3+incompatible
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
seen=$({
  ./read 2>/dev/null
  venv/bin/python -c 'from dotenv import dotenv_values
print("python-dotenv", dotenv_values("ecs.config")["ECS_ENGINE_AUTH_DATA"])'
  node -e 'const text = require("fs").readFileSync("ecs.config")
console.log("dotenv (npm)", require("dotenv").parse(text).ECS_ENGINE_AUTH_DATA)'
} | LC_ALL=C sort)
echo "versions:   docker/cli 29.9.3, compose-go 2.16.2, godotenv 1.5.1, python-dotenv 1.2.4, dotenv 18.0.10 (npm)"
echo "good guess: $(cut -d= -f2- ecs.config), as written, from each"
echo "seen:       ${seen//$'\n'/$'\n'            }"
# shellcheck disable=SC2016 # The file's own text is meant.
[[ $seen == 'Compose {"registry.example":{"password":"up#1"}}
docker --env-file {"registry.example":{"password":"up$ONCE#1"}}
dotenv (npm) {"registry.example":{"password":"up$ONCE
godotenv {"registry.example":{"password":"up#1"}}
python-dotenv {"registry.example":{"password":"up$ONCE#1"}}' ]] || {
  echo "changed: what one of them reads" >&2
  exit 1
}
