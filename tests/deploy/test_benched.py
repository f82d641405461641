"""`promotion.bench`: no environment moves to an AMI that its bench says no to, or that has none and needs one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gpu_ami.deploy import apply, benched, rollback
from gpu_ami.errors import AwsError, SafetyError, UsageError
from gpu_ami.records import bench_record
from gpu_ami.records.ami_record import facts_of
from gpu_ami.records.bench_record import Against, Bench, Gate, Measured
from gpu_ami.settings import Bench as BenchSettings
from gpu_ami.settings import Promotion
from gpu_ami.terraform import plan_changes
from gpu_ami.terraform.plan_templates import PlannedRate, Start
from tests.support import plans
from tests.support.account import REGION, Task, task
from tests.support.fake_terraform import FakeTerraform

FACTS = {"gpu-ami:image-digest": "sha256:" + "a" * 64, "gpu-ami:fingerprint-scripts": "0123456789abcdef"}
STOCK = Against(ami_id="ami-0aaaaaaaaaaaaaaaa", pairs=3, better=3, median_difference_s=-600.0, median_s=800.0)
LIVE = Against(ami_id="ami-0bbbbbbbbbbbbbbbb", pairs=3, better=0, median_difference_s=39.0, median_s=200.0)
GOOD = Measured(arm="rated", rate_mib_s=300, hosts=3, worst_s=240.0, stock=STOCK, live=LIVE, open=None)
SLOWER = msgspec.structs.replace(STOCK, better=0, median_difference_s=128.0)


def hand_over(terraform: FakeTerraform, age: int = 5) -> str:
    """Hand an AMI over that says what it was made from."""
    image = terraform.here.image(age)
    image.add_tags(FACTS)
    terraform.hand_over(str(image.id))
    return str(image.id)


def record(terraform: FakeTerraform, ami: str, measured: Measured = GOOD, **changed: Any) -> None:
    """File what `invoke bench` would."""
    digest, fingerprints = facts_of(FACTS)
    values: dict[str, Any] = {
        "ami_id": ami,
        "region": REGION,
        "account": terraform.here.account,
        "instance_type": "g5.xlarge",
        "benched_at": "2026-11-30T12:00:00Z",
        "run": "bench-20261130T120000Z-0a1b2c",
        "image_digest": digest,
        "fingerprints": fingerprints,
        "measured": measured,
        "gate": Gate(passed=True, rule="by the limits of then", better=3, of=3, chance=0.125),
        "sandbox": False,
    }
    bench_record.RECORDS.write(terraform.folder, Bench(**values | changed))


def on(terraform: FakeTerraform, bench: str = "required", **limits: float) -> Task:
    """Return a task whose settings want a bench."""
    promotion = Promotion(bench=bench, **limits)  # type: ignore[arg-type]
    return task(terraform.here, terraform.folder.parent, promotion=promotion)


def go(terraform: FakeTerraform, bench: str = "required", **limits: float) -> None:
    """Apply."""
    apply.run(on(terraform, bench, **limits).run, apply.Request(yes=True))


@pytest.mark.parametrize("bench", ["optional", "required"])
def test_an_ami_whose_bench_says_yes_is_applied(terraform: FakeTerraform, bench: str) -> None:
    """It is faster than stock, and no more than a fifth slower than what is live."""
    ami = hand_over(terraform)
    record(terraform, ami)

    go(terraform, bench)

    assert terraform.live() == {"spot": ami, "on_demand": ami}


BAD = msgspec.structs.replace(GOOD, stock=SLOWER)
MISSED = msgspec.structs.replace(GOOD, missed=2, missed_why="the image was pulled, although the AMI holds it")
NONE = msgspec.structs.replace(MISSED, hosts=0, worst_s=None, stock=None, live=None, open="no whole pair")


@pytest.mark.parametrize(
    ("bench", "measured", "limits", "why"),
    [
        ("off", BAD, {}, ""),
        ("optional", BAD, {}, r"not faster than the stock AMI .*: \+2 m 08 s"),
        ("optional", GOOD, {"max_regression": 0.1}, "slower than the live AMI .* by more than 10%"),
        (
            "optional",
            MISSED,
            {},
            r"2 of 5 rated hosts came to nothing by the AMI .* \(the image was pulled",
        ),
        (
            "required",
            NONE,
            {"target_s": 300},
            r"2 of 2 rated hosts came to nothing .* over target_s, 300, too",
        ),
        ("required", GOOD, {"target_s": 239}, "its slowest host took 4 m 00 s, and target_s is 239"),
    ],
)
def test_an_ami_whose_bench_says_no_is_refused_by_the_limits_of_now(
    terraform: FakeTerraform, bench: str, measured: Measured, limits: dict[str, float], why: str
) -> None:
    """Exit 8, with the rule and the command; nothing moved, and no receipt says so. Off, nobody looks."""
    ami = hand_over(terraform)
    record(terraform, ami, measured)

    if bench == "off":
        go(terraform, bench, **limits)
        assert terraform.live() == {"spot": ami, "on_demand": ami}
        return
    rule = f"{ami} is not to be promoted.*promotion.bench: {bench}: by its bench of 2026-11-30T12:00:00Z, .*{why}"
    with pytest.raises(SafetyError, match=f"{rule}.*`invoke bench --ami {ami}`") as refused:
        go(terraform, bench, **limits)

    assert refused.value.exit_code == 8
    assert terraform.live() == {}
    assert not list((terraform.folder / "receipts").glob("*.json"))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (None, "there is no record ami-.*json of a bench"),
        ({"image_digest": "sha256:" + "b" * 64}, "made from something else"),
        ({"fingerprints": {}}, "made from something else"),
        ({"sandbox": True}, "is of the sandbox"),
        ({"measured": msgspec.structs.replace(GOOD, live=None, open="no whole pair")}, "12:00:00Z, no whole pair"),
    ],
    ids=["none", "another image", "other scripts", "the sandbox's", "an arm left open"],
)
def test_without_a_bench_that_fits_only_optional_lets_it_through(
    terraform: FakeTerraform, changed: dict[str, Any] | None, why: str
) -> None:
    """Required means that it was measured, this AMI, on AWS, and against all that it was to be compared with."""
    ami = hand_over(terraform)
    if changed is not None:
        record(terraform, ami, **changed)

    with pytest.raises(SafetyError, match=f"{ami} is not to be promoted.*{why}"):
        go(terraform)
    assert terraform.live() == {}

    go(terraform, "optional")
    assert terraform.live() == {"spot": ami, "on_demand": ami}


@pytest.mark.parametrize("bench", ["required", "optional"])
def test_a_bench_that_says_no_during_the_question_counts(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, bench: str
) -> None:
    """The prompt may have waited for an hour, and somebody benched it meanwhile."""
    ami = hand_over(terraform)
    record(terraform, ami)
    monkeypatch.setattr(apply, "_confirm", lambda *_args: record(terraform, ami, BAD))

    with pytest.raises(SafetyError, match=f"{ami} is not to be promoted.*not faster than the stock AMI"):
        go(terraform, bench)

    assert terraform.live() == {}
    assert not list((terraform.folder / "receipts").glob("*.json"))


@pytest.mark.parametrize(("meanwhile", "counted"), [(200, (2, 2)), (None, (2, 0))])
def test_what_a_bench_leaves_open_is_said_once_and_what_came_up_since_too(
    terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch, meanwhile: int | None, counted: tuple[int, int]
) -> None:
    """Of each environment: said again after the question the same line would look like a second thing."""
    ami = hand_over(terraform)
    record(terraform, ami, msgspec.structs.replace(GOOD, rate_mib_s=None))
    changed = msgspec.structs.replace(GOOD, rate_mib_s=meanwhile)
    monkeypatch.setattr(apply, "_confirm", lambda *_args: record(terraform, ami, changed))
    done = on(terraform, "optional")

    apply.run(done.run, apply.Request(yes=True))

    text = " ".join(done.err.getvalue().split())
    assert (text.count("was benched without a rate"), text.count("was benched at 200 MiB/s")) == counted


@pytest.mark.parametrize(("bench", "text"), [("optional", ""), ("required", '{"format": "gpu-ami-bench-2"}')])
def test_a_record_that_cannot_be_read_holds_an_apply_up(terraform: FakeTerraform, bench: str, text: str) -> None:
    """What is cut off may have said no."""
    ami = hand_over(terraform)
    path = bench_record.RECORDS.path_of(terraform.folder, ami)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(UsageError, match=rf"{path.name} cannot be read.*`invoke bench --ami {ami}` again"):
        go(terraform, bench)

    assert terraform.live() == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"worst_s": 240.0', '"worst_s": 1e999'),
        ('"worst_s": 240.0', '"worst_s": NaN'),
        ('"worst_s": 240.0', '"worst_s": 1e300'),
        ('"median_s": 200.0', '"median_s": -1e999'),
        ('"hosts": 3', '"hosts": -3'),
        ('"hosts": 3', f'"hosts": {"9" * 400}'),
        ('"chance": 0.125', '"chance": 1e999'),
    ],
)
def test_a_number_that_cannot_be_is_one_line(terraform: FakeTerraform, old: str, new: str) -> None:
    """A changed file must neither be believed nor end in a traceback: no duration shows infinity."""
    ami = hand_over(terraform)
    record(terraform, ami)
    path = bench_record.RECORDS.path_of(terraform.folder, ami)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))

    with pytest.raises(UsageError, match=rf"{path.name} cannot be read.*`invoke bench --ami {ami}` again"):
        bench_record.RECORDS.fitting(terraform.folder, ami, FACTS, sandbox=False)


def test_the_record_of_another_ami_and_unread_tags_are_none(terraform: FakeTerraform) -> None:
    """Copying a file is no bench, and a check that fails means no."""
    ami = hand_over(terraform)
    record(terraform, "ami-0123456789abcdef0")
    path = bench_record.RECORDS.path_of(terraform.folder, ami)
    bench_record.RECORDS.path_of(terraform.folder, "ami-0123456789abcdef0").rename(path)

    with pytest.raises(SafetyError, match="is about ami-0123456789abcdef0"):
        go(terraform)
    record(terraform, ami)
    terraform.here.aws.gate.fail("UnauthorizedOperation", action="DescribeImages")
    with pytest.raises((AwsError, SafetyError)):
        go(terraform)

    assert terraform.live() == {}


@pytest.mark.parametrize(
    ("compared", "said"),
    [(None, "was benched with no live AMI"), ("ami-0bbbbbbbbbbbbbbbb", "was benched with ami-0bb"), ("its own", "")],
)
def test_a_bench_beside_another_ami_than_the_live_one_is_said(
    terraform: FakeTerraform, compared: str | None, said: str
) -> None:
    """Since then another AMI has gone live, and nobody knows whether this one is slower: required wants to know."""
    first = hand_over(terraform, 9)
    go(terraform, "off")
    second = hand_over(terraform, 5)
    live = (
        None if compared is None else msgspec.structs.replace(LIVE, ami_id=first if compared == "its own" else compared)
    )
    record(terraform, second, msgspec.structs.replace(GOOD, live=live))
    if said:
        way = r"beside what is live now; `promotion: {bench: optional}` lets it through"
        with pytest.raises(SafetyError, match=rf"{second} is not to be promoted.*{said}.*the place of {first}.*{way}"):
            go(terraform)
        assert terraform.live() == {"spot": first, "on_demand": first}
    done = on(terraform, "optional" if said else "required")

    apply.run(done.run, apply.Request(yes=True))

    text = " ".join(done.err.getvalue().split())
    assert (f"takes the place of {first}" in text) == bool(said)
    assert said in text
    assert terraform.live() == {"spot": second, "on_demand": second}


def environment(**changed: Any) -> plan_changes.EnvironmentChange:
    """Return the move of the environment from A to B, with what is other than in the plans of the tests."""
    change = plan_changes.parse(plans.move(), None, None)
    assert isinstance(change, plan_changes.EnvironmentChange)
    return replace(change, **({"start": Start(rate=PlannedRate(300))} | changed))


def slot(old: str | None, new: str | None = plans.B) -> tuple[plan_changes.Slot, ...]:
    """Return what happens to the one AMI of an environment."""
    return (plan_changes.Slot(image_type="ECS_AL2023_NVIDIA", old=old, new=new),)


def doubted(terraform: FakeTerraform, ami: str, *changes: plan_changes.EnvironmentChange, **bench: Any) -> str:
    """Return what is said of the AMI where a bench is optional, having seen that required refuses it for the same."""
    done, strict = (
        task(terraform.here, terraform.folder.parent, promotion=promotion, **bench)
        for promotion in (Promotion(bench="optional"), Promotion(bench="required"))
    )
    said = " ".join(benched.check(done.run, changes, lived=()))
    if said:
        with pytest.raises(SafetyError, match=r"`promotion: {bench: optional}` lets it through"):
            benched.check(strict.run, changes, lived=())
    else:
        benched.check(strict.run, changes, lived=())
    return said.replace(ami, "IT")


@pytest.mark.parametrize(
    ("measured", "planned", "said"),
    [
        (300, 300, ""),
        (None, None, ""),
        (300, None, "IT was benched at 300 MiB/s, and {} starts its instances without a rate."),
        (None, 300, "IT was benched without a rate, and {} starts its instances at 300 MiB/s."),
        (300, 200, "IT was benched at 300 MiB/s, and {} starts its instances at 200 MiB/s."),
    ],
)
def test_a_bench_at_another_rate_says_nothing_of_these_starts(
    terraform: FakeTerraform, measured: int | None, planned: int | None, said: str
) -> None:
    """At 300 MiB/s an AMI is fast that is slower than a pull without a rate."""
    ami = hand_over(terraform)
    record(terraform, ami, msgspec.structs.replace(GOOD, rate_mib_s=measured))
    change = environment(action="create", slots=slot(None, ami), start=Start(rate=PlannedRate(planned)))

    assert said.format(change.address) in doubted(terraform, ami, change)


def test_the_rate_of_the_plan_is_what_counts(terraform: FakeTerraform) -> None:
    """Through a whole apply: the launch template's row says it."""
    ami = hand_over(terraform)
    record(terraform, ami)
    terraform.rate = 200

    with pytest.raises(SafetyError, match=r"at 300 MiB/s, and .*spot.* starts its instances at 200 MiB/s. Nothing"):
        go(terraform)

    assert terraform.live() == {}


def test_where_the_plan_has_no_rate_ec2_has_it(terraform: FakeTerraform) -> None:
    """A template that another root module makes, or one whose version is pinned; what nobody knows is no proof."""
    ami = hand_over(terraform)
    go(terraform, "off")
    record(terraform, ami, msgspec.structs.replace(GOOD, rate_mib_s=None))
    template, no_rate = terraform.template(), terraform.here.maker.ec2.create_launch_template("bare", "", {}, {}).id
    says = {
        Start(template=(template, "1")): "at 300 MiB/s",
        Start(template=(no_rate, "$Default")): "",
        Start(template=("lt-0123456789abcdef0", "1")): "launch template is not known",
        Start(): "at 300 MiB/s",
    }
    for start, said in says.items():
        change = environment(name="gpu-spot", action="create", slots=slot(None, ami), start=start)
        found = doubted(terraform, ami, change)
        assert (said in found) if said else not found

    nowhere = environment(name="gpu-new", action="create", slots=slot(None, ami), start=Start())
    assert "launch template is not known" in doubted(terraform, ami, nowhere)


def test_what_is_live_and_was_not_compared_is_said_with_the_reason(terraform: FakeTerraform) -> None:
    """Each in its own words: the way out of one is not that of another."""
    before = terraform.here.image(9)
    before.add_tags({"gpu-ami:image": f"gpu-batch@sha256:{'b' * 64}"})
    ami = hand_over(terraform)
    record(terraform, ami, msgspec.structs.replace(GOOD, live=None))
    arms = {"bench": BenchSettings(arms=("stock", "rated"))}
    twice = (("ec2_configuration", plans.A), ("image_id", plans.C))
    cases: list[tuple[plan_changes.EnvironmentChange, dict[str, Any], str]] = [
        (environment(slots=slot(str(before.id), ami)), {}, f"takes the place of {before.id}."),
        (environment(slots=slot(plans.C, ami)), {}, f"{plans.C}, which is not there any more"),
        (environment(slots=slot(None, ami)), {}, "Batch's own AMI in module.pipeline"),
        (
            environment(slots=slot(None, ami), old_conflict=twice),
            {},
            f"several AMIs, {plans.A}, {plans.C}, that module",
        ),
        (environment(slots=slot(None, ami), action="create"), {}, ""),
        # Another image type's AMI stays where it is.
        (environment(slots=(*slot(None, ami), *slot(plans.C, plans.C)), action="create"), {}, ""),
        (environment(slots=slot(str(before.id), ami)), arms, f"the place of {before.id}: bench.arms has no live"),
    ]
    for change, settings, said in cases:
        found = doubted(terraform, ami, change, **settings)
        assert (said in found) if said else not found

    before.add_tags({"gpu-ami:image": "gpu-batch:1", "gpu-ami:image-digest": ""})
    (change, _, _) = cases[0]
    assert f"{before.id}, which does not say which image it holds" in doubted(terraform, ami, change)


def test_a_refusal_of_aws_is_said_where_a_bench_is_optional(terraform: FakeTerraform) -> None:
    """It held nothing up before; where one is required, what nobody could ask is no yes."""
    ami = hand_over(terraform)
    record(terraform, ami)
    terraform.here.aws.gate.fail("UnauthorizedOperation", action="DescribeLaunchTemplateVersions")
    done = on(terraform, "optional")
    change = environment(slots=slot(LIVE.ami_id, ami), start=Start(template=("lt-0123456789abcdef0", "1")))

    (said,) = benched.check(done.run, [change], lived=())

    assert "may not be measured as jobs will get it" in said
    with pytest.raises(AwsError, match="DescribeLaunchTemplateVersions"):
        benched.check(on(terraform).run, [change], lived=())


def test_a_rollback_is_not_held_up(terraform: FakeTerraform) -> None:
    """It is wanted at once, and goes to what has run before, whatever a bench says of it."""
    first = hand_over(terraform, 9)
    go(terraform, "off")
    record(terraform, first, BAD)
    second = hand_over(terraform, 5)
    record(terraform, second, msgspec.structs.replace(GOOD, live=msgspec.structs.replace(LIVE, ami_id=first)))
    go(terraform)

    rollback.run(on(terraform).run, rollback.Request(yes=True))

    assert terraform.live() == {"spot": first, "on_demand": first}


def test_an_ami_that_the_plan_does_not_know_is_refused_where_a_bench_is_required(terraform: FakeTerraform) -> None:
    """Nobody can say that it was measured; where a bench is optional, none was."""
    row = plans.change(plans.SPOT, ("create",), after=plans.values(None))
    row["change"]["after_unknown"] = {"compute_resources": [{"ec2_configuration": [{"image_id_override": True}]}]}
    change = plan_changes.parse(row, None, None)
    assert isinstance(change, plan_changes.EnvironmentChange)

    benched.check(on(terraform, "optional").run, [change], lived=())
    with pytest.raises(SafetyError, match=r"promotion.bench: required: what is not known is not benched"):
        benched.check(on(terraform).run, [change], lived=())
