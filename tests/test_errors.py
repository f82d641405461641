"""The error family's promises."""

from __future__ import annotations

from gpu_ami import errors


def _family() -> list[type[errors.PipelineError]]:
    return [errors.PipelineError, *errors.PipelineError.__subclasses__()]


def test_exit_codes_are_unique() -> None:
    """Scripts tell failures apart by exit code; two classes with one code would be told apart by nobody."""
    codes = [kind.exit_code for kind in _family()]

    assert len(set(codes)) == len(codes)


def test_exit_codes_are_the_documented_ones() -> None:
    """The codes are a contract with every script and workflow that calls the tasks."""
    assert {kind.__name__: kind.exit_code for kind in _family()} == {
        "PipelineError": 1,
        "UsageError": 2,
        "ToolError": 3,
        "AwsError": 4,
        "BuildError": 5,
        "TerraformError": 6,
        "PartialError": 7,
        "SafetyError": 8,
        "DifferenceError": 9,
        "InterruptedRunError": 130,
    }
