#!/usr/bin/env bash
# Prometheus' Python client reads a counter of NVIDIA's DCGM exporter under another name than the one it has.
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
venv/bin/pip install --quiet --disable-pip-version-check prometheus-client==0.26.0
cat >metrics <<'END'
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0"} 5
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0"} 97
END
cat >main.go <<'END'
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

func main() {
	text, err := os.ReadFile("metrics")
	if err != nil {
		panic(err)
	}
	decoder := expfmt.NewDecoder(bytes.NewReader(text), expfmt.NewFormat(expfmt.TypeTextPlain))
	for {
		var family dto.MetricFamily
		if err := decoder.Decode(&family); err == io.EOF {
			break
		} else if err != nil {
			panic(err)
		}
		var written strings.Builder
		if _, err := expfmt.MetricFamilyToText(&written, &family); err != nil {
			panic(err)
		}
		lines := strings.Split(strings.TrimSpace(written.String()), "\n")
		fmt.Println(strings.Split(lines[len(lines)-1], "{")[0])
	}
}
END
go mod init finding >/dev/null 2>&1
go mod edit -require github.com/prometheus/common@v0.74.0
go build -o read . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
go=$(./read | LC_ALL=C sort)
python=$(venv/bin/python -c 'from prometheus_client.parser import text_string_to_metric_families as read
with open("metrics") as file:
    print(*sorted(sample.name for family in read(file.read()) for sample in family.samples), sep="\n")')
echo "versions:   prometheus-client 0.26.0 (Python), prometheus/common 0.74.0 (Go)"
echo "good guess: a sample is found by the name that the exporter gives it"
echo "seen:       Go     ${go//$'\n'/, }"
echo "            Python ${python//$'\n'/, }"
[[ $go == $'DCGM_FI_DEV_GPU_UTIL\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION' &&
  $python == $'DCGM_FI_DEV_GPU_UTIL\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION_total' ]] || {
  echo "changed: the name under which one of the two has the counter" >&2
  exit 1
}
