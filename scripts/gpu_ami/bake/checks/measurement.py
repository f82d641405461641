"""The checks of what `invoke bench` needs, where the settings ask for a bench before an apply.

None of them keeps a build from starting: a bench comes after it, and there is time to mend what they find.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gpu_ami.aws import batch, capacity, iam
from gpu_ami.aws.batch import Environment
from gpu_ami.aws.capacity import InstanceType, Quota
from gpu_ami.bake.checks.catalog import CheckSpec
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.checks.lookups import Lookups
from gpu_ami.bake.checks.permissions import Scene
from gpu_ami.records.tags import BENCH_NAME, BENCH_RUN, FAMILY_TAG, PIPELINE, PIPELINE_TAG, RUN_TAG
from gpu_ami.settings import Settings

RIGHTS, ENVIRONMENT, QUOTA = "bench permissions", "bench environment", "bench quota"
_MARKET: capacity.Market = "on-demand"
# stock, plain, rated, live: a round has a host of each.
_MOST_ARMS = 4
_ALLOW = (
    "Set allow_bench = true in terraform/terraform.tfvars, apply it as an administrator, and put "
    "`terraform output -raw bench_policy_json` on the role of whoever runs `invoke bench`."
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The benches that the settings ask for.

    Attributes:
        family: Of which AMIs.
        instance_type: The type of the hosts.
        arms: How many hosts a round has: each waits for all.
        is_required: Whether nothing is applied without one.
    """

    family: str
    instance_type: str
    arms: int
    is_required: bool

    @property
    def lacking(self) -> Literal["fail", "warn"]:
        """How bad it is that no bench can run."""
        return "fail" if self.is_required else "warn"


@dataclass(frozen=True)
class Needed:
    """Some of a bench's actions on one of its resources, with what its requests have for the conditions of a policy."""

    actions: tuple[str, ...]
    resource: str
    context: Mapping[str, Sequence[str]]


def wanted(settings: Settings) -> Wanted | None:
    """Return what the settings ask for; None where they ask for no bench."""
    if settings.promotion.bench == "off":
        return None
    return Wanted(
        family=settings.family,
        instance_type=settings.bench_type,
        arms=len(settings.bench.arms) or _MOST_ARMS,
        is_required=settings.promotion.bench == "required",
    )


def specs(lookups: Lookups, wants: Wanted | None) -> Iterator[CheckSpec]:
    """Yield the checks; none where nothing is asked for. One whose look-up is denied is skipped and names the right."""
    if wants is None:
        return
    runs: tuple[tuple[str, Callable[[], Check], str], ...] = (
        (RIGHTS, lambda: _rights(lookups, wants), "iam:SimulatePrincipalPolicy"),
        (
            ENVIRONMENT,
            lambda: judge_environment(wants, batch.environments(lookups.caller)),
            "batch:DescribeComputeEnvironments",
        ),
        (
            QUOTA,
            lambda: _quota(lookups, wants),
            "servicequotas:GetServiceQuota, ec2:DescribeInstances and ec2:DescribeInstanceTypes",
        ),
    )
    for name, run, permission in runs:
        yield CheckSpec(name, _harmless(run), permission, is_blocking=False, needs_permission=False)


def _harmless(run: Callable[[], Check]) -> Callable[[], Check]:
    return lambda: dataclasses.replace(run(), is_blocking=False)


def needed(scene: Scene, family: str) -> tuple[Needed, ...]:
    """Return what a bench does that a policy can bind; what it only looks at is not among it."""
    tags = {PIPELINE_TAG: PIPELINE, FAMILY_TAG: family, RUN_TAG: f"{BENCH_RUN}20260101T000000Z-000000"}
    made, own = ({f"aws:{key}/{tag}": [value] for tag, value in tags.items()} for key in ("RequestTag", "ResourceTag"))
    here = f"{scene.region}:{scene.account}"
    batch_, name = f"arn:{scene.partition}:batch:{here}", f"{BENCH_NAME}000000-1-plain"
    template = f"arn:{scene.partition}:ec2:{here}:launch-template/lt-00000000000000000"
    ends = ("Update", "Delete")
    return (
        Needed(("batch:CreateComputeEnvironment", "batch:TagResource"), f"{batch_}:compute-environment/{name}", made),
        Needed(("batch:CreateJobQueue", "batch:TagResource", "batch:SubmitJob"), f"{batch_}:job-queue/{name}", made),
        Needed(("batch:RegisterJobDefinition", "batch:TagResource"), f"{batch_}:job-definition/{name}", made),
        Needed(("ec2:CreateLaunchTemplate",), template, made),
        # Without these a host would stay, and cost.
        Needed(tuple(f"batch:{end}ComputeEnvironment" for end in ends), f"{batch_}:compute-environment/{name}", own),
        Needed(tuple(f"batch:{end}JobQueue" for end in ends), f"{batch_}:job-queue/{name}", own),
        Needed(("batch:DeregisterJobDefinition",), f"{batch_}:job-definition/{name}:1", own),
        Needed(("ec2:DeleteLaunchTemplate",), template, own),
    )


def _rights(lookups: Lookups, wants: Wanted) -> Check:
    who = lookups.identity().arn
    if who.endswith(":root"):
        return Check(RIGHTS, "ok", "the root user may do everything")
    principal = lookups.principal()
    if principal is None:
        return judge_rights(wants, who, None)
    answers: dict[str, iam.Answer] = {}
    for part in needed(lookups.scene(), wants.family):
        said = iam.simulate(lookups.caller, principal, part.actions, part.resource, part.context)
        if said is None:
            return judge_rights(wants, principal, None)
        # One action may be about several things, and a bench needs it on each.
        answers |= {action: answer for action, answer in said.items() if answers.get(action, "allowed") == "allowed"}
    return judge_rights(wants, principal, answers)


def judge_rights(wants: Wanted, who: str, answers: Mapping[str, iam.Answer] | None) -> Check:
    """Judge whether whoever runs `invoke doctor` may bench.

    Args:
        wants: What the settings ask for.
        who: By ARN.
        answers: What IAM says, by action; None where it may not be asked.
    """
    name = who.rpartition("/")[2]
    if answers is None or (unsure := sorted(action for action, said in answers.items() if said == "unknown")):
        why = "these credentials may not ask IAM" if answers is None else f"IAM cannot tell of {', '.join(unsure)}"
        text = f"whether {name} may run `invoke bench` is not known: {why}"
        return Check(RIGHTS, "skip", text, f"To have it checked, allow iam:SimulatePrincipalPolicy on {who}.")
    if denied := sorted(action for action, said in answers.items() if said == "denied"):
        text = f"{name} may not {', '.join(denied)}, which `invoke bench` needs"
        return Check(RIGHTS, wants.lacking, text, _ALLOW)
    return Check(RIGHTS, "ok", f"{name} may make what a bench measures on, and take it away; simulated by IAM")


def judge_environment(wants: Wanted, environments: Sequence[Environment]) -> Check:
    """Judge whether there is an environment whose network, profile and template a bench can take."""
    ours = [one.name for one in environments if one.tags.get(FAMILY_TAG) == wants.family and one.kind == "EC2"]
    if ours:
        return Check(ENVIRONMENT, "ok", f"hosts are started as those of {', '.join(sorted(ours))}")
    text = f"no compute environment carries {FAMILY_TAG}={wants.family}: a bench has no network, profile or template"
    return Check(ENVIRONMENT, wants.lacking, text, "Run `invoke apply` first.")


def _quota(lookups: Lookups, wants: Wanted) -> Check:
    kind = capacity.instance_types(lookups.caller, [wants.instance_type]).get(wants.instance_type)
    of_class = capacity.quota_class(wants.instance_type)
    quota = capacity.quota(lookups.caller, capacity.quota_code(of_class, _MARKET)) if of_class else None
    used = capacity.vcpus_in_use(lookups.caller, of_class, _MARKET) if of_class else 0
    return judge_quota(wants, kind, quota, used)


def judge_quota(wants: Wanted, kind: InstanceType | None, quota: Quota | None, used: int) -> Check:
    """Judge whether the quota leaves room for a round's hosts, which start together.

    Args:
        wants: What the settings ask for.
        kind: The hosts' type; None where the region does not have it.
        quota: Of its class; None where Service Quotas knows none.
        used: vCPUs of the class that run now.
    """
    if kind is None:
        text = f"EC2 has no {wants.instance_type} in this region"
        return Check(QUOTA, wants.lacking, text, "Choose another type in bench.instance_type of pipeline.yaml.")
    if quota is None:
        return Check(QUOTA, "skip", f"Service Quotas knows no {_MARKET} quota for {kind.name} here")
    needs, left = wants.arms * kind.vcpus, quota.value - used
    said = f"{left:.0f} of {quota.value:.0f} vCPUs left for the {needs} of a round of {wants.arms} ({quota.name})"
    if left >= needs:
        return Check(QUOTA, "ok", said)
    fix = (
        f"Ask for {used + needs} or more: `aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {quota.code} --desired-value {used + needs}`, or choose a smaller type or fewer arms "
        "(bench.instance_type, bench.arms)."
    )
    return Check(QUOTA, wants.lacking, said, fix)
