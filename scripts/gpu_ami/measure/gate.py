"""The verification that comes before the hand-over of a build, where the settings want it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gpu_ami.errors import DifferenceError, PipelineError
from gpu_ami.invocation import Invocation
from gpu_ami.measure import verify
from gpu_ami.measure.verify import Clock, Request


class BeforeHandOver:
    """Verifies what a build has made, before its id is written anywhere.

    Args:
        run: The build's invocation.
        max_usd: What it may cost at most; None asks.
        clock: How time goes on.
    """

    def __init__(self, run: Invocation, max_usd: str | None = None, *, clock: Clock | None = None) -> None:
        self._run = run
        self._max_usd = max_usd
        self._clock = clock or Clock(sleep=lambda seconds: time.sleep(run.target.poll_s(seconds)))

    @property
    def is_wanted(self) -> bool:
        """Whether the settings want a verification before the hand-over."""
        return self._run.settings.verify.before == "handover"

    def agree(self) -> None:
        """Have somebody say, before the bake begins, that the verification may cost what it may.

        Raises:
            UsageError: The limit or the settings' types cannot be used.
            SafetyError: Nobody did.
        """
        if self.is_wanted:
            request = Request(max_usd=self._max_usd, yes=self._max_usd is not None)
            verify.agree_on_types(self._run, request)

    def check(self, amis: Mapping[str, str], account: str) -> None:
        """Verify the AMI of the pipeline's region.

        Raises:
            DifferenceError: A check failed: the AMI stays and is not handed over.
            AwsError: AWS refused, or had no capacity.
        """
        run = self._run
        if not self.is_wanted:
            return
        ami_id = amis[run.settings.region]
        types = verify.chosen_types(run, ())
        try:
            result = verify.verify(run, verify.decide(run, ami_id, account, types), self._clock)
        except PipelineError as exc:
            how = f"`invoke verify --ami {ami_id}`, then `invoke update-tfvars --ami {ami_id}`"
            exc.args = (f"{ami_id} was made and is not handed over, for it could not be verified: {exc} Later: {how}.",)
            raise
        run.console.say_text("\n".join(f"  {check.check}: {check.status}, {check.detail}" for check in result.checks))
        if result.failed:
            first = result.failed[0]
            msg = f"{ami_id} is not verified: {first.check}: {first.detail}. It was not handed over."
            raise DifferenceError(msg)
