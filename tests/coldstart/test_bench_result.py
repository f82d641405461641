"""A bench's result: what is read of it, what is fitted, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.coldstart import bench_result
from gpu_ami.coldstart.assumptions import Range, assumed
from gpu_ami.coldstart.bench_result import MOMENTS, fitted, load
from gpu_ami.coldstart.model import PHASES, Prediction, Start, Variant, predict
from gpu_ami.errors import UsageError
from tests.coldstart.builders import AMI, OTHER, RATED, STOCK, T0, host, result


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write documents as files and return their paths."""

    def write(*documents: Any) -> list[Path]:
        paths = [tmp_path / f"{number}.json" for number in range(len(documents))]
        for path, document in zip(paths, documents, strict=True):
            path.write_text(document if isinstance(document, str) else json.dumps(document))
        return paths

    return write


def _load(paths: Sequence[Path], built: Sequence[str] = ()) -> bench_result.Measured:
    return load(paths, shown=[path.name for path in paths], built=built)


def _fitted(variant: Variant, paths: Sequence[Path]) -> Prediction:
    return fitted(predict(Start(variant), assumed()), _load(paths))


def _phases(prediction: Prediction) -> dict[str, Range]:
    return {phase.name: phase.seconds for phase in prediction.phases}


def test_best_median_and_worst_host_go_before_what_is_assumed(write: Any) -> None:
    """Three hosts of an arm: each phase that a moment ends is theirs."""
    paths = write(result(*(host("stock", STOCK, late=late) for late in (1.0, 1.1, 1.5))))

    phases = _phases(_fitted("stock", paths))

    assert phases["queue"] == Range(20, pytest.approx(22), 30)  # type: ignore[arg-type]
    assert phases["pull_unpack"].likely == pytest.approx(331.1)
    assert phases["models"].high == pytest.approx(45)


def test_what_no_moment_parts_is_fitted_together(write: Any) -> None:
    """Boot and registration have one moment between them only where somebody looked; together they are right."""
    prediction = _fitted("stock", write(result(*[host("stock", STOCK)] * 3)))

    phases = {phase.name: phase for phase in prediction.phases}
    assert phases["boot"].seconds.likely + phases["register"].seconds.likely == pytest.approx(54)
    assert phases["boot"].source == "fitted: 3 hosts of 0.json, with register"
    parted = {
        phase.name: phase
        for phase in _fitted("stock", write(result(*[host("stock", {**STOCK, "booted": 60})] * 3))).phases
    }
    assert parted["boot"].seconds.likely == pytest.approx(22)
    assert parted["boot"].source == "fitted: 3 hosts of 0.json"


def test_the_finer_of_two_hosts_is_believed_where_they_differ(write: Any) -> None:
    """One host says when its boot was over, another does not: each phase is fitted once."""
    seen = host("stock", {**STOCK, "booted": 60})

    phases = {phase.name: phase for phase in _fitted("stock", write(result(seen, host("stock", STOCK)))).phases}

    assert phases["boot"].source == "fitted: 1 host of 0.json"
    assert phases["register"].source == "fitted: 1 host of 0.json"
    assert phases["queue"].source == "fitted: 2 hosts of 0.json"


def test_a_baked_host_without_a_pull_has_no_gap(write: Any) -> None:
    """`prefer-cached` leaves the pull's moments out: what lies between is create and start, and a pull of nothing."""
    phases = _phases(_fitted("rated", write(result(*[host("rated", RATED)] * 3))))

    assert phases["pull_unpack"].likely + phases["create_start"].likely == pytest.approx(8)
    assert phases["first_touch_imports"].likely == pytest.approx(41)
    assert sum(phase.likely for phase in phases.values()) == pytest.approx(201)


def test_queue_and_launch_speak_for_every_way_and_the_rest_for_its_own(write: Any) -> None:
    """They do not depend on the AMI; a boot does."""
    paths = write(result(host("stock", STOCK), host("rated", RATED)))

    sources = {phase.name: phase.source for phase in _fitted("fsr", paths).phases}

    assert sources["queue"].startswith("fitted: 2 hosts")
    assert sources["launch"].startswith("fitted: 2 hosts")
    assert {name for name, source in sources.items() if source.startswith("assumed")} == {*PHASES} - {"queue", "launch"}


def test_fewer_than_three_hosts_leave_both_ends_open(write: Any) -> None:
    """Of one host neither the best nor the worst is known."""
    phases = _phases(_fitted("stock", write(result(host("stock", STOCK)))))

    assert (phases["queue"].low, phases["queue"].likely, phases["queue"].high) == pytest.approx((20 / 1.2, 20, 24))


def test_a_void_host_counts_for_nothing(write: Any) -> None:
    """A host that was reused, or that pulled although it was baked, was no cold start: its seconds are another's."""
    counts, void = host("stock", STOCK) | {"void": None}, host("stock", STOCK, late=3.0) | {"void": "reused by Batch"}
    empty = host("stock", STOCK) | {"void": " "}

    measured = _load(write(result(counts, void, empty)))

    assert measured.void == 1
    assert len(measured.spans["stock"]) == 2
    assert fitted(predict(Start("stock"), assumed()), measured).phases[0].seconds.likely == 20


def test_a_void_host_may_lack_what_the_others_must_have(write: Any) -> None:
    """What is void is often so because its moments cannot be: they are not read."""
    broken = host("stock", {**STOCK, "launched": -90_000}) | {"void": "the clocks do not fit"}
    never_up = {"arm": "rated", "moments": None, "void": "no capacity"}

    assert _load(write(result(host("stock", STOCK), broken, never_up))).void == 2


def test_what_the_sandbox_invented_is_fitted_and_said_to_be_invented(write: Any) -> None:
    """Whoever tries the bench without an account sees the whole answer, and is not fooled by it."""
    invented = result(host("stock", STOCK)) | {"times_are_invented": True}

    prediction = _fitted("stock", write(invented, result(host("stock", STOCK)) | {"times_are_invented": False}))

    assert prediction.phases[0].source == "fitted: 2 hosts of 0.json, 1.json (invented by the sandbox)"


def test_files_add_up(write: Any) -> None:
    """Two evenings of a bench are one sample, and both are named."""
    paths = write(result(host("stock", STOCK)), result(host("stock", STOCK, late=2.0)))

    prediction = _fitted("stock", paths)

    assert prediction.phases[0].source == "fitted: 2 hosts of 0.json, 1.json"
    assert prediction.phases[0].seconds.likely == pytest.approx(30)


def test_a_missing_moment_says_nothing_about_its_two_phases(write: Any) -> None:
    """It is never taken from a neighbour; the next two moments count again."""
    one = host("stock", STOCK)
    one["moments"]["launched"] = {"at": None, "missing": "gone"}

    sources = {phase.name: phase.source for phase in _fitted("stock", write(result(one))).phases}

    assert sources["queue"].startswith("assumed")
    assert sources["launch"].startswith("assumed")
    assert sources["register"].startswith("fitted")


def test_a_host_that_is_registered_stands_for_one_whose_task_is_placed(write: Any) -> None:
    """ECS forgets a task after an hour; when its host was registered is nearly the same moment."""
    moments = {name: seconds for name, seconds in STOCK.items() if name != "placed"}

    phases = _phases(_fitted("stock", write(result(*[host("stock", moments)] * 3))))

    assert phases["boot"].likely + phases["register"].likely == pytest.approx(52)
    assert phases["pull_unpack"].likely == pytest.approx(303)


@pytest.mark.parametrize("at", ["2026-11-18T09:06:40+00:00", "2026-11-18T09:06:40Z", "2026-11-18T18:06:40+09:00"])
def test_times_may_be_written_as_iso_8601(write: Any, at: str) -> None:
    """With an offset: a time without one is of nobody knows where."""
    one = host("stock", {"submitted": 0, "launched": 10})
    one["moments"]["submitted"]["at"] = at
    one["moments"]["launched"]["at"] = 1_794_992_810.0

    assert _phases(_fitted("stock", write(result(one))))["queue"].likely == pytest.approx(10)


def test_arms_may_be_an_object_and_clocks_may_disagree_a_little(write: Any) -> None:
    """Of two services a second moment may be a second before the first: that is skew, and no time."""
    one = host("rated", {**RATED, "kernel_up": 29})
    document = {**result(one), "arms": {"rated": {"ami_id": AMI}}}

    assert _phases(_fitted("rated", write(document)))["launch"].likely == 0


def _changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    document = result(host("stock", STOCK), host("rated", RATED))
    change(document)
    return document


@pytest.mark.parametrize(
    ("documents", "problem"),
    [
        (['{"hosts": [{"arm"'], "0.json is not JSON, or was cut off"),
        (["[" * 100_000], "0.json is not JSON, or was cut off"),
        (["[]"], "0.json is not a bench result: it has no list of hosts"),
        ([{"arms": [], "hosts": {}}], "is not a bench result"),
        ([result()], "no host has two moments of one phase"),
        ([_changed(lambda d: d["hosts"][1].pop("moments"))], "host 2 has no arm and moments"),
        ([_changed(lambda d: d["hosts"].append("x"))], "host 3 has no arm and moments"),
        ([_changed(lambda d: d.pop("arms"))], "does not say which AMI it measured"),
        ([_changed(lambda d: d.update(arms=[{"arm": {}, "ami_id": []}, 1]))], "does not say which AMI it measured"),
        ([_changed(lambda d: d["hosts"][0].update(arm=[]))], "host 1 has no arm and moments"),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at="soon"))],
            "host 1, launched: at = 'soon' is neither",
        ),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at=float("nan")))],
            "host 1, launched: at = 'nan'",
        ),
        ([_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at="2026-11-18T09:06:40"))], "with an offset"),
        ([_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at=10**400))], "host 1, launched: at = '1000"),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at="0001-01-01T00:00:00+23:59"))],
            "at = '0001-01-01T00:00:00.23:59' is neither",
        ),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at="9999-12-31T23:59:59-23:59"))],
            "at = '9999-12-31T23:59:59-23:59' is neither",
        ),
        ([_changed(lambda d: d["hosts"][0].update(void=1))], "host 1: void is neither null nor a reason"),
        ([_changed(lambda d: d["hosts"][1].update(void=False))], "host 2: void is neither null nor a reason"),
        ([_changed(lambda d: d.update(times_are_invented="yes"))], "times_are_invented is neither true nor false"),
        (
            [_changed(lambda d: [one.update(void="no capacity") for one in d["hosts"]])],
            "no host has two moments of one phase; 2 hosts are void: nothing can be fitted",
        ),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["launched"].update(at=T0 - 60))],
            "launched is -60 s after the moment before",
        ),
        (
            [_changed(lambda d: d["hosts"][0]["moments"]["models_done"].update(at=T0 + 1e7))],
            "models_done is 9,999,580 s after",
        ),
        (
            [result(host("rated", RATED)), result(host("rated", RATED), ami=OTHER)],
            "1.json measured ami-0fed.* another file measured",
        ),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(write: Any, documents: list[Any], problem: str) -> None:
    """A prediction that rests on half a file would look as good as any."""
    with pytest.raises(UsageError, match=problem) as caught:
        _load(write(*documents))

    assert "\n" not in str(caught.value)


def test_a_result_of_another_ami_is_refused(write: Any) -> None:
    """Last month's AMI had another image in it."""
    paths = write(result(host("rated", RATED)))

    assert _load(paths, built=[OTHER, AMI]).ami_ids == {AMI}
    with pytest.raises(UsageError, match=f"0.json measured {AMI}, and the last build made {OTHER}"):
        _load(paths, built=[OTHER])


def test_a_host_that_does_not_count_is_left_out(write: Any) -> None:
    """A reused host was warm; what its moments are is nobody's business, however odd."""
    odd = host("rated", {**RATED, "kernel_up": 5}) | {"void": "a clock is wrong"}

    prediction = _fitted("rated", write(result(*[host("rated", RATED)] * 3, odd)))

    assert prediction.phases[0].source == "fitted: 3 hosts of 0.json"


@pytest.mark.parametrize("rate", [None, True, "300", -1, 0, 301, float("nan"), [300]])
def test_a_rate_that_cannot_be_is_not_known(write: Any, rate: Any) -> None:
    """Then what was measured speaks for no rate; 300 does."""
    document = result(host("rated", RATED))
    for known, expected in ((rate, None), (300, 300)):
        document["arms"][1]["rate_mib_s"] = known
        assert _load(write(document)).rates_mib_s == {expected}


def test_every_phase_has_a_moment_that_ends_it() -> None:
    """Else it could never be fitted."""
    assert [phase for phases in MOMENTS.values() for phase in phases] == list(PHASES)
