#!/usr/bin/env bash
# Asks import-linter about an import in a sub-folder that has no __init__.py, which Python itself imports.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check import-linter==2.17 grimp==3.20
mkdir -p "$work/bakery/aws"
touch "$work/bakery/__init__.py"
echo "import sqlite3" >"$work/bakery/aws/client.py"
echo "import bakery.aws.client" >"$work/bakery/main.py"
cat >"$work/.importlinter" <<'INI'
[importlinter]
root_package = bakery
include_external_packages = True

[importlinter:contract:one]
name = no database
type = forbidden
source_modules = bakery
forbidden_modules = sqlite3
INI
cd "$work"
contract() {
  PYTHONPATH=. venv/bin/lint-imports --no-cache 2>&1 | grep -E '^no database' | head -n 1 || true
}
ran="$(PYTHONPATH=. venv/bin/python -c 'import bakery.main, sys; print("sqlite3" in sys.modules)')"
plain="$(contract)"
touch bakery/aws/__init__.py
package="$(contract)"
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep -E '^(import-linter|grimp)'
echo "a good guess: the contract is broken both times, since Python runs the import both times"
echo "seen: Python ran the import: $ran; without __init__.py: $plain; with it: $package"
if [[ "$ran $plain $package" != "True no database KEPT no database BROKEN" ]]; then
  echo "the behaviour has changed: folders without __init__.py are read too" >&2
  exit 1
fi
