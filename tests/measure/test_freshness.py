"""Which hosts of a bench count: each fault that judgement finds, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpu_ami.measure import freshness
from gpu_ami.measure.freshness import verdicts, void
from gpu_ami.measure.timeline import SILENT, Arm, Host
from tests.measure.bench_hosts import BASE, DIGEST, RATED, STOCK, host, moved


@pytest.mark.parametrize("arm", ["stock", "plain", "rated", "live"])
def test_a_whole_host_counts(arm: Arm) -> None:
    """Of each arm: a rule that voids good hosts leaves nothing to compare."""
    assert void(host(arm), [host(arm, 2), host("stock", 3)]) is None


OTHER = "i-0ffffffffffffffff"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (replace(host(), trouble="no capacity"), "no capacity"),
        (
            host(exit_code=1, status_reason="ModuleNotFoundError: torch"),
            "its job ended with exit code 1: ModuleNotFoundError: torch",
        ),
        (
            moved(host(exit_code=2, status_reason="Essential container exited"), first_line=SILENT),
            f"its job ended with exit code 2: Essential container exited; {SILENT}",
        ),
        (moved(host(exit_code=2), first_line="no log"), "its job ended with exit code 2"),
        (host(exit_code=None), "its job's exit code is not known"),
        (host(instance_id=""), "ECS did not say which instance it was"),
        (host(said_instance_id=OTHER), f"its job ran on {OTHER}, and ECS says i-00000000000000021"),
        (host(boot_id=""), "its job did not say which boot it ran in"),
        (host(instances=()), "which instances were started for it is not known"),
        (host(instances=("i-00000000000000021", OTHER)), f"a second host was started for it: {OTHER}"),
        (host(tasks=()), "which tasks its instance had is not known"),
        (host(tasks=("a", "b")), "its instance had 2 tasks, and only a first one finds a cold volume"),
        (host(attempts=None), "how many attempts Batch made is not known"),
        (host(attempts=2), "Batch made 2 attempts"),
        (moved(host(), launched=-2.5), "its instance was launched 2.5 s before its job was submitted"),
        (host(ami_id=""), "its AMI is not known"),
        (host(ami_id=BASE), f"its AMI is {BASE} instead of ami-0123456789abcdef0"),
        (host(digest="sha256:b"), f"its image's digest is sha256:b instead of {DIGEST}"),
        (host(instance_type="g5.2xlarge"), "its type is g5.2xlarge instead of g5.xlarge"),
        (host(zone=""), "its zone is not known"),
        (host(pulled=None), "whether it pulled is not known"),
        (host(pulled=True), "the image was pulled, although the AMI holds it"),
        (host("stock", pulled=False), "nothing was pulled, although the AMI does not hold the image"),
        (host(volume_id=""), "its root volume was not seen"),
        (
            host(rate_mib_s=None, copied_rate_mib_s=None),
            "its volume has no rate instead of 300 MiB/s: Batch dropped it, its copy of the launch template has none",
        ),
        (
            host(rate_mib_s=None),
            "its volume has no rate instead of 300 MiB/s: EC2 ignored it, Batch's copy of the launch template has it",
        ),
        (
            host(rate_mib_s=100, is_copy_read=False),
            (
                "its volume has 100 MiB/s instead of 300 MiB/s; whether Batch or EC2 dropped it is not known: "
                "Batch's launch template could not be read"
            ),
        ),
        (host("plain", rate_mib_s=300), "its volume was filled at 300 MiB/s, and its arm has none"),
        (host(volume_kind="default"), "EBS calls its volume's initialization default"),
        (host("plain", volume_kind="volume-copy"), "its volume is a copy of another volume"),
        (host(models_bytes=0), "it read no models: nothing is where bench.models says"),
        (moved(host(), models_done="no line came"), "models_done is missing: no line came"),
        (replace(host(), moments={}), "submitted is missing: it was not seen"),
        (moved(host("stock"), pull_stopped="the task was gone"), "pull_stopped is missing: the task was gone"),
        (moved(host(), kernel_up=12.0), "kernel_up is 8.0 s before launched: a clock is wrong"),
    ],
)
def test_a_host_that_does_not_count_says_why(one: Host, why: str) -> None:
    """One reason, the one that explains most; it is what the person reads who paid for the host."""
    assert void(one, [host("stock", 9)]) == why


@pytest.mark.parametrize(
    "one",
    [
        host(said_instance_id=""),
        host(volume_kind=""),
        host(is_copy_read=False, copied_rate_mib_s=None),
        moved(host(), launched=-1.5, kernel_up=0.0),
        moved(host(), kernel_up=18.5),
        moved(host(), asked="unread", running="unread", first_line="unread", ended="unread"),
    ],
    ids=["no IMDS", "EBS is silent", "the rate is on the volume", "skew of the launch", "skew", "ends no phase"],
)
def test_what_refutes_nothing_voids_nothing(one: Host) -> None:
    """EBS tells a kind up to five minutes late, a container may not reach IMDS, and clocks differ by a second."""
    assert void(one, []) is None


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"instance_id": "i-1", "said_instance_id": "i-1", "instances": ("i-1",)}, "i-1 was reused: {} ran there, too"),
        ({"boot_id": "same"}, "{} ran in the same boot of the same host"),
    ],
)
def test_two_hosts_that_are_one_are_both_void(changed: dict[str, Any], why: str) -> None:
    """Which of them was first is not known well enough; both are named by the other."""
    first, second = host("plain", 1, **changed), host("rated", 2, **changed)

    assert [one.void for one in verdicts([first, second, host("stock")])] == [
        why.format("rated of round 2"),
        why.format("plain of round 1"),
        None,
    ]


@pytest.mark.parametrize(
    ("baked", "live", "has_models", "why"),
    [
        (0, 0, True, "it read no models: nothing is where bench.models says"),
        (0, 0, False, None),
        # It was baked without any, and jobs have had some until now.
        (0, 5_000_000_000, False, "it read 0 B of models, and the live AMI's hosts 4.7 GiB"),
        (4_400_000_000, 5_000_000_000, True, "it read 4.1 GiB of models, and the live AMI's hosts 4.7 GiB"),
        (4_500_000_000, 5_000_000_000, True, None),
        (9_000_000_000, 5_000_000_000, True, None),
        (None, 5_000_000_000, True, None),
    ],
)
def test_a_start_without_models_is_no_fast_start(
    baked: int | None, live: int, has_models: bool, why: str | None
) -> None:
    """Docker makes an empty folder of one that is not there, and nothing is read in no time."""
    hosts = [host("rated", models_bytes=baked), host("live", models_bytes=live), host("live", 2, models_bytes=0)]

    rated, *others = verdicts(hosts, has_models=has_models)

    assert (rated.void, rated.missed) == (why, why)
    assert [other.void for other in others] == [None, None]


def test_an_ami_says_whether_it_has_models() -> None:
    """Where it does not say, it has to prove it; where nothing is read, there is nothing to prove."""
    paths = ("/opt/ml/models",)

    assert freshness.has_models({"gpu-ami:models-bytes": "7"}, paths)
    assert freshness.has_models({}, paths)
    assert not freshness.has_models({"gpu-ami:models-bytes": "0"}, paths)
    assert not freshness.has_models({}, ())


def test_every_moment_between_two_phases_is_needed() -> None:
    """A missing one is never the neighbour's, and never 0."""
    drop: Callable[[str, Host], Host] = lambda name, one: moved(one, **{name: "lost"})  # noqa: E731
    spare = {"asked", "running", "first_line", "ended"}

    needed = {name for name in RATED if void(drop(name, host()), []) is not None}
    needed_of_stock = {name for name in STOCK if void(drop(name, host("stock")), []) is not None}

    assert needed == set(RATED) - spare
    assert needed_of_stock == set(STOCK) - spare
