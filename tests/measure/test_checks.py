"""What comes back from a verified instance, turned into checks: a failure names its cause, a doubt is none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gpu_ami.aws.instances import Initialization, Volume
from gpu_ami.aws.run_command import Ran
from gpu_ami.measure import checks

VERIFY_GPU = Path(__file__).parents[2] / "packer" / "scripts" / "verify-gpu.sh"
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

    first, inputs, trap, rest = text.splitlines()
    assert (first, inputs) == ("#!/usr/bin/env bash", f"export REQUIRE_GPU=1 TEST_IMAGE='{IMAGE}'")
    assert (trap.split()[0], rest) == ("trap", "set -euo pipefail")


@pytest.mark.parametrize(("ending", "status"), [("exit 194", 1), ("(exit 194)", 1), ("exit 1", 1), ("true", 0)])
def test_the_gpu_script_never_asks_for_a_reboot(ending: str, status: int) -> None:
    """SSM's agent takes status 194 for that; the script would be run again, after a boot that costs."""
    text = checks.gpu_script(f"#!/usr/bin/env bash\nset -euo pipefail\n{ending}\n", IMAGE)

    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)

    assert done.returncode == status
    assert ("194" in done.stderr) is ("194" in ending)


@pytest.mark.parametrize(
    "image",
    ["a'; touch owned; '", "$(touch owned)", "`touch owned`", "a\nb", "a\n", "\\", '"', "a b", "é", "{{ssm:secret}}"],
)
def test_what_a_tag_says_is_an_images_name_or_not_sent(tmp_path: Path, image: str) -> None:
    """Others may set a tag, the script runs as root, and SSM puts a parameter's value where its name is in braces."""
    text = checks.gpu_script('#!/usr/bin/env bash\nprintf "%s" "$TEST_IMAGE"\n', image)

    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
    for came in (ran(), ran(1, errors="verify-gpu: x")):
        check = checks.gpu(came, image)
        assert (check.status, repr(image) in check.detail) == ("failed", True)


def test_an_images_name_reaches_the_script(tmp_path: Path) -> None:
    """With a registry's port, a path, a tag and a digest."""
    image = "host-1.example.com:5000/team/my_app:v1.2@sha256:" + "a" * 64
    text = checks.gpu_script('#!/usr/bin/env bash\nprintf "%s" "$TEST_IMAGE"\n', image)

    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == image
    assert checks.gpu(ran(), image).status == "ok"


def test_ssm_finds_nothing_to_expand_in_the_scripts() -> None:
    """It takes what is in two braces for a parameter's name."""
    scripts = (VERIFY_GPU.read_text(), checks.BOOT_SCRIPT, checks.PREWARM_SCRIPT)

    assert not any("{{" in script for script in scripts)


def _lines_of_check_cuda(outcome: str) -> str:
    """Return what verify-gpu.sh itself says when its attempt at CUDA ends as *outcome*, lines of bash, says."""
    text = VERIFY_GPU.read_text()
    functions = text[: text.index("if ! has_gpu; then")] + f"run_cuda() {{\n{outcome}\n}}\ncheck_cuda\n"
    env = {"PATH": "/usr/bin:/bin", "TEST_IMAGE": IMAGE}
    return subprocess.run(["bash", "-c", functions], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("outcome", "status", "detail"),
    [
        ("echo 'CUDA contexts made: 8'", "ok", "CUDA contexts made: 8, in the container"),
        ("return 127", "not confirmed", f"no Python in {IMAGE}: whether a job can make a CUDA context was not tried"),
        ("return 4", "not confirmed", "has no ctypes: whether a job can make a CUDA context was not tried"),
    ],
)
def test_cuda_is_ok_only_where_a_context_was_made(outcome: str, status: str, detail: str) -> None:
    """An image without Python passed as if CUDA had been tried; the words are those of the script itself."""
    said = _lines_of_check_cuda(outcome)
    came = ran(output=f"verify-gpu: driver\n{said}verify-gpu: done in 9 s\n")

    check = checks.cuda(came)

    assert checks.gpu(came, IMAGE).status == "ok"
    assert (check.check, check.status) == ("cuda", status)
    assert detail in check.detail
    assert check.evidence == (said.strip(),)


@pytest.mark.parametrize(
    ("came", "detail"),
    [
        (ran(1, errors="verify-gpu: a job could not use CUDA"), "has not come so far"),
        (ran(None, details="DeliveryTimedOut"), "has not come so far"),
        (ran(output="verify-gpu: no image was named to try containers with\n"), "no container was tried"),
        (ran(output=f"verify-gpu: CUDA contexts made: 0, in a container of {IMAGE}\n"), "was not seen"),
        (ran(output="CUDA contexts made: 1\n"), "was not seen"),
    ],
)
def test_nothing_said_of_cuda_is_no_proof(came: Ran, detail: str) -> None:
    """What failed before is the GPU check's to say; a line of a container alone is not the script's word."""
    check = checks.cuda(came)

    assert (check.status, check.evidence) == ("not confirmed", ())
    assert detail in check.detail


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
    check = checks.gpu(ran(1, "\n".join(f"line {n}" for n in range(1000))), IMAGE)

    assert check.evidence[-1] == "line 999"
    assert len(check.evidence) == 12


@pytest.mark.parametrize(
    ("came", "is_cut"),
    [(ran(1, "x" * 24_000), True), (ran(1, "", "x" * 8_000), True), (ran(1, "x" * 23_999, "x" * 7_999), False)],
)
def test_output_that_ssm_has_cut_is_called_so(came: Ran, *, is_cut: bool) -> None:
    """It keeps the first 24,000 characters, of errors 8,000: the last line that there is may not be the last one."""
    assert ("SSM keeps the beginning only" in checks.gpu(came, IMAGE).evidence[-1]) is is_cut


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
    started, ended = "Started gpu-ami-prewarm.service.", "gpu-ami-prewarm.service: Deactivated successfully."
    assert checks.prewarm(ran(output=f"enabled\n{started}\n")).status == "not confirmed"
    said = checks.prewarm(ran(output=f"enabled\n{started}\nprewarm: 16486 MiB of 9 files in 95.0 s\n{ended}\n"))
    assert (said.status, said.detail) == ("ok", "16486 MiB of 9 files in 95.0 s")
    bad = checks.prewarm(ran(output=f"enabled\n{started}\nprewarm: /etc/p.json cannot be used: x\n"))
    assert (bad.status, bad.detail) == ("not confirmed", "/etc/p.json cannot be used: x")
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
