"""The short cut for lists of AMIs reads what botocore reads, and leaves everything unusual to it."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.model import StructureShape
from botocore.parsers import EC2QueryParser, ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws import describe_images_parser
from gpu_ami.aws.describe_images_parser import ParserFactory

SPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_EC2 = botocore.session.get_session().get_service_model("ec2")
SHAPE: Any = _EC2.operation_model("DescribeImages").output_shape
WHOLE = """
<imageId>ami-1</imageId><name>a &amp; b</name><isPublic>true</isPublic><enaSupport>false</enaSupport><description/>
<unheardOf><item>1</item></unheardOf>
<blockDeviceMapping>
  <item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId><volumeSize>80</volumeSize></ebs></item>
  <item><deviceName>/dev/xvdb</deviceName><virtualName>ephemeral0</virtualName></item>
  <item/>
</blockDeviceMapping>
<productCodes/><tagSet><item><key>Name</key><value></value></item></tagSet>
"""


def _response(inside: str, *, after: str = "", status: int = 200, space: str = f' xmlns="{SPACE}"') -> dict[str, Any]:
    rows = f"<imagesSet>{inside}</imagesSet>{after}<requestId>r-1</requestId>"
    body = f"<DescribeImagesResponse{space}>{rows}</DescribeImagesResponse>".encode()
    return {"body": body, "headers": {"Date": "today"}, "status_code": status}


def _both(response: dict[str, Any], shape: Any = SHAPE) -> tuple[Any, Any]:
    return ParserFactory().create_parser("ec2").parse(response, shape), EC2QueryParser().parse(response, shape)


@pytest.mark.parametrize("space", [f' xmlns="{SPACE}"', ""], ids=["namespace", "none"])
def test_an_image_reads_the_same(space: str) -> None:
    """Every kind of property, with what is empty, absent or not in the model."""
    ours, theirs = _both(_response(f"<item>{WHOLE}</item><item/>", after="<nextToken>t</nextToken>", space=space))

    assert ours == theirs
    assert ours["Images"][0]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 80
    assert ours["NextToken"] == "t"
    assert ours["ResponseMetadata"]["HTTPHeaders"] == {"date": "today"}


def _elements(shape: Any) -> st.SearchStrategy[str]:
    """Return documents of *shape* with any of its properties, in any order, one of them unheard of."""
    if isinstance(shape, StructureShape):
        pairs = [
            st.tuples(st.just(member.serialization.get("name", key)), _elements(member))
            for key, member in shape.members.items()
        ]
        some = st.lists(st.one_of(*pairs), max_size=6, unique_by=lambda pair: pair[0])
        return some.map(lambda given: "".join(f"<{name}>{text}</{name}>" for name, text in given))
    if shape.type_name == "list":
        items = st.lists(_elements(shape.member), max_size=3)
        return items.map(lambda given: "".join(f"<item>{text}</item>" for text in given))
    return {
        "boolean": st.sampled_from(["true", "false", "", "True"]),
        "integer": st.integers(0, 10**6).map(str),
        "timestamp": st.sampled_from(["2026-11-24T10:00:00.000Z", "2026-11-24T10:00:00Z"]),
    }.get(shape.type_name, st.sampled_from(["", "ami-0123456789abcdef0", " a\n", "&lt;&#233;&gt;"]))


@given(_elements(SHAPE.members["Images"]))
def test_any_list_reads_the_same(inside: str) -> None:
    """A property that got lost here would be an AMI's age, tag or protection."""
    ours, theirs = _both(_response(inside))

    assert ours == theirs


def test_what_is_unusual_is_left_to_botocore() -> None:
    """A property that comes twice: whatever botocore makes of it."""
    twice = _response("<item><tagSet/><tagSet/></item>")
    ours, theirs = _both(twice)
    assert ours == theirs

    with pytest.raises(ValueError, match=r"^$"):
        describe_images_parser._parse(twice, SHAPE)


@pytest.mark.parametrize("body", [b"", b"<html>", b"<a><b></a>"], ids=["empty", "cut off", "malformed"])
def test_half_an_answer_is_botocores_error(body: bytes) -> None:
    """Callers know its errors; nothing may pass for an empty list."""
    with pytest.raises(ResponseParserError):
        ParserFactory().create_parser("ec2").parse({**_response(""), "body": body}, SHAPE)


def test_a_number_that_is_none_is_botocores_error() -> None:
    """A size that cannot be read is not no size."""
    inside = (
        "<item><blockDeviceMapping><item><ebs><volumeSize>big</volumeSize></ebs></item></blockDeviceMapping></item>"
    )
    with pytest.raises(ValueError, match="big"):
        ParserFactory().create_parser("ec2").parse(_response(inside), SHAPE)


def test_errors_and_other_operations_are_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short cut is for lists of AMIs that came, and for nothing else."""
    monkeypatch.setattr(describe_images_parser, "_parse", None)
    other = _EC2.operation_model("DescribeVolumes").output_shape

    error, theirs = _both(_response("", status=400))
    volumes, same = _both(_response(""), other)

    assert error == theirs
    assert volumes == same
    assert type(ParserFactory().create_parser("json")).__module__ == "botocore.parsers"
