"""What the scripts on a verified instance, and EC2, say of it: each turned into one check with its evidence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gpu_ami.aws.instances import Initialization, Volume
from gpu_ami.aws.run_command import REBOOT_STATUS, UNSAID, Ran
from gpu_ami.units import show_duration

Status = Literal["ok", "failed", "not confirmed", "skipped"]

# So much of a script's output is kept as evidence: its end, where a failure is explained.
_EVIDENCE_LINES = 12
_STARTUP = re.compile(r"Startup finished in (?P<parts>[^\n]*?)(?: = (?P<total>[\d.]+(?:min|ms|s)(?: [\d.]+s)?))")
# What a container's image may be called; nothing else gets into a script, for SSM expands {{ssm:NAME}} in what it is
# sent (its guide, "Referencing Parameter Store parameters").
_IMAGE = re.compile(r"[\w./:@-]+", re.ASCII)
# SSM's agent would reboot the instance for it, and run the script again, over and over.
_NO_REBOOT = f"trap '(($? != {REBOOT_STATUS})) || {{ echo \"ended with status {REBOOT_STATUS}\" >&2; exit 1; }}' EXIT"
# verify-gpu.sh on a job's CUDA context: that it was made, and that nothing was there to make one with.
_CUDA_MADE = re.compile(r"verify-gpu: (?P<made>CUDA contexts made: [1-9]\d*), in a container of \S+", re.ASCII)
_CUDA_NOT_TRIED = re.compile(r"verify-gpu: (?P<why>.+: whether a job can make a CUDA context was not tried)")
# What prewarm.py's own lines in its unit's journal begin with; systemd's are beside them.
_PREWARM_SAYS = "prewarm: "
_PREWARM = "gpu-ami-prewarm.service"
BOOT_SCRIPT = "systemd-analyze time"
PREWARM_SCRIPT = f"systemctl is-enabled {_PREWARM} && journalctl --no-pager --output cat --unit {_PREWARM} | tail -n 5"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a verification.

    Attributes:
        check: Its name: ``gpu``, ``cuda``, ``boot``, ``prewarm`` or ``volume``.
        status: How it ended; ``not confirmed`` is no failure and no proof.
        detail: What it found, in one line.
        evidence: The lines that say so.
    """

    check: str
    status: Status
    detail: str
    evidence: tuple[str, ...] = ()


def gpu_script(verify_gpu: str, image: str) -> str:
    """Return the script that runs packer/scripts/verify-gpu.sh where a GPU is required.

    Args:
        verify_gpu: The text of that script, which is not left in the AMI.
        image: The baked container image, by its digest; empty when nothing says which it is. It comes from a tag, and
            the script runs as root: what cannot be an image's name is left out, and `gpu` says so.
    """
    first, _, rest = verify_gpu.partition("\n")
    named = image if _IMAGE.fullmatch(image) else ""
    return f"{first}\nexport REQUIRE_GPU=1 TEST_IMAGE='{named}'\n{_NO_REBOOT}\n{rest}"


def gpu(ran: Ran, image: str) -> Check:
    """Return whether driver, runtime and the baked image see the GPU."""
    if image and not _IMAGE.fullmatch(image):
        return _check("gpu", "failed", f"the AMI's tag names no image: {image!r}; no container was tried", ran)
    if problem := _problem(ran):
        return _check("gpu", "failed", problem, ran)
    if not image:
        return _check("gpu", "failed", "the AMI does not say which image was baked: no container was tried", ran)
    return _check("gpu", "ok", "driver, runtime and a container of the baked image see the GPU", ran)


def cuda(ran: Ran) -> Check:
    """Return whether the same script has made a CUDA context in a container, as a job does first.

    It does so with the image's own Python: an image without one is no bad image, and proves nothing.
    """
    lines = [line.strip() for line in ran.output.splitlines()]
    for line in reversed(lines):
        if found := _CUDA_MADE.fullmatch(line):
            return Check(check="cuda", status="ok", detail=f"{found['made']}, in the container", evidence=(line,))
        if found := _CUDA_NOT_TRIED.fullmatch(line):
            return Check(check="cuda", status="not confirmed", detail=found["why"], evidence=(line,))
    said = "the GPU check has not come so far" if _problem(ran) else "no container was tried, or it was not seen"
    return Check(check="cuda", status="not confirmed", detail=said)


def boot(ran: Ran) -> Check:
    """Return how long the instance took to boot."""
    if problem := _problem(ran):
        return _check("boot", "not confirmed", problem, ran)
    found = _STARTUP.search(ran.output)
    if found is None:
        return _check("boot", "not confirmed", "systemd does not say how long the boot took", ran)
    return _check("boot", "ok", f"booted in {found['total']} ({found['parts']})", ran)


def prewarm(ran: Ran) -> Check:
    """Return what prewarm's journal says; an AMI baked without it has none."""
    if ran.exit_status == 1:
        return _check("prewarm", "skipped", "the AMI was baked without prewarm", ran)
    if problem := _problem(ran):
        return _check("prewarm", "not confirmed", problem, ran)
    lines = [line.removeprefix(_PREWARM_SAYS) for line in ran.output.splitlines() if line.startswith(_PREWARM_SAYS)]
    if not lines:
        return _check("prewarm", "not confirmed", "prewarm has not written anything yet", ran)
    is_bad = "cannot be used" in lines[-1]
    return _check("prewarm", "not confirmed" if is_bad else "ok", lines[-1], ran)


def volume(wanted_mib_s: int | None, found: Volume, filling: Initialization) -> Check:
    """Return whether EC2 took the rate at which the root volume is to be filled, and how far it is.

    Args:
        wanted_mib_s: The rate that was requested.
        found: The root volume.
        filling: What EBS said last; it is up to five minutes old.
    """
    source = found.snapshot_id or "no snapshot"
    progress = "?" if filling.progress is None else filling.progress
    said = f"{filling.kind or 'nothing said'}, {filling.state or 'nothing said'}, {progress} %"
    evidence = (
        f"{found.volume_id}: {found.size_gib} GiB from {source}, rate {found.rate_mib_s or 'none'}",
        f"initialization: {said}",
    )

    def check(status: Status, detail: str) -> Check:
        return Check(check="volume", status=status, detail=detail, evidence=evidence)

    if found.rate_mib_s != wanted_mib_s:
        got = f"{found.rate_mib_s} MiB/s" if found.rate_mib_s else "none"
        return check("failed", f"{wanted_mib_s or 'no'} MiB/s were requested, and EC2 shows {got}")
    if found.is_restored:
        return check("ok", "filled at once by a fast snapshot restore")
    if wanted_mib_s is not None and filling.kind not in ("", "provisioned-rate"):
        return check("failed", f"a rate was requested, and EBS fills the volume by {filling.kind}")
    how = f"at {wanted_mib_s} MiB/s" if wanted_mib_s else "as it is read: no rate is set"
    if filling.state == "completed":
        return check("ok", f"filled {how}")
    if wanted_mib_s is None:
        return check("ok", f"filled {how}")
    left = f", {show_duration(filling.left_s)} left by EBS's estimate" if filling.left_s else ""
    return check("not confirmed", f"being filled {how}, not seen completed{left}")


def _problem(ran: Ran) -> str | None:
    """Return in words how a script did not end well; None when it did."""
    if ran.is_good:
        return None
    if ran.details == "ExecutionTimedOut":
        return "the script took too long and was ended"
    if ran.details in ("DeliveryTimedOut", UNSAID):
        return f"SSM did not say what came of it ({ran.details}): the instance or its agent may have died"
    if ran.details == "Undeliverable" or ran.exit_status is None:
        return f"SSM could not have the script run ({ran.details})"
    if ran.exit_status == REBOOT_STATUS:
        return f"the script asked for a reboot (status {REBOOT_STATUS}) again and again"
    said = [line for line in (*ran.output.splitlines(), *ran.errors.splitlines()) if line.strip()]
    return f"ended with status {ran.exit_status}: {said[-1].strip()}" if said else f"ended with {ran.exit_status}"


def _check(name: str, status: Status, detail: str, ran: Ran) -> Check:
    said = [line.rstrip() for line in (*ran.output.splitlines(), *ran.errors.splitlines()) if line.strip()]
    cut = ("(it said more: SSM keeps the beginning only)",) if ran.is_cut else ()
    return Check(check=name, status=status, detail=detail, evidence=(*said[-_EVIDENCE_LINES:], *cut))
