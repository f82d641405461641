#!/usr/bin/env bash
# Terraform's replace() reads "//" as an empty regular expression, not as two slashes.
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

echo "version:    $(terraform version | head -1)"
# A substring between slashes is a regular expression; between the two slashes of "//" is nothing.
double=$(value 'replace("s3:a//b", "//", "/")')
single=$(value 'replace("s3:a/b", "/", "-")')
plain=$(value 'join("/", split("//", "s3:a//b"))')

cat <<END
good guess: replace("s3:a//b", "//", "/") is "s3:a/b": one slash for two
seen:       $double (a slash around every character)
            a single "/" is taken literally: $single
            what does fold the slashes: join and split: $plain
END

[[ $double == '"/s/3/:/a/////b/"' && $single == '"s3:a-b"' && $plain == '"s3:a/b"' ]] || {
  echo "changed: \"//\" is no longer an empty regular expression" >&2
  exit 1
}
