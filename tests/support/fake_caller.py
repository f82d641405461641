"""An AWS that answers from a script: independent of moto, for pages, states and odd answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpu_ami.aws.access import Access
from gpu_ami.aws.caller import Caller

Answer = dict[str, Any] | Exception
Script = dict[str, "list[Answer] | Callable[..., dict[str, Any]]"]


class FakeCaller(Caller):
    """Answers each operation with its answers in turn, the last one again and again; anything else is a mistake.

    Args:
        script: By operation, such as ``describe_images``: a list of answers, or a function of the parameters.
        region: The region it is.
    """

    def __init__(self, script: Script, region: str = "r") -> None:
        """Answer nothing that is not in the script."""
        super().__init__(Access(region=region), region)
        self._script = script
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.prepared: list[str] = []

    def counting(self) -> Caller:
        """Return itself: there is one count."""
        return self

    def patient(self) -> Caller:
        """Return itself: the script has all that there is to sit out."""
        return self

    def elsewhere(self, region: str) -> Caller:
        """Return a caller of another region, with the same script."""
        return FakeCaller(self._script, region)

    def prepare(self, service: str) -> None:
        """Note it: there is nothing to make."""
        self.prepared.append(service)

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> dict[str, Any]:
        """Return the next answer of the script; *doing* is for error messages only."""
        self.calls += 1
        self.requests.append((operation, parameters))
        answers = self._script[operation]
        if callable(answers):
            answer: Answer = answers(**parameters)
        else:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        self.answered += 1
        return answer
