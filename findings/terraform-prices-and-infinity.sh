#!/usr/bin/env bash
# Terraform's arithmetic: a price times hours becomes a text of 150 digits, and a division by zero is no error.
set -euo pipefail

command -v terraform >/dev/null || {
  echo "terraform not found on PATH; install 1.11.4" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset TF_CLI_CONFIG_FILE TF_WORKSPACE TF_DATA_DIR
export CHECKPOINT_DISABLE=1

value() { terraform console <<<"$1"; }

sum=$(value '0.1 + 0.2 == 0.3')
length=$(value 'length(tostring(0.526 * 730))')
start=$(value 'substr(tostring(0.526 * 730), 0, 12)')
rounded=$(value 'format("%.2f", 0.526 * 730)')
division=$(value 'can(360 / 0)')
least=$(value 'min(360 / 0, 5)')
echo "version:    $(terraform version | head -1)"
echo "good guess: 0.526 * 730 in a tag is 383.98, as 0.1 + 0.2 == 0.3 is $sum here; 360 / 0 is an error that can() and try() see"
echo "seen:       the text begins with $start and has $length characters (format(\"%.2f\") makes $rounded of it)"
echo "            can(360 / 0) is $division, and min(360 / 0, 5) is $least: it is infinite"
[[ $sum == true && $start == '"383.97999999"' && $length -gt 100 && $rounded == '"383.98"' && $division == true && $least == 5 ]] || {
  echo "changed: how exact its numbers are, or what a division by zero is" >&2
  exit 1
}
