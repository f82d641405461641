"""Whether a host was a fresh one of its arm: one reason why it is not, or none.

Only the first task on a new volume counts: a second one finds the page cache warm and the volume filled. What was not
seen is not taken for granted; a host that cannot prove what it was is void, and its pair with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gpu_ami.measure.phases import SKEW_S, at, spans
from gpu_ami.measure.timeline import CUT, NO_LOG, SILENT, Host
from gpu_ami.records.tags import MODELS_BYTES_TAG
from gpu_ami.units import show_bytes, show_count

# What its phases lie between. `asked`, `running`, `first_line` and `ended` are worth knowing and end no phase.
NEEDED = ("submitted", "launched", "kernel_up", "registered", "placed", "started", "imports_done", "models_done")
NEEDED_OF_A_PULL = ("pull_started", "pull_stopped")
# Of DescribeVolumeStatus, for a volume that a rate fills.
_BY_RATE = "provisioned-rate"
_BAKED = ("plain", "rated")
# Of what the live AMI's hosts read; models change, and one that is missing is more than that.
_ENOUGH = 0.9
# Of a host that was there and came to nothing all the same: Batch's words for what no AMI is to blame for. A host that
# EC2 took away ends its job with "Host EC2 (instance i-…) terminated." (Batch's guide, "Automated job retries").
_NOT_ITS_OWN = ("CAPACITY:", "MISCONFIGURATION:", "ACTION_REQUIRED", "Host EC2", NO_LOG)


@dataclass(frozen=True)
class Verdict:
    """A host, and why it does not count.

    Attributes:
        host: The host.
        void: Why it does not count; None where it does.
        missed: What its AMI, or its way to start, has made of it: such a start is no chance of the day, and a job
            would have had it, too. None where nothing of the kind is known.
    """

    host: Host
    void: str | None
    missed: str | None = None


def verdicts(hosts: Sequence[Host], *, has_models: bool = True) -> tuple[Verdict, ...]:
    """Return each of *hosts*, all those of a bench, with why it does not count.

    Args:
        hosts: The hosts.
        has_models: Whether there are models to read on hosts of the baked AMI.
    """
    found = []
    for host in hosts:
        others = [other for other in hosts if other is not host]
        why = void(host, others, has_models=has_models)
        found.append(Verdict(host, why, None if why is None else missed(host, others, has_models=has_models)))
    return tuple(found)


def missed(host: Host, others: Sequence[Host], *, has_models: bool = True) -> str | None:
    """Return what *host* came to nothing by that its AMI or its way to start has caused; None where nothing has.

    Neither a lack of capacity nor a second host, a moment that nobody saw, or a host that was another one's before.

    Args:
        host: The host.
        others: All other hosts of the bench.
        has_models: Whether there are models to read on hosts of the baked AMI.
    """
    if _shared(host, others) or _age(host) or _is_another(host):
        return None
    rules = (failure, _other_image, _pulled, _lost_rate)
    reason = next((found for rule in rules if (found := rule(host)) is not None), None)
    return reason or _few_models(host, others, has_models=has_models)


def failure(host: Host) -> str | None:
    """Return how the job of a host that was there failed, or never ran or ended on it; None where it did not."""
    if not (host.facts.instance_id or host.facts.instances):
        return None
    if host.trouble is None:
        return _failed(host)
    said = f"{host.trouble} {host.facts.status_reason}"
    return None if host.trouble == CUT or any(word in said for word in _NOT_ITS_OWN) else host.trouble


def void(host: Host, others: Sequence[Host], *, has_models: bool = True) -> str | None:
    """Return why *host* does not count, in words; None when it does.

    Args:
        host: The host.
        others: All other hosts of the bench.
        has_models: Whether there are models to read on hosts of the baked AMI.
    """
    reasons = (rule(host) for rule in _BEFORE)
    reason = next((found for found in reasons if found is not None), None) or _shared(host, others)
    reason = reason or next((found for rule in _AFTER if (found := rule(host)) is not None), None)
    return reason or _few_models(host, others, has_models=has_models)


def has_models(tags: Mapping[str, str], paths: Sequence[str]) -> bool:
    """Whether a probe has models to read on hosts of an AMI.

    Args:
        tags: The AMI's: one that was baked without any says so.
        paths: What the probe reads.
    """
    return bool(paths) and tags.get(MODELS_BYTES_TAG) != "0"


def _few_models(host: Host, others: Sequence[Host], *, has_models: bool) -> str | None:
    """Return that a host of the baked AMI read no models, or fewer than the live one: it was fast by leaving them out.

    Docker makes an empty folder of a mounted one that the host does not have.
    """
    read = host.facts.models_bytes
    if host.arm not in _BAKED or read is None:
        return None
    if read == 0 and has_models:
        return "it read no models: nothing is where bench.models says"
    live = max((other.facts.models_bytes or 0 for other in others if other.arm == "live"), default=0)
    if read < _ENOUGH * live:
        return f"it read {show_bytes(read)} of models, and the live AMI's hosts {show_bytes(live)}"
    return None


def _trouble(host: Host) -> str | None:
    return host.trouble


def _failed(host: Host) -> str | None:
    code = host.facts.exit_code
    if code:
        said = f": {host.facts.status_reason}" if host.facts.status_reason else ""
        first = host.moments.get("first_line")
        silent = f"; {SILENT}" if first is not None and first.missing == SILENT else ""
        return f"its job ended with exit code {code}{said}{silent}"
    return None


def _instance(host: Host) -> str | None:
    facts = host.facts
    if not facts.instance_id:
        return "ECS did not say which instance it was"
    if facts.said_instance_id and facts.said_instance_id != facts.instance_id:
        return f"its job ran on {facts.said_instance_id}, and ECS says {facts.instance_id}"
    if not facts.boot_id:
        first = host.moments.get("first_line")
        why = f": {first.missing}" if first is not None and first.missing else ""
        return f"its job did not say which boot it ran in{why}"
    return None


def _alone(host: Host) -> str | None:
    facts = host.facts
    if not facts.instances:
        return "which instances were started for it is not known"
    second = sorted({*facts.instances} - {facts.instance_id})
    if second:
        return f"a second host was started for it: {', '.join(second)}"
    if not facts.tasks:
        return "which tasks its instance had is not known"
    if len({*facts.tasks}) > 1:
        return f"its instance had {show_count(len({*facts.tasks}), 'task')}, and only a first one finds a cold volume"
    if facts.attempts is None:
        return "how many attempts Batch made is not known"
    if facts.attempts != 1:
        return f"Batch made {facts.attempts} attempts"
    return None


def _shared(host: Host, others: Sequence[Host]) -> str | None:
    for other in others:
        whose = f"{other.arm} of round {other.round}"
        if host.facts.instance_id and other.facts.instance_id == host.facts.instance_id:
            return f"{host.facts.instance_id} was reused: {whose} ran there, too"
        if host.facts.boot_id and other.facts.boot_id == host.facts.boot_id:
            return f"{whose} ran in the same boot of the same host"
    return None


def _age(host: Host) -> str | None:
    submitted, launched = at(host, "submitted"), at(host, "launched")
    if submitted is None or launched is None or launched >= submitted - SKEW_S:
        return None
    return f"its instance was launched {submitted - launched:,.1f} s before its job was submitted"


def _what_it_is(host: Host) -> str | None:
    if why := _is_another(host) or _other_image(host):
        return why
    facts = host.facts
    known = {"AMI": facts.ami_id, "type": facts.instance_type, "image's digest": facts.digest, "zone": facts.zone}
    return next((f"its {what} is not known" for what, found in known.items() if not found), None)


def _is_another(host: Host) -> str | None:
    expected, facts = host.expected, host.facts
    if facts.ami_id and facts.ami_id != expected.ami_id:
        return f"its AMI is {facts.ami_id} instead of {expected.ami_id}"
    if facts.instance_type and facts.instance_type != expected.instance_type:
        return f"its type is {facts.instance_type} instead of {expected.instance_type}"
    return None


def _other_image(host: Host) -> str | None:
    found, wanted = host.facts.digest, host.expected.digest
    return f"its image's digest is {found} instead of {wanted}" if found and found != wanted else None


def _pull(host: Host) -> str | None:
    pulled = host.facts.pulled
    if pulled is None:
        return "whether it pulled is not known"
    if why := _pulled(host):
        return why
    if not pulled and not host.expected.is_baked:
        return "nothing was pulled, although the AMI does not hold the image"
    return None


def _pulled(host: Host) -> str | None:
    is_wrong = host.facts.pulled and host.expected.is_baked
    return "the image was pulled, although the AMI holds it" if is_wrong else None


def _volume(host: Host) -> str | None:
    facts, wanted = host.facts, host.expected.rate_mib_s
    if not facts.volume_id:
        return "its root volume was not seen"
    if why := _lost_rate(host):
        return why
    if facts.rate_mib_s != wanted:
        return f"its volume was filled at {facts.rate_mib_s} MiB/s, and its arm has none"
    # Up to five minutes behind, and gone with the host: silence proves nothing, and refutes nothing.
    if facts.volume_kind and (facts.volume_kind == _BY_RATE) != bool(wanted):
        return f"EBS calls its volume's initialization {facts.volume_kind}"
    if facts.volume_kind == "volume-copy":
        return "its volume is a copy of another volume"
    return None


def _lost_rate(host: Host) -> str | None:
    """Return who lost the rate: Batch makes a launch template of its own, and EC2 takes it from there."""
    facts, wanted = host.facts, host.expected.rate_mib_s
    if not wanted or not facts.volume_id or facts.rate_mib_s == wanted:
        return None
    has = f"{facts.rate_mib_s} MiB/s" if facts.rate_mib_s else "no rate"
    said = f"its volume has {has} instead of {wanted} MiB/s"
    if not facts.is_copy_read:
        return f"{said}; whether Batch or EC2 dropped it is not known: Batch's launch template could not be read"
    if facts.copied_rate_mib_s == wanted:
        return f"{said}: EC2 ignored it, Batch's copy of the launch template has it"
    copied = f"{facts.copied_rate_mib_s} MiB/s" if facts.copied_rate_mib_s else "none"
    return f"{said}: Batch dropped it, its copy of the launch template has {copied}"


def _moments(host: Host) -> str | None:
    for name in (*NEEDED, *(() if host.expected.is_baked else NEEDED_OF_A_PULL)):
        moment = host.moments.get(name)
        if moment is None or moment.at is None:
            why = moment.missing if moment is not None else None
            return f"{name} is missing: {why or 'it was not seen'}"
    return None


def _clocks(host: Host) -> str | None:
    for span in spans(host):
        if span.seconds is not None and span.seconds < -SKEW_S:
            return f"{span.ends} is {-span.seconds:,.1f} s before {span.begins}: a clock is wrong"
    return None


def _ended(host: Host) -> str | None:
    return "its job's exit code is not known" if host.facts.exit_code is None else None


_Rule = Callable[[Host], str | None]
# What explains most comes first: a probe that failed has no later moments either.
_BEFORE: tuple[_Rule, ...] = (_trouble, _failed, _instance, _alone)
_AFTER: tuple[_Rule, ...] = (_age, _what_it_is, _pull, _volume, _moments, _clocks, _ended)
