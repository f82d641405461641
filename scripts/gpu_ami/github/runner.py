"""The runner's own files: the job summary people read and the outputs that later jobs read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_ami.console import SUMMARY_BYTES
from gpu_ami.errors import UsageError
from gpu_ami.foreign_text import in_markdown
from gpu_ami.units import show_count

# GitHub refuses the text of an issue or pull request above 65,536 characters.
TEXT_LIMIT = 60_000


@dataclass(frozen=True)
class Runner:
    """Where one step may write.

    Attributes:
        summary: The step's summary, Markdown; None where there is no runner.
        outputs: The step's outputs, ``name=value`` lines; None where there is no runner.
        run_url: The page of this run, or an empty text.
        base: The branch this run is about.
    """

    summary: Path | None
    outputs: Path | None
    run_url: str = ""
    base: str = "main"

    def say(self, markdown: str) -> None:
        """Add *markdown* to the step's summary, as much of it as there is room for beside what is there."""
        if self.summary is None:
            return
        with self.summary.open("ab") as file:
            room = max(SUMMARY_BYTES - file.tell(), 0)
            # Of letters that take several bytes fewer go in.
            letters = len(markdown.encode("utf-8")[:room].decode("utf-8", "ignore"))
            file.write((shortened(markdown, letters).rstrip("\n") + "\n\n").encode("utf-8"))

    def set(self, **values: str) -> None:
        """Set outputs of the step; an underscore in a name becomes a dash.

        Raises:
            UsageError: A value has a line break: it would be read as an output of its own.
        """
        for name, value in values.items():
            if "\n" in value or "\r" in value:
                msg = f"The output {name} is {value!r}, which has a line break: only single lines are passed on."
                raise UsageError(msg)
        if self.outputs is not None:
            with self.outputs.open("a", encoding="utf-8") as file:
                file.writelines(f"{name.replace('_', '-')}={value}\n" for name, value in values.items())


def runner_from(env: Mapping[str, str]) -> Runner:
    """Return the runner that the environment *env* describes; outside of GitHub one that writes nothing."""

    def path(name: str) -> Path | None:
        return Path(env[name]) if env.get(name) else None

    server, repository, run_id = (env.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return Runner(
        summary=path("GITHUB_STEP_SUMMARY"),
        outputs=path("GITHUB_OUTPUT"),
        run_url=f"{server}/{repository}/actions/runs/{run_id}" if server and repository and run_id else "",
        base=env.get("GITHUB_REF_NAME") or "main",
    )


def shortened(text: str, limit: int) -> str:
    """Return *text*, its end left out (and that said) where it has more than *limit* characters."""
    if len(text) <= limit:
        return text
    kept = text[:limit].rpartition("\n")[0] or text[:limit]
    return f"{kept}\n\n… {show_count(len(text) - len(kept), 'more character')}: see the run's artifacts.\n"


def facts_table(facts: Mapping[str, str]) -> str:
    """Return *facts* as a Markdown table of two columns, which a phone shows without scrolling."""
    rows = [f"| {name} | {in_markdown(' '.join(value.split()))} |" for name, value in facts.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])
