"""`invoke status` as a whole: what it shows, what it calls drift, and what it does when it cannot query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpu_ami.aws import batch
from gpu_ami.bake import compare, prepare
from gpu_ami.bake.staleness import Difference
from gpu_ami.deploy import apply
from gpu_ami.errors import DifferenceError, UsageError
from gpu_ami.records import receipt
from gpu_ami.settings import Handover
from gpu_ami.status import drift, status
from gpu_ami_sandbox.aws.base_image import base_image_id
from gpu_ami_sandbox.aws.batch import service_linked_role
from gpu_ami_sandbox.demo.factory import FAMILY
from tests.support.account import REGION, Task, task
from tests.support.fake_terraform import FakeTerraform
from tests.support.provenances import prove
from tests.support.schemas import problems

BASE = base_image_id(REGION)
DIGEST = f"sha256:{'1' * 64}"
PARAMETER = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"


@pytest.fixture
def in_step(terraform: FakeTerraform, monkeypatch: pytest.MonkeyPatch) -> str:
    """The AMI of an account in which everything is as it should be."""
    image = terraform.here.image(5)
    image.add_tags({"gpu-ami:source-ami": BASE, "gpu-ami:fingerprint-image": f"2026.09.1@{DIGEST}"})
    terraform.hand_over(image.id)
    apply.run(task(terraform.here, terraform.folder.parent).run, apply.Request(yes=True))
    packer = terraform.folder.parent / "packer"
    packer.mkdir()
    (packer / "a.pkr.hcl").write_text(f'variable "base_ami_parameter" {{\n  default = "{PARAMETER}"\n}}\n')
    # What the next build would change has tests of its own.
    monkeypatch.setattr(prepare, "prepare", lambda *_args, **_more: None)
    monkeypatch.setattr(compare, "what_would_change", lambda *_args: [])
    ami: str = image.id
    return ami


def _look(terraform: FakeTerraform, *skip: str, **settings: Any) -> Task:
    done = task(terraform.here, terraform.folder.parent, **settings)
    status.run(done.run, status.Request(skip=skip))
    return done


def _drift(terraform: FakeTerraform, *skip: str, **settings: Any) -> list[tuple[str, str]]:
    done = task(terraform.here, terraform.folder.parent, **settings)
    with pytest.raises(DifferenceError, match="Not in step"):
        status.run(done.run, status.Request(skip=skip))
    return [(drift["code"], drift["subject"]) for drift in done.document["drift"]]


def test_in_step_ends_well(terraform: FakeTerraform, in_step: str) -> None:
    """Exit 0 only when everything was queried and agrees."""
    document = _look(terraform).document

    assert document["drift"] == []
    assert [environment["ami_id"] for environment in document["environments"]] == [in_step, in_step]
    first = document["environments"][0]
    assert (first["expected_ami_id"], first["state"], first["status"]) == (in_step, "ENABLED", "VALID")
    assert (first["hydration_mib_per_s"], first["base_ami_id"], first["image_digest"]) == (300, BASE, DIGEST)
    assert first["base_age_days"] > 0
    assert document["base"]["newest_ami_id"] == BASE
    assert document["jobs"] == []
    assert document["next_build"] == []


def test_base_and_driver_of_the_live_ami_are_named(terraform: FakeTerraform, in_step: str) -> None:
    """What a job ran on, without another task; of what the tags do not say, nothing is said."""
    assert _look(terraform).document["environments"][0]["nvidia_driver"] is None
    assert "driver" not in _look(terraform, output="table").out.getvalue()
    tags = {"gpu-ami:source-ami-name": "al2023-x", "gpu-ami:nvidia-driver": "580.1", "gpu-ami:kernel": "6.1.150"}
    terraform.here.maker.ec2.amis[in_step].add_tags(tags)

    document = _look(terraform).document
    assert problems("status", document) == []
    first = document["environments"][0]
    assert (first["base_ami_name"], first["nvidia_driver"], first["kernel"]) == ("al2023-x", "580.1", "6.1.150")
    text = _look(terraform, output="table").out.getvalue()
    assert f"{in_step}: base al2023-x, driver 580.1, kernel 6.1.150.\n" in text


def test_the_provenance_of_what_is_live_is_shown_and_one_that_is_refused_is_out_of_step(
    terraform: FakeTerraform, in_step: str
) -> None:
    """What would not be applied again must not go unseen because it is live."""
    assert _look(terraform).document["environments"][0]["provenance"] == {"state": "none", "detail": ""}
    image = terraform.here.maker.ec2.amis[in_step]
    path = prove(terraform.folder.parent, image, fingerprint_image=f"2026.09.1@{DIGEST}")

    shown = task(terraform.here, terraform.folder.parent, output="table")
    status.run(shown.run, status.Request(skip=("base",)))
    assert f"The provenance of {in_step} is unsigned." in shown.out.getvalue()
    path.write_bytes(path.read_bytes() + b" ")

    assert ("provenance-refused", in_step) in _drift(terraform, "base")
    document = _look(terraform, "base", "provenance").document
    assert document["environments"][0]["provenance"] is None
    assert problems("status", document) == []


def test_a_verification_is_shown_by_its_tag(terraform: FakeTerraform, in_step: str) -> None:
    """It informs: whether an apply believes it, its record says."""
    before = _look(terraform)
    assert before.document["environments"][0]["verified"] is None
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:verified": "2026-11-30T12:00:00Z/g5.xlarge"})

    after = _look(terraform)

    assert after.document["environments"][0]["verified"] == "2026-11-30T12:00:00Z/g5.xlarge"
    line = f"{in_step} was verified 2026-11-30T12:00:00Z on a g5.xlarge."
    assert line in _look(terraform, output="table").out.getvalue()
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:verified": "2026-11-30T13:00:00Z/g5.xlarge/failed"})
    failed = _look(terraform, output="table").out.getvalue()
    assert f"{in_step} failed its verification 2026-11-30T13:00:00Z on a g5.xlarge." in failed
    assert "was verified" not in failed
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:verified": "yes/failed"})
    by_hand = _look(terraform, output="table").out.getvalue()
    assert f"{in_step} has gpu-ami:verified=yes/failed, which no verification wrote." in by_hand
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:verified": ""})
    assert "was verified" not in _look(terraform, output="table").out.getvalue()


def test_the_document_is_the_contract(terraform: FakeTerraform, in_step: str) -> None:
    """Scripts read these keys."""
    document = _look(terraform).document

    assert set(document) >= {"environments", "drift", "ami_id", "parameter", "base", "job_definitions", "jobs"}
    assert set(document["environments"][0]) >= {
        "name",
        "ami_id",
        "expected_ami_id",
        "state",
        "hydration_mib_per_s",
        "instances",
    }


def test_the_table_says_in_step(terraform: FakeTerraform, in_step: str) -> None:
    """For people."""
    said = _look(terraform, output="table").out.getvalue()

    assert in_step in said
    assert "In step." in said
    assert "0 jobs run." in said


def test_a_handed_over_ami_that_is_not_applied(terraform: FakeTerraform, in_step: str) -> None:
    """The everyday drift: built, not yet applied."""
    terraform.hand_over(terraform.here.image(3).id)

    assert _drift(terraform) == [("not-applied", "gpu-spot"), ("not-applied", "gpu-on_demand")]


def test_a_finding_is_said_once(terraform: FakeTerraform, in_step: str) -> None:
    """The table has it with what to do; the error's line counts, so that nobody reads it twice, the long one first."""
    terraform.hand_over(terraform.here.image(3).id)
    done = task(terraform.here, terraform.folder.parent, output="table")

    with pytest.raises(DifferenceError) as caught:
        status.run(done.run, status.Request())

    assert str(caught.value) == "Not in step: 2 differences (not-applied). Each says above what to do."
    assert done.out.getvalue().count("Run `invoke apply`.") == 2


def test_one_finding_is_one(terraform: FakeTerraform, in_step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "1 difference. Each says …"."""
    one = drift.Drift(code="not-applied", subject="gpu-spot", detail="differs", advice="Run `invoke apply`.")
    monkeypatch.setattr(drift, "find", lambda _seen: (one,))

    with pytest.raises(
        DifferenceError, match=r"^Not in step: 1 difference \(not-applied\)\. It says above what to do\.$"
    ):
        _look(terraform)


def test_one_job_runs(terraform: FakeTerraform, in_step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "1 jobs run"; where they could not be listed that is said."""
    job = batch.Job(job_id="1", name="n", queue="q", status="RUNNING", started=None, limit=None, cluster_arn=None)
    monkeypatch.setattr(status, "_jobs", lambda _caller: [job])
    assert "\n1 job runs.\n" in _look(terraform, output="table").out.getvalue()

    assert "\nWhether jobs run is not known.\n" in _look(terraform, "jobs", output="table").out.getvalue()


def test_a_change_by_hand_is_told_from_one_to_come(terraform: FakeTerraform, in_step: str) -> None:
    """Somebody clicked in the console: the state and AWS disagree."""
    environment = terraform.here.maker.batch.get_compute_environment("gpu-spot")
    assert environment is not None
    environment.compute_resources["ec2Configuration"] = [{"imageIdOverride": terraform.here.image(9).id}]

    assert _drift(terraform) == [("changed-outside", "gpu-spot")]


def _add(terraform: FakeTerraform, name: str, **resources: Any) -> None:
    """Put another environment into Terraform's state, and make it on AWS."""
    maker = terraform.here.maker
    given = maker.location.compute_resources(**resources)
    maker.batch.create_compute_environment(
        name, "MANAGED", "ENABLED", given, service_linked_role(maker.location.account_id), {}
    )
    state = json.loads(terraform.state_file.read_text())
    rows = [
        {"image_type": row.get("imageType"), "image_id_override": row.get("imageIdOverride")}
        for row in resources.get("ec2Configuration", [])
    ]
    attributes = {
        "compute_environment_name": name,
        "arn": f"arn:aws:batch:r:1:compute-environment/{name}",
        "type": "MANAGED",
        "compute_resources": [{"type": given["type"], "ec2_configuration": rows}],
    }
    kind = "aws_batch_compute_environment"
    state["resources"].append(
        {"mode": "managed", "type": kind, "name": name, "instances": [{"attributes": attributes}]}
    )
    terraform.state_file.write_text(json.dumps(state))


def test_other_environments_of_the_root_module_are_left_alone(terraform: FakeTerraform, in_step: str) -> None:
    """One without an AMI, one with another team's, one on Fargate: each was out of step for ever."""
    theirs = terraform.here.image(9)
    terraform.here.access.client("ec2").delete_tags(Resources=[theirs.id], Tags=[{"Key": "gpu-ami:family"}])
    _add(terraform, "cpu")
    _add(terraform, "theirs", ec2Configuration=[{"imageType": "ECS_AL2023", "imageIdOverride": theirs.id}])
    _add(terraform, "fargate", type="FARGATE")

    document = _look(terraform).document

    assert [environment["name"] for environment in document["environments"]] == ["gpu-spot", "gpu-on_demand"]
    assert [(one["name"], one["why"]) for one in document["left_alone"]] == [
        ("cpu", "it has none of our AMIs"),
        ("theirs", "it has none of our AMIs"),
        ("fargate", "Fargate takes no AMI"),
    ]
    said = _look(terraform, output="table").out.getvalue()
    assert said.count("Left alone: aws_batch_compute_environment.cpu") == 1
    assert "In step." in said


def test_an_override_of_the_launch_template_counts(terraform: FakeTerraform, in_step: str) -> None:
    """Batch takes its AMI first, for some instance types: which AMI a job starts on cannot be said in a word."""
    other = terraform.here.image(9).id
    template = terraform.here.maker.ec2.create_launch_template("other", "", {"ImageId": other}, {})
    environment = terraform.here.maker.batch.get_compute_environment("gpu-spot")
    assert environment is not None
    override = {"launchTemplateId": template.id, "version": "$Latest", "targetInstanceTypes": ["g5.xlarge"]}
    environment.compute_resources["launchTemplate"] |= {"overrides": [override]}

    done = task(terraform.here, terraform.folder.parent)
    with pytest.raises(DifferenceError, match="ami-unknown"):
        status.run(done.run, status.Request())
    (found,) = done.document["drift"]
    assert (found["code"], found["subject"]) == ("ami-unknown", "gpu-spot")
    assert other in found["detail"]
    assert in_step in found["detail"]
    assert done.document["environments"][0]["ami_id"] is None


def test_an_environment_that_was_deleted(terraform: FakeTerraform, in_step: str) -> None:
    """The state has it, AWS does not."""
    terraform.here.maker.batch.delete_compute_environment("gpu-spot")

    assert _drift(terraform) == [("environment-gone", "gpu-spot")]


def test_an_ami_that_is_gone(terraform: FakeTerraform, in_step: str) -> None:
    """No instance can start any more; Batch itself goes on saying VALID."""
    terraform.here.maker.ec2.deregister_image(in_step)

    assert ("ami-gone", "gpu-spot") in _drift(terraform)


def test_a_template_that_lost_its_rate(terraform: FakeTerraform, in_step: str) -> None:
    """The version in use counts, not what Terraform believes."""
    template = terraform.here.maker.ec2.get_launch_template(terraform.template())
    version = template.create_version({"InstanceType": "g5.xlarge"}, "")
    environment = terraform.here.maker.batch.get_compute_environment("gpu-spot")
    assert environment is not None
    environment.compute_resources["launchTemplate"] = {
        "launchTemplateId": terraform.template(),
        "version": str(version.number),
    }

    assert _drift(terraform) == [("hydration-differs", "gpu-spot")]


def test_a_job_definition_with_another_image(terraform: FakeTerraform, in_step: str) -> None:
    """It would be pulled at each start: 17 GB."""
    batch = terraform.here.maker.batch
    for image in (f"r/video@{DIGEST}", f"r/video@sha256:{'2' * 64}"):
        container = {"image": image, "vcpus": 1, "memory": 512}
        tags = {"gpu-ami:family": FAMILY}
        batch.register_job_definition("video", {}, "container", tags, {}, container, None, None, {}, ["EC2"], False)
    batch.register_job_definition(
        "others", {}, "container", {}, {}, {"image": "x:1", "vcpus": 1, "memory": 512}, None, None, {}, ["EC2"], False
    )

    assert _drift(terraform) == [("image-differs", "video:2")]


def test_an_image_baked_by_hand_with_a_tag(terraform: FakeTerraform, in_step: str) -> None:
    """Packer alone tags the image as it was named, which may be another by now; a release record knows the digest."""
    ec2 = terraform.here.access.client("ec2")
    ec2.delete_tags(Resources=[in_step], Tags=[{"Key": "gpu-ami:fingerprint-image"}])
    ec2.create_tags(Resources=[in_step], Tags=[{"Key": "gpu-ami:image", "Value": "r/video:2026.09.1"}])
    container = {"image": f"r/video@{DIGEST}", "vcpus": 1, "memory": 512}
    tags = {"gpu-ami:family": FAMILY}
    terraform.here.maker.batch.register_job_definition(
        "video", {}, "container", tags, {}, container, None, None, {}, ["EC2"], False
    )

    assert _drift(terraform) == [("baked-image-unknown", in_step)]
    ec2.create_tags(Resources=[in_step], Tags=[{"Key": "gpu-ami:image-digest", "Value": DIGEST}])
    assert _look(terraform).document["environments"][0]["image_digest"] == DIGEST


def test_a_parameter_that_says_another_ami(terraform: FakeTerraform, in_step: str) -> None:
    """Somebody else reads it there."""
    terraform.here.maker.parameter("/gpu-ami/gpu-batch/ami-id", terraform.here.image(9).id)

    assert _drift(terraform) == [("parameter-differs", "/gpu-ami/gpu-batch/ami-id")]


def test_a_parameter_that_is_named_and_missing(terraform: FakeTerraform, in_step: str) -> None:
    """The settings say that it is used; nobody published to it."""
    settings = {"handover": Handover(parameter="/video/ami")}

    assert _drift(terraform, **settings) == [("parameter-differs", "/video/ami")]
    terraform.here.maker.parameter("/video/ami", in_step)
    assert _look(terraform, **settings).document["parameter"] == {"name": "/video/ami", "ami_id": in_step}


def test_a_build_that_was_not_handed_over(terraform: FakeTerraform, in_step: str) -> None:
    """The manifest is newer than the variable."""
    build = {"builder_type": "amazon-ebs", "artifact_id": f"{REGION}:ami-00000001", "packer_run_uuid": "1"}
    manifest = terraform.folder.parent / "packer" / "manifest.json"
    manifest.write_text(json.dumps({"builds": [build], "last_run_uuid": "1"}))

    assert _drift(terraform) == [("not-handed-over", "manifest")]
    done = task(terraform.here, terraform.folder.parent)
    with pytest.raises(DifferenceError):
        status.run(done.run, status.Request())
    (found,) = done.document["drift"]
    assert "which does not exist any more; " in found["detail"]
    assert found["advice"].startswith("Run `invoke build`")


def test_a_newer_base_ami(terraform: FakeTerraform, in_step: str) -> None:
    """Security updates wait for a bake."""
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:source-ami": "ami-00000002"})

    assert _drift(terraform) == [("base-outdated", in_step)]


def test_an_incremental_image_is_as_new_as_its_base(terraform: FakeTerraform, in_step: str) -> None:
    """Its source is its parent: compared with Amazon's AMI, it would call for a build after each build."""
    tags = {"gpu-ami:source-ami": terraform.here.image(9).id, "gpu-ami:fingerprint-base": BASE}
    terraform.here.maker.ec2.amis[in_step].add_tags(tags)

    assert _look(terraform).document["environments"][0]["base_ami_id"] == BASE
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:fingerprint-base": "ami-00000002"})
    assert _drift(terraform) == [("base-outdated", in_step)]


BAD_BASE = "al2023-ami-ecs-gpu-hvm-2023.0.20260813-kernel-6.1-x86_64-ebs"


def test_a_base_that_starts_mps_under_tmp_is_warned_of(terraform: FakeTerraform, in_step: str) -> None:
    """Every job of such an AMI is a client of MPS. It is no difference: the exit code stays, the JSON has it."""
    image = terraform.here.maker.ec2.amis[in_step]
    image.add_tags({"gpu-ami:source-ami-name": BAD_BASE})

    document = _look(terraform).document
    said = _look(terraform, output="table").out.getvalue()

    assert document["environments"][0]["base_ami_name"] == BAD_BASE
    assert [(one["code"], one["subject"]) for one in document["warnings"]] == [("mps-under-tmp", in_step)]
    assert "In step." in said
    assert said.count(BAD_BASE) == 2, "beside its AMI, and in the one warning"
    assert problems("status", document) == []
    image.add_tags({"gpu-ami:mps-pipe": "repair"})
    assert _look(terraform).document["warnings"] == []


def test_the_base_beneath_an_incremental_bake_is_found(terraform: FakeTerraform, in_step: str) -> None:
    """Its own tags name an AMI of ours, whose tags name one of ours, whose tags name Amazon's."""
    amis = terraform.here.maker.ec2.amis
    parent, grandparent = terraform.here.image(9).id, terraform.here.image(3).id
    gone = "ami-0123456789abcdef0"
    amis[in_step].add_tags({"gpu-ami:source-ami": parent, "gpu-ami:source-ami-name": amis[parent].name})
    amis[parent].add_tags({"gpu-ami:source-ami": grandparent})
    amis[grandparent].add_tags({"gpu-ami:source-ami": gone, "gpu-ami:source-ami-name": BAD_BASE})

    done = task(terraform.here, terraform.folder.parent)
    with pytest.raises(DifferenceError, match="base-outdated"):
        status.run(done.run, status.Request())

    assert done.document["environments"][0]["base_ami_name"] == BAD_BASE
    assert [one["subject"] for one in done.document["warnings"]] == [in_step]


def test_a_base_that_nobody_knows_is_said_and_not_warned_of(terraform: FakeTerraform, in_step: str) -> None:
    """What cannot be looked up is neither called affected nor healthy."""
    gone = "ami-0123456789abcdef0"
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:source-ami": gone})

    done = task(terraform.here, terraform.folder.parent, output="table")
    with pytest.raises(DifferenceError, match="base-outdated"):
        status.run(done.run, status.Request())

    assert f"{in_step} was baked from {gone}: whether that starts NVIDIA MPS" in done.out.getvalue()


@pytest.mark.parametrize("named", ['base_ami_parameter = "/our/base"', 'source_ami = "{ami}"'])
def test_the_base_that_a_build_would_use_is_compared(terraform: FakeTerraform, in_step: str, named: str) -> None:
    """An account with a base AMI of its own would never be in step with Amazon's."""
    ours = terraform.here.image(9).id
    terraform.here.maker.parameter("/our/base", ours)
    file = terraform.folder.parent / "packer" / "ours.pkrvars.hcl"
    # An expression elsewhere is no reason not to know the base.
    (file.parent / "b.pkr.hcl").write_text('variable "family" {\n  type = string\n}\n')
    file.write_text(named.format(ami=ours) + '\nfamily = "${1}"\n')
    settings = {"variables_file": "packer/ours.pkrvars.hcl"}

    assert _drift(terraform, **settings) == [("base-outdated", in_step)]
    terraform.here.maker.ec2.amis[in_step].add_tags({"gpu-ami:source-ami": ours})
    assert _look(terraform, **settings).document["base"]["newest_ami_id"] == ours


def test_a_base_from_the_environment_is_what_a_build_would_use(
    terraform: FakeTerraform, in_step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packer takes PKR_VAR_ as any other value."""
    ours = terraform.here.image(9).id
    terraform.here.maker.parameter("/our/base", ours)
    monkeypatch.setenv("PKR_VAR_base_ami_parameter", "/our/base")

    assert _drift(terraform) == [("base-outdated", in_step)]


def test_what_the_next_build_would_change(
    terraform: FakeTerraform, in_step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `invoke build --if-stale`."""
    found = [Difference("models", "1", "2", "the models: 1 is now 2"), Difference("base", "a", "b", "the base AMI: a")]
    monkeypatch.setattr(compare, "what_would_change", lambda *_args: found)

    assert _drift(terraform) == [("build-pending", "next build")]
    done = task(terraform.here, terraform.folder.parent, output="table")
    with pytest.raises(DifferenceError):
        status.run(done.run, status.Request())
    said = done.out.getvalue()
    assert "the base AMI: a" in said
    assert "a build would make another image: 2 changes, below" in said
    assert said.count("the models: 1 is now 2") == 1


def test_a_killed_and_a_failed_apply(terraform: FakeTerraform, in_step: str) -> None:
    """Their receipts say so."""
    (stored,) = receipt.load(terraform.folder / "receipts")
    shown = f"terraform/receipts/{stored.path.name}"

    def mark(state: Any) -> None:
        old = stored.receipt
        made = msgspec.structs.replace(old, status=state)
        receipt.write(stored.path, made)

    mark("started")
    assert _drift(terraform) == [("apply-unfinished", shown)]
    mark("failed")
    assert _drift(terraform) == [("apply-failed", shown)]


@pytest.mark.parametrize(
    ("denied", "query"),
    [
        ("batch:DescribeComputeEnvironments", "environments"),
        ("batch:DescribeJobQueues", "jobs"),
        ("batch:DescribeJobDefinitions", "job-definitions"),
        ("ec2:DescribeImages", "images"),
        ("ec2:DescribeLaunchTemplateVersions", "environments"),
        ("ssm:GetParameter", "parameter"),
    ],
)
def test_a_query_that_fails_is_never_in_step(terraform: FakeTerraform, in_step: str, denied: str, query: str) -> None:
    """A missing permission must not appear as health; what can be seen is still shown."""
    terraform.here.aws.gate.deny(denied)

    found = _drift(terraform)

    assert ("look-failed", query) in found


def test_a_look_can_be_left_out_and_that_is_said(terraform: FakeTerraform, in_step: str) -> None:
    """For roles that may not see everything."""
    terraform.here.aws.gate.deny("batch:DescribeJobQueues")

    done = _look(terraform, "jobs", output="table")
    assert "In step; not queried: jobs." in done.out.getvalue()
    document = _look(terraform, "jobs").document
    assert (document["skipped"], document["jobs"]) == (["jobs"], None)


def test_an_unknown_look_is_refused(terraform: FakeTerraform) -> None:
    """A slip would leave out nothing, or seem to."""
    with pytest.raises(UsageError, match="next-build"):
        _look(terraform, "job")


@pytest.mark.parametrize(
    ("file", "text", "query"),
    [
        ("terraform.tfstate", "{", "state"),
        ("terraform.tfstate", '{"version": 3}', "environments"),
        ("gpu-ami.auto.tfvars.json", "{", "hand-over"),
        ("receipts/1.json", "{", "receipts"),
        ("../packer/manifest.json", "{", "manifest"),
        ("../packer/variables.auto.pkrvars.hcl", "{", "base"),
    ],
)
def test_a_broken_file_is_a_failed_look(
    terraform: FakeTerraform, in_step: str, file: str, text: str, query: str
) -> None:
    """The others are still queried."""
    (terraform.folder / file).write_text(text)

    assert ("look-failed", query) in _drift(terraform)


def test_without_a_state_the_familys_tag_finds_them(terraform: FakeTerraform, in_step: str) -> None:
    """A checkout that never applied, or the demo account."""
    terraform.state_file.unlink()
    batch = terraform.here.maker.batch
    environment = batch.get_compute_environment("gpu-spot")
    assert environment is not None
    batch.tag_resource(environment.arn, {"gpu-ami:family": FAMILY})
    other = batch.get_compute_environment("gpu-on-demand") or next(
        one for one in batch._compute_environments.values() if one is not environment
    )
    # What a bench measures on is not what is live.
    batch.tag_resource(other.arn, {"gpu-ami:family": FAMILY, "gpu-ami:run": "bench-20261130T120000Z-0a1b2c"})

    (found,) = _look(terraform).document["environments"]
    assert (found["name"], found["address"]) == ("gpu-spot", None)


def test_a_state_elsewhere_is_asked_of_terraform(terraform: FakeTerraform, in_step: str) -> None:
    """An S3 backend: the local file, if there is one, is not the state."""
    (terraform.folder / "backend.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    terraform.calls.clear()

    assert _look(terraform).document["drift"] == []
    assert terraform.calls == ["init", "state"]


def test_a_dry_run_looks_at_nothing(terraform: FakeTerraform, tmp_path: Path) -> None:
    """It says what it would."""
    done = _look(terraform, dry_run=True)

    assert "would look up" in done.err.getvalue()
    assert done.document["notes"][0].startswith("look up hand-over, state, environments")
    assert problems("status", done.document) == []
    assert terraform.here.calls() == []
