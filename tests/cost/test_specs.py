"""What a person may give as an input."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gpu_ami.cost.specs import SPECS, checked, comma_list, parse_inputs
from gpu_ami.errors import UsageError


def test_inputs_are_given_by_name() -> None:
    """As they are printed; exponents and blanks around are fine."""
    assert parse_inputs(["pull_s=600", "avoided_gb= 1.5e1 "], flag="--set") == {
        "pull_s": Decimal(600),
        "avoided_gb": Decimal(15),
    }


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("pull_s", "'pull_s' is not name=value: write for example --set pull_s=600"),
        ("pull=3", "no input 'pull': did you mean pull_s"),
        ("foo=1", r"no input 'foo': `invoke cost --inputs` prints all \d+\.$"),
        ("nope=1", r"no input 'nope': `invoke cost --inputs`"),
        ("pull_s=", "'' is not a number: give one in s, such as 60"),
        ("pull_s=soon", "'soon' is not a number"),
        ("pull_s=nan", "'nan' is not a number"),
        ("pull_s=inf", "'inf' is not a number"),
        ("pull_s=1_0", "'1_0' is not a number"),
        ("pull_s=-1", "'-1' must be 0 or more s"),
        ("pull_s=1e9", "more than 86,400 s, which cannot be"),
        ("pull_s=1e999", "more than 86,400 s"),
        ("billed_gib=0", "must be above 0 GiB"),
        ("failed_share=1", "more than 0.95 share"),
        ("initialization_mib_s=301", "more than 300 MiB/s"),
        ("snapshot_usd_per_gib_month=0", "must be above 0 USD/GiB-month"),
        ("snapshot_usd_per_gib_month=x", "such as 0.05"),
    ],
)
def test_bad_inputs_are_refused_with_the_value(argument: str, problem: str) -> None:
    """Negative, zero, not a number, absurd: each says which, in one line."""
    with pytest.raises(UsageError, match=problem) as caught:
        parse_inputs([argument], flag="--set")

    assert "\n" not in str(caught.value)


def test_an_input_is_given_once() -> None:
    """The second value would silently win."""
    with pytest.raises(UsageError, match="pull_s twice"):
        parse_inputs(["pull_s=1", "pull_s=2"], flag="--set")


def test_every_default_is_a_value_that_could_be_given() -> None:
    """An assumption outside the limits would be refused when somebody repeats it."""
    for name, spec in SPECS.items():
        if spec.default is not None:
            assert checked(name, spec.default, flag="default") == Decimal(spec.default)
            assert spec.why


def test_comma_lists() -> None:
    """Invoke would take a second argument for a task."""
    assert comma_list(None, "--compare") == ()
    assert comma_list("g5.xlarge, g6.xlarge", "--compare") == ("g5.xlarge", "g6.xlarge")
    for text in ("", "a,,b", "-h"):
        with pytest.raises(UsageError, match=r"--compare .* is not a name"):
            comma_list(text, "--compare")
