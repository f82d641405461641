"""Reads a subnet's routes and endpoints and a security group's rules from EC2; judging them is left to the callers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_ami.aws.caller import Caller, RefusedError


@dataclass(frozen=True)
class Subnet:
    """A subnet.

    Attributes:
        subnet_id: Its id.
        vpc_id: Its VPC.
        zone: Its availability zone, such as ``ap-northeast-2a``.
        gives_public_address: Whether instances get a public address unless told otherwise.
        free_addresses: How many instances it has room for.
    """

    subnet_id: str
    vpc_id: str
    zone: str
    gives_public_address: bool
    free_addresses: int


@dataclass(frozen=True)
class Route:
    """One route: where to (a CIDR or a prefix list), through what (``igw-…``, ``nat-…``, ``local``), and its state."""

    destination: str
    target: str
    state: str = "active"


@dataclass(frozen=True)
class Endpoint:
    """A VPC endpoint that the subnet can use.

    Attributes:
        service: Short name, such as ``ecr.api`` or ``s3``.
        kind: ``Gateway`` or ``Interface``.
        private_dns: Whether the service's public name leads to it.
    """

    service: str
    kind: str
    private_dns: bool = True


@dataclass(frozen=True)
class Network:
    """A subnet with the routes and endpoints that hold for it.

    Attributes:
        subnet: The subnet.
        table_id: Its route table; empty when EC2 shows none.
        is_main: Whether that is the VPC's main table, because the subnet has none of its own.
        routes: Its routes.
        endpoints: The available endpoints.
    """

    subnet: Subnet
    table_id: str
    is_main: bool
    routes: tuple[Route, ...]
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of a security group.

    Attributes:
        protocol: ``tcp``, ``udp``, … or ``-1`` for all.
        ports: First and last port; None is every port.
        cidrs: Whom it is about, IPv4 and IPv6.
        others: Security groups and prefix lists that it is about.
    """

    protocol: str
    ports: tuple[int, int] | None
    cidrs: tuple[str, ...]
    others: tuple[str, ...] = ()

    def covers(self, port: int) -> bool:
        """Return whether the rule is about TCP *port*."""
        if self.protocol not in ("tcp", "6", "-1"):
            return False
        return self.protocol == "-1" or self.ports is None or self.ports[0] <= port <= self.ports[1]


@dataclass(frozen=True)
class Group:
    """A security group: its VPC and what it lets in and out."""

    group_id: str
    vpc_id: str
    ingress: tuple[Rule, ...]
    egress: tuple[Rule, ...]


def subnet(caller: Caller, subnet_id: str) -> Subnet | None:
    """Return the subnet *subnet_id*; None when EC2 does not know it.

    Raises:
        AwsError: EC2 refused for another reason.
    """
    found = _known(caller, subnet_id, "describe_subnets", "Subnets", SubnetIds=[subnet_id])
    if found is None:
        return None
    return Subnet(
        subnet_id=subnet_id,
        vpc_id=found["VpcId"],
        zone=found["AvailabilityZone"],
        gives_public_address=bool(found.get("MapPublicIpOnLaunch")),
        free_addresses=int(found["AvailableIpAddressCount"]),
    )


def default_vpc(caller: Caller) -> str | None:
    """Return the id of the region's default VPC; None when it has none.

    Raises:
        AwsError: EC2 refused.
    """
    mine = [{"Name": "is-default", "Values": ["true"]}]
    found = caller.pages("ec2", "describe_vpcs", "Vpcs", doing="look up the default VPC", Filters=mine)
    return next((str(vpc["VpcId"]) for vpc in found), None)


def network(caller: Caller, of: Subnet) -> Network:
    """Return the routes and endpoints of a subnet; without an association of its own, those of the VPC's main table.

    Raises:
        AwsError: EC2 refused.
    """
    in_vpc = [{"Name": "vpc-id", "Values": [of.vpc_id]}]
    routing = f"look up the routes of {of.subnet_id}"
    tables = list(caller.pages("ec2", "describe_route_tables", "RouteTables", doing=routing, Filters=in_vpc))
    ending = f"look up the endpoints of {of.vpc_id}"
    endpoints = list(caller.pages("ec2", "describe_vpc_endpoints", "VpcEndpoints", doing=ending, Filters=in_vpc))
    own = [table for table in tables if _associated(table, lambda a: a.get("SubnetId") == of.subnet_id)]
    main = [table for table in tables if _associated(table, lambda a: bool(a.get("Main")))]
    table: Mapping[str, Any] = next(iter(own or main), {})
    table_id = str(table.get("RouteTableId", ""))
    return Network(
        subnet=of,
        table_id=table_id,
        is_main=not own,
        routes=tuple(map(_route, table.get("Routes", []))),
        endpoints=tuple(_endpoint(entry) for entry in endpoints if _usable(entry, table_id)),
    )


def security_group(caller: Caller, group_id: str) -> Group | None:
    """Return the security group *group_id*; None when EC2 does not know it.

    Raises:
        AwsError: EC2 refused for another reason.
    """
    found = _known(caller, group_id, "describe_security_groups", "SecurityGroups", GroupIds=[group_id])
    if found is None:
        return None
    return Group(
        group_id=group_id,
        vpc_id=found["VpcId"],
        ingress=tuple(map(_rule, found["IpPermissions"])),
        egress=tuple(map(_rule, found["IpPermissionsEgress"])),
    )


def public_address(timeout_s: float = 3.0) -> str | None:
    """Return the public address of this machine as Amazon sees it; None when that cannot be found out.

    Packer asks the same service where it makes a temporary security group.
    """
    import http.client
    import ipaddress

    connection = http.client.HTTPSConnection("checkip.amazonaws.com", timeout=timeout_s)
    try:
        connection.request("GET", "/")
        return str(ipaddress.ip_address(connection.getresponse().read(64).decode("ascii").strip()))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _known(caller: Caller, identifier: str, operation: str, key: str, **parameters: Any) -> Mapping[str, Any] | None:
    """Return the first row of the answer's list *key*; None when EC2 does not know the *identifier*."""
    try:
        return next(caller.pages("ec2", operation, key, doing=f"look up {identifier}", **parameters), None)
    except RefusedError as exc:
        # InvalidSubnetID.NotFound, InvalidGroup.NotFound, InvalidGroupId.Malformed, …
        if exc.code.endswith((".NotFound", ".Malformed")):
            return None
        raise


def _associated(table: Mapping[str, Any], fits: Callable[[Mapping[str, Any]], bool]) -> bool:
    return any(fits(association) for association in table.get("Associations", []))


def _route(entry: Mapping[str, Any]) -> Route:
    destinations = ("DestinationCidrBlock", "DestinationIpv6CidrBlock", "DestinationPrefixListId")
    # The API has one field per kind of target; each id says itself of which kind it is.
    targets = (
        "GatewayId",
        "NatGatewayId",
        "TransitGatewayId",
        "VpcPeeringConnectionId",
        "NetworkInterfaceId",
        "InstanceId",
        "LocalGatewayId",
        "CarrierGatewayId",
        "EgressOnlyInternetGatewayId",
        "CoreNetworkArn",
    )
    return Route(_first(entry, destinations), _first(entry, targets), str(entry.get("State", "active")))


def _first(entry: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(entry[name]) for name in names if entry.get(name)), "")


def _usable(entry: Mapping[str, Any], table_id: str) -> bool:
    """Return whether an endpoint is up and serves the subnet: a gateway by its route table, others from any subnet."""
    if str(entry.get("State", "")).lower() != "available":
        return False
    return entry.get("VpcEndpointType") != "Gateway" or table_id in entry.get("RouteTableIds", [])


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    # com.amazonaws.ap-northeast-2.ecr.api
    service = ".".join(str(entry["ServiceName"]).split(".")[3:])
    kind = str(entry["VpcEndpointType"])
    return Endpoint(service, kind, kind == "Gateway" or bool(entry.get("PrivateDnsEnabled")))


def _rule(entry: Mapping[str, Any]) -> Rule:
    first, last = entry.get("FromPort"), entry.get("ToPort")
    cidrs = [r["CidrIp"] for r in entry.get("IpRanges", [])] + [r["CidrIpv6"] for r in entry.get("Ipv6Ranges", [])]
    lists = [r["PrefixListId"] for r in entry.get("PrefixListIds", [])]
    groups = [r["GroupId"] for r in entry.get("UserIdGroupPairs", []) if "GroupId" in r]
    ports = None if first is None or last is None or first == -1 else (int(first), int(last))
    return Rule(str(entry["IpProtocol"]), ports, tuple(cidrs), (*groups, *lists))
