"""Whose a compute environment is: ours takes the variable, or had one of our AMIs; the others are left alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gpu_ami import families
from gpu_ami.aws import batch
from gpu_ami.aws.sts import Identity
from gpu_ami.deploy import apply, ownership, plan, root_module, verified
from gpu_ami.deploy.guard import Facts, Finding, judge
from gpu_ami.deploy.live_environments import Live
from gpu_ami.errors import SafetyError, TerraformError
from gpu_ami.handover import attested
from gpu_ami.invocation import Invocation
from gpu_ami.records.batch_images import Images
from gpu_ami.records.receipt import Change, Receipt, StateIdentity, StoredReceipt, write
from gpu_ami.settings import EMBEDDED, FamilySettings
from gpu_ami.terraform.plan_file import Planned, read
from gpu_ami.terraform.state_file import Recorded
from tests.support.account import task
from tests.support.fake_terraform import FakeTerraform
from tests.support.plans import A, B, C, by_type, change, document, values
from tests.test_families import TWO, invocation

KIND = "aws_batch_compute_environment"
CPU, GPU = "ECS_AL2023", "ECS_AL2023_NVIDIA"
FARGATE: dict[str, Any] = {"type": "FARGATE", "ec2_configuration": [], "image_id": None}


def _plan(*rows: dict[str, Any], takes: tuple[str, ...] = ("gpu",)) -> Planned:
    """A plan of environments named as their rows; those of *takes* have the variable in the configuration."""
    resources = [
        {
            "mode": "managed",
            "type": KIND,
            "name": row["address"].split(".")[1],
            "expressions": {
                "compute_resources": [
                    {
                        "ec2_configuration": [
                            {"image_type": {"constant_value": GPU}, "image_id_override": {"references": [reference]}}
                        ]
                    }
                ]
            },
        }
        for row in rows
        for reference in ["var.gpu_ami_id" if row["address"].split(".")[1] in takes else "var.other"]
    ]
    named = [row | {"name": row["address"].split(".")[1]} for row in rows]
    configuration = {"root_module": {"resources": resources}}
    return read(json.dumps(document(*named, configuration=configuration)), "gpu_ami_id")


def _row(name: str, before: dict[str, Any] | None, after: dict[str, Any], **more: Any) -> dict[str, Any]:
    return change(f"{KIND}.{name}", ("update",) if before else ("create",), before=before, after=after, **more)


def _ours(plan: Planned, *known: str) -> list[str]:
    return [change.address.split(".")[1] for change in ownership.settled(plan, known).ours]


def test_ours_beside_an_old_image_id_is_ours() -> None:
    """Of several AMIs a slot shows image_id's: the override that moves to ours was nobody's."""
    row = _row("gpu", values(A, image_id=C), values(B, image_id=C))

    assert _ours(_plan(row, takes=()), B) == ["gpu"]


def test_only_what_takes_the_variable_is_ours() -> None:
    """A CPU environment without an AMI, one of another team's, one on Fargate: each was refused with no way round."""
    plan = _plan(
        _row("gpu", values(A), values(B)),
        _row(
            "cpu",
            None,
            values(None, ec2_configuration=[]),
            unknown={"compute_resources": [{"ec2_configuration": True}]},
        ),
        _row("theirs", values(C), values(C)),
        _row("fargate", None, values(None, **FARGATE)),
    )

    assert _ours(plan, B) == ["gpu"]
    left = ownership.left_alone(ownership.settled(plan, {B}), "gpu_ami_id")
    assert [(one.address, one.why) for one in left] == [
        (f"{KIND}.cpu", "it does not take var.gpu_ami_id"),
        (f"{KIND}.theirs", "it does not take var.gpu_ami_id"),
        (f"{KIND}.fargate", "Fargate takes no AMI"),
    ]


def _refused(plan: Planned) -> list[Finding]:
    facts = Facts(
        expected_ami=B,
        handed_over_in="x.tfvars",
        variable="gpu_ami_id",
        region="r",
        now=datetime(2026, 11, 30, tzinfo=timezone.utc),
    )
    return [*judge(ownership.settled(plan, {B}), facts)]


def test_an_environment_that_is_made_nowhere_stops_nobody() -> None:
    """With a count of 0 in this workspace every plan was refused, for another team's environment beside it."""
    theirs = _row("theirs", values(C), values(C))
    rows = [theirs, _row("gpu", None, values(B))]
    configured = _plan(*rows)
    plan = replace(configured, changes=configured.changes[:1])

    assert _refused(plan) == []


def test_a_hand_over_that_nothing_takes_can_be_taken_back() -> None:
    """That is the way round where the environments are all another team's."""
    (found,) = _refused(_plan(_row("theirs", values(C), values(C)), takes=()))

    assert found.code == "ami-unused"
    assert "or set the variable to null in x.tfvars" in found.advice


def test_what_had_one_of_our_amis_is_ours() -> None:
    """Somebody pinned another AMI in the code: the hand-over would change nothing, and nobody would notice."""
    plan = _plan(_row("gpu", values(A), values(B)), _row("pinned", values(A), values(C)))

    assert _ours(plan, B) == ["gpu", "pinned"]


def test_what_gets_the_ami_by_another_way_is_ours() -> None:
    """A local value or a dynamic block cannot be followed, but the AMI is the one that was handed over."""
    assert _ours(_plan(_row("gpu", None, values(B)), takes=()), B) == ["gpu"]


def test_of_two_image_types_only_ours_counts() -> None:
    """The CPU type's AMI is somebody else's, and may go where it likes."""
    row = _row(
        "gpu",
        values(None, ec2_configuration=by_type(**{CPU: C, GPU: A})),
        values(None, ec2_configuration=by_type(**{CPU: "ami-00000001", GPU: B})),
    )
    (found,) = ownership.settled(_plan(row), {B}).ours

    assert [(slot.image_type, slot.is_ours) for slot in found.slots] == [(CPU, False), (GPU, True)]
    assert (found.old_ami, found.new_ami) == (A, B)


def test_without_a_configuration_every_environment_on_ec2_counts() -> None:
    """As before: nothing may slip through because a plan says less."""
    plan = read(json.dumps(document(_row("gpu", values(A), values(B)), _row("other", values(C), values(C)))))

    assert _ours(plan, B) == ["gpu", "other"]


def test_without_a_hand_over_and_a_variable_nothing_is_told_apart() -> None:
    """A live AMI must not vanish because nobody knows whose it is."""
    assert _ours(_plan(_row("gpu", values(A), values(None)), takes=())) == ["gpu"]


def test_whose_an_ami_is_gets_asked_only_where_it_is_open() -> None:
    """Each question costs a call."""
    plan = _plan(_row("gpu", values(A), values(B)), _row("theirs", values(C), values(C)))

    assert ownership.undecided(plan, {B}) == {C}
    assert ownership.undecided(plan, {B, C}) == frozenset()


def test_the_line_stays_a_line() -> None:
    """With many of them."""
    many = [ownership.LeftAlone(address=f"{KIND}.a{n}", name=None, why="x") for n in range(8)]

    assert ownership.shown(many).endswith(f"{KIND}.a4 (x) and 3 more.")
    assert ownership.shown([]) == ""


# --- in a state


def _recorded(name: str, ami: str | None = None, **more: Any) -> Recorded:
    images = Images(overrides={GPU: ami})
    return Recorded(address=f"{KIND}.{name}", name=name, ami_id=ami, template_id=None, images=images, **more)


def _filed(*changes: tuple[str, str | None, str | None]) -> list[StoredReceipt]:
    moved = tuple(Change(address=f"{KIND}.{name}", old=old, new=new) for name, old, new in changes)
    when = datetime(2026, 11, 30, tzinfo=timezone.utc)
    receipt = Receipt(when=when, who="x", account="1", region="r", changes=moved)
    return [StoredReceipt(Path("1.json"), receipt)]


def _names(*recorded: Recorded, known: tuple[str, ...] = (), filed: list[StoredReceipt] | None = None) -> list[str]:
    found = ownership.split_recorded(recorded, known=known, filed=lambda: filed or [])
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("gpu", "filed"),
    [
        (_recorded("gpu", A), _filed(("gpu", None, A))),
        (_recorded("gpu", A), _filed(("renamed", None, A))),
        (_recorded("gpu", B), _filed(("gpu", None, A))),
    ],
)
def test_a_states_environments_are_told_by_receipts_and_amis(gpu: Recorded, filed: list[StoredReceipt]) -> None:
    """A state has no configuration: what rollback and status look after must still be ours alone."""
    others = [_recorded("cpu"), _recorded("theirs", C), _recorded("fargate", kind="FARGATE")]

    assert _names(gpu, *others, filed=filed) == ["gpu"]


def test_an_ami_that_is_known_to_be_ours_tells() -> None:
    """By its tags, or because it was handed over."""
    assert _names(_recorded("gpu", A), _recorded("theirs", C), known=(A,)) == ["gpu"]


def test_where_nothing_tells_all_on_ec2_count() -> None:
    """Silence about an environment of ours would be worse than a word about another."""
    assert _names(_recorded("a", A), _recorded("b"), _recorded("f", kind="FARGATE")) == ["a", "b"]


def test_receipts_are_not_read_where_the_rest_tells() -> None:
    """They may be in a bucket."""

    def filed() -> list[StoredReceipt]:
        raise AssertionError

    found = ownership.split_recorded([_recorded("gpu", A)], known={A}, filed=filed)

    assert [one.name for one in found] == ["gpu"]


def test_what_is_live_shows_our_ami_first() -> None:
    """Of two GPU types the one whose AMI is ours, whatever their order."""
    from gpu_ami.aws.batch import Environment

    images = Images(overrides={"ECS_AL2_NVIDIA": C, GPU: A})
    there = Environment(
        name="gpu",
        arn="arn",
        state="ENABLED",
        status="VALID",
        reason="",
        ami_id=C,
        template=None,
        version="1",
        cluster_arn=None,
        tags={},
        images=images,
    )
    live = Live(
        address="ce",
        name="gpu",
        recorded_ami=C,
        environment=there,
        rate_mib_s=None,
        recorded_rate=None,
        recorded=images,
    )

    ours, others = ownership.split_live([live], known={A}, filed=list)

    assert ([one.ami_id for one in ours], others) == ([A], [])


# --- which AMIs are ours


def test_receipts_and_tags_say_whose_an_ami_is(terraform: FakeTerraform) -> None:
    """A receipt names one that is gone by now; of the others EC2 tells the family, and nothing is asked needlessly."""
    root = root_module.prepare(task(terraform.here, terraform.folder.parent).run)
    tagged, theirs = terraform.here.image(5).id, terraform.here.image(9).id
    terraform.here.access.client("ec2").delete_tags(Resources=[theirs], Tags=[{"Key": "gpu-ami:family"}])
    before = len(terraform.here.calls())

    assert ownership.ours_among(root, set()) == set()
    assert ownership.ours_among(root, {A}, _filed(("gpu", None, A))) == {A}
    assert len(terraform.here.calls()) == before
    assert ownership.ours_among(root, {A, tagged, theirs}, _filed(("gpu", None, A))) == {A, tagged}


def test_a_pinned_environment_is_ours_by_what_is_filed(terraform: FakeTerraform) -> None:
    """Its old AMI is neither the one handed over nor in another environment: only the receipts know it."""
    root = root_module.prepare(task(terraform.here, terraform.folder.parent).run)
    (stored,) = _filed(("gpu", None, A))
    write(terraform.folder / "receipts" / "1.json", stored.receipt)
    plan = _plan(_row("gpu", values(A), values(C)), takes=())

    known = ownership.ours_among(root, ownership.undecided(plan, {B}))

    assert [change.address for change in ownership.settled(plan, {B, *known}).ours] == [f"{KIND}.gpu"]


def test_another_family_s_receipt_makes_no_ami_ours(terraform: FakeTerraform) -> None:
    """They lie in one folder: with its AMI as ours, the guard would want its environments on our AMI."""
    two = {"training": FamilySettings(), EMBEDDED.family: FamilySettings()}
    root = root_module.prepare(task(terraform.here, terraform.folder.parent, families=two).run)
    (stored,) = _filed(("gpu", None, A))
    state = StateIdentity(backend="local", workspace="default", account="1", region="r", family="training")
    theirs = replace_receipt(stored, state)
    ours = replace_receipt(stored, msgspec.structs.replace(state, family=EMBEDDED.family))
    earlier = replace_receipt(stored, msgspec.structs.replace(state, family="its-old-name"))

    found = [ownership.ours_among(root, {A}, [one]) for one in (theirs, ours, earlier, stored)]

    assert found == [set(), {A}, {A}, {A}]


def replace_receipt(stored: StoredReceipt, state: StateIdentity) -> StoredReceipt:
    """Return the receipt as one of *state*."""
    return StoredReceipt(stored.path, msgspec.structs.replace(stored.receipt, state=state))


def test_an_environment_that_is_made_for_another_family_is_held_to_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply of one family makes it too, with an AMI that nobody has verified, or whose provenance is unseen."""
    text = TWO.replace("variable: training_ami_id}", "variable: training_ami_id}, verify: {before: apply}")
    video = families.chosen(invocation(tmp_path, text))[0]
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "gpu-ami.auto.tfvars.json").write_text(
        f'{{"video_ami_id": "{B}", "training_ami_id": "{C}"}}'
    )
    rows = _row("gpu", values(A), values(B)), _row("theirs", None, values(C)), _row("cpu", None, values(None))
    known = ownership.settled(_plan(*rows), {B})
    state = StateIdentity(backend="local", workspace="default", account="1", region="r", family="video")
    review = SimpleNamespace(plan=known, state=state, others=plan.elsewhere(video, known))
    checked: list[tuple[str | None, str]] = []
    monkeypatch.setattr(verified, "_check_new", lambda run, ami: checked.append((run.family, ami)))
    proven: list[tuple[str | None, str]] = []
    monkeypatch.setattr(attested, "check", lambda run, amis, **_: proven.append((run.family, *amis.values())))

    assert list(review.others) == [C]
    moves = apply._moves(video, review, [], "apply")  # type: ignore[arg-type]
    apply._vouched_for(moves)
    assert checked == [("training", C)]
    assert proven == [("video", B), ("training", C)]
    (training,) = [one for one in video.siblings() if one.family == "training"]
    review.others = plan.elsewhere(training, known)
    assert not any(move.changes for move in apply._moves(training, review, [], "apply")[1:])  # type: ignore[arg-type]


def _as_shown(video: Invocation, rows: Sequence[dict[str, Any]]) -> plan.Review:
    """What a person has seen: a plan without an AMI of ours, and what the other families' files say now."""
    known = ownership.settled(_plan(*rows, takes=()), {A})
    others = plan.elsewhere(video, known)
    facts = Facts(
        expected_ami=None,
        handed_over_in="gpu-ami.auto.tfvars.json",
        variable="video_ami_id",
        region="ap-northeast-2",
        now=datetime.now(timezone.utc),
        elsewhere=plan.handed_over_for(others),
    )
    state = StateIdentity(backend="local", workspace="default", account="1", region="r", family="video")
    root: Any = None
    saved = root_module.SavedPlan(file=Path("plan"), sha256="", has_changes=True)
    return plan.Review(
        root=root, state=state, saved=saved, plan=known, facts=facts, findings=judge(known, facts), others=others
    )


@pytest.mark.parametrize(
    ("before", "now", "problem"),
    [
        (C, B, f"{KIND}.theirs had an AMI of training .* and by what is handed over now it is one of no other family"),
        (B, C, f"{KIND}.theirs had an AMI of no other family .* it is one of training"),
        (C, C, None),
        (A, B, None),
    ],
    ids=["not theirs any more", "theirs by now", "the same", "another that the plan has nothing of"],
)
def test_what_becomes_another_family_s_during_the_question_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, now: str, problem: str | None
) -> None:
    """Its settings were asked for their consent, or were not; and the person has confirmed something else."""
    both = invocation(tmp_path, TWO)
    video = families.chosen(both)[0]
    (tmp_path / "terraform").mkdir()
    file = tmp_path / "terraform" / "gpu-ami.auto.tfvars.json"
    file.write_text(f'{{"training_ami_id": "{before}"}}')
    same = [_row(f"same_{ami}", values(ami), values(ami, minutes=90)) for ami in (B, C)]
    review = _as_shown(video, [_row("theirs", None, values(C)), *same])
    who = Identity(account="1", arn="arn:aws:iam::1:user/somebody")
    monkeypatch.setattr(batch, "running_jobs", lambda _caller: [])

    file.write_text(f'{{"training_ami_id": "{now}"}}')

    with pytest.raises(SafetyError, match=problem) if problem else contextlib.nullcontext():
        assert list(apply._judge_again(video, review, who).others) == [now]


def test_a_live_environment_that_moves_to_another_family_s_ami_by_now_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard would have refused it before the question, and no receipt of this apply would tell."""
    both = invocation(tmp_path, TWO)
    video = families.chosen(both)[0]
    (tmp_path / "terraform").mkdir()
    review = _as_shown(video, [_row("theirs", values(B), values(C))])
    assert review.findings == ()
    monkeypatch.setattr(batch, "running_jobs", lambda _caller: [])
    (tmp_path / "terraform" / "gpu-ami.auto.tfvars.json").write_text(f'{{"training_ami_id": "{C}"}}')

    with pytest.raises(TerraformError, match="handed over for the family training"):
        apply._judge_again(video, review, Identity(account="1", arn="arn:aws:iam::1:user/somebody"))


def test_another_family_s_ami_is_what_its_variable_has_too(tmp_path: Path) -> None:
    """TF_VAR_…, a -var or another .tfvars goes before its file: the environment would move without a receipt."""
    video = families.chosen(invocation(tmp_path, TWO))[0]
    (tmp_path / "terraform").mkdir()
    (tmp_path / "terraform" / "gpu-ami.auto.tfvars.json").write_text(f'{{"training_ami_id": "{C}"}}')

    def found(**variables: object) -> dict[str, str | None]:
        planned = dataclasses.replace(_plan(), variables=variables)
        return {ami: other.family for ami, other in plan.elsewhere(video, planned).items()}

    assert found() == {C: "training"}
    assert found(training_ami_id=B, video_ami_id=A) == {C: "training", B: "training"}
    assert found(training_ami_id={"ap-northeast-2": B, "us-east-1": A}) == {C: "training", B: "training"}
    assert found(training_ami_id=None) == found(training_ami_id="") == {C: "training"}
