"""What the files of a working tree need: Terraform's code, variables and state, workflows, manifests, receipts."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpu_ami.aws.images import parse_time
from gpu_ami.aws.references.source import Reference, ids_in
from gpu_ami.cleanup import plan_document
from gpu_ami.cleanup.decide import SourceReport, Status
from gpu_ami.deploy.history import steps_back
from gpu_ami.errors import PipelineError, UsageError
from gpu_ami.fleet import fleet_list
from gpu_ami.records import archive, receipt
from gpu_ami.records.manifest_file import unix_seconds
from gpu_ami.records.receipt import StateIdentity, StoredReceipt
from gpu_ami.records.tags import AMI_ID

# Where copies and caches lie, and at the top our own journals and what a fleet's machines pass on: what is there needs
# nothing.
_LEFT_OUT = frozenset({
    ".cache", ".git", ".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".sandbox", ".terraform",
    ".terragrunt-cache", ".tox", ".venv", "__pycache__", "node_modules",
})  # fmt: skip
_AT_THE_TOP = frozenset({"logs", fleet_list.FOLDER})
_CODE = re.compile(r"\.(?:tf|tofu|hcl)(?:\.json)?$|\.pkr\.json$")
_VARIABLES = re.compile(r"\.(?:tfvars|pkrvars\.hcl|pkrvars)(?:\.json)?$")
_STATE = re.compile(r"\.tfstate(?:\.[0-9]+)?(?:\.backup)?$")
_WORKFLOW = re.compile(r"\.ya?ml$")
_MANIFEST = re.compile(r"(?:manifest|release).*\.json$", re.IGNORECASE)
_PLAN_FORMAT = plan_document.FORMAT.rstrip("0123456789")
_CHUNK = 4 * 1024 * 1024
_LONGEST_ID = 32


@dataclass(frozen=True)
class LocalSource:
    """One kind of file, found and read.

    Attributes:
        report: How reading it ended; skipped when the tree holds no such file, and others may.
        references: What the files need.
    """

    report: SourceReport
    references: tuple[Reference, ...] = ()


class UnreadableError(UsageError):
    """A file or folder of the tree could not be read to its end."""


def scan(
    root: Path,
    *,
    state: Callable[[], str | None],
    receipts: Callable[[], Sequence[tuple[str, str]]] = tuple,
    skip: frozenset[str] = frozenset(),
    is_whole: bool = False,
) -> list[LocalSource]:
    """Return what the files under *root* need, one entry per kind of file.

    Args:
        root: The working tree.
        state: Returns the text of the Terraform state in its backend; None when no backend is configured.
        receipts: Returns the names and texts of receipts that are kept elsewhere, beside that state.
        skip: Kinds that are not read.
        is_whole: Whether there is no such tree elsewhere: a kind that this one holds none of is known to need nothing.
    """
    try:
        files, problem = list(_walk(root)), None
    except UnreadableError as exc:
        files, problem = [], str(exc)
    plain = (
        ("terraform-code", [f for f in files if _CODE.search(f.name) and not _VARIABLES.search(f.name)]),
        ("terraform-variables", [f for f in files if _VARIABLES.search(f.name)]),
        ("workflows", [f for f in files if ".github" in f.relative_to(root).parts and _WORKFLOW.search(f.name)]),
    )
    receipt_files = [f for f in files if f.parent.name == "receipts" and f.suffix == ".json"]
    manifests = [f for f in files if _MANIFEST.search(f.name) and f not in receipt_files]
    readers: list[tuple[str, Callable[[], tuple[int, list[Reference]]]]] = [
        *((name, _reading(name, found, root)) for name, found in plain),
        ("terraform-state", lambda: _states([f for f in files if _STATE.search(f.name)], root, state)),
        ("manifests", lambda: _manifests(manifests, root)),
        ("receipts", lambda: _receipts([*_texts(receipt_files, root), *receipts()])),
    ]
    return [_source(name, read, problem, is_skipped=name in skip, is_whole=is_whole) for name, read in readers]


def _source(
    name: str,
    read: Callable[[], tuple[int, list[Reference]]],
    problem: str | None,
    *,
    is_skipped: bool,
    is_whole: bool,
) -> LocalSource:
    def report(status: Status, error: str | None = None, references: int = 0) -> SourceReport:
        # Examples and history name AMIs, too: that a file names one does not show that the account's uses are seen.
        return SourceReport(name, None, status, references=references, error=error, is_use=False)

    if is_skipped:
        return LocalSource(report("skipped", "left out by --skip-source or cleanup.skip_sources"))
    if problem is not None:
        return LocalSource(report("failed", problem))
    try:
        count, references = read()
    except PipelineError as exc:
        return LocalSource(report("failed", str(exc)))
    if not count and not is_whole:
        return LocalSource(report("skipped", "this working tree holds none: what they would name is not known"))
    return LocalSource(report("ok", references=len(references)), tuple(references))


def _reading(name: str, files: Sequence[Path], root: Path) -> Callable[[], tuple[int, list[Reference]]]:
    def read() -> tuple[int, list[Reference]]:
        found = ((path, target) for path in files for target in sorted(_ids_of(path)))
        return len(files), [Reference(target, name, f"named in {path.relative_to(root)}") for path, target in found]

    return read


def _states(files: Sequence[Path], root: Path, backend: Callable[[], str | None]) -> tuple[int, list[Reference]]:
    count, references = _reading("terraform-state", files, root)()
    text = backend()
    if text is None:
        return count, references
    found = [
        Reference(target, "terraform-state", "named in the state of the backend") for target in sorted(ids_in(text))
    ]
    return count + 1, references + found


def _manifests(files: Sequence[Path], root: Path) -> tuple[int, list[Reference]]:
    references = []
    count = 0
    for shown, text in _texts(files, root):
        ids = last_build_ids(text)
        if ids is not None:
            count += 1
            references += [
                Reference(target, "manifests", f"made by the last build in {shown}") for target in sorted(ids)
            ]
    return count, references


def _receipts(texts: Sequence[tuple[str, str]]) -> tuple[int, list[Reference]]:
    return len(texts), protected_by_receipts(texts)


def last_build_ids(text: str) -> set[str] | None:
    """Return the ids that the last run of a Packer manifest, and the newest build of each of its names, made.

    Of any other JSON document that names AMIs (a release record, a manifest of another form), and of one that cannot be
    read, every id counts. None when the document is not about AMIs, or is a clean-up's own plan: that one names what is
    to go.
    """
    everything = {target for target in ids_in(text) if target.startswith("ami-")}
    try:
        document = json.loads(text)
        if str(document.get("format")).startswith(_PLAN_FORMAT):
            return None
        builds: list[dict[str, Any]] = document["builds"]
        if any(not isinstance(build["artifact_id"], str) for build in builds):
            return everything or None
        last_run = document.get("last_run_uuid")
        newest: dict[object, dict[str, Any]] = {}
        for build in builds:
            other = newest.get(build.get("name"))
            if other is None or _built_s(build) >= _built_s(other):
                newest[build.get("name")] = build
        counted = [*newest.values(), *(b for b in builds if last_run and b.get("packer_run_uuid") == last_run)]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return everything or None
    return {target for build in counted for target in ids_in(build["artifact_id"])} or everything or None


def _built_s(build: Mapping[str, Any]) -> int:
    return unix_seconds(int(build.get("build_time") or 0))


def _texts(files: Iterable[Path], root: Path) -> Iterator[tuple[str, str]]:
    for path in files:
        _check_plain(path)
        try:
            yield path.relative_to(root).as_posix(), _plain(path.read_bytes())
        except OSError as exc:
            msg = f"{path} cannot be read: {exc.strerror}"
            raise UnreadableError(msg) from exc


def _walk(root: Path) -> Iterator[Path]:
    """Yield every file under *root*; Terraform follows links to folders, so they are followed here, each once."""

    def give_up(exc: OSError) -> None:
        msg = f"{exc.filename} cannot be read: {exc.strerror}"
        raise UnreadableError(msg) from exc

    seen: set[str] = set()
    for folder, names, files in os.walk(root, onerror=give_up, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        left_out = _LEFT_OUT | (_AT_THE_TOP if Path(folder) == root else frozenset())
        names[:] = sorted(name for name in names if name not in left_out)
        yield from (Path(folder, name) for name in sorted(files) if not _is_archived(folder, name))


def _is_archived(folder: str, name: str) -> bool:
    """Return whether a file is one of a past build's archive, which needs nothing: the AMI may be long gone.

    Any other file there counts, whoever has put it there.
    """
    packer, builds, ami = ("", "", *Path(folder).parts)[-3:]
    if name not in archive.LIMITS or (packer, builds) != ("packer", archive.FOLDER):
        return False
    # A build that was killed may have left a hidden one.
    return AMI_ID.fullmatch(ami.removeprefix(".").partition(".")[0]) is not None


def _ids_of(path: Path) -> set[str]:
    """Return the ids anywhere in a file of any size and encoding."""
    _check_plain(path)
    found: set[str] = set()
    rest = ""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                text = rest + _plain(chunk)
                found |= ids_in(text)
                rest = text[-_LONGEST_ID:]
    except OSError as exc:
        msg = f"{path} cannot be read: {exc.strerror}"
        raise UnreadableError(msg) from exc
    return found


def _check_plain(path: Path) -> None:
    """Refuse a pipe, a socket or a device: to read one may never end, and Terraform may be given something by it."""
    if path.exists() and not path.is_file():
        msg = f"{path} is no plain file: what it would say is not known"
        raise UnreadableError(msg)


def _plain(raw: bytes) -> str:
    # UTF-16, as PowerShell writes it, is ASCII with a zero byte beside each letter.
    return raw.replace(b"\0", b"").decode("latin-1")


_NAME = "receipts"
_UNSURE = frozenset({"started", "failed"})
_WAY_BACK = "the one to roll back to"
# What receipts call a published SSM parameter begins so; see `handover.publication.address`.
_PARAMETER = "ssm:"


class _History(NamedTuple):
    """What the acts of one history have in common."""

    folder: str
    account: str
    region: str
    state: str
    address: str


class _Act(NamedTuple):
    """What one receipt says of one address."""

    when: str
    shown: str
    change: dict[str, Any]
    is_sure: bool
    is_rollback: bool

    @property
    def moves(self) -> bool:
        """Whether it gave the address another AMI; else it gave the environment another address."""
        return self.change.get("old") != self.change.get("new")


def protected_by_receipts(texts: Iterable[tuple[str, str]]) -> list[Reference]:
    """Return what the receipts *texts* (name and content) need; the folder in a name tells root modules apart.

    A receipt is ``{"when": TIME, "account": …, "region": …, "state": {…}, "changes": [{"address": …, "old": AMI,
    "new": AMI}, …], "status": …}``. Of each state and address the newest act counts, and the newest that surely
    happened. Acts of an unknown state may be of several states: see `_chains`. A receipt of another form cannot be
    compared with the others, so every id in it is needed.
    """
    texts = list(texts)
    histories: dict[_History, list[_Act]] = {}
    references: list[Reference] = []
    for shown, text in texts:
        try:
            for history, act in _acts(shown, text):
                histories.setdefault(history, []).append(act)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            detail = f"named in the receipt {shown}, which cannot be understood"
            references += [Reference(target, _NAME, detail) for target in sorted(ids_in(text))]
    for history, acts in sorted(histories.items()):
        acts.sort(key=lambda act: act.when)
        # A parameter belongs to no state, and its name says which one it is.
        is_one = bool(history.state) or history.address.startswith(_PARAMETER)
        for chain in [acts] if is_one else _chains(acts):
            references += _newest(history.address, chain)
    return list(dict.fromkeys([*references, *_ways_back(texts)]))


def _ways_back(texts: Iterable[tuple[str, str]]) -> Iterator[Reference]:
    """Yield where `invoke rollback` would go by the receipts *texts* of each known state.

    After a rollback that is not what its receipt says was live before, but the AMI below the one that it went to; and
    it follows an environment to its new address. What `rollback` cannot read it does not go by.
    """
    filed: dict[tuple[str, StateIdentity], dict[str, StoredReceipt]] = {}
    for shown, text in texts:
        folder, _, name = shown.rpartition("/")
        with contextlib.suppress(UsageError):
            found = receipt.decode(text, source=shown)
            if (state := found.state) is not None:
                # Some may be in the tree alone, and some in the bucket; two root modules have a history each.
                for whose in (folder, ""):
                    filed.setdefault((whose, state), {})[name] = StoredReceipt(Path(name), found)
    for some in filed.values():
        history = sorted(some.values(), key=lambda stored: (stored.receipt.when, stored.path.name))
        newest = {change.address: change for stored in history for change in stored.receipt.changes}
        # By the name of an environment, its last address.
        at = {change.name: change.address for stored in history for change in stored.receipt.changes if change.name}
        names = {address: name for name, address in at.items()}
        live = {address: change.new for address, change in newest.items()}
        for step in steps_back(history, live, names=names):
            if step.back is not None:
                yield Reference(step.back, _NAME, f"{_WAY_BACK} at {step.address} by the receipts of its state")


def _chains(acts: Sequence[_Act]) -> list[list[_Act]]:
    """Return the acts of an unknown state as what may be one state's each; *acts* is oldest first.

    An act that begins with an AMI which another one ended with, or may have left, goes on from there; any other is of
    another state, or came after somebody's change by hand.
    """
    chains: list[list[_Act]] = []
    for act in acts:
        old = act.change.get("old")
        # From Batch's own AMI every state begins: two that do are not one.
        before = next((chain for chain in reversed(chains) if old is not None and old in _ends(chain)), None)
        if before is None:
            chains.append([act])
        else:
            before.append(act)
    return chains


def _ends(chain: Sequence[_Act]) -> tuple[Any, ...]:
    """Return the AMIs that may be live after the acts of *chain*: an unsure act has moved it, or has not."""
    last = chain[-1].change
    return (last.get("new"),) if chain[-1].is_sure else (last.get("new"), last.get("old"))


def _newest(address: str, acts: Sequence[_Act]) -> Iterator[Reference]:
    """Yield what the newest of *acts* needs, and the newest that surely happened.

    One that only moved to this address kept its AMI: the way back is what the newest act that moved the AMI says.
    """
    moving = [act for act in acts if act.moves]
    for act in [*_latest(acts), *_latest(moving)]:
        roles = (("new", "live"), ("old", "left by a rollback" if act.is_rollback else _WAY_BACK))
        for key, role in roles if act.moves else roles[:1]:
            for target in sorted(ids_in(json.dumps(act.change.get(key)))):
                yield Reference(target, _NAME, f"{role} at {address} by {act.shown}")


def _latest(acts: Sequence[_Act]) -> Sequence[_Act]:
    """Return the newest act that surely happened, and the newest where that is another one."""
    sure = [act for act in acts if act.is_sure]
    return [*sure[-1:], *(act for act in acts[-1:] if not act.is_sure)]


def _acts(shown: str, text: str) -> Iterator[tuple[_History, _Act]]:
    """Return what one receipt says, an address each."""
    document = json.loads(text)
    moment = parse_time(document["when"])
    changes: list[dict[str, Any]] = document["changes"]
    if document.get("format", receipt.FORMAT) != receipt.FORMAT:
        raise ValueError(text[:40])
    if moment is None or not changes or any(not isinstance(change["address"], str) for change in changes):
        raise ValueError(text[:40])
    if any(not ids_in(json.dumps(change.get("new"))) for change in changes):
        raise ValueError(text[:40])
    account, region = (str(document.get(key)) for key in ("account", "region"))
    state, is_sure = _state(document.get("state")), document.get("status") not in _UNSURE
    is_rollback = document.get("action") == "rollback"
    folder = shown.rpartition("/")[0]
    for change in changes:
        yield (
            _History(folder, account, region, state, change["address"]),
            _Act(moment.isoformat(), shown, change, is_sure, is_rollback),
        )


def _state(found: Any) -> str:
    """Return what tells the state of a receipt apart from others; empty for an unknown one."""
    if found is None:
        return ""
    if not isinstance(found, dict):
        raise TypeError(found)
    return json.dumps(found, sort_keys=True)
