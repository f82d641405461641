"""What of a fleet's clean-up becomes the matrix of a workflow: its shards, and the accounts in which something goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from gpu_ami.errors import UsageError
from gpu_ami.fleet import fleet_list
from gpu_ami.github.collect import document_in
from gpu_ami.units import show_count

# GitHub makes no more jobs of one matrix (docs.github.com, "Running variations of jobs in a workflow").
_MOST_JOBS = 256
_ACCOUNT = re.compile(r"[0-9]{12}")


def shards(path: Path) -> list[str]:
    """Return the shards of the list in *path*, as ``--shard`` takes them; an empty list of accounts has none.

    Raises:
        UsageError: It is no list of a fleet.
    """
    return list(fleet_list.load(path)[0].names)


def owners(path: Path) -> list[str]:
    """Return the accounts in which something goes by the plan in *path*; none is no error.

    Raises:
        UsageError: It has no such list, that holds something else or one of it twice, or GitHub would refuse so many.
    """
    found = document_in(path).get("owners")
    if not isinstance(found, list):
        msg = f"{path} has no list of owners: `invoke cleanup --fleet --plan` writes one."
        raise UsageError(msg)
    accounts = [entry for entry in found if isinstance(entry, str) and _ACCOUNT.fullmatch(entry)]
    if len(set(accounts)) < len(found):
        wrong = next((entry for entry in found if entry not in accounts), "one of them twice")
        msg = f"{path} has {str(wrong)[:60]!r} among its owners: `invoke cleanup --fleet --plan` writes another."
        raise UsageError(msg)
    if len(accounts) > _MOST_JOBS:
        count = show_count(len(accounts), "account")
        msg = f"{count} are more than the {_MOST_JOBS} jobs of one matrix: apply the plan by hand, without --owner."
        raise UsageError(msg)
    return accounts


# A matrix of nothing fails on GitHub, and one of something else would start jobs that nobody asked for.
KINDS: dict[str, Callable[[Path], list[str]]] = {"shards": shards, "owners": owners}
