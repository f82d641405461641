"""A Terraform that moves compute environments of the local AWS; its commands, plans and states are real in form.

Only the program is made up; what it does to AWS is done, and everything around it is the pipeline's own. The end-to-end
tests run the real one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_ami import process
from gpu_ami.deploy import root_module
from gpu_ami.process import Command, Finished
from gpu_ami.tools.tool import TerraformTools, Tool
from gpu_ami_sandbox.aws import clock
from gpu_ami_sandbox.aws.batch import service_linked_role
from tests.support.account import World
from tests.support.plans import change, complaint, document, message, template, values

KIND = "aws_batch_compute_environment"
LOCKED = complaint(
    "Error acquiring the state lock",
    "Error message: resource temporarily unavailable\nLock Info:\n"
    "  ID:        774796fc-3a97-87f3-aae5-16a55a613c0a\n  Who:       somebody@elsewhere\n",
)


def outwaited_message(market: str) -> str:
    """Return what Terraform prints when its provider stops waiting for the update of an environment."""
    return complaint(
        f"waiting for Batch Compute Environment (gpu-{market}) update: timeout while waiting for state to become "
        "'VALID' (last state: 'UPDATING', timeout: 20m0s)",
        at=address(market),
    )


def address(market: str) -> str:
    """Return Terraform's address of the environment for *market*."""
    return f'{KIND}.gpu["{market}"]'


def _is_moved(row: dict[str, Any]) -> bool:
    return "previous_address" in row or "importing" in row["change"]


@dataclass
class FakeTerraform:
    """The program in one root module.

    Attributes:
        here: The account that it works on.
        folder: The root module.
        markets: Its compute environments.
        rate: The rate of its launch template.
        extra: More rows of the plan.
        outputs: Outputs that change.
        renamed: Market to what it was called in the last state, by a `moved` block.
        provider: The aws provider's version.
        fails: Command to what it prints when it fails; taken off when it has.
        stops_after: How many environments an apply does before it fails.
        outwaited: The environments whose update the provider does not see the end of: Batch goes on with it.
        skipped: A resource that waits for those, and that the apply leaves out.
        during: Called when an apply begins.
        calls: The commands so far.
    """

    here: World
    folder: Path
    markets: list[str] = field(default_factory=lambda: ["spot", "on_demand"])
    rate: int = 300
    extra: list[dict[str, Any]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    provider: str = "5.100.0"
    fails: dict[str, str] = field(default_factory=dict)
    stops_after: int | None = None
    outwaited: set[str] = field(default_factory=set)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    calls: list[str] = field(default_factory=list)
    _template: str = ""

    def install(self, patch: pytest.MonkeyPatch) -> FakeTerraform:
        """Let the jobs find it."""
        tool = Tool("terraform", "1.11.4", Path("terraform"), "PATH")
        patch.setattr(root_module, "terraform_tools", lambda: TerraformTools(tool, None))
        patch.setattr(process, "run", self.run)
        patch.setattr(process, "follow", self.follow)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    # --- what is there

    @property
    def state_file(self) -> Path:
        """Its state, that of the workspace; the backend's configuration plays no part here."""
        return self.folder / ("terraform.tfstate.d/" + self.workspace if self.workspace else "") / "terraform.tfstate"

    @property
    def workspace(self) -> str:
        """The workspace; empty for the default one."""
        return os.environ.get("TF_WORKSPACE", "")

    def name(self, market: str) -> str:
        """Return the name on AWS of the environment for *market*: each workspace has its own."""
        return "-".join(filter(None, ("gpu", self.workspace, market)))

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Return market to what the state says of its environment."""
        if not self.state_file.exists():
            return {}
        resources = json.loads(self.state_file.read_text())["resources"]
        rows = next(resource for resource in resources if resource["type"] == KIND)["instances"]
        return {row["index_key"]: row["attributes"] for row in rows}

    def hand_over(self, ami: str) -> None:
        """Name the AMI as `invoke update-tfvars` does."""
        (self.folder / "gpu-ami.auto.tfvars.json").write_text(json.dumps({"gpu_ami_id": ami}))

    def rename(self, market: str, name: str) -> None:
        """Give an environment another address by a `moved` block."""
        self.markets = [name if other == market else other for other in self.markets]
        self.renamed = {name: market}

    @property
    def handed_over(self) -> str | None:
        """The AMI that is named."""
        file = self.folder / "gpu-ami.auto.tfvars.json"
        return str(json.loads(file.read_text())["gpu_ami_id"]) if file.exists() else None

    def live(self) -> dict[str, Any]:
        """Return market to the AMI that Batch shows."""
        found = {made.name: made for made in self.here.maker.batch._compute_environments.values()}
        return {
            market: found[values["compute_environment_name"]].compute_resources["ec2Configuration"][0][
                "imageIdOverride"
            ]
            for market, values in self.recorded().items()
            if values["compute_environment_name"] in found
        }

    # --- the program

    def run(self, command: Command, **_more: Any) -> Finished:
        """Answer a short command."""
        word = command.argv[1]
        if command.argv[0] == "git":
            return Finished(0, "c0ffee\n", "")
        self.calls.append(word)
        if word in self.fails:
            return Finished(1, "", self.fails.pop(word))
        if word == "version":
            selected = {"registry.terraform.io/hashicorp/aws": self.provider}
            return Finished(0, json.dumps({"provider_selections": selected}), "")
        if word == "show":
            return Finished(0, Path(command.argv[-1]).read_text(), "")
        assert command.argv[1:] == ("state", "pull", "-no-color"), command.argv
        return Finished(0, self.state_file.read_text() if self.state_file.exists() else "", "")

    def follow(self, command: Command, log: Path, on_line: Callable[[str], None], **_more: Any) -> int:
        """Do a long command."""
        word = command.argv[1]
        self.calls.append(word)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(self.fails.get(word, message("fine")))
        on_line(message("working").rstrip())
        if word in self.fails:
            del self.fails[word]
            return 1
        if word == "init":
            (self.folder / ".terraform" / "providers").mkdir(parents=True, exist_ok=True)
        if word == "plan":
            return self._plan(command)
        return self._apply(log, json.loads(Path(command.argv[-1]).read_text())) if word == "apply" else 0

    def _plan(self, command: Command) -> int:
        file = next(Path(word.removeprefix("-out=")) for word in command.argv if word.startswith("-out="))
        given = dict(word.removeprefix("-var=").split("=", 1) for word in command.argv if word.startswith("-var="))
        ami = given.get("gpu_ami_id", self.handed_over)
        rows, recorded = [], self.recorded()
        for market in self.markets:
            was = self.renamed.get(market, market)
            moved: dict[str, Any] = {"previous_address": address(was)} if was != market and was in recorded else {}
            before = recorded.get(was if moved else market)
            old = (before or {}).get("compute_resources", [{}])[0]
            is_same = before is not None and old["ec2_configuration"][0]["image_id_override"] == ami
            actions = ("create",) if before is None else ("no-op",) if is_same else ("update",)
            after = values(ami, name=None if before is None else str(before["compute_environment_name"]))
            rows.append(change(address(market), actions, before=before, after=after, **moved))
        rows += [template(self.rate), *self.extra, *self.skipped]
        file.write_text(json.dumps(document(*rows, ami=ami, output_changes=self.outputs)))
        is_idle = all(row["change"]["actions"] == ["no-op"] and not _is_moved(row) for row in rows)
        return 0 if is_idle and not self.outputs else 2

    def _apply(self, log: Path, plan: dict[str, Any]) -> int:
        self.during()
        acts = [row for row in plan["resource_changes"] if row["type"] == KIND and row["change"]["after"]]
        acts = [row for row in acts if "gpu[" in row["address"]]
        self.outputs = {}
        self._follow_moves()
        for number, row in enumerate(acts):
            if self.stops_after is not None and number >= self.stops_after:
                log.write_text(complaint("updating Batch Compute Environment: no capacity"))
                self.stops_after = None
                return 1
            market = row["address"].split('"')[1]
            self._move(
                market, row["change"]["after"]["compute_resources"][0]["ec2_configuration"][0]["image_id_override"]
            )
        late = [market for market in self.markets if market in self.outwaited]
        self.outwaited = set()
        for market in late:
            self.here.maker.batch.get_compute_environment(f"gpu-{market}").updating_since = clock.now()
            with log.open("a") as file:
                file.write(outwaited_message(market))
        return 1 if late else 0

    def _follow_moves(self) -> None:
        new_names = {old: new for new, old in self.renamed.items()}
        if recorded := self.recorded():
            self.write_state({new_names.get(market, market): row for market, row in recorded.items()})

    def _move(self, market: str, ami: str | None) -> None:
        batch, location = self.here.maker.batch, self.here.maker.location
        override = [{"imageType": "ECS_AL2023_NVIDIA", "imageIdOverride": ami}]
        name, template = (
            self.name(self.renamed.get(market, market)),
            {"launchTemplateId": self.template(), "version": "1"},
        )
        found = batch.get_compute_environment(name)
        if found is None:
            role = service_linked_role(location.account_id)
            resources = location.compute_resources(ec2Configuration=override, launchTemplate=template)
            found = batch.create_compute_environment(name, "MANAGED", "ENABLED", resources, role, {})
        found.compute_resources["ec2Configuration"] = override
        recorded = self.recorded()
        recorded[market] = values(ami, name=name, ecs_cluster_arn=found.ecs_arn) | {"arn": found.arn}
        recorded[market]["compute_resources"][0]["launch_template"][0]["launch_template_id"] = self.template()
        self.write_state(recorded)

    def write_state(self, recorded: dict[str, dict[str, Any]]) -> None:
        """Write the state file."""
        rate = [{"ebs": [{"volume_initialization_rate": self.rate}]}]
        template = {"id": self.template(), "block_device_mappings": rate}
        resources = [
            {
                "mode": "managed",
                "type": KIND,
                "name": "gpu",
                "instances": [{"index_key": key, "attributes": values} for key, values in recorded.items()],
            },
            {
                "mode": "managed",
                "type": "aws_launch_template",
                "name": "gpu",
                "instances": [{"attributes": template}],
            },
        ]
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        self.state_file.write_text(json.dumps({"version": 4, "resources": resources}))

    def template(self, rate: int | None = 300) -> str:
        """Return the launch template, made on first use with *rate*."""
        if not self._template:
            ebs = {"VolumeInitializationRate": rate} if rate else {"VolumeType": "gp3"}
            data = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}]}
            self._template = str(self.here.maker.ec2.create_launch_template("gpu", "", data, {}).id)
        return self._template
