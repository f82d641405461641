"""What the checks are about is what Packer will get, whichever way it was given."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.bake.placement import placements
from gpu_ami.bake.variables import BASE_AMI_PARAMETER, typed
from gpu_ami.errors import UsageError
from tests.bake.checks.bakes import VALUES, a_bake


def test_a_flag_gives_text_and_a_file_gives_types() -> None:
    """`--packer-var volume_size_gib=100` is the text 100, a variables file has the number."""
    numbers = a_bake(volume_size_gib=100, spot=True, spot_instance_types=["a.b", "c.d"], caller_cidrs=["10.0.0.0/8"])
    text = a_bake(
        volume_size_gib="100", spot="true", spot_instance_types='["a.b", "c.d"]', caller_cidrs='["10.0.0.0/8"]'
    )

    assert numbers == text
    assert (text.volume_size_gib, text.spot, text.instance_types) == (100.0, True, ("a.b", "c.d"))


def test_what_is_not_set_has_the_templates_meaning() -> None:
    """Null and absent are the same: empty."""
    bake = typed({"ssh_host": None, "spot": None, "caller_cidrs": None})

    assert (bake.subnet_ids, bake.instance_types, bake.caller_cidrs, bake.spot) == ((), (), (), False)
    assert (bake.ssh_interface, bake.base_ami_parameter) == ("public_ip", BASE_AMI_PARAMETER)
    assert bake.is_reached_directly
    assert not bake.is_shared


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"fallback_subnet_ids": ["subnet-2", "subnet-1"], "fallback_instance_types": ["c6i.4xlarge", "g5.xlarge"]},
        {"instance_type": "g5.xlarge", "fallback_instance_types": ["c6i.4xlarge", "g6.xlarge", "p3.2xlarge"]},
        {"fallback_instance_types": '["m7i.4xlarge", "c7i.4xlarge"]'},
    ],
)
def test_the_places_are_those_that_a_build_tries(values: dict[str, Any]) -> None:
    """Checking others than the build will use would prove nothing."""
    bake = typed(VALUES | values)

    tried = [(placement.instance_type, placement.subnet_id) for placement in placements(bake)]

    assert tried == [(name, subnet) for name in bake.instance_types for subnet in bake.subnet_ids]


@pytest.mark.parametrize(("given", "count"), [([{"url": "u"}], 1), ('[{"url": "u"}, {}]', 2), (None, 0), ("x", 0)])
def test_listed_downloads_are_counted(given: Any, count: int) -> None:
    """They need the internet, those of models.yaml as well."""
    assert a_bake(model_downloads=given).model_downloads == count
    assert typed({"model_downloads": given}).with_listed(2).model_downloads == count + 2


@pytest.mark.parametrize(("given", "protected"), [("on", True), ("with-cooldown", True), ("off", False), (None, False)])
def test_protection_counts_where_it_is_on(given: Any, protected: bool) -> None:
    """Packer takes an AMI back that it may not protect: after a whole bake, so the right to do so is checked first."""
    assert a_bake(deregistration_protection=given).is_protected is protected


@pytest.mark.parametrize("name", ["ami_users", "ami_org_arns", "ami_ou_arns"])
def test_each_way_of_sharing_counts(name: str) -> None:
    """A shared AMI needs a key that can be shared."""
    assert a_bake(**{name: ["x"]}).is_shared


@pytest.mark.parametrize(
    ("name", "given", "what"),
    [
        ("volume_size_gib", "big", "a number"),
        ("volume_size_gib", True, "a number"),
        ("min_free_gib", [5], "a number"),
        ("spot", "maybe", "true or false"),
        ("require_gpu", 1, "true or false"),
        ("caller_cidrs", "10.0.0.0/8", "a list of texts"),
        ("spot_instance_types", {"a": "b"}, None),
        ("ami_regions", [1], "a list of texts"),
        ("fallback_subnet_ids", "[", "a list of texts"),
        ("subnet_id", ["subnet-1"], "a text"),
        ("kms_key_id", 5, "a text"),
        ("ssh_port", "inf", "a whole number"),
        ("chain_length", "nan", "a whole number"),
    ],
)
def test_a_wrong_type_is_named_with_its_value(name: str, given: Any, what: str | None) -> None:
    """Bad usage (exit 2), before any call to AWS."""
    if what is None:
        assert a_bake(**{name: given}).instance_types == ("c7i.4xlarge",)  # not read: the builder is no Spot builder
        return
    with pytest.raises(UsageError, match=rf"{name} is .*, not {what}"):
        a_bake(**{name: given})
