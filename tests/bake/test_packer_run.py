"""A build followed: an emulated Packer prints what the real one would."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from gpu_ami.bake import packer_run
from gpu_ami.bake.packer_events import Progress
from gpu_ami.bake.packer_run import FailedBuildError, bake
from gpu_ami.bake.template import template_scripts
from gpu_ami.errors import BuildError, UsageError
from gpu_ami.process import Command
from tests.support.steps import PACKER, STEPS

SCRIPTS = ("update-system", "pull-image")
GOOD = [
    "1,,ui,say,==> amazon-ebs.gpu: Launching a source AWS instance...",
    "1,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: s/update-system.sh",
    "1,,ui,say,==> amazon-ebs.gpu: Stopping the source instance...",
    "1,,ui,message,    amazon-ebs.gpu: AMI: ami-0123456789abcdef0",
    "1,amazon-ebs.gpu,artifact,0,id,ap-northeast-2:ami-0123456789abcdef0",
]
BAD = [
    "1,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: s/pull-image.sh",
    "1,,ui,error,==> amazon-ebs.gpu: no such digest",
    "1,,ui,say,==> amazon-ebs.gpu: Provisioning step had errors: Running the cleanup provisioner, if present...",
    "1,,ui,say,==> amazon-ebs.gpu: --- journalctl",
    "1,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance...",
    "1,amazon-ebs.gpu,error,Script exited with non-zero exit status: 1.",
]


class Recorder:
    """A view that remembers."""

    def __init__(self) -> None:
        """Start empty."""
        self.titles: list[str] = []
        self.percents: list[int] = []
        self.script_tail: tuple[str, ...] = ()

    def update(self, progress: Progress) -> None:
        """Remember the title."""
        if self.titles[-1:] != [progress.title]:
            self.titles.append(progress.title)

    def snapshot(self, percent: int) -> None:
        """Remember the percentage."""
        self.percents.append(percent)

    def failed(self, script_tail: tuple[str, ...]) -> None:
        """Remember the lines."""
        self.script_tail = script_tail


def _packer(lines: list[str], status: int) -> Command:
    code = (
        "import os, sys, time\n"
        "for line in sys.argv[2:]:\n"
        "    while line.startswith('UNTIL ') and not os.path.exists(line[6:]): time.sleep(0.01)\n"
        "    line.startswith('UNTIL ') or print(line, flush=True)\n"
        "sys.exit(int(sys.argv[1]))"
    )
    return Command((sys.executable, "-S", "-c", code, str(status), *lines))  # without coverage, ten times as fast


def _bake(command: Command, log: Path, view: Recorder, *, scripts: tuple[str, ...] = SCRIPTS) -> Progress:
    def percent(_ami: str) -> int:
        (log.parent / "queried").touch()
        return 40

    return bake(command, scripts=scripts, log=log, view=view, percent=percent, poll_s=0.05)


def test_a_good_build_is_followed_to_its_amis(tmp_path: Path) -> None:
    """The view sees each step once, the snapshot is watched, and the log has every line."""
    view, log = Recorder(), tmp_path / "logs" / "b.log"

    # EC2 takes minutes; here until its progress has been queried.
    progress = _bake(_packer([*GOOD[:-1], f"UNTIL {log.parent / 'queried'}", GOOD[-1]], 0), log, view)

    assert progress.amis == {"ap-northeast-2": "ami-0123456789abcdef0"}
    assert view.titles == ["launching the builder", "step 1 of 2: update-system", "making the AMI"]
    assert set(view.percents) == {40}
    assert len(log.read_text().splitlines()) == len(GOOD)


def test_the_builder_s_logs_go_to_a_file_that_the_error_names(tmp_path: Path) -> None:
    """The instance is gone by the time somebody reads why; without logs no file is spoken of."""
    prefix = "1,,ui,message,    amazon-ebs.gpu: "
    logs = [f"{prefix}collect-logs: begin", f"{prefix}--- journalctl", f"{prefix}oom", f"{prefix}collect-logs: end"]

    with pytest.raises(BuildError) as caught:
        _bake(_packer([*BAD[:3], *logs, *BAD[3:]], 1), tmp_path / "b.log", Recorder())
    with pytest.raises(BuildError) as without:
        _bake(_packer(BAD, 1), tmp_path / "c.log", Recorder())

    kept = tmp_path / "b.builder.log"
    assert kept.read_text() == "--- journalctl\noom\n"
    assert str(caught.value).endswith(
        f"The builder's own logs are in {kept}. The whole log is in {tmp_path / 'b.log'}."
    )
    assert "builder's own" not in str(without.value)


def test_no_secret_of_packer_s_output_reaches_the_log_or_the_error(tmp_path: Path) -> None:
    """A script of the user's own may print a presigned URL."""
    lines = [BAD[0], "1,,ui,error,==> amazon-ebs.gpu: curl https://h/m.pt?X-Amz-Signature=5ec2e7 failed", *BAD[2:]]
    lines[-1] = "1,amazon-ebs.gpu,error,https://h/m.pt?X-Amz-Signature=5ec2e7 failed"
    view = Recorder()

    with pytest.raises(BuildError) as caught:
        _bake(_packer(lines, 1), tmp_path / "b.log", view)

    assert "5ec2e7" not in (tmp_path / "b.log").read_text() + str(caught.value) + str(view.script_tail)
    assert "curl https://h/m.pt?... failed" in view.script_tail


def test_a_failed_build_names_step_reason_and_log(tmp_path: Path) -> None:
    """Clean-up comes after the failing step and must be neither named nor shown for the reason."""
    view = Recorder()
    with pytest.raises(
        BuildError, match=r"step 2 of 2: pull-image: Script exited.*status: 1\. The whole log is in .*b\.log"
    ):
        _bake(_packer(BAD, 1), tmp_path / "b.log", view)

    assert view.script_tail[-1] == "no such digest"


def test_these_are_the_steps_of_the_template() -> None:
    """The cases below, and those of end-to-end tests, are found without its parser."""
    assert template_scripts(PACKER) == STEPS


@pytest.mark.parametrize("script", STEPS)
def test_each_step_of_the_template_is_named_when_it_fails(tmp_path: Path, script: str) -> None:
    """Whoever reads the last line goes to that file; Packer names it by its path only, and once."""
    position = STEPS.index(script) + 1
    started = [
        f"1,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: /x/packer/scripts/{name}.sh"
        for name in STEPS[:position]
    ]

    with pytest.raises(FailedBuildError) as caught:
        _bake(_packer([GOOD[0], *started, *BAD[1:]], 1), tmp_path / "b.log", Recorder(), scripts=STEPS)

    assert caught.value.script == script
    assert f"failed at step {position} of {len(STEPS)}: {script}: Script exited" in str(caught.value)


def test_after_the_last_script_no_script_has_failed(tmp_path: Path) -> None:
    """Packer says "provisioning had errors" of a refused CreateImage, too; what is left comes before the log."""
    lines = [
        *(f"1,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: s/{name}.sh" for name in SCRIPTS),
        "1,,ui,say,==> amazon-ebs.gpu: Creating AMI gpu-batch-r1 from instance i-0123456789abcdef0",
        "1,,ui,error,==> amazon-ebs.gpu: Error creating AMI: not allowed",
        *BAD[2:4],
        "1,,ui,say,==> amazon-ebs.gpu: Provisioning with shell script: s/collect-logs.sh",
        BAD[4],
        "1,amazon-ebs.gpu,error,Cleanup failed: no builder. Original Provisioning error: Error creating AMI",
    ]

    with pytest.raises(FailedBuildError) as caught:
        _bake(_packer(lines, 1), tmp_path / "b.log", Recorder())
    caught.value.say_left("Left: the AMI ami-1.")

    log = tmp_path / "b.log"
    assert caught.value.script == ""
    assert str(caught.value) == (
        "The build failed at making the AMI: Error creating AMI: not allowed. Left: the AMI ami-1. "
        f"The whole log is in {log}."
    )


def test_a_build_that_dies_at_once_says_its_last_words(tmp_path: Path) -> None:
    """A panic is no event but the only reason there is."""
    with pytest.raises(BuildError, match="checking inputs: panic: nil map"):
        _bake(_packer(["panic: nil map"], 2), tmp_path / "b.log", Recorder())


def test_a_build_that_fails_before_any_step_names_the_launch(tmp_path: Path) -> None:
    """No capacity, no permission: there was no script to blame."""
    lines = [
        "1,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance...",
        "1,amazon-ebs.gpu,error,no capacity",
    ]

    with pytest.raises(BuildError, match="failed at launching the builder: no capacity"):
        _bake(_packer(lines, 1), tmp_path / "b.log", Recorder())


def test_an_unwritable_log_stops_before_packer_starts(tmp_path: Path) -> None:
    """A build nobody can read about is not begun."""
    (tmp_path / "logs").write_text("")

    with pytest.raises(UsageError, match="build log"):
        _bake(_packer(GOOD, 0), tmp_path / "logs" / "b.log", Recorder())


def test_a_log_that_fills_the_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build ends as a failed build, so that what it had started is searched for."""

    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(packer_run, "_open_log", lambda _log: contextlib.nullcontext(Full()))

    with pytest.raises(BuildError, match=r"cancelled: its log .*b\.log cannot be written: No space left on device"):
        _bake(_packer(GOOD, 0), tmp_path / "b.log", Recorder())


# Prints a line, waits for Ctrl-C, prints another. A signal may have been blocked for it, as it was for its parent.
INTERRUPTED = """\
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("1,,ui,say,==> a: x", flush=True)
signal.sigtimedwait([signal.SIGINT], 60) or sys.exit("Ctrl-C never came")
print("1,,ui,say,==> a: y", flush=True)
sys.exit(1)
"""


@pytest.mark.parametrize("waits", [False, True], ids=["any time", "while it waits for a line"])
def test_ctrl_c_is_shown_as_cancelling(tmp_path: Path, *, waits: bool) -> None:
    """Packer needs a minute to clean up: the view must say so, even if nothing but Ctrl-C wakes the build.

    Without the signal in the main thread, the system call in which it waits for Packer is not cut short: that is what
    happens when Ctrl-C comes right before the call.
    """
    shown = threading.Event()

    class Shown(Recorder):
        def update(self, progress: Progress) -> None:
            super().update(progress)
            shown.set()

    def press() -> None:
        shown.wait()
        os.kill(os.getpid(), signal.SIGINT)

    view = Shown()
    threading.Thread(target=press, daemon=True).start()
    if waits:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with pytest.raises(KeyboardInterrupt):
            _bake(Command((sys.executable, "-S", "-c", INTERRUPTED)), tmp_path / "b.log", view)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    assert view.titles[-1] == "cancelling: Packer ends what it started"
    assert "==> a: y" in (tmp_path / "b.log").read_text()


def test_what_a_script_prints_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    """It may print a tag or an answer: the log, the last lines and the error must not clear anybody's screen."""
    said = "1,,ui,message,    amazon-ebs.gpu: \ttagged \x1b[2J\x9b2J\u202eevil"
    view, log = Recorder(), tmp_path / "b.log"

    with pytest.raises(BuildError):
        _bake(_packer([BAD[0], said, *BAD[2:]], 1), log, view)

    shown = "tagged \\x1b[2J\\x9b2J\\u202eevil"
    assert shown in view.script_tail
    assert f"\t{shown}\n" in log.read_text()
