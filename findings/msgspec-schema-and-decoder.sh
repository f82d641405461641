#!/usr/bin/env bash
# Asks msgspec's decoder and a validator with msgspec's own JSON schema about the same two documents.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check msgspec==0.23.0 jsonschema==4.26.0
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import json
import sys

import jsonschema
import msgspec


class Bake(msgspec.Struct, tag="bake", forbid_unknown_fields=True):
    minutes: int


def both(text):
    try:
        msgspec.json.decode(text, type=Bake)
        decoder = True
    except msgspec.ValidationError:
        decoder = False
    schema = jsonschema.Draft202012Validator(msgspec.json.schema(Bake)).is_valid(json.loads(text))
    return decoder, schema


untagged = both('{"minutes": 20}')
whole = both('{"type": "bake", "minutes": 20.0}')
versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("msgspec", "jsonschema"))
print(versions)
print("a good guess: a struct's decoder and the schema msgspec makes of it accept the same documents")
print(f"seen: without the tag: decoder {untagged[0]}, schema {untagged[1]}; 20.0 for an int: decoder {whole[0]}, schema {whole[1]}")
if untagged != (True, False) or whole != (False, True):
    sys.exit("the behaviour has changed: decoder and schema agree on one of them")
PY
