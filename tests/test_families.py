"""How a task is carried out for several families: for which, what fails for one, and whose a result is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import families
from gpu_ami.console import Console, Table
from gpu_ami.errors import (
    AwsError,
    BuildError,
    DifferenceError,
    InterruptedRunError,
    PipelineError,
    SafetyError,
    UsageError,
)
from gpu_ami.invocation import Invocation, Readings
from gpu_ami.options import Options, Output, options_from

TWO = """
region: ap-northeast-2
cleanup: {older_than: 9d}
families:
  video: {variables_file: packer/video.auto.pkrvars.hcl, handover: {variable: video_ami_id}, cleanup: {keep: 5}}
  training: {variables_file: packer/training.auto.pkrvars.hcl, handover: {variable: training_ami_id}}
"""


def invocation(root: Path, text: str = TWO, *named: str, output: Output = "json", **options: Any) -> Invocation:
    """An invocation in a repository with these settings; what it prints is in its console's streams."""
    (root / "pipeline.yaml").write_text(text)
    console = Console(output, out=io.StringIO(), err=io.StringIO())
    return Invocation(root, Options(families=named, output=output, **options), console)


def said(run: Invocation) -> str:
    """What was talked."""
    assert isinstance(run.console.err, io.StringIO)
    return run.console.err.getvalue()


def _carried_out(run: Invocation, takes: families.Takes) -> list[str | None]:
    seen: list[str | None] = []
    families.carry_out(run, takes, lambda one: seen.append(one.family))
    return seen


@pytest.mark.parametrize(
    ("takes", "named", "expected"),
    [
        ("each", (), ["video", "training"]),
        ("each", ("training",), ["training"]),
        ("each", ("training", "video"), ["video", "training"]),
        ("one", ("training",), ["training"]),
        ("any", ("training",), ["training"]),
        ("any", (), [None]),
        ("none", ("training",), [None]),
    ],
)
def test_a_task_is_about_those_that_are_named_or_all(
    tmp_path: Path, takes: families.Takes, named: tuple[str, ...], expected: list[str | None]
) -> None:
    """In the order of pipeline.yaml, each once."""
    assert _carried_out(invocation(tmp_path, TWO, *named), takes) == expected


def test_what_is_read_for_one_family_is_read_once_in_a_task(tmp_path: Path) -> None:
    """Nothing of it outlives the task, or a change; with one family nothing is kept at all."""
    run = invocation(tmp_path)
    read: list[str | None] = []
    kept: list[Readings | None] = []

    def act(one: Invocation) -> None:
        def reads() -> int:
            read.append(one.family)
            return len(read)

        assert one.once("what", reads) == len(read)
        kept.append(one.readings)

    families.carry_out(run, "each", act)
    families.carry_out(run, "each", act)
    assert read == ["video", "video"]
    assert kept[0] is kept[1]
    assert kept[0] is not None
    assert kept[0].once("what", lambda: "forgotten") == "forgotten"

    def change(one: Invocation) -> None:
        act(one)
        one.forget_readings()

    families.carry_out(run, "each", change)
    assert read[2:] == ["video", "training"]
    alone = invocation(tmp_path, "region: eu-west-1\n")
    families.carry_out(alone, "each", change)
    assert alone.readings is None


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    """A refusal of a moment ago is no answer for the next family."""
    tried: list[int] = []

    def read() -> int:
        tried.append(1)
        if len(tried) == 1:
            msg = "refused"
            raise AwsError(msg)
        return 7

    def act(one: Invocation) -> None:
        assert one.once("what", read) == 7

    with pytest.raises(PipelineError):
        families.carry_out(invocation(tmp_path), "each", act)
    assert len(tried) == 2


@pytest.mark.parametrize("takes", ["none", "any", "one", "each"])
def test_with_one_family_everything_is_as_it_was(tmp_path: Path, takes: families.Takes) -> None:
    """The very invocation, whose files have today's names; without settings, too, where a task needs none."""
    run = invocation(tmp_path, "region: eu-west-1\nfamily: films\n", "films")
    seen: list[Invocation] = []
    families.carry_out(run, takes, seen.append)
    (tmp_path / "pipeline.yaml").unlink()
    bare = Invocation(tmp_path, Options(), Console(err=io.StringIO()))
    families.carry_out(bare, takes, seen.append)

    assert seen == [run, bare]
    assert run.workspace.manifest == tmp_path / "packer" / "manifest.json"


@pytest.mark.parametrize(
    ("text", "takes", "named", "options", "problem"),
    [
        (TWO, "one", (), {}, "about one family: name it, --family NAME with one of video, training"),
        (TWO, "one", ("video", "training"), {}, "about one family"),
        (TWO, "one", (), {"all_families": True}, "about one family"),
        (TWO, "each", ("vide",), {}, "--family 'vide' is no family of pipeline.yaml: there are video, training"),
        (TWO, "each", ("video",), {"all_families": True}, "--all-families takes every family and --family some"),
        ("region: eu-west-1\n", "each", ("video",), {}, "'video' is no family of pipeline.yaml: there are gpu-batch"),
        ("region: [\n", "each", ("video",), {}, "is not YAML"),
    ],
)
def test_what_is_not_named_well_is_refused(
    tmp_path: Path, text: str, takes: families.Takes, named: tuple[str, ...], options: dict[str, Any], problem: str
) -> None:
    """A slip in a name must not turn into another family's rollback, or into everybody's."""
    with pytest.raises(UsageError, match=problem) as refused:
        _carried_out(invocation(tmp_path, text, *named, **options), takes)

    assert "\n" not in str(refused.value)


def test_the_environment_s_slip_is_called_so(tmp_path: Path) -> None:
    """Somebody with one family, and a variable of another repository's in the shell, has typed no --family."""
    (tmp_path / "pipeline.yaml").write_text("region: eu-west-1\n")
    run = Invocation(tmp_path, options_from(["status"], {"GPU_AMI_FAMILY": "x"}), Console(err=io.StringIO()))

    with pytest.raises(UsageError, match=r"^GPU_AMI_FAMILY 'x' is no family of"):
        families.chosen(run)


def test_a_build_of_all_has_to_be_said(tmp_path: Path) -> None:
    """Each bake costs: one that was forgotten to be named is no order for all."""
    with pytest.raises(UsageError, match="families video, training: say which to build with --family NAME, or --all"):
        families.named(invocation(tmp_path), "build")

    assert len(families.named(invocation(tmp_path, all_families=True), "build")) == 2
    assert len(families.named(invocation(tmp_path, TWO, "video", "training"), "build")) == 2


def test_a_family_has_its_settings_and_files_and_the_same_way_to_aws(tmp_path: Path) -> None:
    """Throttling, credentials and the sandbox are one; what is written is each family's own."""
    run = invocation(tmp_path, sandbox=False)

    video, training = families.chosen(run)

    assert (video.settings.cleanup.keep, training.settings.cleanup.keep) == (5, 3)
    assert (video.settings.cleanup.older_than, video.settings.family) == ("9d", "video")
    assert training.settings.published_to == "/gpu-ami/training/ami-id"
    assert video.workspace.manifest.name == "manifest-video.json"
    assert training.workspace.release.name == "release-training.json"
    assert video.access is training.access
    assert video.access is run.access
    assert [other.family for other in video.siblings()] == ["training"]
    assert (video.beside, training.beside) == (("training",), ("video",))


def _failing(**errors: PipelineError) -> Callable[[Invocation], None]:
    def act(run: Invocation) -> None:
        if error := errors.get(str(run.family)):
            raise error
        run.console.result({"ok": True})

    return act


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ({"video": BuildError("a")}, 7),
        ({"video": BuildError("a"), "training": BuildError("b")}, 5),
        ({"video": BuildError("a"), "training": AwsError("b")}, 7),
        ({"training": DifferenceError("a")}, 9),
        ({"video": DifferenceError("a"), "training": AwsError("b")}, 7),
        ({"video": SafetyError("a")}, 7),
    ],
)
def test_what_fails_for_one_does_not_stop_the_others(
    tmp_path: Path, errors: dict[str, PipelineError], code: int
) -> None:
    """The last line and the exit code say that, and for which, it failed."""
    run = invocation(tmp_path)

    with pytest.raises(PipelineError) as failed:
        families.carry_out(run, "each", _failing(**errors))

    assert failed.value.exit_code == code
    assert str(failed.value).startswith(f"{len(errors)} of 2 families did not end well: ")
    assert all(f"{name} (exit code {error.exit_code})" in str(failed.value) for name, error in errors.items())
    assert all(f"error: {error}" in said(run) for error in errors.values())
    assert isinstance(run.console.out, io.StringIO)
    done = [json.loads(line)["family"] for line in run.console.out.getvalue().splitlines()]
    assert done == [name for name in ("video", "training") if name not in errors]


def test_an_interrupt_stops_the_others(tmp_path: Path) -> None:
    """Who presses Ctrl-C means all of it."""
    seen: list[str | None] = []

    def act(run: Invocation) -> None:
        seen.append(run.family)
        raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        families.carry_out(invocation(tmp_path), "each", act)
    assert seen == ["video"]


@pytest.mark.parametrize(
    ("output", "document", "expected"),
    [
        ("json", {"a": 1}, ['{"family": "video", "a": 1}', '{"family": "training", "a": 1}']),
        ("json", [{"a": 1}], ['[{"family": "video", "a": 1}]', '[{"family": "training", "a": 1}]']),
        ("table", {}, ["Family video", "nothing", "Family training", "nothing"]),
        ("markdown", {}, ["## Family video", "nothing", "## Family training", "nothing"]),
    ],
)
def test_a_result_says_whose_it_is(tmp_path: Path, output: Output, document: Any, expected: Sequence[str]) -> None:
    """Of several families only: of one a script gets what it always got."""
    run, alone = invocation(tmp_path, output=output), invocation(tmp_path, TWO, "video", output=output)
    table = Table(columns=("a",), rows=[], footer=("nothing",))

    families.carry_out(run, "each", lambda one: one.console.result(document, table))
    families.carry_out(alone, "each", lambda one: one.console.result(document, table))

    assert isinstance(run.console.out, io.StringIO)
    assert isinstance(alone.console.out, io.StringIO)
    lines = [line for line in run.console.out.getvalue().splitlines() if line.strip(" |-")]
    assert [line for line in lines if "| a" not in line] == expected
    assert "amily" not in alone.console.out.getvalue()


def test_commands_that_are_named_name_the_family(tmp_path: Path) -> None:
    """Pasted without it they are refused at best; what is not about a family stays as it is."""
    run = invocation(tmp_path)
    video, _ = families.chosen(run)

    video.console.say("Run `invoke apply`, `invoke plan --family x`, `invoke setup` or `terraform plan`.")

    assert said(run) == (
        "Run `invoke apply --family video`, `invoke plan --family x`, `invoke setup` or `terraform plan`.\n"
    )


def test_a_flag_that_names_one_file_is_for_one_family(tmp_path: Path) -> None:
    """The second family's plan would take the place of the first one's."""
    video, _ = families.chosen(invocation(tmp_path))

    with pytest.raises(UsageError, match=r"--plan is for one family at a time: .*one of training, video"):
        families.refuse_beside(video, {"--name": False, "--plan": True})
    families.refuse_beside(video, {"--plan": False})
    (alone,) = families.chosen(invocation(tmp_path, TWO, "video"))
    families.refuse_beside(alone, {"--plan": True})
