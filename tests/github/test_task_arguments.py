"""The inputs of a workflow become arguments of a task, and nothing else."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github.task_arguments import invoke_arguments


def test_a_schedule_has_no_inputs_and_builds_if_stale() -> None:
    """Every input is an empty text then."""
    names = ("MARKET", "IMAGE_TAG", "INCREMENTAL", "REBUILD", "DRY_RUN")

    assert invoke_arguments("build", {f"INPUT_{name}": "" for name in names}) == ["build", "--if-stale"]


def test_every_input_reaches_the_build() -> None:
    """What a person ticks is what runs."""
    env = {
        "INPUT_MARKET": "spot",
        "INPUT_IMAGE_TAG": "v2",
        "INPUT_INCREMENTAL": "true",
        "INPUT_REBUILD": "true",
        "INPUT_DRY_RUN": "true",
    }

    assert invoke_arguments("build", env) == [
        *("build", "--packer-var", "spot=true", "--packer-var", "image_tag=v2"),
        *("--incremental", "--dry-run"),
    ]


def test_doctor_looks_at_what_will_be_built() -> None:
    """The same image and market, but none of the build's own flags."""
    env = {"INPUT_IMAGE_TAG": "v2", "INPUT_INCREMENTAL": "true", "INPUT_MARKET": "on-demand"}

    assert invoke_arguments("doctor", env) == ["doctor", "--packer-var", "image_tag=v2"]


def test_a_hostile_tag_stays_one_word() -> None:
    """Whoever may start the workflow may not run code in it."""
    hostile = '"; aws iam create-user; echo $(env) --yes'

    assert invoke_arguments("doctor", {"INPUT_IMAGE_TAG": hostile})[-1] == f"image_tag={hostile}"


@pytest.mark.parametrize(("name", "value"), [("INPUT_MARKET", "reserved"), ("INPUT_DRY_RUN", "yes")])
def test_an_unknown_choice_is_refused(name: str, value: str) -> None:
    """A called workflow's inputs are free text: `yes` for a dry run must not build."""
    with pytest.raises(UsageError, match=value):
        invoke_arguments("build", {name: value})


def test_what_a_verification_may_cost_goes_to_the_build_alone() -> None:
    """Nobody is there to be asked: without it a build that verifies before its hand-over does not begin."""
    env = {"INPUT_MAX_USD": "2"}

    assert invoke_arguments("build", env) == ["build", "--if-stale", "--max-usd", "2"]
    assert invoke_arguments("doctor", env) == ["doctor"]


@pytest.mark.parametrize(
    ("task", "gate"), [("verify", ()), ("bench", ("--gate", "--within-min", "190"))], ids=["verify", "bench"]
)
def test_what_measures_says_what_it_may_cost(task: str, gate: tuple[str, ...]) -> None:
    """Nobody is there to be asked; a bench that refuses the AMI must end the job, or a slower one is proposed."""
    env = {"INPUT_AMI": "ami-0123456789abcdef0", "INPUT_MAX_USD": "12.50", "INPUT_MARKET": "spot"}
    env["INPUT_WITHIN_MIN"] = "190"

    assert invoke_arguments(task, env) == [
        *(task, "--ami", "ami-0123456789abcdef0", *gate, "--yes", "--max-usd", "12.50")
    ]
    with pytest.raises(UsageError, match=f"GPU_AMI_{task.upper()}_MAX_USD"):
        invoke_arguments(task, env | {"INPUT_MAX_USD": ""})


@pytest.mark.parametrize(
    ("families", "regions", "arguments"),
    [
        ("", "", []),
        ("video, training,", "eu-west-1, us-east-1",
         ["--family", "video", "--family", "training", "--regions", "eu-west-1,us-east-1"]),
        ("--yes", "$(id)", ["--family", "--yes", "--regions", "$(id)"]),
    ],
    ids=["all", "some", "hostile"],
)  # fmt: skip
def test_lists_of_families_and_regions_are_split(families: str, regions: str, arguments: list[str]) -> None:
    """An input has no lists; what is in one stays a word, which the task refuses."""
    env = {"INPUT_FAMILIES": families, "INPUT_REGIONS": regions}

    assert invoke_arguments("matrix", env) == ["matrix", *arguments]


@pytest.mark.parametrize(
    ("task", "env", "arguments"),
    [
        ("fleet", {}, ["--shards", "20"]),
        ("fleet", {"INPUT_SHARDS": "3", "INPUT_REGIONS": "a, b"}, ["--shards", "3", "--regions", "a,b"]),
        ("survey", {"INPUT_INCLUDE_SHARED": "true", "INPUT_SHARDS": "3"}, ["--include-shared"]),
        ("cleanup", {"INPUT_INCLUDE_SHARED": "true"}, ["--include-shared"]),
        ("cleanup", {"INPUT_INCLUDE_SHARED": "false"}, []),
        ("cleanup", {"INPUT_INCLUDE_SHARED": ""}, []),
    ],
)
def test_a_survey_and_its_merge_have_one_policy(task: str, env: dict[str, str], arguments: list[str]) -> None:
    """A part that was read for another one counts for nothing."""
    assert invoke_arguments(task, env) == [task, *arguments]
