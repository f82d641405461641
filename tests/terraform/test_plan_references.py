"""Which arguments are the variable that is handed over: followed through modules, and not further than it can be."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.terraform import plan_references
from gpu_ami.terraform.plan_references import Configuration


def _refers(*references: str) -> dict[str, Any]:
    return {"references": list(references)}


def _configuration(argument: Any, *, call: Any = None, **root: Any) -> Configuration:
    """A root that calls a module `gpu`, whose environment has *argument*, with *call* for its variable `ami`."""
    inner = {
        "resources": [
            {"mode": "managed", "type": "terraform_data", "name": "ami", "expressions": {"input": _refers("var.ami")}},
            {"mode": "data", "type": "aws_ami", "name": "newest", "expressions": {"name": _refers("var.ami")}},
        ],
        "outputs": {"ami": {"expression": argument}},
    }
    document = {
        "configuration": {
            "root_module": {
                "module_calls": {"gpu": {"expressions": {"ami": call} if call else {}, "module": inner}},
                **root,
            }
        }
    }
    found = plan_references.of(document)
    assert found is not None
    return found


THROUGH = _refers("var.gpu_ami_id")


@pytest.mark.parametrize(
    ("argument", "call", "takes"),
    [
        (_refers("var.ami"), THROUGH, True),
        (_refers("terraform_data.ami.output", "terraform_data.ami"), THROUGH, True),
        (_refers("var.ami", "data.aws_ami.newest.id", "data.aws_ami.newest"), THROUGH, True),
        (_refers("var.ami"), _refers("var.other"), False),
        (_refers("var.ami"), None, False),
        (_refers("local.ami"), THROUGH, False),
        (_refers("data.aws_ami.newest.id", "data.aws_ami.newest"), THROUGH, False),
        (_refers("each.value.ami", "each.value"), THROUGH, False),
        (_refers("var.ami", "each.key"), THROUGH, False),
        ({"constant_value": "ami-1"}, THROUGH, False),
        (None, THROUGH, False),
    ],
)
def test_an_argument_is_followed_to_the_root(argument: Any, call: Any, takes: bool) -> None:
    """Through the call of a module and `terraform_data`; what cannot be followed does not count as taken."""
    assert _configuration(argument, call=call).takes("module.gpu", argument, "gpu_ami_id") is takes


@pytest.mark.parametrize("address", ["module.gpu", 'module.gpu["a.b[0]"]', "module.gpu[3]"])
def test_each_instance_of_a_module_is_that_module(address: str) -> None:
    """An address has keys, the configuration has not; a key may hold dots and brackets."""
    configuration = _configuration(None, call=THROUGH)

    assert configuration.takes(address, _refers("var.ami"), "gpu_ami_id")
    assert configuration.expressions(address, "terraform_data", "ami") == {"input": _refers("var.ami")}


def test_a_modules_output_is_followed_into_it() -> None:
    """A module that looks the AMI up and hands it on."""
    configuration = _configuration(_refers("var.ami"), call=_refers("var.gpu_ami_ids", "var.region"))

    assert configuration.takes("", _refers("module.gpu.ami", "module.gpu"), "gpu_ami_ids")
    assert not configuration.takes("", _refers("module.gpu.other", "module.gpu"), "gpu_ami_ids")


def test_what_refers_to_itself_ends() -> None:
    """Terraform refuses it; a broken file must not hang us."""
    loop = _refers("module.gpu.ami", "module.gpu")

    assert not _configuration(_refers("var.ami"), call=loop).takes("", loop, "gpu_ami_id")


def test_a_resource_is_found_in_whichever_module() -> None:
    """Also in one of which there is none: only the code says that it would take the variable."""
    row = {"mode": "managed", "type": "terraform_data", "expressions": {"input": {}}}
    inner = {"module_calls": {"b": {"module": {"resources": [row]}}}}
    configuration = Configuration({"module_calls": {"a": {"module": inner}}, "resources": [row | {"mode": "data"}]})

    assert [*configuration.all_of("terraform_data")] == [("module.a.module.b", {"input": {}})]
    assert [*configuration.all_of("other")] == []


def test_a_plan_may_have_no_configuration() -> None:
    """Of such a plan nothing can be followed."""
    assert plan_references.of({}) is None


def test_dynamic_blocks_are_not_there() -> None:
    """Terraform writes nothing of them."""
    assert plan_references.blocks({}, "compute_resources") == []
    assert plan_references.blocks({"compute_resources": [{"a": {}}]}, "compute_resources") == [{"a": {}}]
