"""Reads HCL and JSON files, and changes single values in them without touching any other byte.

`parse` (or `parse_json`) reads a text, `find` leads to a value, `replace`, `insert` and `set_attributes` return the
text with other values.
"""

from gpu_ami.hcl.edit import insert, quoted, replace, set_attributes
from gpu_ami.hcl.jsontext import parse_json
from gpu_ami.hcl.lookup import find
from gpu_ami.hcl.paths import Path, parse_path, show_path
from gpu_ami.hcl.tree import Attribute, Block, Body, Document, Entry, Value, parse

__all__ = [
    "Attribute",
    "Block",
    "Body",
    "Document",
    "Entry",
    "Path",
    "Value",
    "find",
    "insert",
    "parse",
    "parse_json",
    "parse_path",
    "quoted",
    "replace",
    "set_attributes",
    "show_path",
]
