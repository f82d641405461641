"""EC2's answers as XML, written straight from botocore's model of each operation.

moto does the same in two steps, and asks for each property of each row anew under which names it may be found: for a
thousand AMIs that takes a second. Here it is resolved once for each kind of row. The bytes are the same.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from botocore.model import ListShape, Shape, StructureShape
from moto.core.serialize import AttributePickerContext, TimestampSerializer, XFormedAttributePicker
from moto.core.utils import get_service_model, get_value

# moto's changes to some properties before they are shown, by the last part of their path.
Changes = Mapping[str, Callable[[str, Any], Any]]
_Write = Callable[[list[str], Any, Changes], None]

_NOTHING = object()
_PICKER = XFormedAttributePicker()
_ZEROED = TimestampSerializer.TIMESTAMP_FORMAT_ISO8601_ZEROED
_TIMES = TimestampSerializer(_ZEROED)


def render(operation: str, result: object, transformers: Mapping[str, Callable[[Any], Any]]) -> str:
    """Return the XML of EC2's answer to *operation*.

    Args:
        operation: Such as ``DescribeImages``.
        result: What moto's method found: dictionaries by EC2's names, or moto's objects with properties of such names.
        transformers: moto's table of what to change in some properties, by the end of their path.
    """
    root, namespace, structure = _document(operation)
    out = [f'<?xml version="1.0" encoding="utf-8"?>\n<{root} xmlns="{namespace}">']
    if structure is not None and result is not None:
        structure.write(out, result, _changes(transformers))
    out.append(f"<requestId>request-id</requestId></{root}>")
    return "".join(out)


@functools.cache
def _document(operation: str) -> tuple[str, str, _Structure | None]:
    service = get_service_model("ec2")
    shape = service.operation_model(operation).output_shape
    structure = _Structure(shape, f"{operation}.{shape.name}") if isinstance(shape, StructureShape) else None
    return f"{operation}Response", str(service.metadata["xmlNamespace"]), structure


def _changes(transformers: Mapping[str, Callable[[Any], Any]]) -> Changes:
    """Return *transformers* by the last part of their path, so that one lookup tells that a property has none."""
    table: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {}
    for path, transform in transformers.items():
        table.setdefault(path.rpartition(".")[2], []).append((path, transform))
    return {name: functools.partial(_changed, some) for name, some in table.items()}


def _changed(candidates: list[tuple[str, Callable[[Any], Any]]], path: str, value: object) -> object:
    return next((transform(value) for end, transform in candidates if path.endswith(end)), value)


class _Member(NamedTuple):
    """A property: EC2's name, the names to look it up under, the tag to write, and how."""

    key: str
    names: tuple[str, ...]
    tag: str
    write: _Write


class _Structure:
    """Writes the properties of a structure; where they are is found out once for each class of object."""

    def __init__(self, shape: StructureShape, path: str) -> None:
        self._shape, self._path = shape, path
        self._plans: dict[type, tuple[Callable[[Any, str, object], Any], list[_Member]]] = {}

    def write(self, out: list[str], value: object, changes: Changes) -> None:
        pick, members = self._plans.get(type(value)) or self._plan(value)
        for key, names, tag, write in members:
            found: Any = _NOTHING
            for name in names:
                found = pick(value, name, _NOTHING)
                if found is not _NOTHING:
                    break
            if key in changes:
                found = changes[key](f"{self._path}.{key}", None if found is _NOTHING else found)
            if found is not None and found is not _NOTHING:
                _element(out, tag, write, found, changes)

    def _plan(self, value: object) -> tuple[Callable[[Any, str, object], Any], list[_Member]]:
        members = []
        for key, shape in self._shape.members.items():
            vars(shape)["parent"] = self._shape  # where moto looks for it
            context = AttributePickerContext(obj=value, key=key, shape=shape)
            names = tuple(dict.fromkeys(_PICKER.get_possible_keys(context)))
            tag = shape.serialization.get("name", key)
            members.append(_Member(key, names, tag, _writer(shape, f"{self._path}.{key}")))
        pick: Callable[[Any, str, object], Any] = get_value
        if type(value) is dict:
            pick = dict.get
        elif not hasattr(value, "__getitem__") and not any("." in name for member in members for name in member.names):
            pick = getattr
        self._plans[type(value)] = pick, members
        return pick, members


def _element(out: list[str], tag: str, write: _Write, value: object, changes: Changes) -> None:
    opened = len(out)
    out.append(f"<{tag}>")
    write(out, value, changes)
    if len(out) == opened + 1 or (len(out) == opened + 2 and not out[-1]):
        out[opened:] = [f"<{tag}/>"]
    else:
        out.append(f"</{tag}>")


def _writer(shape: Shape, path: str) -> _Write:
    if isinstance(shape, StructureShape):
        return _Structure(shape, path).write
    if isinstance(shape, ListShape):
        return _list_writer(shape, path)
    if shape.type_name == "timestamp":
        return functools.partial(_write_plain, functools.partial(_time, shape.serialization.get("timestampFormat")))
    return functools.partial(_write_plain, _TEXTS[shape.type_name])


def _list_writer(shape: ListShape, path: str) -> _Write:
    member = shape.member
    tag = member.serialization.get("name", "member")

    @functools.cache
    def writer() -> _Write:
        return _writer(member, f"{path}.{member.name}")  # only when it is needed: a shape may contain itself

    def write(out: list[str], value: Any, changes: Changes) -> None:
        write_one = writer()
        for item in value:
            _element(out, tag, write_one, item, changes)
            if out[-1] == f"<{tag}/>" and isinstance(member, StructureShape):
                out.pop()  # moto leaves a structure out in which there is nothing

    return write


def _write_plain(text: Callable[[Any], str], out: list[str], value: object, _changes: Changes) -> None:
    out.append(text(value))


def _time(form: str | None, value: Any) -> str:
    return str(_TIMES._convert_timestamp_to_str(value, form or _ZEROED))


_TEXTS: dict[str, Callable[[Any], str]] = {
    "blob": lambda value: base64.b64encode(value.encode() if isinstance(value, str) else value).decode(),
    "boolean": lambda value: "true" if str(value).lower() == "true" else "false",
    "double": lambda value: str(float(value)),
    "float": lambda value: str(float(value)),
    "integer": lambda value: str(int(value)),
    "long": lambda value: str(int(value)),
    "string": lambda value: escape(str(value)),
}
