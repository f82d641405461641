"""Reads YAML that people write: no key twice, and errors that name the line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import limited

if TYPE_CHECKING:
    import yaml


def parse_yaml(text: str, *, source: str) -> Any:
    """Return what the document *text* holds, as plain values; *source* names it in errors.

    Raises:
        UsageError: It is not YAML, nested too deeply, or a mapping has a key twice: YAML would let the last one win.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_keys(node, source, set())
        return loader.construct_document(node)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = limited(getattr(exc, "problem", None) or str(exc).splitlines()[0])
        msg = f"{source}{where} is not YAML: {problem}."
        raise UsageError(msg) from exc
    except ValueError as exc:
        msg = f"{source} has a value in the form of a day that there is not: put it in quotes, or correct it."
        raise UsageError(msg) from exc
    except RecursionError as exc:
        msg = f"{source} is nested too deeply to be read."
        raise UsageError(msg) from exc


def as_written(text: str) -> Any:
    """Return what the YAML document *text* holds with each value as it is written: 0123 is no 83."""
    import yaml

    return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes only text


def _check_keys(node: yaml.Node, source: str, seen: set[int]) -> None:
    """Refuse a key that occurs twice in its mapping.

    Before the values are made: after that, a key that overrides a merged one (``<<``) would seem to be a second one.
    """
    import yaml

    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item, source, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    where = f"lines {lines[name]} and {line}" if lines[name] != line else f"line {line}"
                    msg = f"{source} has the key {key.value!r} twice, in {where}: keep one."
                    raise UsageError(msg)
                lines[name] = line
            _check_keys(value, source, seen)
