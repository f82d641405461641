"""The builder's logs, taken out of Packer's output."""

from __future__ import annotations

from pathlib import Path

from gpu_ami.bake.builder_logs import BuilderLogs
from gpu_ami.bake.packer_events import parse_line

SCRIPT = Path(__file__).parents[2] / "packer" / "scripts" / "collect-logs.sh"


def feed(logs: BuilderLogs, *texts: str) -> None:
    """Give *logs* what Packer prints for *texts*."""
    for text in texts:
        logs.feed(parse_line(f"1,,ui,message,    amazon-ebs.gpu: {text}"))


def test_what_is_between_the_lines_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    """A log may hold what nobody thought of: it is not for every user of this machine."""
    logs = BuilderLogs(tmp_path / "b.log")

    feed(
        logs,
        "before",
        "collect-logs: begin",
        "--- df -h /",
        "rows%!(PACKER_COMMA) two\\nlines",
        "collect-logs: end",
        "after",
    )
    logs.close()

    assert logs.path is not None
    assert logs.path.read_text() == "--- df -h /\nrows, two\nlines\n"
    assert logs.path.stat().st_mode & 0o777 == 0o600


def test_no_logs_no_file(tmp_path: Path) -> None:
    """A good build has none."""
    logs = BuilderLogs(tmp_path / "b.log")

    feed(logs, "nothing of it")
    logs.feed(parse_line("not an event"))
    logs.feed(parse_line("1,,ui,say"))
    logs.close()

    assert logs.path is None
    assert list(tmp_path.iterdir()) == []


def test_logs_that_break_off_are_kept_as_far_as_they_came(tmp_path: Path) -> None:
    """The builder may die while it prints them."""
    logs = BuilderLogs(tmp_path / "b.log")

    feed(logs, "collect-logs: begin", "--- df -h /")
    logs.close()

    assert logs.path is not None
    assert logs.path.read_text() == "--- df -h /\n"


def test_a_file_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    """The build's own error is the one to show."""
    logs = BuilderLogs(tmp_path / "none" / "b.log")

    feed(logs, "collect-logs: begin", "x", "collect-logs: end")

    assert logs.path is None


def test_the_script_prints_these_lines() -> None:
    """Both sides have to agree."""
    text = SCRIPT.read_text()

    assert text.index('echo "collect-logs: begin"') < text.index("show df") < text.index('echo "collect-logs: end"')
