"""The verification that comes before the hand-over of a build, where the settings want it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gpu_ami.errors import DifferenceError, InterruptedRunError, PipelineError
from gpu_ami.invocation import Invocation
from gpu_ami.measure import verify
from gpu_ami.measure.verify import Clock
from gpu_ami.records import verification
from gpu_ami.records.tags import HANDOVER_TAG


class BeforeHandOver:
    """Verifies what a build has made, before its id is written anywhere.

    Args:
        run: The build's invocation.
        max_usd: What it may cost at most; None asks.
        clock: How time goes on.

    Raises:
        UsageError: The limit is no amount.
    """

    def __init__(self, run: Invocation, max_usd: str | None = None, *, clock: Clock | None = None) -> None:
        self._run = run
        self._limit = verify.limit_of(max_usd)
        self._clock = clock or Clock(sleep=lambda seconds: time.sleep(run.target.poll_s(seconds)))

    @property
    def is_wanted(self) -> bool:
        """Whether the settings want a verification before the hand-over."""
        return self._run.settings.verify.before == "handover"

    @property
    def lines(self) -> list[str]:
        """What a dry run says of it."""
        if not self.is_wanted:
            return []
        return [f"# boot the AMI on a {self._run.settings.verified_types[0]} and verify it, then hand it over"]

    def has_passed(self, ami_id: str, tags: Mapping[str, str]) -> bool:
        """Whether an AMI that there is needs no verification before a hand-over.

        It had a good one, or was applied, and so handed over, before the settings wanted one: who went back from it
        must not get it again by night.

        Raises:
            UsageError: Its record cannot be read.
        """
        run = self._run
        if not self.is_wanted or tags.get(HANDOVER_TAG) == "applied":
            return True
        folder, is_sandbox = run.workspace.terraform, run.target.is_sandbox
        return verification.outcome(folder, ami_id, tags, sandbox=is_sandbox) == "good"

    def agree(self, volume_gib: float) -> None:
        """Have somebody say, before the bake begins, that the verification may cost what it may.

        Args:
            volume_gib: The root volume of what is made.

        Raises:
            UsageError: One of the settings' types has no GPU.
            SafetyError: Nobody did.
            AwsError: AWS does not say what volume it would have.
        """
        if self.is_wanted:
            verify.agree_on_types(self._run, self._limit, volume_gib=volume_gib)

    def check(self, amis: Mapping[str, str], account: str, *, is_old: bool = False) -> None:
        """Verify the AMI of the pipeline's region.

        Args:
            amis: Region to AMI id.
            account: Whose they are.
            is_old: Whether an earlier run made them.

        Raises:
            DifferenceError: A check failed: the AMI stays and is not handed over.
            SafetyError: By what is known of the AMI now it may cost more than was said; nothing was started.
            AwsError: AWS refused, or had no capacity.
            InterruptedRunError: It was interrupted; its instance is ended.
        """
        run = self._run
        if not self.is_wanted:
            return
        ami_id = amis[run.settings.region]
        types = verify.chosen_types(run, ())
        made = f"{ami_id} is there and is not handed over" if is_old else f"{ami_id} was made and is not handed over"
        how = f"`invoke verify --ami {ami_id}`, then `invoke update-tfvars --ami {ami_id}`"
        try:
            job = verify.decide(run, ami_id, account, types)
            verify.check_price(job.price, self._limit)
            result = verify.verify(run, job, self._clock)
        except KeyboardInterrupt as exc:
            msg = f"{made}: its verification was interrupted. Later: {how}."
            raise InterruptedRunError(msg) from exc
        except PipelineError as exc:
            exc.args = (f"{made}, for it could not be verified: {exc} Later: {how}.",)
            raise
        run.console.say_text("\n".join(f"  {check.check}: {check.status}, {check.detail}" for check in result.checks))
        if result.invented:
            run.console.say(f"  {verify.INVENTED}")
        if result.failed:
            first = result.failed[0]
            msg = f"{ami_id} is not verified: {first.check}: {first.detail}. It was not handed over."
            raise DifferenceError(msg)
