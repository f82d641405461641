"""`python -m gpu_ami.github COMMAND`: the steps of the workflows that are not tasks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gpu_ami import process
from gpu_ami import settings as settings_
from gpu_ami.console import Console
from gpu_ami.errors import PipelineError, SafetyError, UsageError
from gpu_ami.foreign_text import in_markdown
from gpu_ami.github import adopt, collect, hand_on, issue, propose, state_backend, task_arguments
from gpu_ami.github.runner import Runner, runner_from
from gpu_ami.handover.change import settings_file
from gpu_ami.options import Options, options_from, wants_sandbox
from gpu_ami.records import archive
from gpu_ami.records.tags import REGION
from gpu_ami.target import Target, target_class
from gpu_ami.units import show_count
from gpu_ami.workspace import Workspace

# Not the docstring, which `python -OO` drops.
_DESCRIPTION = "The steps of the workflows that are not tasks."
_CALLER = Path("caller")


def main(argv: Sequence[str], env: Mapping[str, str], root: Path) -> int:
    """Run one command in the repository *root* and return its exit code."""
    console = Console(sandbox=wants_sandbox([], env))
    parsed = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace, Step], str] = parsed.run
    try:
        line = command(parsed, Step(env, root))
    except PipelineError as exc:
        console.fail(str(exc))
        return exc.exit_code
    console.say(line)
    return 0


class Step:
    """What one step of a workflow knows.

    Args:
        env: The step's environment.
        root: The repository.
    """

    def __init__(self, env: Mapping[str, str], root: Path) -> None:
        self.env = env
        self.root = root
        self.runner: Runner = runner_from(env)

    @property
    def settings(self) -> settings_.Settings:
        """The family's settings, read at each use: `adopt` may bring others.

        Raises:
            UsageError: They cannot be used, or are those of several families and none is named.
        """
        found = self.common
        names = settings_.chosen_names(found, self._options)
        if len(names) > 1:
            msg = f"pipeline.yaml has several families: set GPU_AMI_FAMILY to one of {', '.join(names)}."
            raise UsageError(msg)
        return found.of_family(names[0])

    @property
    def common(self) -> settings_.Settings:
        """What all families of the settings have in common."""
        path = Workspace(self.root).settings
        return settings_.load(path, self._options, is_required=self._target.needs_settings)

    @property
    def state_region(self) -> str:
        """The region of Terraform's state where none is named: the settings' own, in whichever one the job works."""
        options = replace(self._options, region=None)
        return settings_.load(Workspace(self.root).settings, options, is_required=self._target.needs_settings).region

    @property
    def family(self) -> str | None:
        """The family that the workflow was given; None where there is one."""
        return next(iter(self._options.families), None)

    @property
    def handover(self) -> str:
        """The file that Terraform reads, from the repository's root.

        Raises:
            UsageError: It leads out of the repository.
            SafetyError: It leads out of the sandbox.
        """
        setting = self.settings.handover.file
        settings_file(self.workspace, setting)
        return setting

    @property
    def name(self) -> str:
        """What names the build: its family; where that is built in several regions, the region behind a dot.

        Raises:
            UsageError: The input ``name`` is neither: it becomes part of a branch's name.
        """
        family, given = self.settings.family, self.env.get("INPUT_NAME", "")
        region = given.removeprefix(f"{family}.")
        if given not in {"", family} and (region == given or REGION.fullmatch(region) is None):
            msg = f"name is {given!r}: give {family}, or {family}.REGION where it is built in several regions."
            raise UsageError(msg)
        return given or family

    @property
    def is_sandbox(self) -> bool:
        """Whether the step works on the sandbox."""
        return self._target.is_sandbox

    @property
    def has_backend(self) -> bool:
        """Whether Terraform's state is where the code says."""
        return self._target.has_backend

    @property
    def workspace(self) -> Workspace:
        """Where the tasks write."""
        settings = self.settings
        family = settings.family if settings.families else None
        return Workspace(self.root, sandbox=self._target.is_sandbox, family=family)

    @property
    def _options(self) -> Options:
        return options_from([], self.env)

    @property
    def _target(self) -> type[Target]:
        return target_class(self._options)


def _adopt(_parsed: argparse.Namespace, step: Step) -> str:
    taken = adopt.adopt(step.root / _CALLER, step.root)
    return f"Took {', '.join(taken)} from the calling repository."


def _task(parsed: argparse.Namespace, step: Step) -> str:
    if step.env.get("INPUT_NAME"):
        # Before anything is paid for: artifacts are called by it, too, and GitHub refuses those with a slash.
        _ = step.name
    argv = ("invoke", *task_arguments.invoke_arguments(parsed.task, step.env), *parsed.arguments)
    Console().say_text(str(process.Command(argv)))
    # In this process's place: the signal of a cancelled job must reach the task, and it alone.
    process.become((sys.executable, "-m", *argv))


def _backend(_parsed: argparse.Namespace, step: Step) -> str:
    path = state_backend.configure(step.root / "terraform", step.env, region=step.state_region)
    return f"Terraform's state is where {path.relative_to(step.root)} says."


def _connect(_parsed: argparse.Namespace, step: Step) -> str:
    from gpu_ami.aws.access import Access
    from gpu_ami.terraform import backends
    from gpu_ami.terraform.terraform_command import terraform_in
    from gpu_ami.tools import terraform_tools

    folder, access = step.root / "terraform", Access(region=step.common.region)
    if not step.has_backend or backends.naming_file(folder, access.child_environment({})) is None:
        return "Terraform's state is a file: there is no backend to connect to."
    state_backend.connect(terraform_in(folder, terraform_tools(), access.child_environment))
    return "Terraform is connected to its state."


def _collect(parsed: argparse.Namespace, step: Step) -> str:
    document = collect.document_in(Path(parsed.file))
    handover = step.handover
    settings, artifacts = step.settings, step.root / collect.ARTIFACTS
    variable = settings.handover.variable if settings.families else None
    files = collect.RunFiles(step.workspace, handover, _before(step, handover), artifacts, variable)
    changed = collect.collect(document, parsed.title, files, step.runner)
    return f"Collected {collect.ARTIFACTS}/; the hand-over {'changed' if changed else 'did not change'}."


def _share(parsed: argparse.Namespace, step: Step) -> str:
    """Write what was built beside the state that the environment names: a runner's tree ends with the job."""
    from gpu_ami.aws.access import Access
    from gpu_ami.handover.build_store import BuildStore
    from gpu_ami.handover.receipt_store import beside_state

    document, region = collect.document_in(Path(parsed.file)), step.common.region
    found = state_backend.location(step.env, region=step.state_region)
    ami = document.get("ami_id") if document.get("built") else None
    files = archive.read(step.workspace.builds, str(ami)) if ami else {}
    if found is None or not files or step.workspace.sandbox:
        return "There is no archive to share, or no state to put it beside."
    bucket = beside_state(found["bucket"], found["key"], found["region"])
    store = BuildStore(step.workspace.builds, step.workspace.terraform, Access(region=region), bucket=bucket)
    store.share(str(ami), files)
    return f"Shared {', '.join(files)} in {store.url(str(ami))}."


def _before(step: Step, handover: str) -> Path | None:
    """Keep the hand-over file as the repository has it, in the caller's clone or else in git, and return it."""
    there = step.root / _CALLER / handover
    if (step.root / _CALLER).is_dir():
        content = there.read_bytes() if there.is_file() else None
    else:
        content = propose.stored(step.root, handover)
    if content is None:
        return None
    kept = step.root / collect.ARTIFACTS / collect.BEFORE / handover
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    return kept


def _matrix(parsed: argparse.Namespace, step: Step) -> str:
    document = collect.document_in(Path(parsed.file))
    entries = document.get("include", [])
    common = step.common
    for family in sorted({entry["family"] for entry in entries if entry["name"] != entry["family"]}):
        handover = common.of_family(family).handover
        file = settings_file(Workspace(step.root, sandbox=step.is_sandbox), handover.file)
        if not propose.takes_regions(file, handover.variable):
            msg = (
                f"{handover.variable} in {handover.file} takes one AMI, so each region's pull request would take the "
                "other's back: make it a map of regions (docs/handover.md), or build in one."
            )
            raise UsageError(msg)
    step.runner.set(matrix=json.dumps(document))
    return f"{show_count(len(entries), 'build')}: {', '.join(entry['name'] for entry in entries)}."


def _propose(parsed: argparse.Namespace, step: Step) -> str:
    settings = step.settings
    name = step.name
    proposal = propose.Proposal(
        repository=Path(parsed.repository),
        artifacts=step.root / collect.ARTIFACTS,
        handover=step.handover,
        records=propose.records(step.root / collect.ARTIFACTS),
        branch=f"gpu-ami/{name}",
        variable=settings.handover.variable if settings.families or name != settings.family else None,
    )
    return propose.propose(proposal, step.runner) or "Nothing to propose."


def _issue(parsed: argparse.Namespace, step: Step) -> str:
    number = issue.report(collect.document_in(Path(parsed.file)), step.runner, step.root, family=step.family)
    return f"Issue #{number}." if number else "No issue is needed."


def _members(parsed: argparse.Namespace, step: Step) -> str:
    number = issue.report_members(collect.document_in(Path(parsed.file)), step.runner, step.root)
    return f"Issue #{number}." if number else "No issue is needed."


def _require(parsed: argparse.Namespace, step: Step) -> str:
    sources = collect.document_in(Path(parsed.file)).get("sources", ())
    states = {source.get("name"): source for source in sources}
    found = states.get(parsed.source, {})
    if found.get("status") != "ok":
        said = found.get("error") or "it was not queried"
        msg = f"Nothing is removed: {parsed.source} could not be read ({said}). It names AMIs that are in use."
        step.runner.say(f"> {in_markdown(msg)}")
        raise SafetyError(msg)
    return f"{parsed.source} was read and names {show_count(found.get('references', 0), 'AMI')}."


def _hand_on(parsed: argparse.Namespace, step: Step) -> str:
    entries = hand_on.KINDS[parsed.what](Path(parsed.file))
    step.runner.set(**{parsed.what: json.dumps(entries), "count": str(len(entries))})
    return f"{show_count(len(entries), parsed.what.removesuffix('s'))}: {', '.join(entries) or 'none'}."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gpu_ami.github", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace, Step], str], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    add("adopt", _adopt, "Take settings, variables and terraform/ of the calling repository in caller/.")
    task = add("task", _task, "Run a task, such as `invoke build`, as the workflow's inputs request.")
    task.add_argument("task", choices=task_arguments.TASKS)
    task.add_argument("arguments", nargs=argparse.REMAINDER)
    add("backend", _backend, "Write terraform/backend.tf from the repository's variables, or refuse.")
    add("connect", _connect, "Run `terraform init` once signed in: a runner's checkout is not connected to the state.")
    collecting = add("collect", _collect, "Fill artifacts/ from a task's JSON, and write summary and outputs.")
    collecting.add_argument("file")
    collecting.add_argument("--title", required=True, help="Of the pull request; {ami} is replaced by the AMI's id.")
    listing = "Set the output matrix to what `invoke matrix` printed, or refuse builds that would undo each other's."
    add("matrix", _matrix, listing).add_argument("file")
    add("share", _share, "Write the archive of a task's AMI beside Terraform's state in S3.").add_argument("file")
    proposing = add("propose", _propose, "Open or update the pull request with what artifacts/ holds.")
    proposing.add_argument("--repository", required=True, help="A clone of the repository that gets it.")
    handing = "Set the outputs WHAT, a matrix, and count: the shards of a fleet's list, or the owners of its plan."
    handing_on = add("hand-on", _hand_on, handing)
    handing_on.add_argument("what", choices=tuple(hand_on.KINDS))
    handing_on.add_argument("file")
    add("issue", _issue, "Open, update or close the issue about a clean-up plan.").add_argument("file")
    members = "Open, update or close the issue about members of AWS's answers that docs/references.md lacks."
    add("members", _members, members).add_argument("file")
    requiring = add("require", _require, "Refuse to go on when a source of a clean-up plan was not read.")
    requiring.add_argument("source")
    requiring.add_argument("file")
    return parser


if __name__ == "__main__":  # pragma: no cover - the workflows' tests run it as a process
    sys.exit(main(sys.argv[1:], os.environ, Path.cwd()))
