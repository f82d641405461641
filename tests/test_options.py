"""The flags that hold for a whole invocation."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.options import Options, options_from, wants_sandbox


@pytest.mark.parametrize(
    "argv",
    [
        ["build", "apply", "--sandbox"],
        ["build", "--sandbox", "apply"],
        ["--sandbox", "build"],
    ],
)
def test_sandbox_holds_wherever_it_stands(argv: list[str]) -> None:
    """`invoke build apply --sandbox` must not build on AWS because the flag came late."""
    assert options_from(argv, {}).sandbox


def test_environment_switches_the_sandbox_on() -> None:
    """GPU_AMI_SANDBOX=1 protects a whole shell session."""
    assert options_from(["build"], {"GPU_AMI_SANDBOX": "1"}).sandbox
    assert not options_from(["build"], {"GPU_AMI_SANDBOX": "0"}).sandbox


def test_an_unclear_sandbox_variable_is_refused() -> None:
    """A typo in it must not mean "the real AWS"."""
    with pytest.raises(UsageError, match="'ture'"):
        options_from(["build"], {"GPU_AMI_SANDBOX": "ture"})


def test_values_are_read_in_both_forms() -> None:
    """Both spellings work in Invoke, so both must work here."""
    options = options_from(["cost", "--region=us-east-1", "--output", "json", "--query", "a.b", "--profile", "p"], {})

    assert options == Options(region="us-east-1", output="json", query="a.b", profile="p")


@pytest.mark.parametrize("word", ["--dry", "-R", "--dry-run"])
def test_every_spelling_of_dry_run_counts(word: str) -> None:
    """Invoke's own --dry stops only its own shell commands; ours must stop everything."""
    assert options_from(["build", word], {}).dry_run


def test_words_after_the_double_dash_are_another_programs() -> None:
    """What follows -- is passed on and must not switch anything here."""
    assert options_from(["build", "--", "--sandbox", "--region", "x"], {}) == Options()


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["build", "--region"], "--region needs a value"),
        (["build", "--region", "--sandbox"], "--region needs a value"),
        (["build", "--region="], "--region needs a value"),
        (["build", "--output", "xml"], "'xml'"),
        (["build", "--region", "us-east-1", "cleanup", "--region", "eu-west-1"], "given twice"),
    ],
)
def test_unclear_options_are_refused(argv: list[str], problem: str) -> None:
    """Two regions in one invocation have no meaning: guessing one would change the wrong region."""
    with pytest.raises(UsageError, match=problem):
        options_from(argv, {})


def test_the_same_value_twice_is_fine() -> None:
    """A script that adds the flag to each task says nothing contradictory."""
    assert options_from(["a", "--region", "us-east-1", "b", "--region", "us-east-1"], {}).region == "us-east-1"


@pytest.mark.parametrize(
    ("argv", "switch", "wanted"),
    [
        (["build", "--sandbox"], "", True),
        (["build", "--output", "xml"], "yes", True),
        (["build"], "ture", False),
        (["build", "--", "--sandbox"], "", False),
    ],
)
def test_whether_it_is_about_the_sandbox_is_known_whatever_else_is_wrong(
    argv: list[str], switch: str, wanted: bool
) -> None:
    """The line that says what is wrong names commands, too: they must not lead to AWS."""
    assert wants_sandbox(argv, {"GPU_AMI_SANDBOX": switch}) is wanted


def test_families_are_named_on_the_line_or_by_the_environment() -> None:
    """Several times, after any task; the environment's is for a workflow, and the line goes before it."""
    argv = ["build", "--family", "b", "apply", "--family=a", "--family", "b"]

    assert options_from(argv, {"GPU_AMI_FAMILY": "c"}).families == ("b", "a")
    assert options_from(["build"], {"GPU_AMI_FAMILY": " c "}).families == ("c",)
    assert options_from(["build"], {"GPU_AMI_FAMILY": ""}).families == ()
    every = options_from(["build", "--all-families"], {"GPU_AMI_FAMILY": "c"})
    assert (every.families, every.all_families) == ((), True)
    with pytest.raises(UsageError, match="--family needs a value"):
        options_from(["build", "--family", "--sandbox"], {})
