"""The result of one check of `doctor`: its status, what was found and the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Check:
    """What one check found, and what to do about it.

    Attributes:
        check: Its name.
        status: Only ``fail`` can keep a build from starting.
        detail: What was found, with the value.
        fix: What to do; empty when there is nothing to do.
        is_blocking: Whether a build would fail for it too: false where only the check's own query failed, one
            that the bake itself never makes.
    """

    check: str
    status: Status
    detail: str
    fix: str = ""
    is_blocking: bool = True

    def document(self) -> dict[str, str]:
        """Return the check as the ``doctor`` task prints it."""
        return {"check": self.check, "status": self.status, "detail": self.detail, "fix": self.fix}
