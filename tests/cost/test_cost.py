"""`invoke cost`: the flags, the settings, what the last build left behind, and AWS."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.aws import price_list as aws_prices
from gpu_ami.console import Console
from gpu_ami.cost import cost
from gpu_ami.cost.figure import Figure
from gpu_ami.cost.report import CostReport
from gpu_ami.cost.report_tables import headline, tables
from gpu_ami.errors import AwsError, UsageError
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
from gpu_ami_sandbox.session import Sandbox
from tests.coldstart.builders import OTHER, RATED, STOCK, host, result
from tests.cost.builders import TODAY

_AMI = "ami-0123456789abcdef0"
_RELEASE = {"run_id": "r1", "bake_seconds": 840, "used_bytes": 24 * 1024**3, "os": "more than is read"}


@pytest.fixture(autouse=True)
def _young(monkeypatch: pytest.MonkeyPatch) -> None:
    """The price table is not yet old, whenever these tests run: what is said of an old one is `test_report.py`'s."""
    monkeypatch.setattr(cost, "_today", lambda: TODAY)


def _run(root: Path, settings: str = "region: ap-northeast-2\n", **options: Any) -> tuple[Invocation, io.StringIO]:
    """Return an invocation in *root* and what it says."""
    if not options.get("sandbox"):
        (root / "pipeline.yaml").write_text(settings)
    err = io.StringIO()
    return Invocation(root, Options(**options), Console(out=io.StringIO(), err=err)), err


def _manifest(root: Path, **custom: str) -> None:
    build = {"builder_type": "amazon-ebs", "artifact_id": f"ap-northeast-2:{_AMI}", "custom_data": custom}
    (root / "packer").mkdir(exist_ok=True)
    (root / "packer" / "manifest.json").write_text(json.dumps({"builds": [build], "last_run_uuid": ""}))


def _figures(answered: CostReport) -> Mapping[str, Figure]:
    return {figure.name: figure for figure in answered.figures}


def test_without_a_build_the_answer_rests_on_assumptions(tmp_path: Path) -> None:
    """The first question of a newcomer has an answer, and its figures say what they are."""
    run, err = _run(tmp_path)

    figures = _figures(cost.answer(run, cost.Request()))

    assert figures["build_min"].source.startswith("assumed: ")
    assert figures["retained_amis"] == Figure(
        "retained_amis", Decimal(3), "AMIs", "given: cleanup.keep in pipeline.yaml"
    )
    assert err.getvalue() == ""


def test_what_the_last_build_left_is_measured(tmp_path: Path) -> None:
    """The manifest knows the builder, the release record its time and the data."""
    run, _ = _run(tmp_path)
    _manifest(tmp_path, instance_type="c5.large", volume_size_gib="60")
    (tmp_path / "packer" / "release.json").write_text(json.dumps(_RELEASE))

    answered = cost.answer(run, cost.Request())

    figures = _figures(answered)
    assert (answered.request.builder_type, answered.request.builder_market) == ("c5.large", "on-demand")
    assert figures["builder_usd_per_hour"].value == Decimal("0.096")
    assert figures["builder_gib"].source == "measured: packer/manifest.json"
    assert figures["build_min"].value == 14
    assert figures["build_min"].source == "measured: packer/release.json of r1, launch to release record"
    assert figures["billed_gib"].value == 24
    assert figures["hydrated_gib"].value == 24


def test_a_spot_builder_is_priced_on_spot(tmp_path: Path) -> None:
    """The template notes all types that EC2 could have chosen from."""
    run, _ = _run(tmp_path)
    _manifest(tmp_path, instance_type="c7i.4xlarge,c6i.4xlarge")

    request = cost.answer(run, cost.Request()).request

    assert (request.builder_type, request.builder_market) == ("c7i.4xlarge", "spot")


def test_a_manifest_that_says_little_is_no_obstacle(tmp_path: Path) -> None:
    """Other templates note other things."""
    run, _ = _run(tmp_path)
    _manifest(tmp_path)

    assert cost.answer(run, cost.Request()).request.builder_type == "c7i.4xlarge"

    (tmp_path / "packer" / "manifest.json").write_text('{"builds": []}')
    assert cost.answer(run, cost.Request()).request.builder_type == "c7i.4xlarge"


def test_a_broken_release_record_is_left_out_and_said(tmp_path: Path) -> None:
    """A question about money must not fail over a cut-off file; nor take it for a measurement."""
    run, err = _run(tmp_path)
    (tmp_path / "packer").mkdir()
    (tmp_path / "packer" / "release.json").write_text('{"run_id": "r1"')

    figures = _figures(cost.answer(run, cost.Request()))

    assert figures["build_min"].source.startswith("assumed")
    assert "packer/release.json is not a release record that can be used: " in err.getvalue()


def test_settings_and_flags_reach_the_arithmetic(tmp_path: Path) -> None:
    """Settings for what stays, flags for this once."""
    settings = """\
region: us-east-1
cost:
  instance_type: g6.xlarge
  market: on-demand
  network: nat
  inputs: {pull_s: 600, jobs_per_month: 50}
"""
    run, _ = _run(tmp_path, settings)

    as_set = cost.answer(run, cost.Request())
    flagged = cost.answer(
        run,
        cost.Request(
            market="spot",
            instance_type="g5.xlarge",
            jobs_per_month="7",
            values=["models_s=5"],
            compare="g4dn.xlarge",
        ),
    )

    assert (as_set.request.instance_type, as_set.request.market, as_set.request.network) == (
        "g6.xlarge",
        "on-demand",
        "nat",
    )
    assert _figures(as_set)["pull_s"].source == "given: pipeline.yaml"
    assert as_set.mid.jobs_per_month == 50
    assert (flagged.request.instance_type, flagged.request.market) == ("g5.xlarge", "spot")
    assert flagged.mid.jobs_per_month == 7
    assert _figures(flagged)["models_s"].source == "given: command line"
    assert [row.instance_type for row in flagged.compared] == ["g5.xlarge", "g4dn.xlarge"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"market": "cheap"}, "--market 'cheap' is not known"),
        ({"preset": "best"}, "--preset 'best' is not known"),
        ({"jobs_per_month": "0"}, "--jobs-per-month: jobs_per_month = '0' must be above 0"),
        ({"jobs_per_month": "many"}, "'many' is not a number"),
        ({"values": ["x=1"]}, "--set: there is no input 'x'"),
        ({"instance_type": "--help"}, "--instance-type '--help' is not a name"),
        ({"instance_type": "g5.xlarg"}, "No price for 'g5.xlarg'"),
        ({"compare": "g5.xlarge,"}, "--compare '' is not a name"),
        ({"regions": "cn-north-1"}, "CNY"),
        ({"regions": "cn-north-1", "live": True}, "CNY"),
        ({"chart": "a.gif"}, "neither an .svg nor a .png"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_asked(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    """One line each; AWS is not reached, or this test would fail without a network."""
    run, _ = _run(tmp_path)

    with pytest.raises(UsageError, match=problem):
        cost.answer(run, cost.Request(**fields))


def test_a_bad_input_in_the_settings_names_the_file(tmp_path: Path) -> None:
    """The schema cannot know the inputs' names and limits."""
    run, _ = _run(tmp_path, "region: ap-northeast-2\ncost: {inputs: {pul_s: 3}}\n")

    with pytest.raises(
        UsageError, match=r"cost.inputs in pipeline.yaml: there is no input 'pul_s': did you mean pull_s"
    ):
        cost.answer(run, cost.Request())


def test_warnings_are_said_once_and_are_in_the_document(tmp_path: Path) -> None:
    """People read them on stderr, programs in the JSON."""
    run, err = _run(tmp_path, "region: eu-west-1\n")

    answered = cost.answer(run, cost.Request())

    assert err.getvalue().count("warning") == 1
    assert answered.document()["warnings"] == [err.getvalue().removeprefix("warning: ").strip()]


def test_the_answer_is_printed_and_drawn(tmp_path: Path) -> None:
    """--chart beside the usual output; a dry run draws nothing."""
    for dry, name in ((False, "a.svg"), (True, "b.svg")):
        run, _ = _run(tmp_path, dry_run=dry)
        cost.show(run, cost.answer(run, cost.Request()), chart=str(tmp_path / name))
        out = run.console.out
        assert isinstance(out, io.StringIO)
        assert "pays from launches a month" in out.getvalue()

    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    assert not (tmp_path / "b.svg").exists()


def test_the_answer_is_the_last_that_a_person_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below it are the inputs, 200 lines on a small terminal; a log has it once."""
    monkeypatch.setenv("TERM", "xterm")
    run, err = _run(tmp_path)
    answered = cost.answer(run, cost.Request())
    cost.show(run, answered, all_inputs=True, chart=str(tmp_path / "a.svg"))
    assert err.getvalue() == f"Drew {tmp_path / 'a.svg'}.\n"

    monkeypatch.setenv("COLUMNS", "300")
    both = io.StringIO()
    both.isatty = lambda: True  # type: ignore[method-assign]
    run.console = Console(out=both, err=both)
    cost.show(run, answered, all_inputs=True, chart=str(tmp_path / "a.svg"))
    assert both.getvalue().endswith(f"pipeline.yaml.\n{headline(answered)}\nDrew {tmp_path / 'a.svg'}.\n")


def test_the_inputs_are_shown_only_when_requested(tmp_path: Path) -> None:
    """People see the answer on one screen; programs get every input as ever."""
    printed = {}
    for requested in (False, True):
        run, _ = _run(tmp_path)
        cost.run(run, cost.Request(inputs=requested))
        out = run.console.out
        assert isinstance(out, io.StringIO)
        printed[requested] = out.getvalue()

    assert printed[True].startswith(printed[False].rstrip("\n"))
    assert "initialization_usd_per_gib_mib_s" not in printed[False]
    assert "initialization_usd_per_gib_mib_s" in printed[True]


def test_no_heavy_library_is_loaded_without_aws_and_picture(tmp_path: Path) -> None:
    """`invoke cost` takes less than twice `invoke --list`: rich alone would take longer than all its arithmetic."""
    (tmp_path / "pipeline.yaml").write_text("region: ap-northeast-2\n")
    script = f"""
import sys
from pathlib import Path
from gpu_ami.cost import cost as costing
from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options
run = Invocation(Path({str(tmp_path)!r}), Options(), Console())
costing.run(run, costing.Request())
heavy = {{"rich", "boto3", "botocore", "resvg_py", "fontpkg", "hcl2", "moto", "concurrent", "jmespath", "difflib"}}
print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-1] == "[]"  # what is before it may say that the prices are old by now
    assert "g5.xlarge spot in ap-northeast-2" in done.stdout


# --- With AWS ------------------------------------------------------------------------------------


def _live(root: Path, local_aws: Sandbox, **options: Any) -> tuple[Invocation, io.StringIO]:
    """Return an invocation on the local AWS with a state folder of its own."""
    run, err = _run(root, sandbox=True, **options)
    run.__dict__["access"] = local_aws.access
    return run, err


def test_live_prices_and_sizes_come_from_aws(tmp_path: Path, local_aws: Sandbox) -> None:
    """Price List, spot history and the account's own AMIs, through boto3 and the wire."""
    run, err = _live(tmp_path, local_aws)

    began = datetime.now(timezone.utc).date()
    answered = cost.answer(run, cost.Request(live=True, regions="us-east-1"))

    figures = _figures(answered)
    days = (began, datetime.now(timezone.utc).date())  # two where midnight came meanwhile
    assert figures["snapshot_usd_per_gib_month"].source in {f"live price of {day} (AWS Price List)" for day in days}
    hourly = tuple(f"live price of {day} (EC2 spot price history" for day in days)
    assert figures["instance_usd_per_hour"].source.startswith(hourly)
    low, mid, high = (figures[f"instance_usd_per_hour{mark}"].value for mark in ("_low", "", "_high"))
    assert low is not None and mid is not None and high is not None  # noqa: PT018 - for the type checker
    assert 0 < low <= mid <= high < Decimal("1.237")
    assert figures["retained_amis"].source == "measured: AMIs of family gpu-batch in ap-northeast-2"
    assert answered.document()["compared"][1]["region"] == "us-east-1"
    assert "AWS gives no price in ap-northeast-2 of" in err.getvalue()


def test_the_size_of_the_handed_over_ami_is_asked(tmp_path: Path, local_aws: Sandbox) -> None:
    """FullSnapshotSizeInBytes is what is billed at most, and less than the volume."""
    client = local_aws.access.client("ec2")
    images = client.describe_images(Owners=["self"])["Images"]
    image = next(row for row in images if row["State"] == "available" and row["BlockDeviceMappings"])
    run, _ = _live(tmp_path, local_aws)
    (tmp_path / ".sandbox").mkdir()
    build = {"builder_type": "amazon-ebs", "artifact_id": f"ap-northeast-2:{image['ImageId']}"}
    (tmp_path / ".sandbox" / "manifest.json").write_text(json.dumps({"builds": [build]}))

    figure = _figures(cost.answer(run, cost.Request(live=True)))["billed_gib"]

    assert figure.source == f"measured: FullSnapshotSizeInBytes of {image['ImageId']}"
    assert figure.value is not None
    assert figure.value > 0


def test_looked_up_prices_are_kept_for_a_day_and_their_age_is_said(
    tmp_path: Path, local_aws: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second question in a minute must not ask AWS a hundred times again."""
    first, _ = _live(tmp_path, local_aws)
    cost.answer(first, cost.Request(live=True))
    monkeypatch.setattr(aws_prices, "look_up", lambda *_, **__: pytest.fail("queried again"))
    second, err = _live(tmp_path, local_aws)

    cost.answer(second, cost.Request(live=True))

    assert "were looked up" in err.getvalue()
    assert ".sandbox/prices-ap-northeast-2.json keeps them for a day" in err.getvalue()


def test_strict_refuses_what_aws_does_not_say(tmp_path: Path, local_aws: Sandbox) -> None:
    """The local AWS sells no c7i.4xlarge: a warning, or with --strict an error."""
    run, _ = _live(tmp_path, local_aws)

    with pytest.raises(AwsError, match=r"no price of c7i\.4xlarge on-demand in ap-northeast-2"):
        cost.answer(run, cost.Request(live=True, strict=True))


@pytest.fixture
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which no AWS credentials can be found, and an empty cache."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GPU_AMI_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_no_credentials")
def test_without_credentials_live_falls_back_to_the_table(tmp_path: Path) -> None:
    """A warning, said once, and an answer; with --strict an error of exit code 4."""
    run, err = _run(tmp_path)

    answered = cost.answer(run, cost.Request(live=True))

    assert _figures(answered)["snapshot_usd_per_gib_month"].source.startswith("table of ")
    assert err.getvalue().count("No AWS credentials") == 1
    assert "comes from the table of 2026-11-23" in err.getvalue()
    with pytest.raises(AwsError, match="No AWS credentials"):
        cost.answer(run, cost.Request(live=True, strict=True))
    assert not (tmp_path / "cache").exists()


_TIMES = ("stock_boot_s", "pull_s", "models_s", "baked_boot_s", "lazy_load_s")


def _bench(root: Path, *hosts: dict[str, Any], **changed: Any) -> str:
    """Write a bench's result and return its name."""
    document = result(*hosts) | {"instance_type": "g5.xlarge", "times_are_invented": False} | changed
    document["arms"] = [arm | {"rate_mib_s": 300 if arm["arm"] == "rated" else None} for arm in document["arms"]]
    (root / "bench.json").write_text(json.dumps(document))
    return str(root / "bench.json")


_HOSTS = [*[host("stock", STOCK, late=late) for late in (1, 1.1, 1.2)], *[host("rated", RATED)] * 3]


def test_what_a_bench_measured_goes_before_what_is_predicted(tmp_path: Path) -> None:
    """And the answer says which inputs that is, each with its file; the rate is the measured hosts' own."""
    run, err = _run(tmp_path)
    file = _bench(tmp_path, *_HOSTS)

    answered = cost.answer(run, cost.Request(measured=[file]))

    figures = _figures(answered)
    assert {*_TIMES} <= {*answered.document()["measured"]}
    # Launch, which is the same for all, is the median of all six hosts; boot and registration are of its own three.
    assert figures["pull_s"].value == Decimal(331)
    assert figures["pull_s"].source == f"measured: 3 hosts of {file}, 5 m 01 s to 6 m 01 s"
    assert (figures["baked_boot_s"].value, figures["lazy_load_s"].value) == (Decimal(92), Decimal(79))
    assert figures["initialization_mib_s"].source == f"given: the rate of the hosts of {file}"
    assert answered.inputs.spread.stock.low < answered.inputs.spread.stock.likely
    assert "As measured: " in tables(answered)[0].footer[1]
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("hosts", "given", "measured", "rate"),
    [
        (_HOSTS[:3], (), {"stock_boot_s", "pull_s", "models_s"}, 300),
        (_HOSTS, ("initialization_mib_s=100",), {"stock_boot_s", "pull_s", "models_s"}, 100),
        (_HOSTS, ("pull_s=600",), {*_TIMES} - {"pull_s"}, 300),
        ([host("plain", RATED)], (), {"baked_boot_s", "lazy_load_s"}, 0),
        ([*_HOSTS, host("plain", RATED, late=2)], ("judged=plain",), {*_TIMES}, 0),
    ],
    ids=["no baked host", "another rate", "a given time", "no rate", "jobs get no rate"],
)
def test_only_what_was_measured_is_called_so(
    tmp_path: Path, hosts: list[dict[str, Any]], given: tuple[str, ...], measured: set[str], rate: int
) -> None:
    """What was measured at one rate says nothing about another, and what a person gives goes before it."""
    run, _ = _run(tmp_path)
    changed = dict(one.split("=") for one in given if one.startswith("judged"))
    file = _bench(tmp_path, *hosts, **changed)
    values = [one for one in given if not one.startswith("judged")]

    answered = cost.answer(run, cost.Request(measured=[file], values=values))

    assert {*_TIMES} & {*answered.document()["measured"]} == measured
    assert _figures(answered)["initialization_mib_s"].value == rate
    rest = [name for name in answered.inputs.spreads if name not in measured]
    assert all(_figures(answered)[name].source.startswith("computed: ") for name in rest)
    if rest:
        assert f"predicted (`invoke coldstart`): {', '.join(rest)}:" in tables(answered)[0].footer[1]


def test_other_ways_are_compared_with_what_was_measured(tmp_path: Path) -> None:
    """Hosts without a rate were measured, too: what a volume that nothing fills costs is known, and not predicted."""
    run, _ = _run(tmp_path)
    file = _bench(tmp_path, *_HOSTS, *[host("plain", RATED, late=4)] * 7)

    ways = {other.note: other for other in cost.answer(run, cost.Request(measured=[file])).alternatives}
    predicted = {other.note: other for other in cost.answer(run, cost.Request()).alternatives}

    assert ways["initialized at 300 MiB/s"].cold_start_s == Decimal(80 + 72 + 79)
    assert ways["volume not initialized"].cold_start_s == Decimal(4 * 171)
    # Its own hosts were not measured, but the launch, which all share, was: 80 s.
    prewarmed = next(note for note in ways if note.startswith("32 readers"))
    gained = (ways[prewarmed].cold_start_s or Decimal(0)) - (predicted[prewarmed].cold_start_s or Decimal(0))
    assert 50 < gained < 70


def test_what_was_measured_on_one_type_says_nothing_about_another(tmp_path: Path) -> None:
    """The question itself is refused; beside it another type is predicted as ever."""
    run, _ = _run(tmp_path)
    file = _bench(tmp_path, *_HOSTS)

    with pytest.raises(UsageError, match=r"measured g5.xlarge, and the question is about g4dn.xlarge: add --instance"):
        cost.answer(run, cost.Request(measured=[file], instance_type="g4dn.xlarge"))

    ours, other = cost.answer(run, cost.Request(measured=[file], compare="g4dn.xlarge")).compared
    predicted = cost.answer(run, cost.Request(instance_type="g4dn.xlarge")).mid
    assert other.case.launch.pull_s == predicted.launch.pull_s != ours.case.launch.pull_s


def test_what_the_sandbox_invents_was_not_measured(tmp_path: Path) -> None:
    """It is computed with, so that the way can be seen, and never called measured."""
    run, err = _run(tmp_path)
    file = _bench(tmp_path, *_HOSTS, times_are_invented=True)

    answered = cost.answer(run, cost.Request(measured=[file]))

    assert not {*_TIMES} & {*answered.document()["measured"]}
    assert "(invented by the sandbox)" in _figures(answered)["pull_s"].source
    assert f"{file}: the sandbox invents times, so nothing of this was measured." in " ".join(err.getvalue().split())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"hosts": [{"arm"', "is not JSON, or was cut off"),
        ('{"builds": []}', "is not a bench result"),
        (json.dumps(result(host("rated", RATED), ami=OTHER)), f"measured {OTHER}, and the last build made {_AMI}"),
        (json.dumps(result(host("rated", RATED) | {"void": "it was reused"})), "nothing can be fitted"),
    ],
    ids=["cut", "foreign", "of another AMI", "void"],
)
def test_a_result_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    """Exit 2: an answer that rests on half of a file, or on another AMI's, would look as good as any."""
    run, _ = _run(tmp_path)
    _manifest(tmp_path)
    (tmp_path / "bench.json").write_text(text)

    with pytest.raises(UsageError, match=problem) as refused:
        cost.answer(run, cost.Request(measured=[str(tmp_path / "bench.json")]))

    assert (refused.value.exit_code, "\n" in str(refused.value)) == (2, False)
