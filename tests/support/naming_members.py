"""Members of AWS's answers whose names say that an AMI or a snapshot is in them, held against docs/references.md.

``python -m tests.support.naming_members FILE`` writes to FILE, as JSON, what the installed botocore has and the page
lacks. Without FILE it brings the page's rows of what sources read in line with the sources; with the newest botocore,
because it leaves out what the installed one lacks.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.service_models import service_models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "references.md"
OPERATIONS = re.compile(r"Describe|Get|List|BatchGet|Search")
CLASSES = ("read by", "observer", "cannot name ours", "no listing")

# "image" and "snapshot" wherever they stand; "ami" is in too many words (family, streaming, dynamic) to be looked for
# but as a word of its own, as CamelCase, snake_case and a prefix of "id" have it.
_ANYWHERE = re.compile(r"image|snapshot", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_AMI = re.compile(r"(?:[a-z]*[^aeiou\W])?amis?(?:ids?|arns?)|amis?", re.IGNORECASE)
# AMIs is two words of CamelCase, and EC2AMIId three.
_CAPITALS = re.compile(r"AMI(?=s?(?:[A-Z_\d]|$))")
# What an image or a snapshot calls its own name, where nothing but the thing around it says what it is.
_COLUMNS = 4
_OWN_NAME = re.compile(r"id|arn|identifier|reference|ref", re.IGNORECASE)


def says_image(name: str) -> bool:
    """Return whether a member or a shape of this name may hold the id of an AMI or a snapshot."""
    if _ANYWHERE.search(name) or _CAPITALS.search(name):
        return True
    return any(_AMI.fullmatch(word) for word in _WORD.findall(name))


@dataclass(frozen=True, order=True)
class Member:
    """A member that is a string, or a list or map of strings, somewhere in the answer of an operation."""

    service: str
    operation: str
    shape: str
    name: str

    @property
    def everywhere(self) -> str:
        """How a row names it whatever the operation."""
        return f"{self.shape}.{self.name}"

    @property
    def here(self) -> str:
        """How a row names it in one operation."""
        return f"{self.operation} {self.everywhere}"


@dataclass(frozen=True)
class Row:
    """A row of the page's first table.

    Attributes:
        service: By botocore's name.
        members: As the row names them.
        kind: One of `CLASSES`.
        sources: Those that read them.
    """

    service: str
    members: tuple[str, ...]
    kind: str
    sources: tuple[str, ...] = ()


def rows(page: str) -> list[Row]:
    """Return the rows of the page's table of members.

    Raises:
        ValueError: A row is of no known class.
    """
    found = []
    for cells in _table(page, "| service | members |"):
        service, named, kind = (cells[0].strip("`"), tuple(_quoted(cells[1])), cells[2])
        is_read = kind.startswith("read by ")
        if not is_read and kind not in CLASSES:
            msg = f"no class: {kind} ({service})"
            raise ValueError(msg)
        found.append(Row(service, named, "read by" if is_read else kind, tuple(_quoted(kind)) if is_read else ()))
    return found


def texts(page: str) -> dict[str, tuple[str, ...]]:
    """Return what sources read besides, by ``service:Operation Member[].Member``, with the sources that read it."""
    return {_quoted(cells[0])[0]: tuple(_quoted(cells[1])) for cells in _table(page, "| read too |")}


def _table(page: str, heading: str) -> Iterator[list[str]]:
    lines = iter(page.splitlines())
    for line in lines:
        if line.startswith(heading):
            break
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def model_members(services: Iterable[str] | None = None) -> set[Member]:
    """Return the members of the installed botocore's models (of *services*, or all) that may name an image."""
    from botocore.exceptions import DataNotFoundError, UnknownServiceError

    loader = service_models()
    found: set[Member] = set()
    for service in services or loader.list_available_services("service-2"):
        try:
            model = loader.load_service_model(service, "service-2")
        except (DataNotFoundError, UnknownServiceError):
            continue
        found |= _members(service, model)
    return found


def _members(service: str, model: Mapping[str, Any]) -> set[Member]:
    shapes = model["shapes"]
    around = {name for name in shapes if says_image(name)}
    around |= {
        _innermost(shapes, member["shape"])[-1]
        for shape in shapes.values()
        for name, member in shape.get("members", {}).items()
        if says_image(name)
    }
    found = set()
    for operation, body in model["operations"].items():
        if not OPERATIONS.match(operation) or "output" not in body:
            continue
        for shape in _reachable(shapes, body["output"]["shape"]):
            for name, member in shapes[shape].get("members", {}).items():
                chain = _innermost(shapes, member["shape"])
                innermost = shapes[chain[-1]]
                if innermost["type"] != "string" or "enum" in innermost:
                    continue
                is_own = shape in around and _OWN_NAME.fullmatch(name)
                if is_own or any(map(says_image, (name, *chain))):
                    found.add(Member(service, operation, shape, name))
    return found


def _innermost(shapes: Mapping[str, Any], name: str) -> list[str]:
    """Return the names of a shape, of what it is a list or a map of, and so on."""
    chain = [name]
    while (shape := shapes[chain[-1]])["type"] in ("list", "map") and len(chain) < 9:
        chain += [shape["key"]["shape"]] if shape["type"] == "map" else []
        chain.append((shape.get("member") or shape["value"])["shape"])
    return chain


def _reachable(shapes: Mapping[str, Any], name: str) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        shape = _innermost(shapes, todo.pop())[-1]
        if shape not in seen and shapes[shape]["type"] == "structure":
            seen.add(shape)
            todo += [member["shape"] for member in shapes[shape].get("members", {}).values()]
    return seen


def read_members() -> dict[Member, set[str]]:
    """Return what the sources read of the models' members, with the sources; what a model lacks is left out."""
    found: dict[Member, set[str]] = {}
    for source in SOURCES:
        for read in source.reads:
            member = resolve(read)
            if member is not None:
                found.setdefault(member, set()).add(source.name)
    return found


def resolve(read: str) -> Member | None:
    """Return which member of a model a line of `Source.reads` is about; None where the model lacks it."""
    from botocore.exceptions import DataNotFoundError, UnknownServiceError

    service, _, rest = read.partition(":")
    operation, _, path = rest.partition(" ")
    try:
        model = service_models().load_service_model(service, "service-2")
    except (DataNotFoundError, UnknownServiceError):
        return None
    shapes, output = model["shapes"], model["operations"].get(operation, {}).get("output")
    if output is None:
        return None
    shape, owner, name = output["shape"], "", ""
    for step in re.findall(r"[^.\[\]{}]+", path):
        owner, name = _innermost(shapes, shape)[-1], step
        member = shapes[owner].get("members", {}).get(step)
        if member is None:
            return None
        shape = member["shape"]
    return Member(service, operation, owner, name)


@dataclass(frozen=True)
class Differences:
    """How page, sources and models differ.

    Attributes:
        new: Members of the models that are in no row.
        twice: Members that are in two rows.
        unread: Members in a row ``read by`` that this source does not read, or that names no operation.
        unwritten: Members that a source reads and that no row says.
        texts: What sources read besides, where the page and the sources differ.
    """

    new: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    unwritten: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def differences(page: str, models: set[Member], read: Mapping[Member, set[str]]) -> Differences:
    """Return how *page* differs from the *models* and from what sources *read*.

    Members in the page that the models lack are no difference: an older botocore lacks them, a newer one dropped them.
    """
    table = rows(page)
    named: dict[tuple[str, str], list[Row]] = {}
    for row in table:
        for member in row.members:
            named.setdefault((row.service, member), []).append(row)
    new = [
        member
        for member in sorted(models)
        if (member.service, member.here) not in named and (member.service, member.everywhere) not in named
    ]
    said = {key: set(some[0].sources) for key, some in named.items() if some[0].kind == "read by"}
    matching = {(m.service, m.here): names for m, names in read.items() if m in models}
    known = {(member.service, member.here) for member in models}
    unread = [
        f"{service}:{member} by {name}"
        for (service, member), names in said.items()
        for name in names - matching.get((service, member), set())
        if " " not in member or (service, member) in known
    ]
    return Differences(
        new=tuple(dict.fromkeys(f"{m.service} {m.here}" for m in new)),
        twice=tuple(f"{service} {member}" for (service, member), some in named.items() if len(some) > 1),
        unread=tuple(sorted(unread)),
        unwritten=tuple(
            f"{service}:{member} by {name}"
            for (service, member), names in sorted(matching.items())
            for name in sorted(names - said.get((service, member), set()))
        ),
        texts=tuple(_other_texts(texts(page), models)),
    )


def _other_texts(said: Mapping[str, tuple[str, ...]], models: set[Member]) -> list[str]:
    read = _other_reads(models)
    lines = [f"{line} by {name}: not in the page" for line in read for name in read[line] - set(said.get(line, ()))]
    lines += [
        f"{line} by {name}: read by no such source"
        for line, names in said.items()
        for name in set(names) - read.get(line, set())
        if resolve(line) is not None
    ]
    return sorted(lines)


def _other_reads(models: set[Member]) -> dict[str, set[str]]:
    """Return what sources read besides the members of the first table, as `Source.reads` has it, with the sources."""
    read: dict[str, set[str]] = {}
    for source in SOURCES:
        for line in source.reads:
            member = resolve(line)
            if member is not None and member not in models:
                read.setdefault(line, set()).add(source.name)
    return read


def in_line(page: str, models: set[Member], read: Mapping[Member, set[str]]) -> str:
    """Return *page* with its rows of what sources read as the sources say; the other rows lose what is read now."""
    matching = {(m.service, m.here): tuple(sorted(names)) for m, names in read.items() if m in models}
    taken = set(matching)
    for member in models:
        siblings = {(other.service, other.here) for other in models if other.everywhere == member.everywhere}
        if {key for key in siblings if key[0] == member.service} <= set(matching):
            taken.add((member.service, member.everywhere))
    lines = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == _COLUMNS and _quoted(cells[0]):
            service = _quoted(cells[0])[0]
            left = [member for member in _quoted(cells[1]) if (service, member) not in taken]
            if cells[2].startswith("read by ") or not left:
                continue
            line = _row(service, left, cells[2], cells[3].removesuffix(" |"))
        lines.append(line)
    for service in sorted({service for service, _ in matching}):
        by_sources: dict[tuple[str, ...], list[str]] = {}
        for (theirs, here), names in sorted(matching.items()):
            if theirs == service:
                by_sources.setdefault(names, []).append(here)
        made = [
            _row(service, here, "read by " + ", ".join(f"`{name}`" for name in names), "")
            for names, here in by_sources.items()
        ]
        at = next(
            (
                number
                for number, line in enumerate(lines)
                if (name := re.match(r"\| `([a-z0-9-]+)` \| `", line))
                and name[1] >= service
                and line.count(" | ") == _COLUMNS - 1
            ),
            len(lines),
        )
        lines[at:at] = made
    return _with_texts(lines, models)


def _row(service: str, members: Iterable[str], kind: str, why: str) -> str:
    return f"| `{service}` | {', '.join(f'`{member}`' for member in members)} | {kind} | {why.strip(' |')} |"


def _with_texts(lines: list[str], models: set[Member]) -> str:
    at = next(number for number, line in enumerate(lines) if line.startswith("| read too |")) + 2
    made = [
        f"| `{line}` | {', '.join(f'`{name}`' for name in sorted(names))} |"
        for line, names in sorted(_other_reads(models).items())
    ]
    end = next((number for number in range(at, len(lines)) if not lines[number].startswith("|")), len(lines))
    return "\n".join([*lines[:at], *made, *lines[end:]]) + "\n"


def main(file: str = "") -> None:
    """Write to *file* which members the installed botocore has that the page does not name; or the page, without."""
    import botocore

    page, models, read = PAGE.read_text(encoding="utf-8"), model_members(), read_members()
    if not file:
        PAGE.write_text(in_line(page, models, read), encoding="utf-8")
        return
    document = {"botocore": botocore.__version__, "new": differences(page, models, read).new}
    Path(file).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
