"""One pull request per family that moves Terraform to another AMI, kept up to date, with what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_ami import process
from gpu_ami.errors import PipelineError, ToolError, UsageError
from gpu_ami.files import read_text
from gpu_ami.github import what_changes
from gpu_ami.github.collect import BEFORE, BODY, HANDOVER, MEASURED, TITLE
from gpu_ami.github.runner import TEXT_LIMIT, Runner, shortened
from gpu_ami.handover import change as changes
from gpu_ami.handover import tfvars
from gpu_ami.hcl import find
from gpu_ami.hcl.tree import Value
from gpu_ami.records import provenance
from gpu_ami.records.tags import AMI_ID

_WITHIN_S = 120.0
# Of one AMI whose region does not matter.
_ANY = ""
_BOT = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com")
_PLAN = "plan.md"
# Where `invoke verify` and `invoke bench` leave their records, and a build the provenance, as an apply looks for them.
_RECORDS = ("terraform/verifications", "terraform/benches", f"terraform/{provenance.FOLDER}")
_NO_WORKFLOWS = (
    "A pull request that a workflow opened starts no workflow: the plan above was made in the same run. "
    "Close and reopen it to start the checks."
)


@dataclass(frozen=True)
class Proposal:
    """A change to propose.

    Attributes:
        repository: A clone of the repository that gets the pull request, on its base branch.
        artifacts: What an earlier job collected.
        handover: The one file of the repository that may change, from its root.
        branch: The branch of the pull request; it belongs to the pipeline alone.
        records: What was measured of the AMI: files beside Terraform's code by which an apply goes, from the root.
        variable: The family's variable, of several families, whose file others may have changed meanwhile; else None.
    """

    repository: Path
    artifacts: Path
    handover: str
    branch: str
    records: tuple[str, ...] = ()
    variable: str | None = None


def records(artifacts: Path) -> tuple[str, ...]:
    """Return the records of AMIs that a job has made or measured, as paths from the repository's root.

    Only files that are named after an AMI: the artifact holds logs, too.
    """
    folder = artifacts / MEASURED
    found = (path for name in _RECORDS for path in (folder / name).glob("ami-*.json"))
    named = (path for path in found if AMI_ID.fullmatch(path.stem.removesuffix(".sigstore")))
    plain = (path for path in named if path.is_file() and not path.is_symlink())
    return tuple(sorted(path.relative_to(folder).as_posix() for path in plain))


def propose(proposal: Proposal, runner: Runner) -> str:
    """Commit the hand-over on the pipeline's branch, push it and open or update its pull request; return its address.

    An empty text means that there is nothing to propose.

    Raises:
        UsageError: The artifacts are not complete.
        PipelineError: git or gh refused.
    """
    source = proposal.artifacts / HANDOVER / proposal.handover
    if not source.is_file():
        runner.say("Nothing to propose: Terraform's variable is up to date.")
        return ""
    title = read_text(proposal.artifacts / TITLE, what="title").strip()
    compared = what_changes.read(proposal.artifacts, title)
    body = _body(proposal.artifacts, runner, compared.text)
    title = what_changes.titled(title, compared)
    before = proposal.artifacts / BEFORE / proposal.handover
    _put(source, proposal.repository / proposal.handover, proposal.variable, before)
    if not _git(proposal, "status", "--porcelain", "--", proposal.handover):
        runner.say(f"Nothing to propose: {runner.base} has this change already.")
        return ""
    for name in proposal.records:
        _put(proposal.artifacts / MEASURED / name, proposal.repository / name)
    # --force: a run before may have left the branch; nobody else commits there.
    _gh(proposal, "auth", "setup-git")
    _git(proposal, "switch", "--quiet", "--force-create", proposal.branch)
    _git(proposal, "add", "--", proposal.handover, *proposal.records)
    name, mail = _BOT
    _git(proposal, "-c", f"user.name={name}", "-c", f"user.email={mail}", "commit", "--quiet", "-m", title)
    _git(proposal, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{proposal.branch}")
    return _pull_request(proposal, runner, title, body)


def takes_regions(file: Path, variable: str) -> bool:
    """Return whether *variable* in *file*, the hand-over, has an AMI for each region: a map.

    Raises:
        UsageError: The file cannot be read.
    """
    value = _value(file, variable) if file.is_file() else None
    return value is not None and value.kind == "map"


def _put(source: Path, target: Path, variable: str | None = None, before: Path | None = None) -> None:
    if target.is_symlink():
        msg = f"{target} is a link: the pipeline writes only to a plain file."
        raise UsageError(msg)
    if variable is not None and target.is_file():
        _carry_over(source, target, variable, before)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def _carry_over(source: Path, target: Path, variable: str, before: Path | None) -> None:
    """Give the *variable* in *target* what the run made of it in *source*, and leave the rest as it is.

    While this family was built, another one's AMI may have been merged into the file, or its own in another region:
    that must not be taken back. What *before* has as well the run did not change.

    Raises:
        UsageError: One of them cannot be read, or the value cannot be put there.
    """
    there = _value(target, variable)
    value = _value(source, variable)
    if value is None or (there is None and value.kind == "map"):
        msg = f"{target} has no {variable} to take what was handed over: the branch it is merged to has changed since."
        raise UsageError(msg)
    old = _value(before, variable) if before is not None and before.is_file() else None
    had = {} if old is None else _entries(old)
    amis = {name: ami for name, ami in _entries(value).items() if ami != had.get(name)}
    if amis:
        target.write_bytes(tfvars.plan(target, variable, amis, region=_ANY).after.encode("utf-8"))


def _entries(value: Value) -> dict[str, str]:
    """Return the AMIs of a map by region, or the one of anything else."""
    entries = {str(entry.name): entry.value.literal for entry in value.entries} or {_ANY: value.literal}
    return {name: ami for name, ami in entries.items() if isinstance(ami, str) and ami}


def _value(file: Path, variable: str) -> Value | None:
    """Return what *file* has for *variable*; None where it has none."""
    document = tfvars.load(file, changes.read(file).removeprefix(tfvars.MARK))
    path = tfvars.path_in(document, file, variable)
    is_there = len(path) > 1 or any(attribute.name == path[0] for attribute in document.body.attributes)
    return find(document, path) if is_there else None


def _pull_request(proposal: Proposal, runner: Runner, title: str, body: Path) -> str:
    ours = ("--head", proposal.branch, "--base", runner.base)
    fields = ("--state", "open", "--json", "url", "--jq", ".[0].url")
    url = _gh(proposal, "pr", "list", *ours, *fields)
    if url:
        _gh(proposal, "pr", "edit", url, "--title", title, "--body-file", str(body))
    else:
        url = _gh(proposal, "pr", "create", *ours, "--title", title, "--body-file", str(body))
    runner.say(f"Pull request: {url}")
    runner.set(pull_request=url)
    return url


def _body(artifacts: Path, runner: Runner, compared: str) -> Path:
    """Write the pull request's text beside its parts and return the file; *compared* is a section of it."""
    text = read_text(artifacts / BODY, what="text of the pull request")
    if compared:
        text += f"\n{compared}\n"
    if (artifacts / _PLAN).is_file():
        plan = read_text(artifacts / _PLAN, what="plan", limit_bytes=16 * 1024 * 1024).strip()
        text += f"\n## Plan\n\n{shortened(plan, max(TEXT_LIMIT - len(text) - 1000, 0))}\n"
    ran = f" Made by [this run]({runner.run_url})." if runner.run_url else ""
    path = artifacts.absolute() / "pull-request.md"
    # GitHub would refuse a longer one, and propose nothing.
    path.write_text(f"{shortened(text, TEXT_LIMIT)}\n{_NO_WORKFLOWS}{ran}\n", encoding="utf-8")
    return path


def _git(proposal: Proposal, *arguments: str) -> str:
    return said(("git", *arguments), proposal.repository)


def _gh(proposal: Proposal, *arguments: str) -> str:
    return said(("gh", *arguments), proposal.repository)


def said(argv: tuple[str, ...], cwd: Path) -> str:
    """Run git or gh and return what it printed.

    Raises:
        PipelineError: It refused.
        ToolError: It is not there.
    """
    done = process.run(process.Command(argv, cwd=cwd), timeout_s=_WITHIN_S)
    if done.returncode != 0:
        msg = f"`{' '.join(argv[:3])}` refused: {done.last_line}. docs/github-actions.md lists what the job may need."
        raise PipelineError(msg)
    return done.stdout.strip()


def stored(root: Path, file: str) -> bytes | None:
    """Return *file* as a checkout of the commit in *root* has it, byte for byte; None where there is none.

    ``--filters`` makes the line ends those of a checkout (``eol=crlf`` in .gitattributes): what git keeps has others.
    """
    try:
        command = process.Command(("git", "cat-file", "--filters", f"HEAD:{file}"), cwd=root)
        return process.output(command, timeout_s=_WITHIN_S)
    except ToolError:
        return None
