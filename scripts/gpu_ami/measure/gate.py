"""The verification that comes before the hand-over of a build, where the settings want it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gpu_ami.errors import DifferenceError, InterruptedRunError, PipelineError
from gpu_ami.invocation import Invocation
from gpu_ami.measure import verify
from gpu_ami.measure.verify import Clock


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

    def agree(self) -> None:
        """Have somebody say, before the bake begins, that the verification may cost what it may.

        Raises:
            UsageError: One of the settings' types has no GPU.
            SafetyError: Nobody did.
        """
        if self.is_wanted:
            verify.agree_on_types(self._run, self._limit)

    def check(self, amis: Mapping[str, str], account: str) -> None:
        """Verify the AMI of the pipeline's region.

        Raises:
            DifferenceError: A check failed: the AMI stays and is not handed over.
            AwsError: AWS refused, or had no capacity.
            InterruptedRunError: It was interrupted; its instance is ended.
        """
        run = self._run
        if not self.is_wanted:
            return
        ami_id = amis[run.settings.region]
        types = verify.chosen_types(run, ())
        made = f"{ami_id} was made and is not handed over"
        how = f"`invoke verify --ami {ami_id}`, then `invoke update-tfvars --ami {ami_id}`"
        try:
            result = verify.verify(run, verify.decide(run, ami_id, account, types), self._clock)
        except KeyboardInterrupt as exc:
            msg = f"{made}: its verification was interrupted. Later: {how}."
            raise InterruptedRunError(msg) from exc
        except PipelineError as exc:
            exc.args = (f"{made}, for it could not be verified: {exc} Later: {how}.",)
            raise
        run.console.say_text("\n".join(f"  {check.check}: {check.status}, {check.detail}" for check in result.checks))
        if result.failed:
            first = result.failed[0]
            msg = f"{ami_id} is not verified: {first.check}: {first.detail}. It was not handed over."
            raise DifferenceError(msg)
