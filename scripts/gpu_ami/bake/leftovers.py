"""Removes what a build has left in the account, and says what is left all the same.

Packer gives up on what it cannot remove, and on more: the AMI that it waited for, copies in other regions. Only what
carries this run's own id is touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpu_ami.aws import build_resources, image_changes
from gpu_ami.aws.caller import Caller, UnansweredError
from gpu_ami.bake import by_hand
from gpu_ami.bake.job import Job
from gpu_ami.bake.packer_events import POST_PROCESSING, WAITING, Progress
from gpu_ami.errors import AwsError
from gpu_ami.invocation import Invocation

if TYPE_CHECKING:
    from gpu_ami.aws.images import Image

# In the order in which they can be removed.
_OF_THE_BUILDER = ("instance", "volume", "security-group", "key-pair")
# What failed then is not the AMI's fault: it may be finished by hand, or be whole already.
_KEEPS_THE_AMI = frozenset({WAITING, POST_PROCESSING})
_USABLE = frozenset({"available", "pending"})


def after_failure(run: Invocation, job: Job, progress: Progress | None) -> str:
    """Remove what a failed build has left; return a sentence about what stays, empty when nothing does.

    Args:
        run: This invocation.
        job: The build.
        progress: How far it came; None where nobody read what Packer said: its AMI, if it came to one, may be whole.
    """
    keeps = progress is None or progress.part in _KEEPS_THE_AMI
    return _Tidying(run, job).all(progress, keeps_the_ami=keeps)


def after_interrupt(run: Invocation, job: Job, progress: Progress | None) -> str:
    """Remove what an interrupted build has left, its AMI as well unless Packer has named it as its result.

    Returns what `after_failure` does. An interrupt can cut the answer to a call that AWS has carried out: Packer then
    knows of nothing to end.
    """
    is_made = progress is not None and bool(progress.amis)
    return _Tidying(run, job).all(progress, with_images=not is_made)


def after_success(run: Invocation, job: Job, progress: Progress) -> None:
    """Remove what Packer could not remove at the end of a build that went well: it prints that, and exits with 0."""
    if progress.complaints and (left := _Tidying(run, job).all(progress, with_images=False)):
        run.console.warn(f"The AMI is made, but Packer could not clean up: {progress.complaints[0]} {left}")


class _Tidying:
    """One search for what a build has left."""

    def __init__(self, run: Invocation, job: Job) -> None:
        self._run, self._job = run, job
        self._caller = Caller(run.access, run.settings.region)
        self._left: list[str] = []
        self._unknown: list[str] = []
        # AMIs that stay and may be used, by region, and those of them that EC2 may still be making.
        self._kept: dict[str, str] = {}
        self._pending: set[str] = set()

    def all(self, progress: Progress | None, *, keeps_the_ami: bool = False, with_images: bool = True) -> str:
        """Remove the builder and what was made for it, then AMIs; return what stays."""
        # Where AWS does not answer, nothing more is tried; that is noted already.
        with contextlib.suppress(UnansweredError):
            self._remove_all(progress, keeps_the_ami=keeps_the_ami, with_images=with_images)
        return self._said()

    def _remove_all(self, progress: Progress | None, *, keeps_the_ami: bool, with_images: bool) -> None:
        # Packer launches a Spot builder from a template, which it forgets where it cannot end the builder.
        for kind in (*_OF_THE_BUILDER, *(("launch-template",) if self._job.variables.spot else ())):
            self._remove_kind(kind)
        if progress is not None and progress.profile:
            self._remove_profile(progress.profile)
        elif progress is None and not self._job.variables.iam_instance_profile:
            # Nobody has read its name: it is found by its tag, where IAM's lists may be read.
            for kind in ("instance-profile", "role"):
                self._remove_kind(kind)
        # Before the first script there is nothing to make an AMI of.
        if with_images and (progress is None or progress.step):
            for region in dict.fromkeys((self._caller.region, *self._job.variables.ami_regions)):
                is_home = progress is not None and region == self._caller.region
                expected = progress.ami_id if progress is not None and is_home else ""
                self._remove_images(region, keeps=keeps_the_ami, expected=expected)

    def _remove_kind(self, kind: str) -> None:
        with self._noting(f"{kind}s"):
            found = build_resources.find(self._caller, kind, self._run.settings.family)
            mine = [left for left in found if left.run == self._job.run_id]
            for left in mine:
                with self._naming(f"the {kind} {left.identifier}"):
                    build_resources.remove(self._caller, left)
                    self._removed(f"the {kind} {left.identifier}")
            if kind == "instance" and mine:
                build_resources.wait_until_terminated(self._caller, [left.identifier for left in mine])

    def _remove_profile(self, name: str) -> None:
        with self._naming(f"the role or instance profile {name}"):
            for what in build_resources.remove_temporary_profile(self._caller, name, self._job.run_id):
                self._removed(f"the {what}")

    def _remove_images(self, region: str, *, keeps: bool, expected: str) -> None:
        caller = self._caller.elsewhere(region)
        with self._noting(f"AMIs in {region}"):
            images = build_resources.images_of_run(caller, self._job.run_id)
            gone = [self._take_back(caller, image, keeps=keeps) for image in images]
            if keeps and expected and expected not in {image.image_id for image in images}:
                # EC2's lists may be seconds behind: an AMI that is to stay needs its snapshots.
                self._left.append(f"the AMI {expected} in {region}, which EC2 does not list yet")
                self._keep(region, expected, is_pending=True)
            elif all(gone) and (gone or not keeps):
                self._remove_snapshots(caller, [image.image_id for image in images])

    def _remove_snapshots(self, caller: Caller, image_ids: Sequence[str]) -> None:
        """Remove the snapshots of AMIs that are gone; EC2 may not have told yet which a pending one has."""
        for snapshot_id in build_resources.snapshots_of_run(caller, self._job.run_id, image_ids):
            with self._naming(f"the snapshot {snapshot_id} in {caller.region}"):
                image_changes.delete_snapshot(caller, snapshot_id)

    def _take_back(self, caller: Caller, image: Image, *, keeps: bool) -> bool:
        shown = f"the AMI {image.image_id} in {image.region} ({image.state})"
        if keeps and image.state in _USABLE:
            self._left.append(shown)
            self._keep(image.region, image.image_id, is_pending=image.state == "pending")
            return False
        if image.protection.startswith("enabled"):
            where = f"--image-id {image.image_id} --region {image.region}"
            self._left.append(f"{shown}, protected until `aws ec2 disable-image-deregistration-protection {where}`")
            return False
        before = len(self._left)
        with self._naming(shown):
            image_changes.deregister(caller, image.image_id)
            self._removed(shown)
        return len(self._left) == before

    def _keep(self, region: str, ami_id: str, *, is_pending: bool) -> None:
        self._kept[region] = ami_id
        self._pending |= {region} if is_pending else set()

    def _removed(self, what: str) -> None:
        self._run.console.say(f"Removed {what} that Packer had left.")

    @contextlib.contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        """Go on without what cannot be removed: it is named."""
        try:
            yield
        except AwsError as exc:
            self._left.append(f"{what} ({str(exc).rstrip('.')})")
            if isinstance(exc, UnansweredError):
                raise

    @contextlib.contextmanager
    def _noting(self, kinds: str) -> Iterator[None]:
        """Go on without what cannot be listed."""
        try:
            yield
        except AwsError as exc:
            self._unknown.append(f"{kinds}: {str(exc).rstrip('.')}")
            if isinstance(exc, UnansweredError):
                raise

    def _said(self) -> str:
        said = []
        if self._left:
            said.append(f"Left: {'; '.join(self._left)}. `invoke sweep` removes that once the build must be over.")
        if self._kept:
            said.append(by_hand.how_to_use(self._caller.region, self._kept, pending=self._pending))
        if self._unknown:
            run = self._job.run_id
            said.append(f"More of run {run} may be left ({self._unknown[0]}): run `invoke sweep` later.")
        return " ".join(said)
