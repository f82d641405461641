"""What comes back from a verified instance, turned into checks: a failure names its cause, a doubt is none."""

from __future__ import annotations

import pytest

from gpu_ami.aws.instances import Initialization, Volume
from gpu_ami.aws.run_command import Ran
from gpu_ami.measure import checks

IMAGE = "1.dkr.ecr.r.amazonaws.com/app@sha256:" + "a" * 64


def ran(status: int | None = 0, output: str = "", errors: str = "", details: str = "") -> Ran:
    """Return what came of a script."""
    word = "Success" if status == 0 else "Failed"
    return Ran(status=word, details=details or word, exit_status=status, output=output, errors=errors)


def volume(rate: int | None, *, restored: bool = False) -> Volume:
    """Return a root volume."""
    return Volume(volume_id="vol-1", snapshot_id="snap-1", size_gib=80, rate_mib_s=rate, is_restored=restored)


def test_the_gpu_script_keeps_its_first_line_and_gets_its_inputs() -> None:
    """SSM runs the lines as a file: without `#!` first, `sh` would run a bash script."""
    text = checks.gpu_script("#!/usr/bin/env bash\nset -euo pipefail\n", IMAGE)

    assert text == f"#!/usr/bin/env bash\nexport REQUIRE_GPU=1 TEST_IMAGE='{IMAGE}'\nset -euo pipefail\n"


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (ran(1, "verify-gpu: driver\n", "verify-gpu: error 805\n"), "ended with status 1: verify-gpu: error 805"),
        (ran(1), "ended with 1"),
        (ran(None, details="ExecutionTimedOut"), "took too long"),
        (ran(None, details="Undeliverable"), "could not have the script run (Undeliverable)"),
        (ran(None, details="DeliveryTimedOut"), "DeliveryTimedOut"),
        (ran(194), "reboot (status 194)"),
    ],
)
def test_a_gpu_script_that_does_not_end_well_fails(came: Ran, expected: str) -> None:
    """Whatever the reason: an AMI whose GPU was not seen is not verified."""
    check = checks.gpu(came, IMAGE)

    assert check.status == "failed"
    assert expected in check.detail


def test_the_gpu_is_seen_only_with_a_container() -> None:
    """Jobs are containers: an AMI that does not say which image it holds was not tried as they go."""
    assert checks.gpu(ran(), IMAGE).status == "ok"
    assert checks.gpu(ran(), "").status == "failed"


def test_long_output_is_cut_to_its_end() -> None:
    """The end of a script's output says how it went."""
    check = checks.gpu(ran(1, "\n".join(f"line {n}" for n in range(5000))), IMAGE)

    assert check.evidence[-1] == "line 4999"
    assert len(check.evidence) == 12


@pytest.mark.parametrize(
    ("output", "status", "detail"),
    [
        (
            "Startup finished in 1.2s (kernel) + 3.4s (initrd) + 25.1s (userspace) = 29.7s\ngraphical.target …",
            "ok",
            "booted in 29.7s (1.2s (kernel) + 3.4s (initrd) + 25.1s (userspace))",
        ),
        ("Startup finished in 1.2s (kernel) + 1min 5.1s (userspace) = 1min 6.3s", "ok", "booted in 1min 6.3s"),
        ("Bootup is not yet finished", "not confirmed", "does not say"),
    ],
)
def test_the_boot_is_measured_and_never_fails_the_ami(output: str, status: str, detail: str) -> None:
    """A slow boot is for `bench` to judge."""
    check = checks.boot(ran(output=output))

    assert check.status == status
    assert detail in check.detail


def test_what_prewarm_says() -> None:
    """It runs beside the checks: nothing yet is no failure, and neither is an AMI without it."""
    assert checks.prewarm(ran(1)).status == "skipped"
    assert checks.prewarm(ran(output="enabled\n-- No entries --\n")).status == "not confirmed"
    said = checks.prewarm(ran(output="enabled\nread 16.1 GiB in 95 s\n"))
    assert (said.status, said.detail) == ("ok", "read 16.1 GiB in 95 s")
    assert checks.prewarm(ran(None, details="Undeliverable")).status == "not confirmed"


@pytest.mark.parametrize(
    ("wanted", "found", "filling", "status", "detail"),
    [
        (300, volume(None), Initialization(), "failed", "300 MiB/s were requested, and EC2 shows none"),
        (None, volume(200), Initialization(), "failed", "no MiB/s were requested, and EC2 shows 200 MiB/s"),
        (300, volume(300), Initialization(kind="default"), "failed", "EBS fills the volume by default"),
        (300, volume(300), Initialization(), "not confirmed", "not seen completed"),
        (
            300,
            volume(300),
            Initialization(kind="provisioned-rate", state="initializing", progress=75, left_s=850),
            "not confirmed",
            "14 m 10 s left by EBS's estimate",
        ),
        (300, volume(300), Initialization(kind="provisioned-rate", state="completed"), "ok", "filled at 300 MiB/s"),
        (None, volume(None), Initialization(kind="default", state="initializing"), "ok", "no rate is set"),
        (None, volume(None, restored=True), Initialization(state="completed"), "ok", "fast snapshot restore"),
    ],
)
def test_the_volumes_rate_is_proven_or_said_not_to_be(
    wanted: int | None, found: Volume, filling: Initialization, status: str, detail: str
) -> None:
    """EBS's word is minutes old: that it has not said "completed" proves nothing."""
    check = checks.volume(wanted, found, filling)

    assert check.status == status
    assert detail in check.detail
