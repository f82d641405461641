"""The pipeline's exceptions: one class per kind of failure, each with its exit code.

A message is one line: what is wrong, with the value, and what to do next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class PipelineError(Exception):
    """An expected failure with a message for the user; subclasses say of which kind."""

    exit_code = 1


class UsageError(PipelineError):
    """The command line, the settings or an input file cannot be used as given."""

    exit_code = 2


class ToolError(PipelineError):
    """A program the pipeline needs is missing, too old or could not be installed."""

    exit_code = 3


class AwsError(PipelineError):
    """AWS refused a call or could not be reached."""

    exit_code = 4


class BuildError(PipelineError):
    """Packer validated or built the image and failed."""

    exit_code = 5


class TerraformError(PipelineError):
    """Terraform failed, or the plan guard refused its plan."""

    exit_code = 6


class PartialError(PipelineError):
    """The work finished, but some items of it failed."""

    exit_code = 7


class SafetyError(PipelineError):
    """The pipeline refused to go on because it could not prove that it is safe."""

    exit_code = 8


class DifferenceError(PipelineError):
    """A check found a difference or a failing check; nothing was changed."""

    exit_code = 9


class InterruptedRunError(PipelineError):
    """The user interrupted the run; what had been started was ended first."""

    exit_code = 130


@contextlib.contextmanager
def then_raised(error: PipelineError | None) -> Iterator[None]:
    """Raise *error*, if any, after a block that shows what it is about; if that cannot be shown, with the reason added.

    What became of the work counts for more than what became of its report, the exit code above all.
    """
    try:
        yield
    except (PipelineError, BrokenPipeError) as exc:
        if error is None:
            raise
        if isinstance(exc, PipelineError):
            error.args = (f"{error} {exc}",)
        raise error from exc
    if error is not None:
        raise error
