"""What a bench answers: the document that others read back, and the tables for people."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from gpu_ami.coldstart import bench_result
from gpu_ami.coldstart.assumptions import assumed
from gpu_ami.coldstart.model import Start, predict
from gpu_ami.console import Console
from gpu_ami.drawing import Line, Rectangle, Text
from gpu_ami.errors import UsageError
from gpu_ami.measure import bench_chart, bench_report, phases
from gpu_ami.measure.bench_report import Result
from gpu_ami.measure.timeline import NAMES, Arm, Clock
from tests.measure.bench_hosts import BAKED, BASE, DIGEST, host, moved, never, result, rounds
from tests.support.schemas import problems, schemas

FULL: dict[Arm, float] = {"stock": 842.2, "plain": 716, "rated": 196.4, "live": 205}


def some_void() -> Result:
    """Three rounds of all arms; one host never came, and one saw skew."""
    hosts = rounds(FULL, {**FULL, "rated": 210.4}, {**FULL, "rated": 188})
    hosts[5] = replace(hosts[5], trouble="no capacity", moments={})
    hosts[2] = moved(hosts[2], started=97.6)
    return result(hosts)


def printed(*tables: Any) -> str:
    """Return *tables* as they are printed where there is no terminal."""
    out = io.StringIO()
    Console(out=out).result({}, *tables)
    return out.getvalue()


def test_the_document_is_what_its_schema_promises() -> None:
    """Void hosts, skew and all: scripts are written against it. And it is JSON: no NaN, no tuple."""
    document = bench_report.document(some_void())

    assert problems("bench", document) == []
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert problems("bench", bench_report.document(result([], cost_usd=None))) == []


def test_the_schema_knows_every_arm_clock_and_phase() -> None:
    """One that is renamed breaks scripts without a warning."""
    schema = schemas()["bench"]
    answer = schema["else"]["else"]  # neither a dry run nor a teardown
    clocks = answer["properties"]["hosts"]["items"]["properties"]["moments"]["additionalProperties"]["properties"]

    assert set(schema["$defs"]["arm"]["enum"]) == {*get_args(Arm)}
    assert set(schema["$defs"]["phase"]["enum"]) == {*phases.PHASES}
    assert set(clocks["clock"]["enum"]) == {*get_args(Clock), None}


def test_a_missing_moment_is_null_with_a_reason_and_skew_is_kept() -> None:
    """Never 0, never the neighbour's; of a host that never came each of them."""
    hosts = bench_report.document(some_void())["hosts"]

    assert hosts[2]["phases"]["create_start"]["seconds"] == -0.6
    assert {moment["missing"] for moment in hosts[5]["moments"].values()} == {"no capacity"}
    assert {*hosts[5]["moments"]} == {*NAMES}
    assert hosts[2]["moments"]["pull_started"] == {
        "at": None,
        "clock": None,
        "source": None,
        "resolution_s": None,
        "missing": "was not seen",
    }


def test_the_model_of_cold_starts_reads_it_back(tmp_path: Path) -> None:
    """What is written is what `coldstart --fit` and `cost --measured` take; a void host is not fitted."""
    hosts = rounds({"stock": 800, "rated": 200}, {"stock": 820, "rated": 210}, {"stock": 840, "rated": 220})
    # This one ran in the boot of another: both are void, and as a host it would be the best.
    warm = moved(host("rated", 4, boot_id="boot-21"), imports_done=106.0, models_done=107.0)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench_report.document(result([*hosts, warm]))))

    measured = bench_result.load([path], shown=["bench.json"], built=[BAKED])

    fitted = bench_result.fitted(predict(Start("rated"), assumed()), measured)
    assert measured.ami_ids == {BAKED}
    assert [len(hosts) for hosts in measured.spans.values()] == [3, 2]
    assert fitted.phases[-1].seconds.likely == pytest.approx(43)


def test_the_tables_say_what_counts_and_what_does_not() -> None:
    """Median and worst per phase and arm, the rounds, and why a host is void; all within 100 columns."""
    answered = some_void()

    text = printed(*bench_report.tables(answered), bench_report.settled_table(answered))

    assert max(map(len, text.splitlines())) <= 100
    for line in (
        "  seconds                        stock (3)       plain (2)       rated (3)    live 300 (3)",
        "  in all                     842.2 / 842.2   716.0 / 716.0   196.4 / 210.4   205.0 / 205.0",
        "  median in all                  14 m 02 s       11 m 56 s        3 m 16 s        3 m 25 s",
        "Round 2, plain: no capacity.",
        "Gate passed: -10 m 46 s against the stock AMI",
    ):
        assert line in text
    assert "void" in text.split("round   zone")[1].splitlines()[3]
    assert bench_report.INVENTED not in text


def test_an_invented_result_says_so_everywhere() -> None:
    """A table of the sandbox's must not be shown around as a measurement."""
    answered = result(rounds(FULL), times_are_invented=True)

    assert bench_report.INVENTED in printed(*bench_report.tables(answered)).replace("\n", " ")
    assert bench_report.as_markdown(answered).count(bench_report.INVENTED) == 2
    assert bench_report.document(answered)["times_are_invented"] is True


def test_what_flatters_an_arm_is_said() -> None:
    """Stock reads no models, and Fast Snapshot Restore has its credits."""
    answered = result([host("stock", models_bytes=0), host("rated", is_fast_restored=True)])

    text = " ".join(printed(*bench_report.tables(answered)).split())

    assert "stock read no models, for there are none there: with rated it is compared up to the imports." in text
    assert "-10 m 00 s against the stock AMI ami-0aaaaaaaaaaaaaaaa, one pair up to the imports" in text
    (pair,) = bench_report.document(answered)["pairs"]
    assert (pair["until"], pair["baked_s"], pair["other_s"], pair["difference_s"]) == ("imports_done", 160, 760, -600)
    record = bench_report.record(answered)
    assert record is not None
    assert record.measured.stock is not None
    assert record.measured.stock.until == "imports_done"
    assert "compared up to the imports" not in printed(*bench_report.tables(result([host("stock"), host("rated")])))
    assert "Fast Snapshot Restore filled the volume of 1 host: once its credits are spent it is lazy." in text


def test_the_page_is_markdown_in_which_no_reason_is_markup() -> None:
    """Batch's and the job's words come from outside."""
    bad = never(host("rated"), "<img src=x> | `rm`")

    page = bench_report.as_markdown(result([host("stock"), bad]), "bench.svg")

    assert page.startswith(f"## A cold start through AWS Batch: {BAKED} on g5.xlarge\n\nGate not judged: ")
    assert "![Each arm's cold start, phase by phase](bench.svg)" in page
    assert page.count("<img") == page.count("\\<img") == 3


def test_the_check_list_fills_itself_in() -> None:
    """What was seen is answered with how often, and what was not stays open."""
    dropped = host("rated", 2, rate_mib_s=None, copied_rate_mib_s=None, group="another-name")
    items = {
        item["question"]: item["answer"]
        for item in bench_report.document(result([host("stock"), host("rated"), dropped]))["settled"]
    }

    assert items["Does Batch carry the volume's rate?"] == "on 1 of 2 volumes; in 1 of 2 copies of the template"
    assert items["Batch's startedAt after ECS's"] == "2.0 to 2.0 s, median 2.0 s (3)"
    assert items["Resolution of ECS's pull times"] == "milliseconds"
    assert items["The Auto Scaling group's name"] == "another: another-name"
    assert items["When Batch ends an idle host"] is None
    nothing = bench_report.document(result([replace(host(), moments={}, facts=type(host().facts)())]))["settled"]
    assert {item["answer"] for item in nothing} == {None}


def test_the_record_is_what_the_gate_has_judged() -> None:
    """With the figures, so that `apply` can judge by the limits of then; of nothing judged there is none."""
    record = bench_report.record(result(rounds({"stock": 800, "rated": 200})))

    assert record is not None
    assert (record.ami_id, record.image_digest, record.sandbox) == (BAKED, DIGEST, False)
    assert (record.gate.passed, record.measured.worst_s) == (True, 200)
    stock = record.measured.stock
    assert stock is not None
    assert (stock.ami_id, stock.median_difference_s, stock.median_s) == (BASE, -600, 800)
    assert bench_report.record(result([host("rated")])) is None


def test_what_missed_is_in_the_record_too() -> None:
    """Or `apply` would let through an AMI of which not one host came up."""
    record = bench_report.record(result([host("stock"), host("rated", pulled=True)]))

    assert record is not None
    assert record.gate.passed is False
    assert (record.measured.hosts, record.measured.worst_s, record.measured.missed) == (0, None, 1)
    assert record.measured.missed_why == "the image was pulled, although the AMI holds it"
    (_, rated) = bench_report.document(result([host("stock"), host("rated", pulled=True)]))["hosts"]
    assert rated["missed"] == rated["void"] == record.measured.missed_why


def test_the_picture_shows_each_arm_its_hosts_and_its_median() -> None:
    """Stacked phases of the middle host, a mark for every host that counts, and nothing outside of the frame."""
    answered = some_void()

    picture = bench_chart.draw(answered)

    said = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    bars = [shape for shape in picture.shapes if isinstance(shape, Rectangle) and shape.height == 24]
    marks = [shape for shape in picture.shapes if isinstance(shape, Line) and shape.width == 2]
    assert {"Stock AMI", "Baked, no rate", "Baked, 300 MiB/s", "Live AMI", "2 of 3 hosts count"} <= {*said}
    assert "Gate passed: better in 3 of 3 pairs; by chance that happens in 12.5%." in said
    assert [text for text in said if text.startswith("median")] == [
        "median 14 m 02 s",
        "median 11 m 56 s",
        "median 3 m 16 s",
        "median 3 m 25 s",
    ]
    assert len(marks) == 11
    # Of the eight phases a pull is in one bar only, and skew has no width.
    assert len(bars) == 8 + 7 + 6 + 7
    # The third row's bar ends at its middle host's mark.
    assert max(bar.x + bar.width for bar in bars[15:21]) == sorted(mark.points[0][0] for mark in marks[5:8])[1]
    ends = [x for shape in picture.shapes if isinstance(shape, Line) for x, _ in shape.points]
    assert min(ends) > 0
    assert max([*ends, *(bar.x + bar.width for bar in bars)]) < picture.width - 130
    assert not any(bench_report.INVENTED in text for text in said)


def test_a_picture_of_what_came_to_nothing_says_why(tmp_path: Path) -> None:
    """An arm without a host is no bar of 0 s; and what is invented says so in the picture itself."""
    lost = [replace(host(arm), trouble="no capacity <here>") for arm in ("stock", "rated")]

    bench_chart.write(result(lost, times_are_invented=True), tmp_path / "bench.svg")

    text = (tmp_path / "bench.svg").read_text()
    assert text.count("none: no capacity &lt;here&gt;") == 2
    assert "Nothing is judged: no rated host counts (no capacity &lt;here&gt;)." in text
    assert bench_report.INVENTED in text
    refused = bench_chart.draw(result(rounds({"stock": 700, "rated": 716})))
    assert refused.description == f"Gate refused: it is not faster than the stock AMI {BASE}: +16 s, one pair."
    with pytest.raises(UsageError, match=r"neither an \.svg nor a \.png"):
        bench_chart.write(result(lost), tmp_path / "bench.gif")
