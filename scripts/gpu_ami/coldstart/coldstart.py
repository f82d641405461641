"""`invoke coldstart`: predicts each phase of a cold start, or answers a file of points, or says how good it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_ami.coldstart import report
from gpu_ami.coldstart.assumptions import Inputs, assumed, parse_ranges, with_given
from gpu_ami.errors import UsageError
from gpu_ami.invocation import Invocation

if TYPE_CHECKING:
    from gpu_ami.coldstart.bench_result import Measured

INSTANCE_TYPE = "g5.xlarge"
_TYPE = re.compile(r"[a-z0-9-]{1,32}\.[a-z0-9-]{1,32}")
_MOST_FILES = 100


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke coldstart`` requests.

    Attributes:
        instance_type: Another host than g5.xlarge.
        values: Inputs as ``name=value`` or ``name=low..likely..high``.
        points: A CSV file of starts to predict.
        fit: Results of a bench.
        chart: The file that the answer is drawn to.
        validate: Say how good the model is instead.
        inputs: Show every input, too.
    """

    instance_type: str | None = None
    values: Sequence[str] = ()
    points: str | None = None
    fit: Sequence[str] = ()
    chart: str | None = None
    validate: bool = False
    inputs: bool = False


def run(run: Invocation, request: Request) -> None:
    """Predict, answer or validate, and print it.

    Raises:
        UsageError: A flag, a file of points or a bench result cannot be used.
    """
    _check(request)
    inputs = with_given(assumed(), parse_ranges(request.values, flag="--set"), "--set")
    if request.validate:
        _validate(run)
    elif request.points is not None:
        _answer_points(run, request.points, inputs)
    else:
        _predict(run, request, inputs)


def _check(request: Request) -> None:
    """Refuse flags that say nothing together, and a picture that could not be drawn, before anything is computed."""
    if request.chart is not None:
        from gpu_ami.svg import check_path

        check_path(Path(request.chart))
    asked = [
        *(["--points"] if request.points is not None else []),
        *(["--validate"] if request.validate else []),
    ]
    others = [
        *(["--fit"] if request.fit else []),
        *(["--chart"] if request.chart is not None else []),
        *(["--inputs"] if request.inputs else []),
        *(["--instance-type"] if request.instance_type is not None else []),
        *(["--set"] if request.values and request.validate else []),
    ]
    if asked and (len(asked) > 1 or others):
        msg = f"{asked[0]} and {[*asked[1:], *others][0]} do not go together: give one of them."
        raise UsageError(msg)
    if request.instance_type is not None and not _TYPE.fullmatch(request.instance_type):
        msg = f"--instance-type {request.instance_type[:40]!r} is not an instance type: give one such as g5.xlarge."
        raise UsageError(msg)


def _predict(run: Invocation, request: Request, inputs: Inputs) -> None:
    instance_type = request.instance_type or INSTANCE_TYPE
    answered = _fitted(run, instance_type, inputs, request.fit) if request.fit else report.report(instance_type, inputs)
    if request.chart is not None and not run.options.dry_run:
        from gpu_ami.coldstart.chart import draw
        from gpu_ami.svg import write

        write(draw(answered), Path(request.chart))
        run.console.say(f"Drew {request.chart}.")
    run.console.result(answered.document(), *report.tables(answered, all_inputs=request.inputs))


def _fitted(run: Invocation, instance_type: str, inputs: Inputs, files: Sequence[str]) -> report.Report:
    from gpu_ami.coldstart import bench_result

    measured = load_measured(run, files, flag="--fit")
    answered = report.report(instance_type, inputs, lambda prediction: bench_result.fitted(prediction, measured))
    return replace(answered, void=measured.void, invented=measured.is_invented)


def load_measured(run: Invocation, files: Sequence[str], *, flag: str) -> Measured:
    """Return what the bench results *files*, given by *flag*, say together.

    Raises:
        UsageError: There are too many, or one cannot be used; one of another AMI than the last build's is refused.
    """
    from gpu_ami.coldstart import bench_result

    if len(files) > _MOST_FILES:
        msg = f"{flag} is given more than {_MOST_FILES} times ({len(files)}): give fewer files."
        raise UsageError(msg)
    return bench_result.load([Path(file) for file in files], shown=files, built=_last_amis(run))


def _last_amis(run: Invocation) -> set[str]:
    """Return the AMIs of the last build, one a region; none where this checkout has built none."""
    from gpu_ami.records import manifest_file

    builds = manifest_file.load_if_any(run.workspace.manifest).last_run
    return {ami for build in builds for ami in build.amis.values()}


def _answer_points(run: Invocation, file: str, inputs: Inputs) -> None:
    from gpu_ami.coldstart import points

    answered = points.answers(points.load(Path(file)), inputs)
    run.console.result(points.document(answered), points.table(answered))


def _validate(run: Invocation) -> None:
    from gpu_ami.coldstart import calibration, validation

    judged = calibration.judge(calibration.known())
    run.console.result(validation.document(judged), *validation.tables(judged))
