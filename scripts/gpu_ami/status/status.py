"""`invoke status`: what is live, beside what was handed over, baked and published. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from gpu_ami.aws import batch, images, parameters
from gpu_ami.aws.caller import Caller
from gpu_ami.aws.images import Image
from gpu_ami.bake import compare, template
from gpu_ami.deploy import live_environments, ownership, plan, root_module
from gpu_ami.deploy.live_environments import Live
from gpu_ami.deploy.ownership import LeftAlone
from gpu_ami.deploy.root_module import Root
from gpu_ami.errors import DifferenceError, PipelineError, UsageError
from gpu_ami.handover import attested
from gpu_ami.handover.attested import Verdict
from gpu_ami.handover.receipt_store import ReceiptStore
from gpu_ami.invocation import Invocation
from gpu_ami.records import manifest_file as manifests
from gpu_ami.records import receipt
from gpu_ami.records.base_release import release_of
from gpu_ami.records.receipt import StateIdentity, StoredReceipt
from gpu_ami.records.tags import FAMILY_TAG, is_production
from gpu_ami.status import base_mps, drift
from gpu_ami.status.drift import Seen
from gpu_ami.status.status_tables import Status, tables
from gpu_ami.terraform import state_file
from gpu_ami.units import show_count

QUERIES = (
    "hand-over",
    "state",
    "environments",
    "images",
    "manifest",
    "parameter",
    "base",
    "job-definitions",
    "jobs",
    "receipts",
    "next-build",
    "provenance",
)
_T = TypeVar("_T")
# An AMI goes back to its base by a few bakes; tags that lead on and on are not followed for ever.
_MOST_ASKED = 200
_NO_RECEIPTS: tuple[tuple[str, ...], str | None] = ((), None)
_NO_PARAMETER: tuple[str | None, str | None] = (None, None)


class _Queries:
    """Runs queries; one that fails or is left out gives its empty answer, and its reason is kept."""

    def __init__(self, skip: Sequence[str]) -> None:
        self.skipped = tuple(dict.fromkeys(skip))
        self.failed: dict[str, str] = {}

    def run(self, name: str, call: Callable[[], _T], empty: _T) -> _T:
        if name in self.skipped:
            return empty
        try:
            return call()
        except PipelineError as exc:
            self.failed[name] = str(exc).rstrip(".")
            return empty


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the caller of ``invoke status`` requested.

    Attributes:
        skip: Queries that are left out.
        fleet: Whether it is about every account of the fleet.
    """

    skip: Sequence[str] = ()
    fleet: bool = False


def run(run: Invocation, request: Request) -> None:
    """Show what is live and every difference.

    Raises:
        UsageError: A query to skip does not exist.
        DifferenceError: Something differs, or could not be looked up.
    """
    skip = request.skip
    if unknown := [name for name in skip if name not in QUERIES]:
        msg = f"--skip {unknown[0]} is no query: there are {', '.join(QUERIES)}."
        raise UsageError(msg)
    if request.fleet:
        if skip:
            msg = f"--skip {skip[0]} does not go with --fleet, which has other queries: leave one out."
            raise UsageError(msg)
        from gpu_ami.status import fleet_status

        fleet_status.run(run)
        return
    if run.options.dry_run:
        run.console.would(f"look up {', '.join(name for name in QUERIES if name not in skip)}.")
        return
    account = run.announce().account
    root = root_module.prepare(run)
    with run.console.step("querying"):
        found = query(root, account, skip)
    if found.state is not None:
        run.console.say(root_module.describe_state(root))
    run.console.result(found.document(), *tables(found))
    if found.drifts:
        codes = ", ".join(dict.fromkeys(difference.code for difference in found.drifts))
        count = show_count(len(found.drifts), "difference")
        each = "Each" if len(found.drifts) > 1 else "It"
        msg = f"Not in step: {count} ({codes}). {each} says above what to do."
        raise DifferenceError(msg)


def query(root: Root, account: str, skip: Sequence[str] = ()) -> Status:
    """Run all queries, side by side, and compare; *account* is the credentials'."""
    run, queries = root.run, _Queries(skip)
    caller, now = Caller(run.access, run.settings.region), datetime.now(timezone.utc)
    expected = queries.run("hand-over", lambda: plan.handed_over(run, root.handed_over), None)
    # Parsed before the threads start: the HCL parser is not made for two at once, and the next build's query uses it.
    nothing: dict[str, Any] = {}
    given = queries.run("base", lambda: _template_values(run), nothing)
    state = queries.run("state", lambda: root_module.stored_state(root), nothing)
    identity = _identity(root, account, queries)
    with ThreadPoolExecutor(max_workers=6) as pool:
        jobs = pool.submit(queries.run, "jobs", lambda: _jobs(caller), None)
        building = pool.submit(queries.run, "next-build", lambda: _next_build(run), ())
        base = pool.submit(queries.run, "base", lambda: _newest_base(run, given), None)
        published = pool.submit(queries.run, "parameter", lambda: _parameter(run), _NO_PARAMETER)
        defined = pool.submit(queries.run, "job-definitions", lambda: _definitions(run, caller, state), ())
        environments: Sequence[Live] = queries.run(
            "environments", lambda: live_environments.of_family(caller, state, run.settings.family), ()
        )
        manifest_ami = queries.run("manifest", lambda: _manifest_ami(run), None)
        unfinished, broken = queries.run("receipts", lambda: _receipts(root, identity), _NO_RECEIPTS)
        live = {ami for current in environments for ami in current.images.named | current.known_types.named}
        named = live | {ami for ami in (expected, manifest_ami) if ami}
        known: dict[str, Image | None] = queries.run("images", lambda: _images(caller, named), {})
        told = [ami for ami, image in known.items() if image and image.tags.get(FAMILY_TAG) == run.settings.family]
        ours = {ami for ami in (expected, manifest_ami, *told) if ami}
        proven: dict[str, Verdict] = queries.run("provenance", lambda: _proven(run, known.values()), {})
        environments, left_alone = _ours(root, identity, queries, environments, ours)
        newest, parameter = base.result(), published.result()
        shown: dict[str, Image] = queries.run("base", lambda: _shown(caller, newest, known), {})
    seen = Seen(
        handed_over_in=run.workspace.shown(root.handed_over),
        expected_ami=expected,
        environments=environments,
        images=known,
        manifest_ami=manifest_ami,
        kept=run.target.is_kept,
        parameter=parameter[0],
        parameter_ami=parameter[1],
        newest_base=newest,
        base_made={ami: image.created for ami, image in shown.items() if image.created},
        shown=shown,
        definitions=defined.result(),
        next_build=building.result(),
        unfinished=unfinished,
        broken=broken,
        failed={name: queries.failed[name] for name in QUERIES if name in queries.failed},
        skipped=queries.skipped,
        left_alone=left_alone,
        proven=proven,
    )
    return Status(state=identity, seen=seen, jobs=jobs.result(), drifts=drift.find(seen), now=now)


def _ours(
    root: Root, state: StateIdentity | None, queries: _Queries, live: Sequence[Live], known: set[str]
) -> tuple[Sequence[Live], Sequence[LeftAlone]]:
    """Return which environments are the pipeline's, and which are left alone.

    The receipts are asked only where AMIs and tags leave one open, or tell nothing.
    """

    def filed() -> Sequence[StoredReceipt]:
        nothing: tuple[StoredReceipt, ...] = ()
        found = queries.run("receipts", lambda: ReceiptStore(root.terraform.folder, root.run.access).all(), nothing)
        return receipt.maybe_of_state(found, state)

    return ownership.split_live(live, known=known, filed=filed)


def _images(caller: Caller, named: set[str]) -> dict[str, Image | None]:
    found = {image.image_id: image for image in images.some_images(caller, named)}
    return {ami: found.get(ami) for ami in named}


def _proven(run: Invocation, known: Iterable[Image | None]) -> dict[str, Verdict]:
    return {image.image_id: attested.shown(run, image) for image in known if image is not None}


def _shown(caller: Caller, newest: str | None, known: Mapping[str, Image | None]) -> dict[str, Image]:
    """Return the newest base AMI and those that the *known* ones were baked from, as far as EC2 shows them.

    One call, unless the base beneath an incremental bake is found only by going back from AMI to AMI.
    """
    found: dict[str, Image] = {}
    asked: set[str] = set()
    wanted = {ami for ami in (newest, *base_mps.ancestors(known.values())) if ami}
    while wanted - asked:
        found |= images.shown(caller, wanted - asked)
        asked |= wanted
        names = [base_mps.base_name(image, found) or "" for image in known.values() if image]
        is_open = not all(map(release_of, names)) and len(asked) < _MOST_ASKED
        wanted = base_mps.ancestors(found.values()) if is_open else set()
    return found


def _manifest_ami(run: Invocation) -> str | None:
    """Return the AMI of the last build in this region; no manifest is no hint, a broken one is a failed query."""
    return manifests.load_if_any(run.workspace.manifest).last_amis.get(run.settings.region)


def _parameter(run: Invocation) -> tuple[str | None, str | None]:
    """Return the parameter's name and value; the default name counts only when somebody has published to it."""
    named = getattr(run.settings.handover, "parameter", None)
    name = named or f"/gpu-ami/{run.settings.family}/ami-id"
    value = parameters.value_of(Caller(run.access), name)
    return (name, value) if named or value else (None, None)


def _template_values(run: Invocation) -> dict[str, Any]:
    """Return what names the base AMI, as a build has it; without a variables file, the template's defaults."""
    folder, target, wanted = run.workspace.root / "packer", run.target, {"source_ami", "base_ami_parameter"}
    return template.effective(folder, target.user_variables, {}, environment=target.environment, wanted=wanted)


def _newest_base(run: Invocation, given: Mapping[str, Any]) -> str | None:
    """Return the AMI that a full build of the values *given* starts from; None when nothing names one."""
    if named := given.get("source_ami"):
        return str(named)
    name = given.get("base_ami_parameter")
    return parameters.value_of(Caller(run.access), str(name)) if name else None


def _definitions(run: Invocation, caller: Caller, state: Mapping[str, Any]) -> tuple[batch.JobDefinition, ...]:
    """Return the job definitions of the state; where it has none, those that carry the family's tag."""
    recorded_names = state_file.job_definitions(state)
    return tuple(
        definition
        for definition in batch.job_definitions(caller)
        if (
            definition.name in recorded_names if recorded_names else is_production(definition.tags, run.settings.family)
        )
    )


def _identity(root: Root, account: str, queries: _Queries) -> StateIdentity | None:
    """Return which state the root module has; None when that is not known: the folder may not be connected to it."""
    if "state" in queries.failed:
        return None
    name = "receipts" if "state" in queries.skipped else "state"
    return queries.run(name, lambda: root_module.state_identity(root, account), None)


def _receipts(root: Root, state: StateIdentity | None) -> tuple[tuple[str, ...], str | None]:
    """Return the receipts of killed applies of *state*, and the newest one if its apply failed."""
    found = ReceiptStore(root.terraform.folder, root.run.access).all()
    acts = receipt.of_state(found, state) if state else ()
    shown = root.run.workspace.shown
    unfinished = tuple(shown(stored.path) for stored in receipt.unfinished(acts))
    return unfinished, shown(acts[-1].path) if acts and acts[-1].receipt.status == "failed" else None


def _jobs(caller: Caller) -> list[batch.Job] | None:
    return batch.running_jobs(caller)


def _next_build(run: Invocation) -> tuple[str, ...]:
    from gpu_ami.bake import prepare

    return tuple(change.detail for change in compare.what_would_change(run, prepare.prepare(run, ())))
