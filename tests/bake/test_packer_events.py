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


# What the plugin says once the scripts have passed (1.8.2), each line with the place of a failure right after it.
AMI = "ami-0123456789abcdef0"
PASSED = [_say(f"Provisioning with shell script: ./scripts/{name}.sh") for name in SCRIPTS]
AFTERWARDS = [
    ("Trying to remove ephemeral keys from authorized_keys files", "step 3 of 3: cleanup"),
    ("Stopping the source instance...", "stopping the builder"),
    ("Waiting for the instance to stop...", "stopping the builder"),
    ("Creating AMI gpu-batch-r1 from instance i-0123456789abcdef0", "making the AMI"),
    ("Attaching run tags to AMI...", "making the AMI"),
    (f"AMI: {AMI}", "making the AMI"),
    ("Waiting for AMI to become ready...", "waiting for the AMI"),
    (f"Copying/Encrypting AMI ({AMI}) to other regions...", "copying the AMI"),
    ("Waiting for all copies to complete...", "copying the AMI"),
    (f'Enabling deprecation on AMI ({AMI}) in region "r" ...', f"setting the deprecation date of the AMI {AMI}"),
    (f"Modifying attributes on AMI ({AMI})...", f"setting the attributes of the AMI {AMI}"),
    ("Modifying: users", "sharing the AMI"),
    ("Modifying: imds_support", "setting the attributes of the AMI"),
    ("Modifying: ami org arns", "sharing the AMI"),
    (f"Adding tags to AMI ({AMI})...", f"tagging the AMI {AMI}"),
    ("Creating snapshot tags", f"tagging the AMI {AMI}"),
]
# Packer runs the cleanup provisioner whatever has failed, then ends what it started.
ENDING = [
    _say("Provisioning step had errors: Running the cleanup provisioner, if present..."),
    _say("Provisioning with shell script: ./scripts/collect-logs.sh"),
    _say("no route to the builder", level="error"),
    _say("Terminating the source AWS instance..."),
    _say("Cleaning up any extra volumes..."),
]


@pytest.mark.parametrize("number", range(len(AFTERWARDS)), ids=[line.split(" (")[0] for line, _ in AFTERWARDS])
def test_what_fails_after_the_scripts_is_named_by_what_it_was(number: int) -> None:
    """The last script has passed; whoever reads its name in the error searches in the wrong file."""
    said = [_say(line) for line, _ in AFTERWARDS[: number + 1]]

    progress = _after(*PASSED, *said, _say("Error x: api error Denied: no", level="error"), *ENDING)

    assert progress.place == AFTERWARDS[number][1]
    assert (progress.phase, progress.is_ending) == ("finishing", True)


def test_protecting_the_ami_is_only_known_by_its_failure() -> None:
    """The plugin says nothing when it begins to; the line before is about deprecation."""
    text = "failed to enable AMI deregistration protection: operation error EC2"

    progress = _after(*PASSED, _say(AFTERWARDS[9][0]), _say(text, level="error"), *ENDING)

    assert progress.place == "protecting the AMI"


def test_a_manifest_that_cannot_be_written_is_named() -> None:
    """Post-processors run when the builder has been ended."""
    said = (*PASSED, _say(AFTERWARDS[-1][0]), *ENDING[3:], _say("Running post-processor:  (type manifest)"))

    assert _after(*said).place == "writing the manifest"


def test_the_first_error_is_the_reason_not_that_of_the_way_back() -> None:
    """An AMI that is protected by then cannot be taken back: Packer's own last word is about that."""
    back = "Error deregistering existing AMI: api error OperationNotPermitted: protected"

    progress = _after(
        *PASSED,
        _say(AFTERWARDS[-2][0]),
        _say("Error tagging resources: api error TagPolicyViolation: no", level="error"),
        _say("Deregistering the AMI and deleting associated snapshots because of cancellation, or error..."),
        _say(back, level="error"),
        *ENDING,
        f"1,amazon-ebs.gpu,error,{back}",
    )

    assert failure(progress) == "Error tagging resources: api error TagPolicyViolation: no"
    assert progress.complaints[0] == back


def test_a_cleanup_provisioner_that_fails_too_does_not_hide_the_reason() -> None:
    """The SDK puts both into one text, its own first; a builder that has stopped takes no more scripts."""
    text = "Cleanup failed: timeout. Original Provisioning error: Script exited with non-zero exit status: 7."

    assert failure(_after(*PASSED, *ENDING, f"1,a,error,{text}")) == "Script exited with non-zero exit status: 7."


def test_what_a_script_writes_to_standard_error_is_no_reason() -> None:
    """Packer prints it as errors; the reason is how the script ended."""
    said = (*PASSED, _say("warning: x", level="error"), *ENDING, "1,a,error,Script exited with status 7")

    progress = _after(*said)

    assert (failure(progress), progress.place) == ("Script exited with status 7", "step 3 of 3: cleanup")


def test_the_cleanup_provisioner_does_not_set_the_build_back() -> None:
    """Its line looks as that of a step, and the view would show the last one once more."""
    titles = [_after(*PASSED, _say(AFTERWARDS[3][0]), *ENDING[:end]).title for end in (0, 2, 3)]

    assert titles == ["making the AMI"] * 3


def test_a_script_that_talks_like_packer_ends_nothing() -> None:
    """The next script shows that the build goes on."""
    said = (_say("Terminating the source AWS instance..."), _say(AFTERWARDS[3][0]))

    progress = _after(PASSED[0], *said, *PASSED[1:])

    assert (progress.place, progress.is_ending) == ("step 3 of 3: cleanup", False)


def test_complaints_at_the_end_of_a_good_build_are_kept() -> None:
    """Packer makes no failure of them: somebody has to know what is left."""
    progress = _after(
        _say("Creating temporary instance profile for this instance: packer-6b0d1c69-f875-bf4d"),
        *PASSED,
        _say("nothing is amiss", level="error"),
        _say(AFTERWARDS[-1][0]),
        _say("Terminating the source AWS instance..."),
        _say("Error deleting volume: x"),
        _say("Deleting temporary role..."),
        _say("Error Throttling: x. Please delete the role manually: packer-6b0d1c69-f875-bf4d", level="error"),
    )

    assert progress.profile == "packer-6b0d1c69-f875-bf4d"
    assert [text.split()[1] for text in progress.complaints] == ["deleting", "Throttling:"]


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
