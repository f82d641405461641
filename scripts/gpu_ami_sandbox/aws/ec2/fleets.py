"""Instant fleets, which are how Packer starts a Spot builder: an instance as EC2 makes it, and its Spot request."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.spot_requests import SpotInstanceRequest
from moto.ec2.utils import random_fleet_id, random_spot_request_id

from gpu_ami_sandbox.aws.ec2.instances import Instances
from gpu_ami_sandbox.aws.refusals import refuse

_INSTANT = "instant"
_OVER = ("shutting-down", "terminated")


class _Request(SpotInstanceRequest):
    """A one-time Spot request whose instance exists already; it is closed when the instance ends."""

    def __init__(self, instance: Any, **details: Any) -> None:
        self._started = instance
        super().__init__(**details)

    def launch_instance(self) -> Any:
        """Take the instance there is; moto would start another one, without volumes and network of the template."""
        return self._started

    @property
    def state(self) -> str:
        """What AWS calls the request's state."""
        started = getattr(self, "instance", None)
        return "closed" if started is not None and started.state in _OVER else self._state

    @state.setter
    def state(self, value: str) -> None:
        self._state = value


class _InstantFleet(Fleet):
    """A fleet that has its instances from the start."""

    def __init__(self, requests: list[Any], instances: list[Any], *arguments: Any) -> None:
        self._requests, self._instances = requests, instances
        super().__init__(*arguments)

    def create_spot_requests(self, weight_to_add: float) -> list[SpotInstanceRequest]:
        """Take the requests there are."""
        self.spot_requests = self._requests
        self.fulfilled_capacity += weight_to_add
        return self.spot_requests

    def create_on_demand_requests(self, weight_to_add: float) -> None:
        """Take the instances there are."""
        self.on_demand_instances = [{"id": "", "instance": instance} for instance in self._instances]
        self.fulfilled_capacity += weight_to_add


class InstantFleets(Instances):
    """EC2's fleet actions; moto's instances of a fleet have neither the template's volumes nor its network."""

    def create_fleet(self) -> ActionResult:
        """Start an instant fleet of one template: what RunInstances would start, of the first type that is named."""
        if self._get_param("Type") != _INSTANT:
            return super().create_fleet()
        self.error_on_dryrun()
        capacity = self._get_param("TargetCapacitySpecification")
        is_spot = capacity.get("DefaultTargetCapacityType") == "spot"
        instances = self._started(int(capacity["TotalTargetCapacity"]), is_spot=is_spot)
        requests = [self._request(instance) for instance in instances] if is_spot else []
        options = ("OnDemandOptions", "SpotOptions", "TargetCapacitySpecification", "LaunchTemplateConfigs")
        fleet = _InstantFleet(
            requests,
            instances,
            self.ec2_backend,
            random_fleet_id(),
            *(self._get_param(name, {}) for name in options),
            "termination",
            False,
            True,
            _INSTANT,
            None,
            None,
            self._get_param("TagSpecifications", []),
        )
        self.ec2_backend.fleets[fleet.id] = fleet
        return ActionResult({"FleetId": fleet.id, "Instances": fleet.instances})

    def describe_fleets(self) -> ActionResult:
        """List fleets; instant ones only by their ids, as EC2 does."""
        answer = super().describe_fleets()
        if not self._get_param("FleetIds", []):
            answer.result["Fleets"] = [fleet for fleet in answer.result["Fleets"] if fleet.type != _INSTANT]
        return answer

    def _started(self, count: int, *, is_spot: bool) -> list[Any]:
        configs = self._get_param("LaunchTemplateConfigs", [])
        if len(configs) != 1:
            refuse("InvalidFleetConfiguration", "The sandbox starts fleets of one launch template.")
        named = configs[0]["LaunchTemplateSpecification"]
        data: dict[str, Any] = dict(self.ec2_backend._get_template_from_args(named).data)
        # moto has parsed it already, and would parse it again.
        data["UserData"] = str(data["UserData"]) if data.get("UserData") else None
        override = (configs[0].get("Overrides") or [{}])[0]
        market = {"InstanceMarketOptions": {"MarketType": "spot"}} if is_spot else {}
        before = self.params
        self.params = {"Action": "RunInstances", "MinCount": count, "MaxCount": count} | data | market | override
        try:
            return list(self.run_instances().result.instances)
        finally:
            self.params = before

    def _request(self, instance: Any) -> _Request:
        request = _Request(
            instance,
            ec2_backend=self.ec2_backend,
            spot_request_id=random_spot_request_id(),
            price="",
            image_id=instance.image_id,
            spot_instance_type="one-time",
            valid_from=None,
            valid_until=None,
            launch_group=None,
            availability_zone_group=None,
            key_name=instance.key_name,
            security_groups=[group.id for group in instance.security_groups],
            user_data=instance.user_data,
            instance_type=instance.instance_type,
            placement=instance.placement,
            kernel_id=None,
            ramdisk_id=None,
            monitoring_enabled=False,
            subnet_id=instance.subnet_id,
            tags={},
            spot_fleet_id=None,
            instance_interruption_behaviour=None,
        )
        self.ec2_backend.spot_instance_requests[request.id] = request
        instance.spot_instance_request_id = request.id
        return request
