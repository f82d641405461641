"""Packer's manifest, read as typed builds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from gpu_ami.errors import UsageError
from gpu_ami.files import read_text, write_atomic
from gpu_ami.foreign_text import reason
from gpu_ami.records.tags import AMI_ID
from gpu_ami.workspace import Workspace

# As seconds that is the year 5138; as milliseconds it is 1973.
_NO_SECONDS = 10**11
_LIMIT_BYTES = 16 * 1024 * 1024
_AMI_BUILDERS = ("amazon-ebs", "amazon-ebssurrogate", "amazon-chroot", "amazon-instance")


def unix_seconds(written: int) -> int:
    """Return the Unix time *written* in seconds, 0 for unknown: other writers than Packer note milliseconds."""
    seconds = max(written, 0)
    while seconds >= _NO_SECONDS:
        seconds //= 1000
    return seconds


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """One build of a manifest, as Packer's manifest post-processor writes it.

    Attributes:
        name: The source's name in the template.
        builder_type: Such as ``amazon-ebs``.
        build_time: Unix time as it is written; 0 when the manifest has none (``strip_time``). See `built_s`.
        packer_run_uuid: The run that made it; a manifest keeps the builds of many runs.
        artifact_id: For AMIs ``region:ami`` pairs joined by commas, also of other builders: amazon-import makes AMIs of
            their images.
        custom_data: What the template chose to note.
    """

    name: str = ""
    builder_type: str = ""
    build_time: int = 0
    packer_run_uuid: str = ""
    artifact_id: str = ""
    custom_data: dict[str, str] | None = None

    @property
    def makes_ami(self) -> bool:
        """Whether the builder is one that makes AMIs."""
        return self.builder_type in _AMI_BUILDERS

    @property
    def amis(self) -> dict[str, str]:
        """Region to AMI id; empty where the artifact is something else.

        Raises:
            UsageError: An AMI builder's artifact id is not made of ``region:ami`` pairs.
        """
        pairs: dict[str, str] = {}
        for part in filter(None, self.artifact_id.split(",")):
            region, _, ami = part.strip().partition(":")
            if not region or AMI_ID.fullmatch(ami) is None:
                if not self.makes_ami:
                    return {}
                msg = f"Build {self.name!r} has the artifact id {self.artifact_id[:80]!r}: expected region:ami-… pairs."
                raise UsageError(msg)
            pairs[region] = ami
        return dict(sorted(pairs.items()))

    @property
    def built_s(self) -> int:
        """When it was built, in Unix seconds; 0 when that is not known."""
        return unix_seconds(self.build_time)

    def document(self) -> dict[str, Any]:
        """Return the build as the ``manifest`` task prints it in JSON."""
        built = datetime.fromtimestamp(self.built_s, tz=timezone.utc) if self.built_s else None
        return {
            "name": self.name,
            "builder_type": self.builder_type,
            "build_time": built.strftime("%Y-%m-%dT%H:%M:%SZ") if built else None,
            "packer_run_uuid": self.packer_run_uuid,
            "amis": self.amis,
            "custom_data": dict(self.custom_data or {}),
        }


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole manifest: the builds of every run, and which run was the last."""

    builds: tuple[Build, ...]
    last_run_uuid: str = ""

    @property
    def last_run(self) -> tuple[Build, ...]:
        """The builds of the last run; Packer appends, so the position in the list says nothing.

        A manifest without run ids (other writers) falls back to its newest build.
        """
        if self.last_run_uuid:
            return tuple(build for build in self.builds if build.packer_run_uuid == self.last_run_uuid)
        newest = max(self.builds, key=lambda build: build.built_s, default=None)
        return (newest,) if newest is not None else ()

    @property
    def last_amis(self) -> dict[str, str]:
        """Region to AMI id of the last run; of several builds the first in the list counts."""
        return {region: ami for build in reversed(self.last_run) for region, ami in build.amis.items()}

    def amis_with(self, ami_id: str) -> dict[str, str]:
        """Return region to AMI id of the last build, of any run, that made *ami_id*; empty when none did."""
        made = [build.amis for build in self.builds if ami_id in build.amis.values()]
        return made[-1] if made else {}


def last_build(workspace: Workspace, manifest: str | None = None) -> Build:
    """Return the build of the last run that made AMIs, in the workspace's manifest or in the file *manifest*.

    Raises:
        UsageError: The manifest cannot be used, or none or several builds of its last run made AMIs.
    """
    path = Path(manifest) if manifest is not None else workspace.manifest
    return the_build(load_of(workspace, path).last_run, source=workspace.shown(path))


def load_of(workspace: Workspace, path: Path) -> Manifest:
    """Return the manifest in *path*; where there is none, the error says so of the sandbox's, which may be meant.

    Raises:
        UsageError: As `load` does.
    """
    if not workspace.sandbox and dataclasses.replace(workspace, sandbox=True).manifest.exists():
        return load(path, hint="Run `invoke build` first, or add --sandbox for the one that was made there.")
    return load(path)


def load_if_any(path: Path) -> Manifest:
    """Return the manifest in *path*; one without builds where there is no file.

    Raises:
        UsageError: The file is anything but a Packer manifest.
    """
    return load(path) if path.exists() else Manifest(builds=())


def load(path: Path, *, hint: str = "Run `invoke build` first.") -> Manifest:
    """Return the manifest in *path*; *hint* says what to do where there is none.

    Raises:
        UsageError: The file is missing, empty, cut off, too large or anything but a Packer manifest.
    """
    text = read_text(path, what="manifest", limit_bytes=_LIMIT_BYTES, hint=hint)
    return parse(text, source=str(path))


def add_last_run(path: Path, other: Path) -> None:
    """Add the last run in the manifest *other* to the manifest *path*, as Packer would; a missing one is made.

    Raises:
        UsageError: One of them cannot be used, or *path* cannot be written.
    """
    added = text = read_text(other, what="manifest", limit_bytes=_LIMIT_BYTES)
    if path.exists():
        before = read_text(path, what="manifest", limit_bytes=_LIMIT_BYTES)
        parse(before, source=str(path))
        added = _joined(before, text)
    write_atomic(path, added, what="manifest")


def _joined(before: str, text: str) -> str:
    """Return the manifest *before* with the last run of the manifest *text*; both were parsed already."""
    raw = msgspec.json.decode(text)
    last = raw.get("last_run_uuid") or ""
    builds = [build for build in raw["builds"] or [] if (build.get("packer_run_uuid") or "") == last]
    earlier = [build for build in msgspec.json.decode(before)["builds"] or [] if build not in builds]
    return msgspec.json.format(msgspec.json.encode({"builds": [*earlier, *builds], "last_run_uuid": last})).decode()


def parse(text: str, *, source: str) -> Manifest:
    """Return the manifest that *text* holds; *source* names it in errors.

    Raises:
        UsageError: It is not a Packer manifest, and why.
    """
    if not text.strip():
        msg = f"The manifest {source} is empty: the build did not finish. Run `invoke build`."
        raise UsageError(msg)
    if text.lstrip().startswith("<"):
        msg = f"The manifest {source} is a web page, not JSON: download the file itself."
        raise UsageError(msg)
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        msg = f"The manifest {source} is not JSON ({reason(exc)}): is the file cut off? Run `invoke build` again."
        raise UsageError(msg) from exc
    if not isinstance(raw, dict) or "builds" not in raw:
        msg = f"The manifest {source} holds {_kind(raw)}, not Packer's {{builds, last_run_uuid}}: check the path."
        raise UsageError(msg)
    try:
        manifest = msgspec.convert(_without_nulls(raw), Manifest)
        _ = [build.amis for build in manifest.builds]
    except msgspec.ValidationError as exc:
        msg = f"The manifest {source} is not one that Packer wrote: {reason(exc)}."
        raise UsageError(msg) from exc
    return manifest


def the_build(builds: Iterable[Build], *, source: str) -> Build:
    """Return the one build of *builds* that made AMIs.

    Raises:
        UsageError: None or several did.
    """
    made = [build for build in builds if build.amis]
    if len(made) == 1:
        return made[0]
    if not made:
        msg = f"The last run in {source} made no AMI: read its log, then run `invoke build`."
    else:
        names = ", ".join(build.name or "unnamed" for build in made)
        msg = f"The last run in {source} made several AMIs ({names}): name one with --ami."
    raise UsageError(msg)


def _without_nulls(raw: dict[str, Any]) -> dict[str, Any]:
    """Drop null fields: Packer writes ``files: null``, ``builds: null`` where there are none, and others likewise."""
    builds = raw["builds"] if raw["builds"] is not None else []
    if isinstance(builds, list):
        builds = [
            {key: value for key, value in build.items() if value is not None} if isinstance(build, dict) else build
            for build in builds
        ]
    return {key: value for key, value in {**raw, "builds": builds}.items() if value is not None}


def _kind(raw: object) -> str:
    if isinstance(raw, dict):
        return "an object with the keys " + (", ".join(map(str, sorted(raw)[:5])) or "none")
    return {"list": "a list", "str": "a string", "NoneType": "null"}.get(type(raw).__name__, "a number")
