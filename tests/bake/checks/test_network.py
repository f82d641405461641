"""The verdicts on routes, endpoints and security groups."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.vpc import Endpoint, Group, Network, Route, Rule, Subnet
from gpu_ami.bake.checks import network
from gpu_ami.bake.checks.check import Check
from tests.bake.checks.bakes import a_bake

LOCAL = Route("10.0.0.0/16", "local")
OUT = Rule("tcp", (443, 443), ("0.0.0.0/0",))
ENDPOINTS = (Endpoint("ecr.api", "Interface"), Endpoint("ecr.dkr", "Interface"), Endpoint("s3", "Gateway"))
TUNNEL = (Endpoint("ssm", "Interface"), Endpoint("ssmmessages", "Interface"))


def a_network(*routes: Route, endpoints: tuple[Endpoint, ...] = (), public: bool = False, free: int = 9) -> Network:
    """Return a subnet with these routes besides the local one."""
    subnet = Subnet("subnet-1", "vpc-1", "za", gives_public_address=public, free_addresses=free)
    return Network(subnet, "rtb-1", is_main=False, routes=(LOCAL, *routes), endpoints=endpoints)


def default(target: str, state: str = "active") -> Route:
    """Return the route to everywhere."""
    return Route("0.0.0.0/0", target, state)


@pytest.mark.parametrize(
    ("changed", "found", "status", "said"),
    [
        ({}, a_network(default("igw-1")), "ok", "internet gateway igw-1"),
        ({"ssh_interface": "private_ip"}, a_network(default("igw-1")), "fail", "no public address"),
        ({"ssh_interface": "private_ip"}, a_network(default("igw-1"), public=True), "ok", "igw-1"),
        ({}, a_network(default("nat-1")), "fail", "cannot reach a public address"),
        ({"ssh_host": "127.0.0.1"}, a_network(default("nat-1")), "ok", "NAT gateway nat-1"),
        ({"ssh_interface": "session_manager"}, a_network(default("nat-1")), "ok", "NAT gateway nat-1"),
        ({"ssh_interface": "private_ip"}, a_network(default("tgw-1")), "warn", "goes through tgw-1"),
        ({}, a_network(default("tgw-1")), "fail", "cannot reach a public address"),
        ({}, a_network(default("igw-1", "blackhole")), "fail", "is a blackhole"),
        ({}, a_network(default("igw-1"), free=0), "fail", "no free address"),
        ({}, a_network(), "fail", "no endpoint for ecr.api, ecr.dkr, s3"),
        ({}, a_network(Route("::/0", "igw-1")), "fail", "no route to 0.0.0.0/0"),
        ({"ssh_interface": "private_ip"}, a_network(endpoints=ENDPOINTS), "ok", "endpoints for ecr.api, ecr.dkr, s3"),
        ({"ssh_interface": "private_ip"}, a_network(endpoints=ENDPOINTS[:2]), "fail", "no endpoint for s3"),
        ({}, a_network(endpoints=ENDPOINTS), "fail", "cannot reach a public address"),
        ({"ssh_interface": "session_manager"}, a_network(endpoints=ENDPOINTS), "fail", "for ssm, ssmmessages"),
        ({"ssh_interface": "session_manager"}, a_network(endpoints=ENDPOINTS + TUNNEL), "ok", "ssmmessages"),
        (
            {"ssh_interface": "private_ip", "model_downloads": [{}]},
            a_network(endpoints=ENDPOINTS),
            "warn",
            "no way to the internet",
        ),
        (
            {"ssh_interface": "private_ip"},
            a_network(endpoints=(Endpoint("ecr.api", "Interface", private_dns=False), *ENDPOINTS[1:])),
            "fail",
            "no endpoint for ecr.api",
        ),
    ],
)
def test_route(changed: dict[str, Any], found: Network, status: str, said: str) -> None:
    """A way out for the builder, and a way in for Packer."""
    check = network.route("network", a_bake(**changed), found)

    assert (check.status, said in check.detail) == (status, True)
    assert (check.fix == "") == (status == "ok")


def test_the_main_table_is_named_as_such() -> None:
    """A subnet without a table of its own follows the VPC's; people search for it in the wrong table."""
    found = a_network(default("igw-1"))
    main = Network(found.subnet, "rtb-9", is_main=True, routes=found.routes)

    assert "main route table rtb-9" in network.route("network", a_bake(), main).detail


_TARGETS = st.sampled_from(["igw-1", "nat-1", "tgw-1", "local", "eni-1"])
_ROUTES = st.builds(
    Route, st.sampled_from(["0.0.0.0/0", "::/0", "10.1.0.0/16"]), _TARGETS, st.sampled_from(["active", "blackhole"])
)


@given(
    routes=st.lists(_ROUTES, max_size=4),
    endpoints=st.lists(st.sampled_from(ENDPOINTS + TUNNEL), max_size=4),
    ssh=st.sampled_from(["public_ip", "private_ip", "session_manager"]),
    public=st.booleans(),
)
def test_ok_means_that_there_is_a_way_out(
    routes: list[Route], endpoints: list[Endpoint], ssh: str, public: bool
) -> None:
    """Whatever the table holds: never ok without an active gateway, or all endpoints."""
    found = a_network(*routes, endpoints=tuple(endpoints), public=public)

    check = network.route("network", a_bake(ssh_interface=ssh), found)

    way_out = any(
        r.destination == "0.0.0.0/0" and r.state == "active" and r.target[:3] in ("igw", "nat") for r in routes
    )
    if check.status == "ok":
        assert way_out or set(ENDPOINTS) <= set(endpoints)


def judged(group: Group | None, *callers: str, vpc_id: str | None = "vpc-1", **changed: Any) -> Check:
    """Return the verdict on a group."""
    return network.security_group(a_bake(**changed), group, vpc_id=vpc_id, callers=callers, region="r")


def a_group(*ingress: Rule, egress: tuple[Rule, ...] = (OUT,)) -> Group:
    """Return a group that lets HTTPS out."""
    return Group("sg-1", "vpc-1", ingress, egress)


def ssh(*cidrs: str, others: tuple[str, ...] = ()) -> Rule:
    """Return a rule that lets SSH in."""
    return Rule("tcp", (22, 22), cidrs, others)


@pytest.mark.parametrize(
    ("group", "callers", "changed", "status", "said"),
    [
        (None, [], {"security_group_id": ""}, "ok", "temporary"),
        (None, [], {"security_group_id": "", "ssh_interface": "private_ip"}, "fail", "nobody knows whom to let in"),
        (None, [], {}, "fail", "sg-1 not found in r"),
        (Group("sg-1", "vpc-2", (), (OUT,)), [], {}, "fail", "is in vpc-2, the subnet in vpc-1"),
        (a_group(egress=()), [], {}, "fail", "no HTTPS (443) out"),
        (a_group(egress=(Rule("udp", (443, 443), ("0.0.0.0/0",)),)), [], {}, "fail", "no HTTPS (443) out"),
        (a_group(egress=(Rule("tcp", (80, 442), ("0.0.0.0/0",)),)), [], {}, "fail", "no HTTPS (443) out"),
        (a_group(), [], {"ssh_host": "h"}, "ok", "a guest takes the builder's place"),
        (a_group(), [], {"ssh_interface": "session_manager"}, "ok", "nothing needs to come in"),
        (a_group(), ["203.0.113.7"], {}, "fail", "no SSH (22) in"),
        (a_group(ssh("203.0.113.0/24")), ["203.0.113.7"], {}, "ok", "SSH (22) in"),
        (a_group(ssh("203.0.113.0/24")), ["203.0.113.0/28"], {}, "ok", "SSH (22) in"),
        (a_group(ssh("203.0.113.0/28")), ["203.0.113.0/24"], {}, "fail", "not from 203.0.113.0/24"),
        (a_group(ssh("198.51.100.0/24")), ["203.0.113.7"], {}, "fail", "not from 203.0.113.7"),
        (a_group(ssh("2001:db8::/32")), ["2001:db8::1"], {}, "ok", "SSH (22) in"),
        (a_group(ssh("2001:db8::/32")), ["203.0.113.7"], {}, "fail", "not from 203.0.113.7"),
        (a_group(ssh("198.51.100.0/24")), [], {}, "warn", "is not known"),
        (a_group(ssh(others=("pl-1",))), ["203.0.113.7"], {}, "warn", "from pl-1"),
        (a_group(ssh("0.0.0.0/0")), ["203.0.113.7"], {}, "warn", "the whole internet"),
        (a_group(Rule("-1", None, ("203.0.113.7/32",))), ["203.0.113.7"], {}, "ok", "SSH (22) in"),
        (a_group(egress=(Rule("-1", None, ("0.0.0.0/0",)),)), [], {"ssh_host": "h"}, "ok", "443"),
        (a_group(egress=(Rule("tcp", (0, 65535), ("::/0",)),)), [], {"ssh_host": "h"}, "ok", "443"),
        (a_group(egress=(Rule("tcp", (443, 443), (), ("pl-s3",)),)), [], {"ssh_host": "h"}, "warn", "only to pl-s3"),
        (a_group(egress=(Rule("tcp", (443, 443), ()),)), [], {"ssh_host": "h"}, "warn", "only to nobody"),
    ],
)
def test_security_group(
    group: Group | None, callers: list[str], changed: dict[str, Any], status: str, said: str
) -> None:
    """443 out, 22 in where Packer comes in by it; the fix is a command to paste."""
    check = judged(group, *callers, **changed)

    assert (check.status, said in check.detail) == (status, True)
    assert (check.fix == "") == (status == "ok")


def test_an_unknown_vpc_is_not_another_one() -> None:
    """The line `network` says what is wrong with the subnet."""
    assert judged(a_group(), vpc_id=None, ssh_host="h").status == "ok"


_ADDRESSES = st.ip_addresses(v=4)
_NETWORKS = st.builds(
    lambda address, bits: str(ipaddress.ip_network(f"{address}/{bits}", strict=False)), _ADDRESSES, st.integers(1, 32)
)


@given(cidrs=st.lists(_NETWORKS, min_size=1, max_size=4), caller=_ADDRESSES)
def test_the_caller_gets_in_exactly_where_a_rule_has_its_address(cidrs: list[str], caller: Any) -> None:
    """Against ipaddress's own arithmetic."""
    check = judged(a_group(ssh(*cidrs)), str(caller))

    assert (check.status == "ok") == any(caller in ipaddress.ip_network(cidr) for cidr in cidrs)
