#!/usr/bin/env bash
# Draws a text in "sans-serif" with resvg-py when one font file, Roboto, is the only font given.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check resvg-py==0.5.0 fontpkg-roboto==3.15
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import sys

import fontpkg_roboto
import resvg_py

fonts = [str(path) for path in fontpkg_roboto.ROOT.rglob("*.ttf")]
ROOM = '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="40">{}</svg>'


def draw(family, **more):
    text = f'<text x="5" y="25" font-size="20" font-family="{family}">12 minutes</text>' if family else ""
    return bytes(resvg_py.svg_to_bytes(svg_string=ROOM.format(text), font_files=fonts, skip_system_fonts=True, **more))


empty, named, generic = draw(""), draw("Roboto"), draw("sans-serif")
told = draw("sans-serif", sans_serif_family="Roboto")
small = draw("Roboto", width=100, height=100)
size = int.from_bytes(small[16:20], "big"), int.from_bytes(small[20:24], "big")
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("resvg-py", "fontpkg-roboto")))
print("a good guess: sans-serif falls back on the only font there is, or it is an error; width=100, height=100 gives 100x100")
print(f"seen: sans-serif draws nothing {generic == empty}, without an error; draws as Roboto once told so {told == named}")
print(f"seen: a picture of 200x40 with width=100, height=100 is {size[0]}x{size[1]}")
if not (generic == empty != named == told and size == (100, 20)):
    sys.exit("the behaviour has changed")
PY
