"""What the next build would change, looked up in the local AWS."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from gpu_ami.bake.compare import compare, expected_fingerprints, what_would_change
from gpu_ami.bake.job import Job
from gpu_ami.bake.packer_command import Inputs, Packer
from gpu_ami.bake.staleness import FACTS
from gpu_ami.records.tags import FINGERPRINT_PREFIX
from gpu_ami.terraform.terraform_command import Terraform
from gpu_ami_sandbox.aws.ec2.images import SandboxAmi
from tests.support.account import REGION, Task, World, task

ROOT = Path(__file__).parents[2]
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"digest": f"sha256:{'0' * 64}", "size": 1},
    "layers": [],
}
FINISHED = {"gpu-ami:handover": "pending"}


@pytest.fixture
def prepared(here: World, tmp_path: Path) -> Task:
    """An invocation in an account with an image and a bucket of models."""
    ecr, s3 = here.access.client("ecr"), here.access.client("s3")
    ecr.create_repository(repositoryName="app")
    ecr.put_image(repositoryName="app", imageManifest=json.dumps(MANIFEST), imageTag="v1")
    s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="models", Key="models/a.pt", Body=b"a")
    s3.put_object(Bucket="models", Key="models/sub/", Body=b"")
    return task(here, tmp_path)


def _job(here: World, **variables: str) -> Job:
    folder = ROOT / "packer"
    url = f"{here.account}.dkr.ecr.{REGION}.amazonaws.com/app"
    given = {"ecr_repository_url": url, "image_tag": "v1", "models_s3_bucket": "models", "region": REGION}
    return Job(
        packer=Packer(Path("packer"), folder, {}),
        terraform=Terraform(Path("terraform"), folder, {}, None),
        inputs=Inputs((), given | variables),
        plugin_path=folder,
        run_id="r1",
    )


def _live(here: World, prepared: Task, age_days: int = 1) -> SandboxAmi:
    """Make the AMI that a build right now would leave."""
    image = here.image(age_days)
    found = expected_fingerprints(prepared.run, _job(here)).values
    image.add_tags(FINISHED | {f"{FINGERPRINT_PREFIX}{fact}": value for fact, value in found.items()})
    return image


def test_nothing_has_changed_since_the_last_build(here: World, prepared: Task) -> None:
    """The same things looked up twice are the same."""
    live = _live(here, prepared)

    compared = compare(prepared.run, _job(here))

    assert compared.differences == ()
    assert compared.live is not None
    assert compared.live.image_id == live.id
    assert set(compared.expected.values) == set(FACTS)


def _facts(here: World, prepared: Task, **variables: str) -> list[str]:
    return [difference.fact for difference in what_would_change(prepared.run, _job(here, **variables))]


def test_a_moved_tag_is_another_image(here: World, prepared: Task) -> None:
    """The tag is looked up now, not remembered."""
    _live(here, prepared)
    here.access.client("ecr").put_image(
        repositoryName="app",
        imageManifest=json.dumps(MANIFEST | {"layers": [{"digest": f"sha256:{'1' * 64}", "size": 1}]}),
        imageTag="v1",
    )

    assert _facts(here, prepared) == ["image"]


def test_a_new_model_is_another_image(here: World, prepared: Task) -> None:
    """The bucket's listing is what counts."""
    _live(here, prepared)
    here.access.client("s3").put_object(Bucket="models", Key="models/a.pt", Body=b"b")

    assert _facts(here, prepared) == ["models"]


def test_a_new_base_is_another_image(here: World, prepared: Task) -> None:
    """AWS publishes a new ECS AMI every few weeks, with security fixes."""
    _live(here, prepared)

    assert _facts(here, prepared, source_ami="ami-0123456789abcdef0") == ["base"]


def test_another_setting_is_another_image_and_another_subnet_is_not(here: World, prepared: Task) -> None:
    """Only what changes the image makes it stale."""
    _live(here, prepared)

    assert _facts(here, prepared, volume_size_gib="100") == ["settings"]
    assert _facts(here, prepared, subnet_id="subnet-0123456789abcdef0", volume_size_gib="80") == []


def test_a_setting_from_the_environment_or_another_file_is_one(here: World, prepared: Task, tmp_path: Path) -> None:
    """`--if-stale` says "Nothing to build" of an image of 80 GiB, while Packer would make one of 90."""
    _live(here, prepared)
    job = _job(here)
    folder = tmp_path / "packer"
    shutil.copytree(job.packer.folder, folder, ignore=shutil.ignore_patterns("*.pkrvars.*"))
    job = dataclasses.replace(job, packer=dataclasses.replace(job.packer, folder=folder))
    there = dataclasses.replace(job, environment={"PKR_VAR_volume_size_gib": "90", "PKR_VAR_subnet_id": "subnet-1"})
    assert what_would_change(prepared.run, job) == []

    assert [change.fact for change in what_would_change(prepared.run, there)] == ["settings"]
    assert (there.variables.volume_size_gib, there.variables.subnet_ids) == (90, ("subnet-1",))
    (folder / "more.auto.pkrvars.json").write_text('{"volume_size_gib": 80}')
    assert what_would_change(prepared.run, dataclasses.replace(there)) == []
    (folder / "more.auto.pkrvars.json").write_text('{"volume_size_gib": 80, "ecs_spot_instance_draining": false}')
    assert [change.fact for change in what_would_change(prepared.run, dataclasses.replace(job))] == ["settings"]


def test_each_look_that_fails_says_why(here: World, prepared: Task) -> None:
    """Without an answer nothing is equal."""
    _live(here, prepared)
    here.aws.gate.deny("ecr:*", "s3:*", "ssm:*")

    found = {change.fact: change.detail for change in what_would_change(prepared.run, _job(here))}

    assert set(found) == {"base", "image", "models"}
    assert all("could not be looked up" in detail for detail in found.values())


def test_an_image_that_is_not_there_cannot_be_looked_up(here: World, prepared: Task) -> None:
    """The build's own check has the fix; this says only that nobody can compare."""
    _live(here, prepared)

    changes = what_would_change(prepared.run, _job(here, image_tag="none", base_ami_parameter="/none"))

    assert [change.fact for change in changes] == ["base", "image"]
    assert [change.wanted for change in changes] == [None, None]


def test_an_unreadable_list_of_amis_is_one_difference(here: World, prepared: Task) -> None:
    """Nobody knows what is live: build."""
    here.aws.gate.deny("ec2:DescribeImages")

    (found,) = what_would_change(prepared.run, _job(here))

    assert found.fact == "live"
    assert "UnauthorizedOperation" in found.detail


def test_only_a_finished_ami_that_can_be_launched_is_the_live_one(here: World, prepared: Task) -> None:
    """A pending one of an incomplete build, a disabled one, another family's and a stranger's are not."""
    live = _live(here, prepared, age_days=50)
    unfinished = here.image(1)
    disabled = here.image(2)
    disabled.add_tags(FINISHED)
    disabled.state = "disabled"
    other = here.image(3)
    other.add_tags(FINISHED | {"gpu-ami:family": "other"})
    foreign = here.image(4)
    here.maker.ec2.tags[foreign.id] = FINISHED | {"gpu-ami:family": "gpu-batch"}

    found = compare(prepared.run, _job(here)).live

    assert found is not None
    assert found.image_id == live.id
    assert unfinished.id != live.id
    assert found.architecture == "x86_64"


@pytest.mark.parametrize(
    ("tags", "is_live"),
    [
        ({}, True),
        ({"gpu-ami:finished": "true"}, True),
        ({"gpu-ami:finished": "false"}, False),
        ({"gpu-ami:finished": "false", "gpu-ami:handover": "applied"}, True),
    ],
    ids=["from before, or by hand", "finished", "of a failed build", "applied all the same"],
)
def test_an_ami_of_a_failed_build_is_not_the_live_one(
    here: World, prepared: Task, tags: dict[str, str], *, is_live: bool
) -> None:
    """Packer had put all its tags on it before a copy was refused: the next nightly build must not stop at it."""
    _live(here, prepared).add_tags(tags)

    found = compare(prepared.run, _job(here))

    assert (found.live is not None) is is_live
    assert [difference.fact for difference in found.differences] == ([] if is_live else ["live"])


def test_the_first_build_of_a_family_has_nothing_to_compare_with(here: World, prepared: Task) -> None:
    """No AMI is a reason of its own."""
    (found,) = what_would_change(prepared.run, _job(here))

    assert found.detail == "the family has no finished AMI yet"


@pytest.mark.parametrize(
    ("text", "facts", "message"),
    [
        ("- url: https://h/a.pt\n  path: a.pt\n", ["models"], ""),
        ("[", ["models"], "line 1 is not YAML"),
        ("- {url: https://h/a.pt, path: a, path: b}\n", ["models"], "has the key 'path' twice, in line 1"),
    ],
)
def test_models_yaml_is_part_of_the_models(
    here: World, prepared: Task, tmp_path: Path, text: str, facts: list[str], message: str
) -> None:
    """A model that is listed there is baked; a list that cannot be read cannot be compared."""
    _live(here, prepared)
    job = _job(here)
    folder = tmp_path / "packer"
    shutil.copytree(job.packer.folder, folder, ignore=shutil.ignore_patterns("*.pkrvars.hcl"))
    (folder / "models.yaml").write_text(text)

    changes = what_would_change(
        prepared.run, dataclasses.replace(job, packer=dataclasses.replace(job.packer, folder=folder))
    )

    assert [change.fact for change in changes] == facts
    assert message in changes[0].detail
