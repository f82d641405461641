"""Every Invoke task of the pipeline: each loads, calls and prints; what they do is in scripts/gpu_ami."""

from __future__ import annotations

from pathlib import Path

from gpu_ami.cli import Invocation, pipeline_task

ROOT = Path(__file__).resolve().parent
_PACKER_VAR = "A Packer variable as name=value; repeatable."


@pipeline_task(
    ROOT, takes="none", guest="Also what isolates the sandbox's guest; --no-guest where only AWS is worked on."
)
def setup(run: Invocation, *, guest: bool = True) -> None:
    """Install what is missing on this machine: Packer, its plugin, Terraform, the sandbox's isolation."""
    from gpu_ami.tools import setup as command

    command.run(run.console, command.Request(guest=guest, dry_run=run.options.dry_run))


@pipeline_task(
    ROOT,
    ecr_repository_url="ECR repository of the container image, without tag.",
    subnet_id="Subnet of the build instance.",
    security_group_id="The build instance's security group; empty makes a temporary one.",
    models_s3_bucket="Bucket with the models; empty for none.",
    iam_instance_profile="The build instance's profile; empty makes a temporary one.",
    check="Change nothing; exit 9 when there would be a change.",
    yes="Replace values that were set by hand.",
)
def init(
    run: Invocation,
    *,
    ecr_repository_url: str | None = None,
    subnet_id: str | None = None,
    security_group_id: str | None = None,
    models_s3_bucket: str | None = None,
    iam_instance_profile: str | None = None,
    check: bool = False,
    yes: bool = False,
) -> None:
    """Write Packer's variables file from Terraform's outputs, flags or answers."""
    from gpu_ami.bake import init as command

    flags = {
        "ecr_repository_url": ecr_repository_url,
        "subnet_id": subnet_id,
        "security_group_id": security_group_id,
        "models_s3_bucket": models_s3_bucket,
        "iam_instance_profile": iam_instance_profile,
    }
    command.run(run, command.Request(flags=flags, check=check, yes=yes))


@pipeline_task(ROOT, takes="each", packer_var=_PACKER_VAR)
def doctor(run: Invocation, *, packer_var: tuple[str, ...] = ()) -> None:
    """Check what a build needs, on this machine and on AWS, each with its fix; changes nothing."""
    from gpu_ami.bake import doctor as command

    command.run(run, command.Request(variables=packer_var))


@pipeline_task(ROOT, takes="each", packer_var=_PACKER_VAR)
def validate(run: Invocation, *, packer_var: tuple[str, ...] = ()) -> None:
    """Check the settings, the Packer template, the Terraform folder and the AMI handed over; changes nothing."""
    from gpu_ami.bake import validate as command

    command.run(run, command.Request(variables=packer_var))


@pipeline_task(
    ROOT,
    takes="none",
    packer_var=_PACKER_VAR,
    debug="Packer's step-by-step mode, on a terminal.",
    incremental="Bake on the family's last AMI where only image or models are new.",
    if_stale="Do nothing when the last AMI is what a build would make.",
    max_usd="What the verification before the hand-over may cost at most, where pipeline.yaml wants one.",
    jobs="Of several families so many builds at a time; 1 otherwise.",
)
def build(
    run: Invocation,
    *,
    packer_var: tuple[str, ...] = (),
    debug: bool = False,
    incremental: bool = False,
    if_stale: bool = False,
    max_usd: str | None = None,
    jobs: str | None = None,
) -> None:
    """Bake the AMI with Packer and hand it to Terraform."""
    from gpu_ami.bake import build, side_by_side
    from gpu_ami.measure.gate import BeforeHandOver

    request = side_by_side.Request(
        variables=packer_var, debug=debug, incremental=incremental, if_stale=if_stale, max_usd=max_usd, jobs=jobs
    )
    side_by_side.run(run, request, lambda one, wanted: build.run(one, wanted, BeforeHandOver(one, max_usd)))


@pipeline_task(
    ROOT,
    ami="The AMI; default the last build's.",
    instance_type="A GPU type to boot on; repeatable, in the order to try.",
    subnet_id="A subnet to boot in; repeatable, in the order to try.",
    max_usd="What it may cost at most, in dollars; needed with --yes.",
    yes="Start without asking.",
)
def verify(
    run: Invocation,
    *,
    ami: str | None = None,
    instance_type: tuple[str, ...] = (),
    subnet_id: tuple[str, ...] = (),
    max_usd: str | None = None,
    yes: bool = False,
) -> None:
    """Boot the AMI on a GPU type and check it before anything depends on it."""
    from gpu_ami.measure import verify as command

    request = command.Request(ami=ami, instance_types=instance_type, subnet_ids=subnet_id, max_usd=max_usd, yes=yes)
    command.run(run, request)


@pipeline_task(
    ROOT,
    ami="The AMI; default the last build's.",
    arms="Of stock, plain, rated and live those to compare, separated by commas; default all that there can be.",
    hosts="Fresh hosts of each arm; default from pipeline.yaml.",
    instance_type="The GPU type of all hosts.",
    max_usd="What it may cost at most, in dollars; needed with --yes.",
    within_min="How many minutes it may take at most, its teardown included; exit 8 where it may take longer.",
    yes="Start without asking.",
    gate="Exit 8 where the AMI is slower than it may be.",
    chart="Draw the answer to a .svg or .png file.",
    markdown="Write the answer to a Markdown page.",
    out="Write the answer to this JSON file instead of one in logs/.",
    teardown="Take away what the bench of this journal has left; measures nothing.",
)
def bench(
    run: Invocation,
    *,
    ami: str | None = None,
    arms: str | None = None,
    hosts: str | None = None,
    instance_type: str | None = None,
    max_usd: str | None = None,
    within_min: str | None = None,
    yes: bool = False,
    gate: bool = False,
    chart: str | None = None,
    markdown: str | None = None,
    out: str | None = None,
    teardown: str | None = None,
) -> None:
    """Measure the AMI's cold start on fresh Batch hosts, beside the base AMI's and the live one's."""
    from gpu_ami.measure import bench as command

    request = command.Request(
        ami=ami,
        arms=arms,
        hosts=hosts,
        instance_type=instance_type,
        max_usd=max_usd,
        within_min=within_min,
        yes=yes,
        gate=gate,
        chart=chart,
        markdown=markdown,
        out=out,
        teardown=teardown,
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="each",
    file="Another manifest than the last build's.",
    all="Every run in the manifest, not only the last.",
)
def manifest(run: Invocation, *, file: str | None = None, all: bool = False) -> None:
    """Show the last build of Packer's manifest."""
    from gpu_ami.bake import manifest as command

    command.run(run, command.Request(file=file, all=all))


@pipeline_task(
    ROOT,
    manifest="Another manifest than the last build's.",
    file="A .tfvars, .tf or .tfvars.json file; default from pipeline.yaml.",
    variable="The Terraform variable, or a path such as resource.TYPE.NAME.block.image_id; default from pipeline.yaml.",
    ami="An AMI id instead of the manifest's.",
    check="Change nothing; exit 9 when there would be a change.",
    no_verify="Do not check the AMI in AWS first.",
)
def update_tfvars(
    run: Invocation,
    *,
    manifest: str | None = None,
    file: str | None = None,
    variable: str | None = None,
    ami: str | None = None,
    check: bool = False,
    no_verify: bool = False,
) -> None:
    """Check the new AMI, write its id to the file that Terraform reads, and show the change."""
    from gpu_ami.handover import update_tfvars as command

    request = command.Request(
        manifest=manifest, file=file, variable=variable, ami=ami, check=check, verified=not no_verify
    )
    command.run(run, request)


_ALLOW_REPLACE = "An address that may be replaced, destroyed or forgotten; exact, repeatable."
_ALLOW_DEPOSED = "The name of a deposed environment or queue that may be destroyed; exact, repeatable."
_TERRAFORM_VAR = "A Terraform variable as name=value; repeatable."
_WAIT = "Minutes to wait for Batch to replace its instances; default what it gives running jobs, and half an hour."


@pipeline_task(ROOT, allow_replace=_ALLOW_REPLACE, allow_deposed=_ALLOW_DEPOSED, terraform_var=_TERRAFORM_VAR)
def plan(
    run: Invocation,
    *,
    allow_replace: tuple[str, ...] = (),
    allow_deposed: tuple[str, ...] = (),
    terraform_var: tuple[str, ...] = (),
) -> None:
    """Show what Terraform would change, and whether the guard lets it."""
    from gpu_ami.deploy import plan as command

    command.run(run, command.Request(variables=terraform_var, allow_replace=allow_replace, allow_deposed=allow_deposed))


@pipeline_task(
    ROOT,
    allow_replace=_ALLOW_REPLACE,
    allow_deposed=_ALLOW_DEPOSED,
    terraform_var=_TERRAFORM_VAR,
    wait=_WAIT,
    yes="Apply without asking.",
    ask="Ask in the sandbox, too, which otherwise does not.",
)
def apply(
    run: Invocation,
    *,
    allow_replace: tuple[str, ...] = (),
    allow_deposed: tuple[str, ...] = (),
    terraform_var: tuple[str, ...] = (),
    wait: str | None = None,
    yes: bool = False,
    ask: bool = False,
) -> None:
    """Plan, let the guard judge, apply exactly that plan and read back what is live."""
    from gpu_ami.deploy import apply as command
    from gpu_ami.deploy.wait import minutes

    request = command.Request(
        variables=terraform_var,
        allow_replace=allow_replace,
        allow_deposed=allow_deposed,
        yes=yes,
        ask=ask,
        wait_minutes=minutes(wait),
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    to="The AMI to go to, instead of the one before.",
    allow_deposed=_ALLOW_DEPOSED,
    terraform_var=_TERRAFORM_VAR,
    wait=_WAIT,
    yes="Apply without asking.",
    ask="Ask in the sandbox, too, which otherwise does not.",
)
def rollback(
    run: Invocation,
    *,
    to: str | None = None,
    allow_deposed: tuple[str, ...] = (),
    terraform_var: tuple[str, ...] = (),
    wait: str | None = None,
    yes: bool = False,
    ask: bool = False,
) -> None:
    """Go back to the AMI that was live before, and apply."""
    from gpu_ami.deploy import rollback as command
    from gpu_ami.deploy.wait import minutes

    request = command.Request(
        to=to,
        variables=terraform_var,
        allow_deposed=allow_deposed,
        yes=yes,
        ask=ask,
        wait_minutes=minutes(wait),
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="each",
    skip="Leave this query out; repeatable. An unknown name lists them.",
    fleet="In all accounts of the fleet: which of its AMIs is used where.",
)
def status(run: Invocation, *, skip: tuple[str, ...] = (), fleet: bool = False) -> None:
    """Show which AMI is live where, and exit 9 when anything is out of step."""
    from gpu_ami.status import status as command

    command.run(run, command.Request(skip=skip, fleet=fleet))


@pipeline_task(
    ROOT,
    takes="each",
    from_="The first AMI; default the live one.",
    to="The second AMI; default the last build's.",
)
def diff(run: Invocation, *, from_: str | None = None, to: str | None = None) -> None:
    """Show what differs between two AMIs, package by package, and exit 9 when anything does."""
    from gpu_ami.status import diff as command

    command.run(run, command.Request(old=from_, new=to))


@pipeline_task(
    ROOT,
    manifest="Another manifest than the last build's.",
    ami="An AMI id instead of the manifest's.",
    parameter="The SSM parameter; default from pipeline.yaml, or /gpu-ami/FAMILY/ami-id.",
    no_verify="Do not check the AMI in AWS first.",
)
def publish(
    run: Invocation,
    *,
    manifest: str | None = None,
    ami: str | None = None,
    parameter: str | None = None,
    no_verify: bool = False,
) -> None:
    """Set an SSM parameter of data type aws:ec2:image to the new AMI's id, and read it back."""
    from gpu_ami.handover import publish as command

    request = command.Request(manifest=manifest, ami=ami, parameter=parameter, verified=not no_verify)
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="each",
    preset="A named set of inputs: seed is the original estimate.",
    market="on-demand or spot; default from pipeline.yaml.",
    instance_type="What runs the jobs; default from pipeline.yaml.",
    jobs_per_month="Jobs a month.",
    set="An input as name=value, by the names that --inputs prints; repeatable.",
    compare="Instance types to set beside, joined by commas.",
    regions="Regions to set beside, joined by commas.",
    live="Look prices and sizes up in AWS.",
    strict="With --live: what AWS does not say is an error.",
    chart="Draw the answer to FILE.svg or FILE.png.",
    inputs="Show every input with its source, too.",
    measured="A bench's result, whose seconds go before what is predicted; repeatable.",
)
def cost(
    run: Invocation,
    *,
    preset: str | None = None,
    market: str | None = None,
    instance_type: str | None = None,
    jobs_per_month: str | None = None,
    set: tuple[str, ...] = (),
    compare: str | None = None,
    regions: str | None = None,
    live: bool = False,
    strict: bool = False,
    chart: str | None = None,
    inputs: bool = False,
    measured: tuple[str, ...] = (),
) -> None:
    """Say what the AMI costs and saves, and from how many launches on it pays."""
    from gpu_ami.cost import cost as command

    request = command.Request(
        preset=preset,
        market=market,
        instance_type=instance_type,
        jobs_per_month=jobs_per_month,
        values=set,
        compare=compare,
        regions=regions,
        live=live,
        strict=strict,
        chart=chart,
        inputs=inputs,
        measured=measured,
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="any",
    instance_type="The host; g5.xlarge otherwise.",
    set="An input as name=value, name=low..high or name=low..likely..high; repeatable. --inputs prints them.",
    points="Predict the rows of this CSV file instead; docs/coldstart.md has the columns.",
    fit="A bench's result, whose seconds go before what is assumed; repeatable.",
    chart="Draw the answer to FILE.svg or FILE.png.",
    validate="Say how good the model is: each public measurement, predicted without it.",
    inputs="Show every input with its range and source, too.",
)
def coldstart(
    run: Invocation,
    *,
    instance_type: str | None = None,
    set: tuple[str, ...] = (),
    points: str | None = None,
    fit: tuple[str, ...] = (),
    chart: str | None = None,
    validate: bool = False,
    inputs: bool = False,
) -> None:
    """Predict each phase of a cold start, for each way to start, with its range."""
    from gpu_ami.coldstart import coldstart as command

    request = command.Request(
        instance_type=instance_type, values=set, points=points, fit=fit, chart=chart, validate=validate, inputs=inputs
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="none",
    regions="Only these regions, joined by commas; all of the table otherwise.",
    check="Change nothing; exit 9 when a price has changed.",
)
def prices(run: Invocation, *, regions: str | None = None, check: bool = False) -> None:
    """Query every price of the price table again, and show what changed."""
    from gpu_ami.cost import prices as command

    command.run(run, command.Request(regions=regions, check=check))


@pipeline_task(
    ROOT,
    takes="none",
    out="Write the list that many machines read the fleet by to FILE.",
    shards="With --out: into so many parts at most, 1 otherwise.",
    regions="With --out: regions joined by commas, or all; default from pipeline.yaml.",
)
def fleet(run: Invocation, *, out: str | None = None, shards: str | None = None, regions: str | None = None) -> None:
    """Enter every account of the fleet, and show what is missing; exit 9 when one cannot be read."""
    from gpu_ami.fleet import fleet as command

    command.run(run, command.Request(out=out, shards=shards, regions=(regions,) if regions else ()))


@pipeline_task(
    ROOT,
    takes="each",
    older_than="Younger AMIs stay: 30d, 12h, 2w; default from pipeline.yaml.",
    keep="Newest AMIs of each family that stay; default from pipeline.yaml, 0 only when said.",
    name="Only AMIs whose name matches this pattern.",
    tag="Only AMIs with this tag, as KEY=VALUE; repeatable.",
    all_owned="Every AMI of the account, not only this pipeline's.",
    mode="delete, disable or deprecate.",
    include_shared="AMIs shared with others may go too.",
    usage_reports="With --include-shared: only if EC2's reports, made for this, show no use in other accounts.",
    max_deletions="At most so many AMIs in one run.",
    skip_source="Do not query this source; repeatable. Never instances, templates, groups, Batch, parameters.",
    allow_no_references="Go on although nothing in the account needs any AMI.",
    template_versions="all, or how many of the newest versions of each launch template count.",
    regions="Regions joined by commas, or all; default from pipeline.yaml.",
    account="Role in another account whose references count too; repeatable.",
    orphans="Snapshots of our own AMIs that are gone, too.",
    plan="Write the plan to FILE.",
    apply="Carry out the plan in FILE.",
    restore="Bring back what the journal FILE says was deleted.",
    yes="Carry the plan out.",
    permanent="What no Recycle Bin keeps may go too.",
    make_public="With --restore: what everybody could launch before may be launched by everybody again.",
    fleet="All accounts of the fleet, in one plan: what one of them needs, the others keep.",
    list="With --fleet: the list that its parts were made by, instead of reading it here.",
    references="With --list: a part that `invoke survey` wrote, or a folder with some; repeatable.",
    owner="With --fleet --apply: only the AMIs of this account; repeatable.",
    all="List each AMI that stays, and each source.",
    wide="The verdict on each AMI with every reason in full, however long the lines get.",
)
def cleanup(
    run: Invocation,
    *,
    older_than: str | None = None,
    keep: str | None = None,
    name: str | None = None,
    tag: tuple[str, ...] = (),
    all_owned: bool = False,
    mode: str | None = None,
    include_shared: bool = False,
    usage_reports: bool = False,
    max_deletions: str | None = None,
    skip_source: tuple[str, ...] = (),
    allow_no_references: bool = False,
    template_versions: str | None = None,
    regions: str | None = None,
    account: tuple[str, ...] = (),
    orphans: bool = False,
    plan: str | None = None,
    apply: str | None = None,
    restore: str | None = None,
    yes: bool = False,
    permanent: bool = False,
    make_public: bool = False,
    fleet: bool = False,
    list: str | None = None,
    references: tuple[str, ...] = (),
    owner: tuple[str, ...] = (),
    all: bool = False,
    wide: bool = False,
) -> None:
    """Show which old AMIs nothing needs, and remove them with --yes."""
    from gpu_ami.cleanup import cleanup as command
    from gpu_ami.cleanup.policy import Flags

    flags = Flags(
        older_than=older_than,
        keep=keep,
        name=name,
        tag=tag,
        all_owned=all_owned,
        mode=mode,
        include_shared=include_shared,
        usage_reports=usage_reports,
        max_deletions=max_deletions,
        skip_source=skip_source,
        allow_no_references=allow_no_references,
        template_versions=template_versions,
    )
    request = command.Request(
        flags=flags,
        regions=(regions,) if regions else (),
        accounts=account,
        orphans=orphans,
        plan=plan,
        apply=apply,
        restore=restore,
        yes=yes,
        permanent=permanent,
        make_public=make_public,
        fleet=fleet,
        list=list,
        references=references,
        owners=owner,
        all=all,
        wide=wide,
    )
    command.run(run, request)


@pipeline_task(
    ROOT,
    takes="one",
    list="The list that `invoke fleet --out` wrote.",
    shard="Which shard of that list, such as 3/20.",
    out="Write what was seen to this file, whose name ends with .jsonl.gz.",
    older_than="As for cleanup. Give it, and the other flags that decide, alike for every part and for the plan.",
    keep="Newest AMIs of each family that stay; default from pipeline.yaml, 0 only when said.",
    name="Only AMIs whose name matches this pattern.",
    tag="Only AMIs with this tag, as KEY=VALUE; repeatable.",
    mode="delete, disable or deprecate.",
    include_shared="AMIs shared with others may go too.",
    max_deletions="At most so many AMIs in one run.",
    skip_source="Do not query this source; repeatable. Never instances, templates, groups, Batch, parameters.",
    allow_no_references="Go on although nothing in an account needs any AMI.",
    template_versions="all, or how many of the newest versions of each launch template count.",
)
def survey(
    run: Invocation,
    *,
    list: str | None = None,
    shard: str | None = None,
    out: str | None = None,
    older_than: str | None = None,
    keep: str | None = None,
    name: str | None = None,
    tag: tuple[str, ...] = (),
    mode: str | None = None,
    include_shared: bool = False,
    max_deletions: str | None = None,
    skip_source: tuple[str, ...] = (),
    allow_no_references: bool = False,
    template_versions: str | None = None,
) -> None:
    """Read one part of a fleet's accounts into a file, by which cleanup --references plans; changes nothing."""
    from gpu_ami.cleanup import survey as command
    from gpu_ami.cleanup.policy import Flags

    flags = Flags(
        older_than=older_than,
        keep=keep,
        name=name,
        tag=tag,
        mode=mode,
        include_shared=include_shared,
        max_deletions=max_deletions,
        skip_source=skip_source,
        allow_no_references=allow_no_references,
        template_versions=template_versions,
    )
    command.run(run, command.Request(list=list, shard=shard, out=out, flags=flags))


@pipeline_task(
    ROOT,
    takes="each",
    older_than="Only builds older than this; never less than a build can take.",
    regions="Regions joined by commas; default from pipeline.yaml.",
    skip_source="Do not query this kind; repeatable.",
    allow_no_references="Unfinished AMIs may go although nothing in the account needs any AMI.",
    yes="Remove it.",
    fleet="In all accounts of the fleet: what one of them needs, the others keep.",
)
def sweep(
    run: Invocation,
    *,
    older_than: str | None = None,
    regions: str | None = None,
    skip_source: tuple[str, ...] = (),
    allow_no_references: bool = False,
    yes: bool = False,
    fleet: bool = False,
) -> None:
    """Show what incomplete builds, verifications and benches left behind, and remove it with --yes."""
    from gpu_ami.cleanup import sweep as command

    request = command.Request(
        older_than=older_than,
        regions=(regions,) if regions else (),
        skip_source=skip_source,
        allow_no_references=allow_no_references,
        yes=yes,
        fleet=fleet,
    )
    command.run(run, request)


@pipeline_task(ROOT, takes="none", regions="Regions joined by commas; default from pipeline.yaml.")
def matrix(run: Invocation, *, regions: str | None = None) -> None:
    """Show the families and regions as a workflow's matrix, for fromJSON."""
    from gpu_ami.github import matrix as command

    command.run(run, command.Request(regions=regions))


@pipeline_task(ROOT, takes="none")
def sandbox(run: Invocation) -> None:
    """Keep the local AWS and guest running for later --sandbox tasks, until Ctrl-C."""
    run.serve_sandbox()
