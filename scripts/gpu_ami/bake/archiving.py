"""Keeps what a build has written of its AMI: release record, bill of materials, provenance, what the pipeline knows."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gpu_ami.bake import fingerprint, secret_values, template
from gpu_ami.errors import AwsError, BuildError, PipelineError, UsageError
from gpu_ami.files import read_text
from gpu_ami.handover.build_store import BuildStore
from gpu_ami.invocation import Invocation
from gpu_ami.records import archive, bill, build_facts, provenance
from gpu_ami.records import manifest_file as manifests

if TYPE_CHECKING:
    from gpu_ami.bake.attest import Written
    from gpu_ami.bake.job import Baked, Job
    from gpu_ami.bake.release_tags import Recorded

# What leads Packer's list and the bill of it to where `_bill` reads them; `invoke build` gives all three.
_OURS = ("contents_path", "bill_path", "bill_command")


def check_places(run: Invocation, job: Job) -> None:
    """Make sure that there is a place to keep what the build will write, before it is paid for.

    Raises:
        UsageError: The tree takes no archive, or what Terraform noted of its backend cannot be read.
    """
    archive.check_root(run.workspace.builds)
    BuildStore(run.workspace.builds, job.terraform.folder, run.access)


def check(job: Job) -> None:
    """Refuse a build whose bill of materials would be found nowhere when the bake is over, and paid for.

    Raises:
        UsageError: The caller's variables lead it elsewhere.
    """
    values = job.values()
    if named := [name for name in _OURS if values.get(name)]:
        msg = (
            f"Packer's variables say {', '.join(named)}, which is for `packer build` by hand: `invoke build` keeps the "
            "bill of materials itself. Leave it out."
        )
        raise UsageError(msg)


def keep(run: Invocation, baked: Baked, made: manifests.Build, recorded: Recorded, written: Written) -> None:
    """Archive what was made: in the tree, and beside Terraform's state where that is in S3.

    It comes before the AMI is tagged: no tag is to name a file that is nowhere. A bucket that cannot be written is a
    warning, and so is a folder where there is no provenance: the bake is paid for, and the AMI is as good without.

    Raises:
        BuildError: The bill of materials is not the one that the release record names; the provenance cannot be kept,
            and the AMI would be refused for it; or what an ended sandbox left under the same id is in the way.
        UsageError: The bill of materials cannot be read.
    """
    ami = recorded.image.image_id
    files = {archive.RELEASE: recorded.text, archive.BUILD: build_facts.encode(_facts(baked.job, made, recorded))}
    text = _bill(run, baked.job, recorded)
    if text is not None:
        files[archive.BILL] = text
    files |= written.files
    _take_away_earlier(run, made)
    try:
        archive.keep(run.workspace.builds, ami, files)
    except UsageError as exc:
        if written.files:
            msg = f"The provenance of {ami} cannot be kept: {exc}"
            raise BuildError(msg) from exc
        run.console.warn(f"What was built into {ami} is not kept here: {exc}")
    try:
        BuildStore(run.workspace.builds, baked.job.terraform.folder, run.access).share(ami, files)
    except (AwsError, UsageError) as exc:
        run.console.warn(f"Other machines cannot read what was built into {ami}: {exc}")


@contextlib.contextmanager
def rescuing(run: Invocation, made: manifests.Build, found: Written) -> Iterator[None]:
    """Keep at least the provenance where something ends the build inside the block, before `keep` has come to it.

    What Packer wrote ends with this command. Without a file and a tag the AMI would pass for one of before there was
    provenance, however it differs from its record; with the file it is refused until somebody has looked. So it is
    where what Packer wrote is of another build, or nothing that can be read. A workflow's machine ends with the build,
    so it goes to the bucket, too.

    Args:
        run: This invocation.
        made: What was made.
        found: What Packer wrote of it, judged or not.
    """
    try:
        yield
    except BaseException:
        if archive.PROVENANCE in found.files:
            ami = made.amis[run.access.region]
            try:
                _rescue(run, made, ami, found)
            except PipelineError as exc:
                run.console.warn(f"What Packer wrote as the provenance of {ami} is not kept here: {exc}")
            with contextlib.suppress(PipelineError):
                BuildStore(run.workspace.builds, run.workspace.terraform, run.access).share(ami, found.files)
        raise


def _rescue(run: Invocation, made: manifests.Build, ami: str, found: Written) -> None:
    there = archive.read(run.workspace.builds, ami, (archive.PROVENANCE,)).get(archive.PROVENANCE)
    if there == found.files[archive.PROVENANCE]:
        return
    _take_away_earlier(run, made)
    path = archive.keep(run.workspace.builds, ami, found.files) / archive.PROVENANCE
    where = run.workspace.shown(path)
    run.console.warn(f"What Packer wrote as the provenance of {ami} is kept: {where}. No tag of the AMI names it.")


def _take_away_earlier(run: Invocation, made: manifests.Build) -> None:
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


def _facts(job: Job, made: manifests.Build, recorded: Recorded) -> build_facts.BuildFacts:
    hidden = secret_values.private_names(job.packer.folder) | fingerprint.ELSEWHERE
    # A variables file may serve another template, too: what this one does not declare, nobody says is no secret.
    shown = template.template_kinds(job.packer.folder).keys() - hidden
    settings = {name: _without_secrets(value) for name, value in job.values().items() if name in shown}
    return build_facts.BuildFacts(
        ami=recorded.image.image_id,
        amis=made.amis,
        tags=build_facts.own({**recorded.image.tags, **recorded.tags}),
        settings=build_facts.plain(settings),
    )


def _without_secrets(value: Any) -> Any:
    """Return *value* without what makes an address in it a secret: it goes to a bucket and into pull requests."""
    return secret_values.redact(value) if isinstance(value, str) else value


def _bill(run: Invocation, job: Job, recorded: Recorded) -> str | None:
    """Return the bill of materials; None, and a warning, where none was composed.

    Raises:
        BuildError: It is not the one that the release record names.
    """
    expected = recorded.release.bill_sha256
    if expected is None or job.lists is None:
        run.console.warn(
            f"{recorded.image.image_id} has no bill of materials: Packer's log says why, after `list-contents`. "
            "The AMI is as good without; `invoke diff` then knows no packages of it."
        )
        return None
    text = read_text(job.lists / archive.BILL, what="bill of materials", limit_bytes=archive.LIMITS[archive.BILL])
    if bill.digest(text) != expected:
        msg = f"The bill of materials is not the one whose SHA-256, {expected}, the release record has."
        raise BuildError(msg)
    return text
