"""What rollback goes back to: decided by the receipts alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from gpu_ami.deploy.history import Step, agreed_target, rolled_back_from, steps_back
from gpu_ami.errors import UsageError
from gpu_ami.records.receipt import Action, Change, Receipt, Status, StoredReceipt

A, B, C, D = (f"ami-{number:017x}" for number in range(1, 5))
_NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
Act = (
    tuple[str | None, str | None]
    | tuple[str | None, str | None, Action]
    | tuple[str | None, str | None, Action, Status]
)


def _filed(*acts: Act, address: str = "ce") -> list[StoredReceipt]:
    found = []
    for number, (old, new, *more) in enumerate(acts):
        action, status = ([*more, "apply", "applied"] if not more else [*more, "applied"])[:2]
        receipt = Receipt(
            when=_NOON + timedelta(hours=number),
            who="arn",
            account="1",
            region="r",
            changes=(Change(address=address, old=old, new=new),),
            action=action,
            status=status,
        )
        found.append(StoredReceipt(Path(f"{number}.json"), receipt))
    return found


def _back(live: str | None, *acts: Act) -> str | None:
    (step,) = steps_back(_filed(*acts), {"ce": live})
    return step.back


def test_one_back_is_the_ami_before() -> None:
    """The ordinary rollback."""
    assert _back(C, (None, A), (A, B), (B, C)) == B


def test_rolling_back_twice_goes_two_back() -> None:
    """A second rollback must not bring the bad AMI back."""
    assert _back(B, (None, A), (A, B), (B, C), (C, B, "rollback")) == A


@pytest.mark.parametrize(
    ("acts", "left"),
    [
        ([(None, A), (A, B), (B, A, "rollback")], B),
        ([(None, A), (A, B), (B, A, "rollback"), (None, C, "publish")], B),
        ([(None, A), (A, B), (B, A, "rollback", "failed")], None),
        ([(None, A), (A, B), (B, A, "rollback"), (A, A)], None),
        ([(B, A)], None),
        ([], None),
    ],
)
def test_what_the_last_rollback_left_is_the_way_forward(acts: list[Act], left: str | None) -> None:
    """Only where it was the last act, and ended well: anything else is somebody's own choice."""
    assert rolled_back_from(_filed(*acts), [A]) == left


def test_two_amis_that_a_rollback_left_are_no_way_forward() -> None:
    """One of them would be a guess."""
    (first,), (second,) = _filed((B, A, "rollback")), _filed((C, A, "rollback"), address="other")
    both = msgspec.structs.replace(first.receipt, changes=first.receipt.changes + second.receipt.changes)

    assert rolled_back_from([StoredReceipt(first.path, both)], [A]) is None


def test_a_rollback_ends_at_the_nearest_of_two_times() -> None:
    """An AMI that was live twice: only what came after its last time is undone."""
    assert _back(D, (None, A), (A, B), (B, A), (A, C), (C, A, "rollback"), (A, D)) == A


def test_at_the_bottom_there_is_nothing_before() -> None:
    """Saying so is better than going in circles."""
    assert _back(A, (None, A), (A, B), (B, A, "rollback")) is None


def test_an_apply_after_a_rollback_lies_on_top() -> None:
    """The fixed AMI's way back is the one that was live meanwhile."""
    assert _back(D, (None, A), (A, B), (B, C), (C, B, "rollback"), (B, D)) == B


def test_a_rollback_to_an_ami_that_was_never_live_lies_on_top() -> None:
    """`--to` may name any AMI."""
    assert _back(D, (None, A), (A, B), (B, D, "rollback")) == B


def test_a_rollback_over_several_steps_takes_them_off() -> None:
    """`--to` the oldest: what lies between is not the way back from it."""
    assert _back(A, (None, A), (A, B), (B, C), (C, A, "rollback")) is None


def test_the_ami_from_before_the_first_receipt_is_known() -> None:
    """The first receipt says what it found."""
    assert _back(B, (A, B)) == A


@pytest.mark.parametrize("status", ["started", "failed"])
@pytest.mark.parametrize("live", [B, C])
def test_after_a_failed_act_one_back_is_what_was_before_it(status: Status, live: str) -> None:
    """Half of the environments may have moved: all go back to the same AMI."""
    assert _back(live, (None, A), (A, B), (B, C, "apply", status)) == B


def test_a_failed_act_in_the_middle_does_not_count() -> None:
    """It was gone on from; what it was to apply may never have been live."""
    assert _back(D, (None, A), (A, B), (B, C, "apply", "failed"), (B, D)) == B


def test_a_live_ami_that_no_receipt_knows_goes_back_to_the_last_known() -> None:
    """Somebody applied by hand."""
    assert _back(D, (None, A), (A, B)) == B


def test_published_parameters_are_another_history() -> None:
    """Their addresses are not environments, and their acts no applies."""
    assert _back(B, (None, A), (A, B), (B, C, "publish")) == A


def _moved(*acts: tuple[str, str | None, str | None, dict[str, str]]) -> list[StoredReceipt]:
    """Receipts of one environment at several addresses: address, AMI before, AMI after, and what else is said."""
    found = []
    for number, (address, old, new, more) in enumerate(acts):
        changes = (Change(address=address, old=old, new=new, **more),)
        when = _NOON + timedelta(hours=number)
        found.append(
            StoredReceipt(Path(f"{number}"), Receipt(when=when, who="", account="1", region="r", changes=changes))
        )
    return found


def _back_of(receipts: list[StoredReceipt], address: str, live: str, **names: str) -> str | None:
    (step,) = steps_back(receipts, {address: live}, names=names or None)
    return step.back


def test_the_way_back_follows_a_moved_block() -> None:
    """`moved`, `count` to `for_each`, into a module: the plan says which address it was before."""
    acts = _moved(
        ("old", None, A, {}),
        ("old", A, B, {}),
        ("new", B, C, {"previous_address": "old"}),
        ("newest", C, C, {"previous_address": "new"}),
    )

    assert _back_of(acts, "newest", C) == B
    assert _back_of(acts[:3], "new", C) == B
    assert _back_of(acts[:2], "new", B) is None


def test_the_way_back_follows_the_name() -> None:
    """`terraform apply` by hand, or `state mv`: no receipt of ours says that the address changed; the name did not."""
    acts = _moved(("old", None, A, {"name": "gpu"}), ("old", A, B, {"name": "gpu"}))

    assert _back_of(acts, "new", B, new="gpu") == A
    assert _back_of(acts, "new", B, new="other") is None


def test_an_environment_that_was_replaced_keeps_its_address() -> None:
    """Its name is another one then."""
    acts = _moved(("ce", None, A, {"name": "first"}), ("ce", A, B, {"name": "first"}))

    assert _back_of(acts, "ce", B, ce="second") == A


def test_two_that_change_places_keep_their_histories() -> None:
    """By address each would go back to the other's AMI."""
    first = [Change(address="a", old=None, new=A, name="one"), Change(address="b", old=None, new=B, name="two")]
    swap = [
        Change(address="b", old=A, new=C, name="one", previous_address="a"),
        Change(address="a", old=B, new=D, name="two", previous_address="b"),
    ]
    acts = [
        StoredReceipt(
            Path(f"{number}"),
            Receipt(when=_NOON + timedelta(hours=number), who="", account="1", region="r", changes=tuple(changes)),
        )
        for number, changes in enumerate((first, swap))
    ]

    steps = steps_back(acts, {"a": D, "b": C}, names={"a": "two", "b": "one"})

    assert [(step.address, step.back) for step in steps] == [("a", B), ("b", A)]


def test_a_move_that_failed_is_no_way_back() -> None:
    """It changed no AMI: what was live before it is live now."""
    acts = _moved(("old", None, A, {}), ("old", A, B, {}), ("new", B, B, {"previous_address": "old"}))
    failed = msgspec.structs.replace(acts[-1].receipt, status="failed")

    assert _back_of([*acts[:-1], StoredReceipt(Path("2"), failed)], "new", B) == A


def test_without_receipts_nothing_is_known() -> None:
    """No guess is made from the list of AMIs."""
    assert _back(A) is None


def test_environments_that_agree_go_back_together() -> None:
    """One variable moves them all."""
    assert agreed_target([Step("a", B, A), Step("b", C, A)]) == A


def test_receipts_of_an_unknown_state_are_offered_and_not_followed() -> None:
    """They may be another state's: its AMI must not go live here, but the person who knows is told of it."""
    with pytest.raises(UsageError, match=f"of an unknown state.* name {A}: if that was live here, add --to {A}"):
        agreed_target([Step("a", B, None)], unsure=[Step("a", B, A)])
    assert agreed_target([Step("a", C, B)], unsure=[Step("a", C, A)]) == B


def test_receipts_of_other_states_are_offered_with_their_state() -> None:
    """A state that moved to another backend has no receipts: that all is lost was all that a person heard."""
    elsewhere = {"local x, workspace default": [Step("a", B, A)], "s3://b/k, workspace default": [Step("a", B, None)]}
    with pytest.raises(UsageError, match=f"those of local x, workspace default name {A}: if .* add --to {A}") as error:
        agreed_target([Step("a", B, None)], elsewhere=elsewhere)
    assert "s3://" not in str(error.value)
    assert agreed_target([Step("a", C, B)], elsewhere=elsewhere) == B


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "no compute environment"),
        ([Step("a", A, None)], "No receipt of this state knows"),
        ([Step("a", B, A), Step("b", C, B)], "different AMIs"),
        ([Step("a", B, A), Step("b", C, None)], "different AMIs"),
    ],
)
def test_without_one_target_rollback_asks_for_one(steps: list[Step], message: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match=message):
        agreed_target(steps)
