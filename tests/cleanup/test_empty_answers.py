"""Lists that come empty but well formed: not believed where something else that was read says that they cannot be."""

from __future__ import annotations

import pytest

from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import World, selected

# EC2's own second opinion would save these AMIs: the sources must do so alone.
ALONE = {"image-references"}
NO_VERSIONS = (
    b'<DescribeLaunchTemplateVersionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
    b"<launchTemplateVersionSet/></DescribeLaunchTemplateVersionsResponse>"
)
NO_VALUES = b'{"Parameters": [], "InvalidParameters": []}'


@pytest.mark.parametrize(
    ("use", "action", "answer"),
    [
        ("template_default_version", "DescribeLaunchTemplateVersions", NO_VERSIONS),
        ("batch_pinned_template", "DescribeLaunchTemplateVersions", NO_VERSIONS),
        ("template_alias", "GetParameters", NO_VALUES),
        ("parameter_other_name", "GetParameters", NO_VALUES),
    ],
)
def test_an_empty_list_that_cannot_be_true_keeps_everything(here: World, use: str, action: str, answer: bytes) -> None:
    """A template has its default version, and a parameter that is requested is there or said to be unknown."""
    here.newest()
    here.in_use()
    image = here.image()
    USES[use](here.maker, image)
    here.aws.gate.reply(answer, action=action)

    plan = here.plan(without=ALONE)

    assert selected(plan) == set()
    assert action in plan.decision.blocks[0]


@pytest.mark.parametrize("use", ["template_default_version", "template_alias", "parameter_other_name"])
def test_the_same_account_without_the_fault_keeps_its_ami_for_its_use(here: World, use: str) -> None:
    """Or the test above would prove nothing but that an account was quiet."""
    here.newest()
    here.in_use()
    image, unused = here.image(), here.image(250)
    USES[use](here.maker, image)

    plan = here.plan(without=ALONE)

    assert plan.decision.blocks == ()
    assert selected(plan) == {unused.id}
