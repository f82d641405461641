"""Judges whether the builder can reach ECR, S3 and the package mirrors, and Packer the builder."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from gpu_ami.aws.vpc import Endpoint, Group, Network, Route, Rule
from gpu_ami.bake.checks.check import Check
from gpu_ami.bake.variables import BuildVariables

_HTTPS, _SSH = 443, 22
_ANYWHERE = ("0.0.0.0/0", "::/0")
# Without a way to the internet: the image, its layers and the package mirrors of Amazon Linux (both in S3).
_ENDPOINTS = ("ecr.api", "ecr.dkr", "s3")
_TUNNEL = ("ssm", "ssmmessages")
_GROUP = "security group"


def no_subnet(name: str, subnet_id: str, region: str) -> Check:
    """Return the verdict on a subnet that is not there."""
    if not subnet_id:
        fix = "Set subnet_id in the Packer variables, or run `invoke init`."
        return Check(name, "fail", "subnet_id is not set", fix)
    fix = "Fix subnet_id in the Packer variables: is the region right?"
    return Check(name, "fail", f"{subnet_id} not found in {region}", fix)


def route(name: str, variables: BuildVariables, found: Network) -> Check:
    """Judge the builder's way out of its subnet, and Packer's way in."""
    subnet = found.subnet.subnet_id
    table = f"{subnet}, {'main ' if found.is_main else ''}route table {found.table_id or 'unknown'}"
    if not found.subnet.free_addresses:
        return Check(
            name, "fail", f"{subnet} has no free address", "Choose a subnet with room, or end what runs there."
        )
    way = next((route for route in found.routes if route.destination == "0.0.0.0/0"), None)
    if way is not None and way.state != "active":
        return Check(
            name,
            "fail",
            f"{table}: the default route to {way.target} is a {way.state}",
            "Point 0.0.0.0/0 at a gateway that exists.",
        )
    if way is None:
        return _without_internet(name, variables, found, table)
    if way.target.startswith("igw-"):
        return _internet_gateway(name, variables, found, table, way)
    if variables.ssh_interface == "public_ip" and variables.is_reached_directly:
        return _no_way_in(name, f"{table}: 0.0.0.0/0 goes through {way.target}")
    if way.target.startswith("nat-"):
        return Check(name, "ok", f"{table}: NAT gateway {way.target}")
    return Check(
        name,
        "warn",
        f"{table}: 0.0.0.0/0 goes through {way.target}",
        "Make sure that ECR, S3 and the package mirrors can be reached through it: what lies behind was not checked.",
    )


def _internet_gateway(name: str, variables: BuildVariables, found: Network, table: str, way: Route) -> Check:
    if variables.ssh_interface == "public_ip" or found.subnet.gives_public_address:
        return Check(name, "ok", f"{table}: internet gateway {way.target}")
    return Check(
        name,
        "fail",
        f"{table}: internet gateway {way.target}, but the builder gets no public address to use it with",
        'Set ssh_interface = "public_ip", or choose a subnet behind a NAT gateway.',
    )


def _no_way_in(name: str, said: str) -> Check:
    return Check(
        name,
        "fail",
        f"{said}: Packer cannot reach a public address there",
        'Set ssh_interface to "session_manager" (or "private_ip" from inside the VPC), or choose a subnet whose '
        "0.0.0.0/0 goes to an internet gateway.",
    )


def _without_internet(name: str, variables: BuildVariables, found: Network, table: str) -> Check:
    needed = (*_ENDPOINTS, *(_TUNNEL if variables.ssh_interface == "session_manager" else ()))
    missing = [service for service in needed if not _has(found.endpoints, service)]
    if missing:
        return Check(
            name,
            "fail",
            f"{table}: no route to 0.0.0.0/0, and no endpoint for {', '.join(missing)}",
            "Add a route to an internet gateway or NAT gateway, or VPC endpoints (private DNS on) for what is missing.",
        )
    if variables.ssh_interface == "public_ip" and variables.is_reached_directly:
        return _no_way_in(name, f"{table}: endpoints only")
    said = f"{table}: endpoints for {', '.join(needed)}"
    if variables.model_downloads:
        fix = (
            "Put the models of model_downloads and models.yaml into the bucket, unless their addresses are reached "
            "through an endpoint."
        )
        return Check(name, "warn", f"{said}, no way to the internet", fix)
    return Check(name, "ok", said)


def _has(endpoints: Sequence[Endpoint], service: str) -> bool:
    return any(endpoint.service == service and endpoint.private_dns for endpoint in endpoints)


def security_group(
    variables: BuildVariables, found: Group | None, *, vpc_id: str | None, callers: Sequence[str], region: str
) -> Check:
    """Judge what the builder's security group lets out and in.

    Args:
        variables: The bake's variables.
        found: The group; None when EC2 has no such.
        vpc_id: The subnet's VPC; None when it is not known.
        callers: Where Packer comes from, as addresses or CIDRs; empty when nobody knows.
        region: Where it was looked for.
    """
    if not variables.security_group_id:
        if variables.ssh_interface == "private_ip" and variables.is_reached_directly and not variables.caller_cidrs:
            detail = "a temporary one, and nobody knows whom to let in: ssh_interface is private_ip"
            return Check(_GROUP, "fail", detail, "Set caller_cidrs to this machine's private address (10.0.0.7/32).")
        return Check(_GROUP, "ok", "a temporary one, which lets everything out and only the caller in")
    fix = "Fix security_group_id in the Packer variables, or leave it empty for a temporary one."
    if found is None:
        return Check(_GROUP, "fail", f"{variables.security_group_id} not found in {region}", fix)
    if vpc_id is not None and found.vpc_id != vpc_id:
        return Check(_GROUP, "fail", f"{found.group_id} is in {found.vpc_id}, the subnet in {vpc_id}", fix)
    out = [rule for rule in found.egress if rule.covers(_HTTPS)]
    if not out:
        return Check(
            _GROUP,
            "fail",
            f"{found.group_id} lets no HTTPS (443) out: ECR, S3 and the package mirrors cannot be reached",
            f"aws ec2 authorize-security-group-egress --group-id {found.group_id} --protocol tcp --port 443 --cidr "
            "0.0.0.0/0",
        )
    if variables.is_reached_directly and variables.ssh_interface != "session_manager":
        inward = _ingress(found, callers)
        if inward is not None:
            return inward
    if not any(cidr in _ANYWHERE for rule in out for cidr in rule.cidrs):
        return Check(
            _GROUP,
            "warn",
            f"{found.group_id} lets HTTPS (443) out only to {_whom(out)}",
            "Make sure that ECR, S3 and the package mirrors are among them.",
        )
    return Check(_GROUP, "ok", f"{found.group_id} lets HTTPS (443) out{_way_in(variables)}")


def _way_in(variables: BuildVariables) -> str:
    if not variables.is_reached_directly:
        return "; SSH (22) is not needed, a guest takes the builder's place"
    return "; nothing needs to come in" if variables.ssh_interface == "session_manager" else " and SSH (22) in"


def _ingress(found: Group, callers: Sequence[str]) -> Check | None:
    """Return what is wrong with Packer's way in; None for nothing."""
    rules = [rule for rule in found.ingress if rule.covers(_SSH)]
    address = next(iter(callers), "YOUR-ADDRESS/32")
    fix = (
        f"aws ec2 authorize-security-group-ingress --group-id {found.group_id} --protocol tcp --port 22 --cidr "
        f"{address if '/' in address else f'{address}/32'}, or leave security_group_id empty for a temporary group."
    )
    if not rules:
        return Check(_GROUP, "fail", f"{found.group_id} lets no SSH (22) in", fix)
    if any(cidr in _ANYWHERE for rule in rules for cidr in rule.cidrs):
        text = f"{found.group_id} lets SSH (22) in from the whole internet"
        return Check(_GROUP, "warn", text, "Let only the callers in, or leave security_group_id empty.")
    if callers and all(_lets_in(rules, caller) for caller in callers):
        return None
    if callers and not any(rule.others for rule in rules):
        return Check(_GROUP, "fail", f"{found.group_id} lets SSH (22) in from {_whom(rules)}, not from {address}", fix)
    return Check(
        _GROUP,
        "warn",
        f"{found.group_id} lets SSH (22) in from {_whom(rules)}; whether this machine is among them is not known",
        "Make sure that it is.",
    )


def _lets_in(rules: Sequence[Rule], caller: str) -> bool:
    source = ipaddress.ip_network(caller, strict=False)
    for cidr in (cidr for rule in rules for cidr in rule.cidrs):
        allowed = ipaddress.ip_network(cidr, strict=False)
        if allowed.version == source.version and source.subnet_of(allowed):  # type: ignore[arg-type]
            return True
    return False


def _whom(rules: Sequence[Rule]) -> str:
    return ", ".join(dict.fromkeys(source for rule in rules for source in (*rule.cidrs, *rule.others))) or "nobody"
