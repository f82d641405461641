#!/usr/bin/env bash
# Asks packaging 25 and 26 whether a pre-release is in a range of versions that names none.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >ask.py <<'END'
from packaging.specifiers import SpecifierSet

wanted = SpecifierSet(">=1.16")
print("1.17.0-dev" in wanted, wanted.contains("1.17.0-dev", prereleases=False), *wanted.filter(["1.16.0", "1.17.0-dev"]))
END
for version in 25.0 26.4; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet --disable-pip-version-check "packaging==$version"
done
before=$(venv-25.0/bin/python ask.py)
now=$(venv-26.4/bin/python ask.py)
echo "version:    packaging 25.0 and 26.4"
echo "good guess: '1.17.0-dev' in SpecifierSet('>=1.16') is False in both: pre-releases have to be asked for"
echo "seen:       in, contains(prereleases=False), filter beside 1.16.0: 25.0 $before; 26.4 $now"
[[ $before == "False False 1.16.0" && $now == "True False 1.16.0" ]] || {
  echo "changed: pre-releases are out of such a range again, or were in it before" >&2
  exit 1
}
