"""Programs: run, streamed, interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from gpu_ami import process
from gpu_ami.errors import ToolError, UsageError
from gpu_ami.process import Command, clean_environment, follow, output, run, stream
from tests.support.interrupts import ENDS, interrupts

__all__ = ["interrupts"]


def _python(code: str, *, cwd: Path | None = None) -> Command:
    """Return a program that needs the standard library alone: with the rest, coverage too, it starts in ten times."""
    return Command((sys.executable, "-S", "-c", textwrap.dedent(code)), cwd=cwd)


def test_run_captures_both_streams_and_the_status() -> None:
    """The caller judges the status; nothing is raised for it."""
    done = run(_python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))

    assert (done.returncode, done.stdout, done.stderr, done.last_line) == (3, "out\n", "err\n", "err")


def test_last_line_falls_back_to_stdout_and_to_words() -> None:
    """An error needs something to say even when the program said nothing."""
    assert run(_python("print('only out')")).last_line == "only out"
    assert run(_python("pass")).last_line == "no output"


def test_run_passes_stdin_and_survives_bad_bytes() -> None:
    """A program that prints something else than UTF-8 must not end in a traceback."""
    done = run(_python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read() + b'\\xff')"), stdin="hi")

    assert done.stdout == "hi\ufffd"


def test_output_is_every_byte_and_nothing_of_a_failure() -> None:
    """A file out of git keeps its line ends; `run` would make them all line feeds."""
    assert output(_python("import sys; sys.stdout.buffer.write(b'a\\r\\n\\xff')")) == b"a\r\n\xff"
    assert output(_python("print('half'); raise SystemExit(1)")) is None
    with pytest.raises(ToolError, match="did not answer within 1 s"):
        output(_python("import time; time.sleep(60)"), timeout_s=0.6)


def test_a_missing_program_names_setup(tmp_path: Path) -> None:
    """The next step for a missing tool is always the same."""
    with pytest.raises(ToolError, match="run `invoke setup`"):
        run(Command((str(tmp_path / "packer"),)))
    with pytest.raises(ToolError, match="cannot be started"):
        run(Command((str(tmp_path),)))


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    """A version question that never answers must not stop the pipeline for good."""
    with pytest.raises(ToolError, match="did not answer within 1 s"):
        run(_python("import time; time.sleep(60)"), timeout_s=0.6)


def test_a_command_shows_as_typed() -> None:
    """--dry-run prints commands that can be pasted."""
    assert (
        str(Command(("packer", "build", "-var=a b", "."), cwd=Path("/x y")))
        == "(cd '/x y' && packer build '-var=a b' .)"
    )
    assert str(Command(("true",))) == "true"


def test_the_clean_environment_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these would lead a sandbox build to a real account."""
    leaks = [
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL_EC2",
        "HTTPS_PROXY",
        "PKR_VAR_region",
        "TF_VAR_x",
        "TF_CLI_ARGS",
        "PACKER_LOG",
    ]
    for name in leaks:
        monkeypatch.setenv(name, "leak")

    environment = clean_environment({"AWS_REGION": "r"})

    assert "leak" not in environment.values()
    assert environment["AWS_REGION"] == "r"
    assert environment["PATH"] == os.environ["PATH"]


def test_stream_hands_over_lines_as_they_come() -> None:
    """A live view needs each line when it is printed; stderr belongs to the same talk."""
    lines: list[str] = []

    status = stream(
        _python("import sys; print('a', flush=True); print('b', file=sys.stderr); sys.exit(4)"),
        lines.append,
        on_interrupt=lambda: None,
    )

    assert (status, lines) == (4, ["a", "b"])


def test_stream_of_a_missing_program_is_a_tool_error(tmp_path: Path) -> None:
    """Same message as for a captured run."""
    with pytest.raises(ToolError, match="invoke setup"):
        stream(Command((str(tmp_path / "none"),)), lambda _line: None, on_interrupt=lambda: None)


CHILD = """
import signal, sys, time
count = 0
def on(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, on)
print("ready", flush=True)
end = time.monotonic() + 300
while not count and time.monotonic() < end:
    time.sleep(0.02)
print("heard", flush=True)
time.sleep(0.6)
print(f"interrupts {count}", flush=True)
sys.exit(1)
"""

PARENT = """
import sys
from gpu_ami.process import Command, stream
try:
    stream(Command((sys.executable, "-S", "-c", sys.argv[1])), lambda line: print(line, flush=True),
           on_interrupt=lambda: print("told", flush=True))
except KeyboardInterrupt:
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_interrupting_sends_exactly_one_sigint_and_waits(tmp_path: Path, number: signal.Signals) -> None:
    """Packer drops its clean-up at the second SIGINT and leaves the instance running."""
    both = tmp_path / "both"
    cleans_up = f"""
import os
while not os.path.exists({str(both)!r}) and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.4)
"""
    child = CHILD.replace("time.sleep(0.6)\n", cleans_up)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"

    parent.send_signal(number)
    assert [parent.stdout.readline() for _ in range(2)] == ["told\n", "heard\n"]
    parent.send_signal(number)
    both.touch()
    said, _ = parent.communicate(timeout=300)

    assert said.splitlines() == ["interrupts 1", "ended"]


def test_a_reader_that_fails_interrupts_the_child_and_lets_it_finish(tmp_path: Path) -> None:
    """A full disk under our log must neither leave Packer running nor kill it while it ends its instance."""
    clean = tmp_path / "clean"
    talks_on = f"""
import pathlib
print("x" * 1_000_000, flush=True)
pathlib.Path({str(clean)!r}).write_text("done")
"""
    code = CHILD.replace("sys.exit(1)", talks_on)

    def fail(_line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        stream(_python(code), fail, on_interrupt=lambda: None)

    assert clean.read_text() == "done"


def test_an_interrupt_before_the_child_is_there_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between Ctrl-C and the start of Packer there must be no moment in which it starts and nobody ends it."""
    listens = tmp_path / "listens"
    code = CHILD.replace('print("ready"', f'open({str(listens)!r}, "w").close()\nprint("ready"')
    start = process._start_streamed

    def interrupted_start(command: Command) -> subprocess.Popen[str]:
        os.kill(os.getpid(), signal.SIGINT)
        child = start(command)
        while not listens.exists():
            time.sleep(0.01)
        return child

    monkeypatch.setattr(process, "_start_streamed", interrupted_start)
    lines: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        stream(_python(code), lines.append, on_interrupt=lambda: lines.append("told"))

    assert lines == ["told", "ready", "heard", "interrupts 1"]


def test_foreground_waits_through_ctrl_c() -> None:
    """Packer's debug mode gets Ctrl-C from the terminal itself; we only wait."""
    code = """
        import sys
        from gpu_ami.process import Command, foreground
        try:
            foreground(Command((sys.executable, "-S", "-c", sys.argv[1])))
        except KeyboardInterrupt:
            print("ended", flush=True)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), CHILD], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"

    os.killpg(parent.pid, signal.SIGINT)
    said, _ = parent.communicate(timeout=300)

    assert said.splitlines() == ["heard", "interrupts 1", "ended"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_foreground_passes_on_what_the_terminal_does_not_send(number: signal.Signals) -> None:
    """`kill` reaches us alone: Packer would go on at the terminal of a shell that has its prompt again."""
    code = """
        import sys
        from gpu_ami.process import Command, foreground
        try:
            foreground(Command((sys.executable, "-S", "-c", sys.argv[1])))
        except KeyboardInterrupt:
            print("ended", flush=True)
    """
    child = CHILD.replace("signal.SIGINT, on", "signal.SIGTERM, on")
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), child], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"

    parent.send_signal(number)
    said, _ = parent.communicate(timeout=300)

    assert said.splitlines() == ["heard", "interrupts 1", "ended"]


def test_nohup_keeps_a_closed_terminal_from_ending_anything() -> None:
    """Who starts a build with `nohup` wants it to go on."""
    child = "import time; print('ready', flush=True); time.sleep(0.5); print('done', flush=True)"
    ignoring = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PARENT}"
    parent = subprocess.Popen([sys.executable, "-c", ignoring, child], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"

    parent.send_signal(signal.SIGHUP)

    assert parent.communicate(timeout=300)[0] == "done\n"


INTERRUPTIBLE = """
import os, signal, sys
from gpu_ami.process import interruptible
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
with interruptible():
    try:
        send(sys.argv[1])
        print("went on")
    except KeyboardInterrupt:
        try:
            send(sys.argv[2])
            print("tidied")
        except KeyboardInterrupt:
            print("cut off")
"""


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("SIGHUP", "SIGHUP", "tidied"),  # a terminal that is closed sends two
        ("SIGINT", "SIGTERM", "tidied"),  # as a CI runner does
        ("SIGTERM", "SIGQUIT", "tidied"),
        ("SIGTERM", "SIGINT", "cut off"),  # a person who insists
    ],
)
def test_the_first_request_to_end_is_heard_and_its_echo_cuts_nothing_off(first: str, second: str, said: str) -> None:
    """What has begun to tidy after the first signal must come to its end."""
    done = run(Command((sys.executable, "-c", INTERRUPTIBLE, first, second)))

    assert done.stdout == f"{said}\n"


def test_signals_are_as_before_once_nobody_was_interrupted() -> None:
    """Tasks of one line follow one another, and so do tests of one process."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)]

    with process.interruptible():
        assert signal.getsignal(signal.SIGHUP) not in before

    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)] == before


def test_foreground_returns_the_status(tmp_path: Path) -> None:
    """And a missing program is worded as everywhere else."""
    assert process.foreground(_python("import sys; sys.exit(5)")) == 5
    with pytest.raises(ToolError, match="invoke setup"):
        process.foreground(Command((str(tmp_path / "none"),)))


def test_become_goes_on_as_the_other_program() -> None:
    """The same process id: a signal that was meant for us reaches the program, and its exit status is ours."""
    code = (
        "import os, sys; from gpu_ami.process import become; print(os.getpid());"
        "become((sys.executable, '-c', 'import os, sys; print(os.getpid()); sys.exit(7)'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    before, after = done.stdout.split()
    assert (before, done.returncode) == (after, 7)


def test_a_followed_program_is_heard_line_by_line(tmp_path: Path) -> None:
    """Its output is in the log whole, the last line without an end too, and bad bytes stop nothing."""
    heard: list[str] = []
    log = tmp_path / "logs" / "a.log"
    command = _python("import sys; print('one'); sys.stdout.buffer.write(b'two\\xff\\nthree'); sys.exit(4)")

    status = follow(command, log, heard.append, on_interrupt=lambda: None)

    assert (status, heard) == (4, ["one", "two\ufffd", "three"])
    assert log.read_bytes().splitlines()[0] == b"one"


def test_a_followed_program_needs_no_reader(tmp_path: Path) -> None:
    """Killed half-way, we must not take Terraform with us: it would lose what it has made and not noted."""
    log = tmp_path / "a.log"
    done = tmp_path / "done"
    ours = f"""
        import os, signal, sys
        from pathlib import Path
        from gpu_ami.process import Command, follow
        code = "import time; print('begun', flush=True); time.sleep(0.5); print('more', flush=True); "
        code += "open({str(done)!r}, 'w')"
        follow(Command((sys.executable, "-S", "-c", code)), Path({str(log)!r}),
               lambda line: os.kill(os.getpid(), signal.SIGKILL), on_interrupt=lambda: None)
    """
    killed = run(Command((sys.executable, "-c", textwrap.dedent(ours))))
    assert killed.returncode == -signal.SIGKILL

    end = time.monotonic() + 300
    while not done.exists():
        assert time.monotonic() < end, "the program ended with us"
        time.sleep(0.05)
    assert log.read_text() == "begun\nmore\n"


def test_a_followed_program_gets_one_interrupt_and_is_waited_for(tmp_path: Path) -> None:
    """A second one makes Terraform drop everything at once."""
    program = """
        import signal, sys, time
        got = []
        signal.signal(signal.SIGINT, lambda *_: got.append(1))
        print("ready", flush=True)
        while not got: time.sleep(0.01)
        time.sleep(0.3)
        print("interrupts", len(got), flush=True)
    """
    heard: list[str] = []

    def on_line(line: str) -> None:
        heard.append(line)
        if line == "ready":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        follow(_python(program), tmp_path / "a.log", on_line, on_interrupt=lambda: heard.append("told"))

    assert heard[0] == "ready"
    assert heard[-1] == "interrupts 1"
    assert heard.count("told") == 1


def test_a_reader_that_fails_ends_the_followed_program(tmp_path: Path) -> None:
    """It must not run on unwatched."""
    program = "import time; print('x', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('tidy')"

    def on_line(_line: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        follow(_python(program), tmp_path / "a.log", on_line, on_interrupt=lambda: None)

    assert (tmp_path / "a.log").read_text() == "x\ntidy\n"


def test_what_cannot_be_followed_is_named(tmp_path: Path) -> None:
    """A missing program and a log that cannot be are different things to fix."""
    with pytest.raises(ToolError, match="run `invoke setup`"):
        follow(Command((str(tmp_path / "terraform"),)), tmp_path / "a.log", print, on_interrupt=lambda: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"a\.log cannot be written: is no folder. Make .*file a folder"):
        follow(_python("pass"), tmp_path / "file" / "a.log", print, on_interrupt=lambda: None)


def _end_twice_in_the_shield(number: signal.Signals, done: list[str]) -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    finally:
        with process.shielded():
            for _ in range(2):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            done.append("ended")


@pytest.mark.parametrize("number", ENDS)
def test_what_must_not_be_left_half_done_is_done_first(number: signal.Signals, interrupts: None) -> None:
    """A second Ctrl-C, of somebody who is in a hurry, would leave an instance that costs."""
    done: list[str] = []

    with process.interruptible(), pytest.raises(KeyboardInterrupt):
        _end_twice_in_the_shield(number, done)

    assert done == ["ended"]


@pytest.mark.parametrize("number", ENDS)
def test_what_the_first_interrupt_leads_to_is_run_whole(number: signal.Signals, interrupts: None) -> None:
    """Where one alone may come, a second Ctrl-C waits for the end of the block; after it it insists again."""
    done: list[str] = []

    def tidy() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            done.append("ended")

    with process.interruptible():
        with pytest.raises(KeyboardInterrupt), process.interruptible(once=True):
            tidy()
        assert done == ["ended"]
        assert (process.SHIELD.is_up, process.SHIELD.has_come) == (False, False)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("moment", ["before", "on the way in"])
def test_a_shield_that_is_up_holds_before_it_is_entered(
    number: signal.Signals, moment: str, interrupts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting it up takes calls, and at each of them Python looks at its signals."""
    done: list[str] = []
    heard = process._heard

    def late() -> list[signal.Signals]:
        if moment == "on the way in":
            os.kill(os.getpid(), number)
        return heard()

    def tidy() -> None:
        try:
            done.append("begun")
        finally:
            process.SHIELD.is_up = True
            if moment == "before":
                os.kill(os.getpid(), number)
            with process.shielded():
                done.append("ended")

    with process.interruptible():
        monkeypatch.setattr(process, "_heard", late)
        with pytest.raises(KeyboardInterrupt):
            tidy()

    assert done == ["begun", "ended"]
    assert (process.SHIELD.is_up, process.SHIELD.has_come) == (False, False)


def test_a_shield_of_another_thread_holds_nothing_off(interrupts: None) -> None:
    """Signals are the main thread's, which must hear them."""

    def tidy() -> None:
        process.SHIELD.is_up = True
        with process.shielded():
            pass

    thread = threading.Thread(target=tidy)
    thread.start()
    thread.join()

    assert not process.SHIELD.is_up
    with process.interruptible(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_without_a_request_to_end_a_shield_changes_nothing() -> None:
    """What the block raises is raised, and the signals are heard as before."""
    before = {number: signal.getsignal(number) for number in ENDS}

    with pytest.raises(ValueError, match="own"), process.shielded():
        raise ValueError("its own")  # noqa: EM101 - its own text

    assert {number: signal.getsignal(number) for number in ENDS} == before


def _logged(folder: Path, name: str, code: str) -> process.Logged:
    return process.Logged(_python(code), out=folder / f"{name}.out", log=folder / "logs" / f"{name}.log")


class _Heard:
    """What was told of programs side by side."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.ended: list[tuple[int, int]] = []
        self.interrupts = 0

    def run(self, programs: list[process.Logged], at_once: int) -> list[int | None]:
        beside = process.SideBySide(
            programs,
            at_once,
            lambda number, line: self.lines.append((number, line)),
            on_interrupt=self.interrupted,
            on_end=lambda number, status: self.ended.append((number, status)),
        )
        return beside.run()

    def interrupted(self) -> None:
        self.interrupts += 1


def test_programs_side_by_side_end_each_for_itself(tmp_path: Path) -> None:
    """One that fails stops no other; each has its result and its log to itself, to the last line."""
    heard = _Heard()
    says = "import sys; print('{0}'); print('{0} on its way', file=sys.stderr, end=''); sys.exit({1})"
    programs = [_logged(tmp_path, name, says.format(name, code)) for name, code in (("a", 0), ("b", 5), ("c", 0))]

    assert heard.run(programs, 2) == [0, 5, 0]
    assert sorted(heard.lines) == [(0, "a on its way"), (1, "b on its way"), (2, "c on its way")]
    assert [program.out.read_text() for program in programs] == ["a\n", "b\n", "c\n"]
    assert sorted(heard.ended) == [(0, 0), (1, 5), (2, 0)]
    assert heard.interrupts == 0


def test_an_interrupt_reaches_each_program_once_and_begins_no_other(tmp_path: Path, interrupts: None) -> None:
    """A build passes exactly one on to its Packer, which takes a second one for an order to drop everything."""
    del interrupts
    heard = _Heard()
    waits = """
        import pathlib, signal, sys, time
        heard = []
        signal.signal(signal.SIGINT, lambda *_: heard.append(1))
        print("ready", file=sys.stderr, flush=True)
        while not heard:
            time.sleep(0.01)
        time.sleep(0.3)
        print("interrupts", len(heard), file=sys.stderr)
        sys.exit(130)
    """

    def ready(number: int, line: str) -> None:
        heard.lines.append((number, line))
        if line == "ready" and len(heard.lines) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    beside = process.SideBySide(
        [_logged(tmp_path, name, textwrap.dedent(waits)) for name in "abc"],
        2,
        ready,
        on_interrupt=heard.interrupted,
        on_end=lambda number, status: heard.ended.append((number, status)),
    )

    assert beside.run() == [130, 130, None]
    assert sorted(heard.lines)[::2] == [(0, "interrupts 1"), (1, "interrupts 1")]
    assert (beside.is_interrupted, heard.interrupts, (tmp_path / "c.out").exists()) == (True, 1, False)


def test_a_program_that_cannot_start_ends_those_that_run(tmp_path: Path) -> None:
    """Nobody would be there to hear of them."""
    heard = _Heard()
    # Not Python: at some moments of its start an interrupt is lost in it, and this test would wait the whole minute.
    there = process.Logged(Command(("sleep", "60")), out=tmp_path / "a.out", log=tmp_path / "logs" / "a.log")
    none = process.Logged(Command((str(tmp_path / "none"),)), out=tmp_path / "b.out", log=tmp_path / "logs" / "b.log")
    (tmp_path / "file").write_text("")
    nowhere = process.Logged(there.command, out=tmp_path / "c.out", log=tmp_path / "file" / "c.log")

    with pytest.raises(ToolError, match="invoke setup"):
        heard.run([there, none], 2)
    with pytest.raises(UsageError, match="cannot be written"):
        heard.run([nowhere], 1)


def test_a_fleet_may_have_as_many_connections_as_the_system_allows() -> None:
    """With a shell's 256 most places of a fleet could not be read; a higher limit is left as it is."""
    program = (
        "import resource as r; from gpu_ami.process import allow_many_files as more;"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (100, min(hard, 300)));"
        "more(200); print(*r.getrlimit(r.RLIMIT_NOFILE)); more(150); print(r.getrlimit(r.RLIMIT_NOFILE)[0]);"
        "more(9999); print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert child.stdout.split() == ["200", "300", "200", "300"]
