"""EC2's answers are, byte for byte, what moto would have written."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from moto.ec2.responses import EC2Response

from gpu_ami.aws.access import Access
from gpu_ami_sandbox.aws.ec2 import xml_answers
from gpu_ami_sandbox.aws.ec2.service import SandboxEC2
from gpu_ami_sandbox.aws.server import LocalAws
from gpu_ami_sandbox.demo.rare_uses import RARE_USES
from gpu_ami_sandbox.demo.uses import USES
from tests.support.account import world

# moto's own answers change from one query to the next: a random address, a price of this second.
_SEEN_ONCE = frozenset({"describe_spot_price_history"})


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    """What was answered to each operation so far: ours and moto's."""
    seen: dict[str, tuple[str, str]] = {}
    ours = SandboxEC2.serialized

    def both(self: SandboxEC2, action_result: Any) -> Any:
        theirs = EC2Response.serialized(self, action_result)
        answer = ours(self, action_result)
        seen[self._get_action()] = (answer[2], theirs[2])
        assert (answer[0], answer[1]) == (theirs[0], theirs[1])
        return answer

    monkeypatch.setattr(SandboxEC2, "serialized", both)
    return seen


def test_an_account_in_use_reads_the_same(aws: LocalAws, compared: dict[str, tuple[str, str]]) -> None:
    """Each kind of thing in the account, of moto's and of ours, listed by every operation that needs no argument."""
    here = world(aws)
    for number, use in enumerate((USES | RARE_USES).values()):
        use(here.maker, here.image(100 + number, name=f'<"a" & b> {number}'))
    client = here.access.client("ec2", retries=False)
    for method in sorted(name for name in dir(client) if name.startswith(("describe_", "get_"))):
        if method not in _SEEN_ONCE:
            try:
                getattr(client, method)()
            except (ClientError, ParamValidationError, TypeError):
                continue  # it wants arguments, or moto lacks it
    [image] = [image for image in here.maker.ec2.amis.values() if image.name.endswith(" 0")]
    client.describe_image_attribute(ImageId=image.id, Attribute="launchPermission")
    client.deregister_image(ImageId=here.image(300).id, DeleteAssociatedSnapshots=True)
    client.run_instances(ImageId=image.id, MinCount=1, MaxCount=1)
    client.create_key_pair(KeyName="k")

    different = {name for name, (ours, theirs) in compared.items() if ours != theirs}

    assert not different
    assert {"DescribeImages", "DescribeInstances", "DescribeLaunchTemplates", "DescribeSnapshots"} < set(compared)
    assert len(compared) > 60
    assert "&lt;&quot;" not in compared["DescribeImages"][0]
    assert '&lt;"a" &amp; b&gt; 0' in compared["DescribeImages"][0]


def test_a_refusal_is_motos(access: Access, compared: dict[str, tuple[str, str]]) -> None:
    """Errors have a form of their own."""
    with pytest.raises(ClientError, match=r"InvalidAMIID\.NotFound"):
        access.client("ec2", retries=False).describe_images(ImageIds=["ami-0123456789abcdef0"])

    ours, theirs = compared["DescribeImages"]
    assert ours == theirs


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("true", "True"), ("false", None), ("false", "no"), ("false", 0)],
)
def test_booleans_are_as_lenient_as_motos(text: str, value: object) -> None:
    """Moto's objects keep booleans as text here and there."""
    assert xml_answers._TEXTS["boolean"](value) == text
