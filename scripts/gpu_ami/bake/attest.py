"""The provenance that Packer has written at the end of a bake: there is one, and it is of this bake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.bake.job import Baked
from gpu_ami.errors import BuildError, SafetyError
from gpu_ami.files import read_text
from gpu_ami.handover import attested
from gpu_ami.invocation import Invocation
from gpu_ami.records import archive, provenance
from gpu_ami.records.tags import PROVENANCE_TAG
from gpu_ami.units import show_count

if TYPE_CHECKING:
    from gpu_ami.records.manifest_file import Build

FOLDER_VARIABLE = "provenance_folder"
_ENDING = ".provenance.json"


@dataclass(frozen=True)
class Written:
    """What Packer wrote of what was made; nothing of an AMI in more regions than it can name.

    Attributes:
        files: The provenance, and what goes with a keyless signature, by their names in the archive.
        tags: The tag that holds the SHA-256 of the provenance.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def variables(run: Invocation) -> dict[str, str]:
    """Return the template's variables that pipeline.yaml owns: who signs, a private key by its whole path."""
    signer = attested.policy(run).signer
    return {"provenance_signer": str(attested.key_file(run.workspace.root, signer) or signer)}


def found(baked: Baked) -> Written:
    """Return what Packer wrote, whatever it says, for a build that ends before it is judged; of several the first.

    What no archive takes is left out of it: more than its limit, and bytes that are no text.
    """
    file = next(iter(_all_files(baked)), None)
    if file is None or not (text := _as_text(file)):
        return Written()
    bundle = _as_text(provenance.bundle_of(file))
    return Written({archive.PROVENANCE: text} | ({archive.SIGSTORE: bundle} if bundle else {}))


def _as_text(file: Path) -> str:
    try:
        return file.read_bytes()[: provenance.LIMIT_BYTES].decode(errors="ignore")
    except OSError:
        return ""


def read(run: Invocation, baked: Baked, made: Build) -> Written:
    """Return the provenance of what was made.

    Raises:
        BuildError: There is none, there are several, or it is about something else.
    """
    file = _the_file(run, baked, made)
    if file is None:
        return Written()
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
    return Written(_files(file, data), {PROVENANCE_TAG: found.sha256})


def _all_files(baked: Baked) -> list[Path]:
    folder = Path(baked.job.inputs.variables[FOLDER_VARIABLE])
    return sorted(path for path in folder.glob(f"*{_ENDING}") if path.is_file())


def _the_file(run: Invocation, baked: Baked, made: Build) -> Path | None:
    files = _all_files(baked)
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
