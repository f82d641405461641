"""Every member of AWS's answers that can name an AMI is in docs/references.md: completeness is a test, not a memory."""

from __future__ import annotations

import functools

import pytest

from gpu_ami.aws.references.known_members import unknown
from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.aws.references.source import Source
from tests.support.naming_members import (
    PAGE,
    Differences,
    Member,
    differences,
    in_line,
    model_members,
    read_members,
    resolve,
    rows,
    says_image,
)

# As AWS's services have them today, and as they may call them tomorrow.
NAMES = [
    "ImageId",
    "imageId",
    "imageid",
    "image",
    "imageIdOverride",
    "SourceImageId",
    "DesiredImageId",
    "CurrentImageId",
    "Ec2ImageId",
    "machineImageId",
    "vmImageReference",
    "baseImageArn",
    "parentImage",
    "instanceImage",
    "ImageIds",
    "goldenImages",
    "image_id",
    "AmiId",
    "amiId",
    "amiid",
    "amiIds",
    "AMIId",
    "AMI",
    "AMIs",
    "AMIIds",
    "EC2AMIId",
    "BaseAMI",
    "ami",
    "amis",
    "ami_id",
    "AmiOverride",
    "CustomAmiId",
    "customamiid",
    "PhotonAmiId",
    "SnapshotId",
    "snapshotId",
    "snapshotID",
    "SnapshotARN",
    "ebsSnapshots",
    "EBSSnapshotId",
    "rootVolumeSnapshot",
]
OTHERS = [
    "FamilyName",
    "family",
    "StreamingUrl",
    "dynamicScaling",
    "Naming",
    "domain",
    "Miami",
    "Benjamin",
    "parameter",
    "Amount",
    "MamiId",
    "amidst",
    "Gamification",
    "VolumeId",
    "LaunchTemplateId",
]
ECS = Member("ecs", "DescribeServices", "ServiceManagedEBSVolumeConfiguration", "snapshotId")


@functools.cache
def models() -> set[Member]:
    """Return what the installed botocore has; reading 400 models takes seconds."""
    return model_members()


def page() -> str:
    """Return the page as it is."""
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_says_image_is_seen(name: str) -> None:
    """A pattern that loses one of these would call a page complete that is not."""
    assert says_image(name)


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_not(name: str) -> None:
    """A list of everything is read by nobody."""
    assert not says_image(name)


@pytest.mark.slow
def test_the_page_names_each_member_and_what_the_sources_read() -> None:
    """A service that is not looked through loses somebody their AMI."""
    assert differences(page(), models(), read_members()) == Differences()


@pytest.mark.slow
def test_the_models_were_read() -> None:
    """An empty list would be in every page."""
    found = models()

    assert len({(member.service, member.everywhere) for member in found}) > 500
    assert len({member.service for member in found}) > 70
    assert {
        Member("ec2", "DescribeInstances", "Instance", "ImageId"),
        Member("batch", "DescribeComputeEnvironments", "Ec2Configuration", "imageIdOverride"),
        Member("imagebuilder", "GetContainerRecipe", "InstanceConfiguration", "image"),
        # Only what is around it says what its Arn is, and only the elements of a list what they are.
        Member("ec2", "DescribeImageReferences", "ImageReference", "Arn"),
        Member("drs", "DescribeRecoverySnapshots", "RecoverySnapshot", "ebsSnapshots"),
        ECS,
    } <= found
    assert "ExperimentalFlag" not in {member.name for member in found}


@pytest.mark.slow
def test_a_member_that_no_row_names_is_new() -> None:
    """AWS's next service is in nobody's memory."""
    tomorrow = Member("batch", "DescribeServiceEnvironments", "CapacityImages", "goldenAmiId")

    found = differences(page(), models() | {tomorrow}, read_members())

    assert found == Differences(new=("batch DescribeServiceEnvironments CapacityImages.goldenAmiId",))


@pytest.mark.slow
def test_a_new_operation_that_shows_what_a_source_reads_is_new() -> None:
    """Instance refreshes showed the overrides of a group before the group had them: an old shape in a new answer."""
    refreshes = Member("batch", "DescribeNextEnvironments", "ComputeResource", "imageId")

    assert differences(page(), models() | {refreshes}, read_members()).new


@pytest.mark.slow
def test_a_source_that_stops_reading_is_found() -> None:
    """The page must not promise what nobody does any more."""
    instances = Member("ec2", "DescribeInstances", "Instance", "ImageId")
    read = {member: names for member, names in read_members().items() if member != instances}

    found = differences(page(), models(), read)

    assert found == Differences(unread=("ec2:DescribeInstances Instance.ImageId by instances",))


@pytest.mark.slow
def test_a_source_that_reads_what_no_row_says_is_found() -> None:
    """The page is what users go by when they ask what is looked at."""
    volumes = Member("ec2", "DescribeVolumes", "Volume", "SnapshotId")

    found = differences(page(), models(), read_members() | {volumes: {"volumes"}})

    assert found == Differences(unwritten=("ec2:DescribeVolumes Volume.SnapshotId by volumes",))


@pytest.mark.slow
def test_members_that_an_older_botocore_lacks_are_no_difference() -> None:
    """The page is about the newest; the lowest that is allowed has fewer."""
    older = {member for member in models() if member.service != "lambda-microvms"}

    assert older < models()
    assert differences(page(), older, read_members()) == Differences()


@pytest.mark.slow
def test_a_member_in_two_rows_is_found() -> None:
    """Or the second class would hide the first."""
    row = "| `pcs` | `ComputeNodeGroup.amiId`, `ComputeNodeGroup.amiId` | observer | twice |"
    heading = "|---|---|---|---|\n"

    found = differences(page().replace(heading, f"{heading}{row}\n", 1), models(), read_members())

    assert found == Differences(twice=("pcs ComputeNodeGroup.amiId",))


def test_a_row_of_no_class_is_refused() -> None:
    """A slip of the pen must not count as a verdict."""
    with pytest.raises(ValueError, match="no class: obsever"):
        rows(page().replace("| observer | findings |", "| obsever | findings |", 1))


@pytest.mark.slow
def test_the_rows_of_the_sources_can_be_written_anew() -> None:
    """`python -m tests.support.naming_members` does it: a source that is added needs no hand at the page."""
    volumes = Member("ec2", "DescribeVolumes", "Volume", "SnapshotId")
    read = read_members() | {volumes: {"volumes"}}

    assert in_line(page(), models(), read_members()) == page()
    assert differences(in_line(page(), models(), read), models(), read) == Differences()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_lowest_botocore_knows_all_that_a_source_reads(source: Source) -> None:
    """`nox -s lowest` runs this with the lowest that pyproject.toml allows; what botocore does not know it drops."""
    assert unknown(source.reads) == []


@pytest.mark.parametrize("source", [s for s in SOURCES if s.service], ids=lambda source: source.name)
def test_a_source_that_calls_says_what_it_reads(source: Source) -> None:
    """Otherwise it would be in no row, and an older botocore would make it blind without a word."""
    assert source.reads


def test_a_read_is_resolved_to_the_member_that_it_ends_at() -> None:
    """Or rows and sources would never meet."""
    path = "services[].deployments[].volumeConfigurations[].managedEBSVolume.snapshotId"

    assert resolve(f"ecs:DescribeServices {path}") == ECS
    assert resolve("ecs:DescribeServices services[].wishes[]") is None
    assert resolve("ecs:DescribeWishes wishes[]") is None
    assert resolve("wishes:DescribeWishes wishes[]") is None
