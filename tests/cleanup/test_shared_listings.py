"""Random regions and faults: what is listed once for several sources is not less than what each would have listed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpu_ami.aws.caller import Caller, RefusedError, UnansweredError
from gpu_ami.aws.references.registry import AFTER, BY_OWN_IMAGES, USES
from gpu_ami.aws.references.source import SourceQuery
from gpu_ami.cleanup.grantees import Reached
from gpu_ami.cleanup.inventory import Location, Survey
from tests.support.account import EVERYTHING
from tests.support.fake_caller import FakeCaller

OWNER = "111111111111"
SHARED = frozenset({*AFTER, *AFTER.values(), *BY_OWN_IMAGES})
SOURCES = tuple(source for source in USES if source.name in SHARED)
OPTIONAL = sorted(source.name for source in SOURCES if not source.is_essential)
OPERATIONS = (
    "describe_auto_scaling_groups",
    "describe_instance_refreshes",
    "describe_warm_pool",
    "describe_instances",
    "describe_replace_root_volume_tasks",
    "describe_images",
)
# A region may lack these; where a group is that they are about, what they show is there all the same.
OF_A_GROUP = OPERATIONS[1:3]
AMI = f"ami-{1:017x}"
AMIS = st.integers(1, 9).map(lambda number: f"ami-{number:017x}")
INSTANCES = st.sampled_from(["i-1", "i-2", "i-3"])
STATES = st.sampled_from(["pending", "running", "stopping", "stopped", "shutting-down", "terminated"])


@dataclass(frozen=True)
class Region:
    """What is there.

    Attributes:
        groups: Each Auto Scaling group: whether it has a warm pool, the AMI that its overrides name, each refresh's
            status and AMI, and the AMIs of its pool.
        instances: The state and the AMI of each.
        tasks: Each replacement of a root volume: its instance, its state and what it came from.
        images: The state and the source of each own AMI.
    """

    groups: list[tuple[bool, str, list[tuple[str, str]], list[str]]]
    instances: dict[str, tuple[str, str]]
    tasks: list[tuple[str, str, str]]
    images: dict[str, tuple[str, str]]

    def rows(self, operation: str, asked: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
        """Return the name of the list with which *operation* answers, and its rows."""
        if operation in OF_A_GROUP:
            has_pool, _, refreshes, pool = self.groups[int(asked["AutoScalingGroupName"])]
            if operation == "describe_warm_pool":
                return "Instances", [{"InstanceId": "i", "ImageId": ami} for ami in pool if has_pool]
            return "InstanceRefreshes", [
                {"Status": status, "DesiredConfiguration": {"Overrides": [{"ImageId": ami}]}}
                for status, ami in refreshes
            ]
        given: dict[str, Callable[[], tuple[str, list[dict[str, Any]]]]] = {
            "describe_auto_scaling_groups": self._group_rows,
            "describe_instances": lambda: self._instance_rows(_filtered(asked, "instance-id")),
            "describe_replace_root_volume_tasks": self._task_rows,
            "describe_images": lambda: self._image_rows(_filtered(asked, "state")),
        }
        return given[operation]()

    def _group_rows(self) -> tuple[str, list[dict[str, Any]]]:
        return "AutoScalingGroups", [
            {"AutoScalingGroupName": str(number), "Overrides": [{"ImageId": ami}]}
            | ({"WarmPoolConfiguration": {"MinSize": 0}} if has_pool else {})
            for number, (has_pool, ami, _, _) in enumerate(self.groups)
        ]

    def _instance_rows(self, ids: Collection[str] | None) -> tuple[str, list[dict[str, Any]]]:
        return "Reservations", [
            {"Instances": [{"InstanceId": key, "ImageId": ami, "State": {"Name": state}}]}
            for key, (state, ami) in self.instances.items()
            if ids is None or key in ids
        ]

    def _task_rows(self) -> tuple[str, list[dict[str, Any]]]:
        return "ReplaceRootVolumeTasks", [
            {"InstanceId": key, "TaskState": state, "ImageId": ami} for key, state, ami in self.tasks
        ]

    def _image_rows(self, states: Collection[str] | None) -> tuple[str, list[dict[str, Any]]]:
        return "Images", [
            {"ImageId": key, "OwnerId": OWNER, "State": state, "SourceImageId": source}
            for key, (state, source) in self.images.items()
            if states is None or state in states
        ]


def _filtered(asked: dict[str, Any], name: str) -> Collection[str] | None:
    return next((one["Values"] for one in asked.get("Filters") or () if one["Name"] == name), None)


class Aws(FakeCaller):
    """A region that answers by pages of one row each, and not every time.

    Args:
        here: What is there.
        faults: By operation, of which calls nothing comes, and how AWS refuses.
    """

    def __init__(self, here: Region, faults: dict[str, tuple[Collection[int], str]]) -> None:
        super().__init__({}, "r")
        self._here, self._faults = here, faults
        self._counted = Counter[str]()
        self._one = threading.Lock()

    def counting(self) -> Caller:
        """Return one that counts for itself, of the same region in the same state."""
        made = Aws(self._here, self._faults)
        made._counted, made._one = self._counted, self._one
        return made

    def call(self, service: str, operation: str, *, doing: str = "", **parameters: Any) -> dict[str, Any]:
        """Return a page, or fail."""
        self.calls += 1
        with self._one:
            self._counted[operation] += 1
            number = self._counted[operation]
        which, code = self._faults.get(operation, ((), ""))
        if number in which:
            said = f"{service}:{operation} in r: {code or 'no answer'}"
            raise RefusedError(said, code) if code else UnansweredError(said)
        key, rows = self._here.rows(operation, parameters)
        start = int(parameters.get("NextToken") or 0)
        self.answered += 1
        return {key: rows[start : start + 1]} | ({"NextToken": str(start + 1)} if start + 1 < len(rows) else {})


REGIONS = st.builds(
    Region,
    groups=st.lists(
        st.tuples(
            st.booleans(),
            AMIS,
            st.lists(st.tuples(st.sampled_from(["InProgress", "Baking", "Successful", "Cancelled"]), AMIS), max_size=2),
            st.lists(AMIS, max_size=2),
        ),
        max_size=3,
    ),
    instances=st.dictionaries(INSTANCES, st.tuples(STATES, AMIS)),
    tasks=st.lists(st.tuples(INSTANCES, st.sampled_from(["pending", "in-progress", "succeeded", "failed"]), AMIS)),
    images=st.dictionaries(AMIS, st.tuples(st.sampled_from(["pending", "available", "failed", "disabled"]), AMIS)),
)
CALLS = st.one_of(st.just(range(1, 99)), st.sets(st.integers(1, 4), max_size=2))
FAULTS = st.dictionaries(
    st.sampled_from(OPERATIONS), st.tuples(CALLS, st.sampled_from(["", "AccessDenied"])), max_size=2
)
LACKING = st.dictionaries(st.sampled_from(OF_A_GROUP), st.just((range(1, 99), "InvalidAction")), max_size=1)


def _needed(here: Region) -> dict[str, set[tuple[str, str]]]:
    """Return what each source shows that lists all by itself, of an AWS that answers."""
    return {
        source.name: {(one.target, one.what) for one in source.find(Aws(here, {}), SourceQuery()).references}
        for source in SOURCES
    }


# The first page of the instances, all of them terminated, came; the second did not.
CUT_OFF = Region([], {"i-1": ("terminated", "ami-1"), "i-2": ("running", "ami-2")}, [("i-2", "succeeded", AMI)], {})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    here=REGIONS,
    later=REGIONS,
    faults=FAULTS,
    lacking=LACKING,
    skipped=st.sets(st.sampled_from(OPTIONAL), max_size=2),
    is_own=st.booleans(),
    is_fleet=st.booleans(),
)
@example(
    here=CUT_OFF,
    later=CUT_OFF,
    faults={"describe_instances": ([2], "AccessDenied")},
    lacking={},
    skipped=set(),
    is_own=False,
    is_fleet=False,
)
def test_a_source_that_says_ok_has_seen_everything(
    here: Region,
    later: Region,
    faults: dict[str, tuple[Collection[int], str]],
    lacking: dict[str, tuple[Collection[int], str]],
    skipped: set[str],
    is_own: bool,
    is_fleet: bool,
) -> None:
    """Whoever of those that share a listing was refused, cut off or left out; and so it is right before the act."""
    caller = Aws(here, lacking | ({} if is_own and not is_fleet else faults))
    policy = replace(EVERYTHING, skip_sources=frozenset(skipped))
    reached = Reached(members={}) if is_fleet else None
    location = Location(caller, OWNER, is_own=is_own or is_fleet)
    survey = Survey([location], policy, uses=SOURCES, own=(), per_image=(), reached=reached)

    survey.query()
    # In a region of a fleet without an AMI few are asked.
    _check(survey, location, here, skipped)
    caller._here, caller._faults = later, faults
    caller._counted.clear()
    survey.query_again(())

    _check(survey, location, later, skipped)


def _check(survey: Survey, location: Location, here: Region, skipped: Collection[str]) -> None:
    needed = _needed(here)
    for name, state in survey.states_of(location).items():
        if name not in needed:
            continue
        # A region that lacks what shows something of a group has the group.
        assert (state.report.status == "skipped") is (name in skipped)
        found = {(one.target, one.what) for one in state.references}
        assert found == (needed[name] if state.report.status == "ok" else set())
