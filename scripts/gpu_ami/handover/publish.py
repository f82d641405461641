"""`invoke publish`: sets SSM parameters to AMI ids, with a receipt for each, and reads back what SSM shows."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gpu_ami import git
from gpu_ami.aws import parameters
from gpu_ami.aws.caller import Caller, RefusedError
from gpu_ami.console import Table
from gpu_ami.errors import AwsError, PartialError, PipelineError, UsageError
from gpu_ami.handover import publication as publications
from gpu_ami.handover import update_tfvars
from gpu_ami.handover.publication import Publication
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.records import receipt as receipts
from gpu_ami.records.receipt import Change, Receipt, StoredReceipt
from gpu_ami.records.tags import FAMILY_TAG, PIPELINE, PIPELINE_TAG, checked_ami_id

if TYPE_CHECKING:
    from gpu_ami.aws.sts import Identity
    from gpu_ami.invocation import Invocation

# A publication waits a minute at most for each region: an open receipt that is older is of a run that was killed.
_LONGEST = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke publish`` requested.

    Attributes:
        manifest: Another manifest than the last build's.
        ami: An AMI of the pipeline's region instead.
        parameter: Another name than the settings' one.
        verified: Whether the AMIs are looked up first.
    """

    manifest: str | None = None
    ami: str | None = None
    parameter: str | None = None
    verified: bool = True


def run(run: Invocation, request: Request, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Set the parameter of each region to its AMI, and print what came of it.

    Every region is checked before the first one is changed. One that fails then does not keep the others from theirs.

    Args:
        run: This invocation.
        request: What was requested.
        sleep: Waits between two queries.

    Raises:
        UsageError: The manifest, the id or the name cannot be used.
        SafetyError: The wrong account, an AMI that must not be handed over, or a parameter that is not ours.
        AwsError: SSM refused, or does not show the AMI; no parameter was set.
        PartialError: Published in some regions only, or a receipt is not complete or not in the bucket.
    """
    chosen = update_tfvars.chosen_amis(run, manifest=request.manifest, ami=request.ami)
    amis = {region: checked_ami_id(ami) for region, ami in chosen.items()}
    name = publications.checked_name(request.parameter or parameter_name(run))
    who = run.announce()
    if request.verified:
        update_tfvars.verify(run, amis)
    planned = [_plan(run, region, name, new) for region, new in amis.items()]
    if run.options.dry_run:
        _show(run, planned)
        return
    ledger = _Ledger(run)
    _complete(ledger, planned, who.account)
    source = None if request.ami is not None else run.workspace.shown(Path(request.manifest or run.workspace.manifest))
    done: list[Publication] = []
    problems: dict[str, PipelineError] = {}
    for publication in planned:
        if publication.changed:
            try:
                publication = _put(run, ledger, who, publication, source, sleep)
            except _NotPutError as exc:
                publication, problems[publication.region] = exc.publication, exc.problem
        done.append(publication)
    lacking = ledger.lacking()
    if problems:
        if lacking is not None:
            run.console.warn(f"Besides, {lacking}")
        _raise_problems(run, done, problems)
    _show(run, done)
    if lacking is not None:
        what = "Published" if any(publication.changed for publication in done) else "Nothing to publish"
        msg = f"{what}, but {lacking}"
        raise PartialError(msg)


class _NotPutError(Exception):
    """A parameter was not set, or does not show the AMI: *publication* says so in the result, *problem* why."""

    def __init__(self, publication: Publication, problem: PipelineError) -> None:
        super().__init__(str(problem))
        self.publication = publication
        self.problem = problem


def _raise_problems(run: Invocation, done: list[Publication], problems: Mapping[str, PipelineError]) -> NoReturn:
    """End with the first problem; where some regions were set it is one of several, and the result names them all.

    Raises:
        PipelineError: No parameter was set.
        PartialError: Some were.
    """
    region, first = next(iter(problems.items()))
    if not any(publication.changed for publication in done):
        raise first
    _show(run, done)
    ours = ", ".join(publication.region for publication in done if publication.changed)
    msg = f"Published in {ours}, but not in {', '.join(problems)} ({region}: {str(first).rstrip('.')}): run it again."
    raise PartialError(msg) from first


def parameter_name(run: Invocation) -> str:
    """Return the settings' parameter; the default names the family."""
    return run.settings.published_to


def _plan(run: Invocation, region: str, name: str, new: str) -> Publication:
    caller = Caller(run.access, region)
    found = parameters.read(caller, name)
    old = publications.old_ami(region, found)
    if found is not None and (stack := parameters.owning_stack(caller, name)):
        run.console.warn(f"{name} in {region} belongs to the stack {stack}, whose next update puts its own value back.")
    return Publication(parameter=name, region=region, old=old, new=new, version=found.version if found else None)


class _Ledger:
    """The receipts of this publication: here always, and in the bucket beside Terraform's state where it can be.

    A parameter is set whatever becomes of the bucket's copy: the next job reads the parameter, and the receipt on this
    machine names the way back. A copy that is missing in the bucket is reported at the end.
    """

    def __init__(self, run: Invocation) -> None:
        self._store = ReceiptStore(run.workspace.terraform, run.access)
        self._unshared: dict[str, AwsError] = {}
        self._incomplete: dict[str, UsageError] = {}

    def unfinished(self) -> tuple[StoredReceipt, ...]:
        """Return the receipts of publications that were cut short: this machine's, and others' that are long over.

        Raises:
            UsageError: One of this machine's is not a receipt.
        """
        found = {stored.path.name: stored for stored in receipts.load(self._store.folder)}
        found = {stored.path.name: stored for stored in self._others()} | found
        open_ones = receipts.unfinished(found.values())
        return tuple(stored for stored in open_ones if stored.receipt.action == "publish")

    def _others(self) -> Iterator[StoredReceipt]:
        """Yield the bucket's receipts that can be read and whose run has surely ended; a bucket holds nothing up."""
        try:
            texts = self._store.shared()
        except AwsError:
            return  # whether it can be written is tried later, and said
        for url, name, text in texts:
            with contextlib.suppress(UsageError):
                receipt = receipts.decode(text, source=url)
                if datetime.now(timezone.utc) - receipt.when > _LONGEST:
                    yield StoredReceipt(self._store.folder / name, receipt)

    def new(self, receipt: Receipt) -> StoredReceipt:
        """Write a new receipt.

        Raises:
            UsageError: This machine's copy cannot be written.
        """
        return self.put(StoredReceipt(receipts.new_path(self._store.folder, receipt), receipt))

    def put(self, stored: StoredReceipt) -> StoredReceipt:
        """Write a receipt, over its earlier form if there is one.

        Raises:
            UsageError: This machine's copy cannot be written.
        """
        receipts.write(stored.path, stored.receipt)
        try:
            self._store.share(stored)
            self._unshared.pop(stored.path.name, None)
        except AwsError as exc:
            self._unshared[stored.path.name] = exc
        return stored

    def end(self, stored: StoredReceipt) -> None:
        """Complete a receipt; one that cannot be, as on a full disk, is kept to be reported: the act is done."""
        try:
            self.put(stored)
        except UsageError as exc:
            self._incomplete[stored.path.name] = exc

    def lacking(self) -> str | None:
        """Return what to say of a receipt that is not complete, or that the bucket lacks; None where all is there."""
        if self._incomplete:
            file, reason = next(iter(self._incomplete.items()))
            left = f"the receipt {file} is not complete ({str(reason).rstrip('.')})"
            return f"{left}: the next `invoke publish` completes it."
        if not self._unshared:
            return None
        name, problem = next(iter(self._unshared.items()))
        grant = ", and grant s3:PutObject on the receipts beside Terraform's state" if _is_denied(problem) else ""
        return f"the receipt {name} is only on this machine ({str(problem).rstrip('.')}): commit it{grant}."


def _is_denied(problem: AwsError) -> bool:
    return isinstance(problem, RefusedError) and problem.is_denied


def _complete(ledger: _Ledger, planned: Sequence[Publication], account: str) -> None:
    """Complete the receipts of publications in *account* that were killed, by what its parameters show now.

    Another account, whose receipts one repository may hold too, has a parameter of that name by itself.
    """
    now = {publications.address(publication.region, publication.parameter): publication.old for publication in planned}
    for stored in ledger.unfinished():
        (change, *_) = stored.receipt.changes or (None,)
        if change is not None and change.address in now and stored.receipt.account == account:
            status: receipts.Status = "applied" if now[change.address] == change.new else "failed"
            note = f"cut short; a later publication found {now[change.address] or 'no parameter'}"
            ledger.put(
                StoredReceipt(stored.path, stored.receipt.finished(status, at=datetime.now(timezone.utc), note=note))
            )


def _put(
    run: Invocation,
    ledger: _Ledger,
    who: Identity,
    planned: Publication,
    manifest: str | None,
    sleep: Callable[[float], None],
) -> Publication:
    """Set one parameter, with a receipt that is there before the act and tells how it ended.

    Raises:
        _NotPutError: SSM refused, or does not show the AMI, or the receipt cannot be written.
    """
    region, name = planned.region, planned.parameter
    change = Change(address=publications.address(region, name), old=planned.old, new=planned.new)
    receipt = Receipt(
        when=datetime.now(timezone.utc),
        who=who.arn,
        account=who.account,
        region=region,
        changes=(change,),
        action="publish",
        status="started",
        manifest=manifest,
        git_commit=git.head(run.workspace.root),
    )
    try:
        stored = ledger.new(receipt)
    except PipelineError as exc:
        raise _NotPutError(dataclasses.replace(planned, error=str(exc)), exc) from exc
    shown_path = run.workspace.shown(stored.path)
    caller, tags = Caller(run.access, region), {PIPELINE_TAG: PIPELINE, FAMILY_TAG: run.settings.family}
    try:
        with run.console.step(f"publishing {planned.new} to {name} in {region}"):
            version = parameters.put_image(caller, name, planned.new, exists=planned.old is not None, tags=tags)
            shown = parameters.wait_for(caller, name, planned.new, version, sleep=sleep)
    except PipelineError as exc:
        ledger.end(StoredReceipt(stored.path, receipt.finished("failed", at=datetime.now(timezone.utc), note=str(exc))))
        raise _NotPutError(dataclasses.replace(planned, error=str(exc), receipt=shown_path), exc) from exc
    ledger.end(StoredReceipt(stored.path, receipt.finished("applied", at=datetime.now(timezone.utc))))
    return dataclasses.replace(planned, version=shown.version, receipt=shown_path)


def _show(run: Invocation, done: list[Publication]) -> None:
    for publication in done:
        if publication.error is not None:
            run.console.say(f"{publication.parameter} in {publication.region} failed: {publication.error}")
        elif not publication.changed:
            run.console.say(
                f"{publication.parameter} in {publication.region} is {publication.new} already; left alone."
            )
        elif run.options.dry_run:
            run.console.say(f"DRY RUN: would set {publication.parameter} in {publication.region} to {publication.new}.")
    rows = [
        (
            publication.parameter,
            publication.region,
            publication.old or "not there",
            publication.new,
            "failed" if publication.error else "yes" if publication.changed else "no",
            str(publication.version or "none"),
            publication.receipt or "none",
        )
        for publication in done
    ]
    own = next((publication for publication in done if publication.region == run.settings.region), done[0])
    document = {**own.document(), "regions": [publication.document() for publication in done]}
    columns = ("parameter", "region", "old", "new", "changed", "version", "receipt")
    run.console.result(document, Table(columns=columns, rows=rows))
