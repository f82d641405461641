"""The provenance that Packer has written at the end of a bake: checked, and kept in the archive."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.errors import AwsError, BuildError, SafetyError, UsageError
from gpu_ami.files import read_text
from gpu_ami.handover import attested
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.invocation import Invocation
from gpu_ami.records import archive, provenance
from gpu_ami.records.release import LIMIT_BYTES
from gpu_ami.records.tags import PROVENANCE_TAG
from gpu_ami.units import show_count

if TYPE_CHECKING:
    from gpu_ami.bake.packer_bake import Baked
    from gpu_ami.records.manifest_file import Build

FOLDER_VARIABLE = "provenance_folder"
_ENDING = ".provenance.json"


def variables(run: Invocation) -> dict[str, str]:
    """Return the template's variables that pipeline.yaml owns: who signs, a private key by its whole path."""
    signer = attested.policy(run).signer
    is_file = signer not in ("none", "keyless") and not signer.startswith("awskms:")
    return {"provenance_signer": str(run.workspace.root / Path(signer).expanduser()) if is_file else signer}


def record(run: Invocation, baked: Baked, made: Build) -> dict[str, str]:
    """Check the provenance of what was made and keep it in the archive; return the tag that holds its SHA-256.

    Raises:
        BuildError: There is none, there are several, or it is about something else.
        UsageError: The archive cannot be written.
    """
    _take_away_earlier(run, made)
    file = _the_file(run, baked, made)
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            data = opened.read(provenance.LIMIT_BYTES + 1)
        found = provenance.parse(data, source=file.name)
    except (OSError, SafetyError) as exc:
        msg = f"Packer's provenance of the build cannot be used: {exc}"
        raise BuildError(msg) from exc
    if (found.amis, found.said.get("run_id")) != (made.amis, baked.job.run_id):
        msg = f"Packer's provenance is of {found.amis} and the run {found.said.get('run_id')}, not of this build."
        raise BuildError(msg)
    _keep(run, made.amis[run.access.region], {**_files(file, data), **_release(baked)})
    return {PROVENANCE_TAG: found.sha256}


def _take_away_earlier(run: Invocation, made: Build) -> None:
    """Take away what is kept under the id of an AMI that was made just now: it is of a sandbox that has ended.

    Each fresh one gives the same ids again, which AWS never does.
    """
    for ami in made.amis.values():
        path = provenance.path_of(run.workspace.terraform, ami)
        try:
            for earlier in (path, provenance.bundle_of(path)):
                earlier.unlink(missing_ok=True)
            if (folder := run.workspace.builds / ami).is_dir():
                shutil.rmtree(folder)
        except OSError as exc:
            msg = f"{exc.filename} is of an earlier build of that id and cannot be removed: {exc.strerror}. Remove it."
            raise BuildError(msg) from exc


def _the_file(run: Invocation, baked: Baked, made: Build) -> Path | None:
    folder = Path(baked.job.inputs.variables[FOLDER_VARIABLE])
    files = sorted(path for path in folder.glob(f"*{_ENDING}") if path.is_file())
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(path.name for path in files)
        msg = f"Packer wrote {show_count(len(files), 'provenance')} for one build ({names})."
        raise BuildError(msg)
    if len(made.amis) <= provenance.MOST_REGIONS:
        msg = "Packer wrote no provenance of the build: does the template have its post-processor?"
        raise BuildError(msg)
    run.console.warn(
        f"No provenance: Packer cannot write one of AMIs in {show_count(len(made.amis), 'region')}, whose names make "
        f"too long a file's name; {provenance.MOST_REGIONS} are the most."
    )
    return None


def _files(file: Path, data: bytes) -> dict[str, str]:
    bundle = provenance.bundle_of(file)
    files = {archive.PROVENANCE: data.decode()}
    if bundle.exists():
        files[archive.SIGSTORE] = read_text(bundle, what="Sigstore bundle", limit_bytes=provenance.LIMIT_BYTES)
    return files


def _release(baked: Baked) -> dict[str, str]:
    """Return the release record as the builder wrote it; whether it is one, `release_tags` says."""
    named = baked.job.variables.release_path
    path = baked.job.packer.folder / (named or archive.RELEASE)
    return {archive.RELEASE: read_text(path, what="release record", limit_bytes=LIMIT_BYTES)} if path.exists() else {}


def _keep(run: Invocation, ami: str, files: Mapping[str, str]) -> None:
    """Keep *files*; that a bucket refuses is a warning: what the hand-over commits is as good."""
    workspace = run.workspace
    try:
        BuildStore(workspace.builds, workspace.terraform, run.access).keep(ami, files)
    except AwsError as exc:
        run.console.warn(f"The provenance of {ami} is in the tree only: {exc}")
    except UsageError as exc:
        msg = f"The provenance of {ami} cannot be kept: {exc}"
        raise BuildError(msg) from exc
