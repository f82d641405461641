"""Packer's machine-readable output."""

from __future__ import annotations

from functools import reduce

import pytest

from gpu_ami.bake.packer_events import Event, Progress, advance, failure, parse_line, said_by

SCRIPTS = ("update-system", "pull-image", "cleanup")


def _say(text: str, level: str = "say") -> str:
    return f"1763900000,,ui,{level},==> amazon-ebs.gpu: {text}"


def _after(*lines: str) -> Progress:
    events = [event for line in lines if (event := parse_line(line))]
    return reduce(advance, events, Progress(scripts=SCRIPTS))


def test_parse_undoes_packers_escapes() -> None:
    """Commas and line breaks inside a message are written as escapes."""
    event = parse_line("1,amazon-ebs.gpu,artifact,0,id,us-east-1:ami-1%!(PACKER_COMMA)us-west-2:ami-2\\nx")

    assert event == Event("amazon-ebs.gpu", "artifact", ("0", "id", "us-east-1:ami-1,us-west-2:ami-2\nx"))


@pytest.mark.parametrize("line", ["", "panic: runtime error", "a,b", "x,,ui,say,hello"])
def test_parse_leaves_other_text_alone(line: str) -> None:
    """A panic of Packer's is not an event."""
    assert parse_line(line) is None


def test_a_build_goes_through_its_phases() -> None:
    """Each phase is known by what Packer really says when it begins."""
    seen = [
        _after(*lines).title
        for lines in (
            [_say("Prevalidating any provided VPC information")],
            [_say("Launching a source AWS instance...")],
            [_say("Provisioning with shell script: ./scripts/update-system.sh")],
            [_say("Provisioning with shell script: ./scripts/pull-image.sh")],
            [_say("Stopping the source instance...")],
            [_say("Terminating the source AWS instance...")],
        )
    ]

    assert seen == [
        "checking inputs",
        "launching the builder",
        "step 1 of 3: update-system",
        "step 2 of 3: pull-image",
        "making the AMI",
        "ending the builder",
    ]


def test_ids_are_picked_up() -> None:
    """The instance is what an interrupted build leaves; the AMI's snapshot is what is watched."""
    progress = _after(
        "1,,ui,message,    amazon-ebs.gpu: Instance ID: i-0123456789abcdef0",
        "1,,ui,message,    amazon-ebs.gpu: AMI: ami-0123456789abcdef0",
        "1,amazon-ebs.gpu,artifact,0,id,us-east-1:ami-0123456789abcdef0",
    )

    assert (progress.instance_id, progress.ami_id) == ("i-0123456789abcdef0", "ami-0123456789abcdef0")
    assert progress.amis == {"us-east-1": "ami-0123456789abcdef0"}


def test_a_script_that_prints_a_phase_line_changes_nothing_after_cancelling() -> None:
    """Once cancelled, a build only cleans up, whatever else is printed."""
    progress = _after(_say("Cancelling build after 3 s"), _say("Terminating the source AWS instance..."))

    assert progress.phase == "cancelling"


def test_an_unknown_script_keeps_the_step() -> None:
    """A provisioner that the template scan did not see must not move the counter to nonsense."""
    progress = _after(
        _say("Provisioning with shell script: a/pull-image.sh"), _say("Provisioning with shell script: /tmp/x")
    )

    assert progress.step == 2


def test_failure_prefers_packers_own_error() -> None:
    """The error event says why; the last line said may be clean-up talk."""
    assert failure(
        _after(_say("Terminating"), "1,amazon-ebs.gpu,error,Script exited with non-zero exit status: 7.")
    ) == ("Script exited with non-zero exit status: 7.")
    assert failure(_after(_say("the last words", level="error"))) == "the last words"
    assert failure(Progress(scripts=())) == "Packer said nothing"


def test_failure_of_a_template_is_its_heading() -> None:
    """Packer says what is wrong first and where after it; the last of these lines says nothing."""
    lines = "Error: Datasource.Execute failed: no such parameter\\n\\n  on a.pkr.hcl:\\n  (source code not available)"

    assert failure(_after(_say(lines, level="error"))) == "Datasource.Execute failed: no such parameter"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("==> amazon-ebs.gpu: AMI: ami-1", "AMI: ami-1"),
        ("    amazon-ebs.gpu: hello: world", "hello: world"),
        ("Error: no prefix", "Error: no prefix"),
    ],
)
def test_said_by_drops_only_the_builds_name(line: str, said: str) -> None:
    """A message that has a colon of its own keeps it."""
    assert said_by(line) == said
