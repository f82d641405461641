"""Each verdict on plain values: account, sources, builder, disk, key, permissions, programs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.aws.caller import RefusedError
from gpu_ami.aws.capacity import InstanceType, Quota, has_gpu, quota_class
from gpu_ami.aws.ecr import ContainerImage, RepositoryUrl
from gpu_ami.aws.images import Image, TypeRules
from gpu_ami.aws.kms import Key
from gpu_ami.aws.s3 import Prefix
from gpu_ami.aws.sts import Identity
from gpu_ami.bake.checks import account, agent, builder, disk, encryption, permissions, sources
from tests.bake.checks.bakes import a_bake

SCRIPTS = Path(__file__).parents[3] / "packer" / "scripts"
NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
BASE = Image(
    image_id="ami-1",
    region="ap-northeast-2",
    name="al2023-ami-ecs-gpu",
    account="591542846629",
    is_amazons=True,
    state="available",
    architecture="x86_64",
    root_gib=30,
    created=NOW - timedelta(days=20),
)
REPOSITORY = RepositoryUrl(account="123456789012", region="ap-northeast-2", name="batch-processor")
CPU = InstanceType("c7i.4xlarge", 16, ("x86_64",), 0)
SMALL = InstanceType("c7i.large", 2, ("x86_64",), 0)
GPU = InstanceType("g5.xlarge", 4, ("x86_64",), 1)
ARM = InstanceType("c7g.4xlarge", 16, ("arm64",), 0)
KEY = Key("arn:aws:kms:r:1:key/k", "Enabled", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", is_amazons=False)


# --- account ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arn", "expected", "status"),
    [
        ("arn:aws:iam::1:user/a", None, "ok"),
        ("arn:aws:iam::1:user/a", "1", "ok"),
        ("arn:aws:iam::1:user/a", "2", "fail"),
        ("arn:aws:iam::1:root", None, "warn"),
        ("arn:aws:iam::1:root", "2", "fail"),
    ],
)
def test_credentials(arn: str, expected: str | None, status: str) -> None:
    """The account goes before everything else."""
    assert account.credentials(Identity("1", arn), "r", expected).status == status


@pytest.mark.parametrize(
    ("seconds", "status", "said"),
    [
        (0, "ok", "in step"),
        (-1, "ok", "in step"),
        (40, "ok", "40 s ahead of"),
        (61, "warn", "61 s ahead of"),
        (-90, "warn", "90 s behind"),
        (301, "fail", "refused after 5 minutes"),
        (-4000, "fail", "4000 s behind"),
    ],
)
def test_clock(seconds: int, status: str, said: str) -> None:
    """AWS refuses signatures more than five minutes off, on either side."""
    check = account.clock(timedelta(seconds=seconds))

    assert (check.status, said in check.detail) == (status, True)


def test_an_answer_without_a_date_is_no_clock() -> None:
    """Skipped, not taken for a clock in step."""
    assert account.clock(None).status == "skip"


# --- what goes in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source_ami", "changed", "status", "said"),
    [
        ("", {}, "ok", "20 days old"),
        ("", {"created": NOW - timedelta(days=1)}, "ok", "1 day old"),
        ("", {"created": NOW - timedelta(days=400)}, "ok", "the recommended"),
        ("", {"deprecated_at": NOW + timedelta(days=1)}, "ok", "the recommended"),
        ("", {"deprecated_at": NOW - timedelta(days=1)}, "warn", "is deprecated"),
        ("", {"is_amazons": False, "account": "1"}, "fail", "not to Amazon"),
        ("", {"state": "pending"}, "fail", "is pending"),
        ("ami-1", {}, "ok", "as source_ami says"),
        ("ami-1", {"is_amazons": False, "account": "1"}, "ok", "as source_ami says"),
        ("ami-1", {"is_amazons": False, "account": "2"}, "warn", "belongs to account 2"),
        ("ami-1", {"created": NOW - timedelta(days=200)}, "warn", "ami-9 is recommended now"),
        ("ami-1", {"state": "deregistered"}, "fail", "is deregistered"),
    ],
)
def test_base_ami(source_ami: str, changed: dict[str, Any], status: str, said: str) -> None:
    """Amazon's by default; another owner's only by name, and never silently when it is a stranger's."""
    bake, found = a_bake(source_ami=source_ami), msgspec.structs.replace(BASE, **changed)

    check = sources.base_ami(bake, "ami-1", found, "ami-9", account="1", now=NOW)

    assert (check.status, said in check.detail) == (status, True)
    assert (check.fix == "") == (status == "ok")


def test_an_ami_that_is_gone() -> None:
    """EC2 would refuse the launch."""
    assert sources.base_ami(a_bake(), "ami-1", None, None, account="1", now=NOW).status == "fail"


@pytest.mark.parametrize(
    ("changed", "found", "status"),
    [
        ({}, ContainerImage("sha256:1", 10), "ok"),
        ({"image_tag": "latest"}, ContainerImage("sha256:1", 10), "warn"),
        ({"image_tag": "latest", "image_digest": "sha256:1"}, ContainerImage("sha256:1", 10), "ok"),
        ({}, None, "fail"),
    ],
)
def test_container_image(changed: dict[str, Any], found: ContainerImage | None, status: str) -> None:
    """A tag that moves is frozen in the image: said, not refused."""
    assert sources.container_image(a_bake(**changed), REPOSITORY, found).status == status


@pytest.mark.parametrize(
    ("image_status", "status", "detail", "fix"),
    [
        ("", "ok", "10 B compressed", ""),
        ("ACTIVE", "ok", "10 B compressed", ""),
        ("ARCHIVED", "fail", "in the archive it cannot be pulled", "--image-id imageDigest=sha256:1 --target-storage-"),
        ("ACTIVATING", "fail", "cannot be pulled yet", "up to 20 minutes"),
        ("FROZEN", "warn", "is FROZEN, which this version does not know", "Make sure"),
    ],
)
def test_an_image_that_is_there_may_be_out_of_reach(image_status: str, status: str, detail: str, fix: str) -> None:
    """ECR lists what it has archived, and answers a pull with 404: the builder would find out after it was paid for."""
    check = sources.container_image(a_bake(), REPOSITORY, ContainerImage("sha256:1", 10, status=image_status))

    assert (check.status, detail in check.detail, fix in check.fix) == (status, True, True), check
    assert check.is_blocking
    assert ("update-image-storage-class --registry-id 123456789012" in check.fix) is (image_status == "ARCHIVED")


@pytest.mark.parametrize(
    ("bucket", "found", "status", "said"),
    [
        ("", None, "skip", "not set"),
        ("m", None, "fail", "does not exist"),
        ("m", Prefix(0, 0), "fail", "nothing under models/"),
        ("m", Prefix(1, 1024), "ok", "1 file, 1.0 KiB"),
        ("m", Prefix(3, 0), "ok", "3 files, 0 B"),
    ],
)
def test_models(bucket: str, found: Prefix | None, status: str, said: str) -> None:
    """A forgotten upload would otherwise be found out after twenty minutes of baking."""
    check = sources.models(a_bake(models_s3_bucket=bucket), found)

    assert (check.status, said in check.detail) == (status, True)


# --- disk ------------------------------------------------------------------------------------------


def test_the_disk_formula_is_the_scripts() -> None:
    """The doctor must not say ok to what check-disk.sh stops, nor the other way round."""
    script = (SCRIPTS / "check-disk.sh").read_text(encoding="utf-8")
    factor = re.search(r"^readonly UNPACKED=(\d+)$", script, re.MULTILINE)
    needed = re.search(r"^needed=\$\(\(\w+ \* UNPACKED \+ models \+ MIN_FREE_GIB \* GIB\)\)$", script, re.MULTILINE)

    assert factor is not None
    assert int(factor[1]) == disk.UNPACKED
    assert needed is not None


@pytest.mark.parametrize(
    ("volume", "image_gib", "models_gib", "status"),
    [
        (80, 6, 1.85, "ok"),  # 12 + 24 + 1.85 + 5 = 42.9
        (43, 6, 1.85, "ok"),
        (42, 6, 1.85, "fail"),
        (30, 6, 1.85, "fail"),  # the base AMI's own size: the first thing people run into
        (29, 0, 0, "fail"),
    ],
)
def test_disk(volume: int, image_gib: float, models_gib: float, status: str) -> None:
    """The edge is where the sum says it is."""
    bake = a_bake(volume_size_gib=volume)
    image, models = int(image_gib * disk.GIB), int(models_gib * disk.GIB)

    assert disk.disk(bake, image_bytes=image, models_bytes=models, base_gib=30).status == status


def test_models_to_download_are_said_not_to_count() -> None:
    """Nobody knows their size before: a sum that is silent about them reads as if they had room."""
    plain, more = a_bake(), a_bake(model_downloads=[{}, {}])

    assert "download" not in disk.disk(plain, image_bytes=1, models_bytes=1, base_gib=30).detail
    assert "2 to download not counted" in disk.disk(more, image_bytes=1, models_bytes=1, base_gib=30).detail


@pytest.mark.parametrize(("free_gib", "status"), [(4.0, "fail"), (11.9, "fail"), (12.1, "ok")])
def test_the_sandbox_needs_room_on_this_machine(
    free_gib: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a build volume of a terabyte has what the machine's disk has; to enlarge the volume is no help."""
    asked: list[Path] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=int(free_gib * disk.GIB))

    monkeypatch.setattr("shutil.disk_usage", usage)
    folder = tmp_path / ".sandbox"

    found = disk.host(folder, a_bake(volume_size_gib=1000), image_bytes=disk.GIB, models_bytes=3 * disk.GIB)

    assert (found.status, asked) == (status, [tmp_path])
    assert (
        f"{free_gib:.1f} GiB free where {folder} is, on this machine; the sandbox's builder needs 12.0" in found.detail
    )
    assert (f"make {folder} a link to a folder on a larger disk" in found.fix) == (status == "fail")


@given(
    image=st.integers(0, 200 * disk.GIB),
    models=st.integers(0, 200 * disk.GIB),
    base=st.integers(0, 100),
    volume=st.integers(8, 16384),
)
def test_the_size_that_is_advised_is_enough(image: int, models: int, base: int, volume: int) -> None:
    """Who follows the fix is not sent back a second time."""
    check = disk.disk(a_bake(volume_size_gib=volume), image_bytes=image, models_bytes=models, base_gib=base)
    if check.status == "fail":
        advised = re.search(r"to (\d+) or more", check.fix)
        assert advised is not None
        again = a_bake(volume_size_gib=int(advised[1]))
        assert disk.disk(again, image_bytes=image, models_bytes=models, base_gib=base).status == "ok"


# --- builder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "types", "offered", "architecture", "status", "said"),
    [
        ({}, [CPU], {"za": ["c7i.4xlarge"]}, "x86_64", "ok", "(on-demand) in za"),
        ({}, [CPU], {}, None, "ok", "in the region"),
        ({}, [CPU], {"za": []}, "x86_64", "fail", "za has no c7i.4xlarge"),
        ({}, [CPU], {"za": [], "zb": ["c7i.4xlarge"]}, "x86_64", "warn", "za has no c7i.4xlarge; the build goes on"),
        ({}, [], {"za": []}, "x86_64", "fail", "no c7i.4xlarge in this region"),
        ({"instance_type": "c7g.4xlarge"}, [ARM], {"za": ["c7g.4xlarge"]}, "x86_64", "fail", "is x86_64, c7g"),
        ({"instance_type": "c7g.4xlarge"}, [ARM], {"za": ["c7g.4xlarge"]}, None, "ok", "c7g.4xlarge"),
        ({"instance_type": ""}, [], {}, None, "fail", "no instance type is set"),
        (
            {"spot": True, "spot_instance_types": ["c7i.4xlarge", "c7i.large"]},
            [CPU, SMALL],
            {"za": ["c7i.large"]},
            "x86_64",
            "warn",
            "za has no c7i.4xlarge",
        ),
    ],
)
def test_instance_type(
    changed: dict[str, Any],
    types: list[InstanceType],
    offered: dict[str, list[str]],
    architecture: str | None,
    status: str,
    said: str,
) -> None:
    """Nothing that is left to try is a failure; something left is a warning."""
    known = {kind.name: kind for kind in types}
    has = {zone: frozenset(names) for zone, names in offered.items()}

    base = None if architecture is None else msgspec.structs.replace(BASE, architecture=architecture)

    check = builder.instance_type(a_bake(**changed), known, has, base)

    assert (check.status, said in check.detail) == (status, True)


FALL_BACK = {"fallback_instance_types": ["c7i.large"]}
SPOT = {"spot": True, "spot_instance_types": ["c7i.4xlarge", "c7i.large"]}


@pytest.mark.parametrize(
    ("changed", "rules", "status", "said"),
    [
        ({}, None, "ok", "(on-demand)"),
        ({}, TypeRules(), "ok", "(on-demand)"),
        ({}, TypeRules(supported=("c7i.*",)), "ok", "(on-demand)"),
        ({}, TypeRules(unsupported=("t3.*",)), "ok", "(on-demand)"),
        ({}, TypeRules(supported=("g5.*", "p5.*")), "fail", "it allows g5.*, p5.*"),
        ({}, TypeRules(unsupported=("c7i.*",)), "fail", "it allows all types but c7i.*"),
        # What both lists have is excluded.
        ({}, TypeRules(supported=("c7i.*",), unsupported=("c7i.4xlarge",)), "fail", "ami-1 may not run on c7i.4xlarge"),
        (FALL_BACK, TypeRules(unsupported=("c7i.4xlarge",)), "fail", "left: c7i.large"),
        (FALL_BACK, TypeRules(unsupported=("c7i.large",)), "warn", "comes to it ends there; left: c7i.4xlarge"),
        (SPOT, TypeRules(unsupported=("c7i.4xlarge",)), "warn", "EC2 does not pick it; left: c7i.large"),
        (SPOT, TypeRules(supported=("g*",)), "fail", "may not run on c7i.4xlarge, c7i.large"),
        # Patterns are whole names.
        ({}, TypeRules(unsupported=("c7i.4x", "C7I.4XLARGE")), "ok", "(on-demand)"),
    ],
)
def test_an_ami_may_exclude_the_builder(
    changed: dict[str, Any], rules: TypeRules | None, status: str, said: str
) -> None:
    """EC2 enforces the owner's InstanceTypeSpecification at the launch: an AMI for GPUs refuses a CPU builder there."""
    known, has = {kind.name: kind for kind in (CPU, SMALL)}, {"za": frozenset({"c7i.4xlarge", "c7i.large"})}
    base = msgspec.structs.replace(BASE, type_rules=rules)

    check = builder.instance_type(a_bake(**changed), known, has, base)

    assert (check.status, said in check.detail) == (status, True), check
    assert bool(check.fix) is (status != "ok")
    assert check.is_blocking


@pytest.mark.parametrize(("in_zone", "status"), [(["c7i.4xlarge"], "warn"), ([], "fail")])
def test_an_excluded_fall_back_hides_nothing_of_the_zones(in_zone: list[str], status: str) -> None:
    """One finding must not cover the other: what the zones lack is said as well."""
    known = {kind.name: kind for kind in (CPU, SMALL)}
    base = msgspec.structs.replace(BASE, type_rules=TypeRules(unsupported=("c7i.large",)))

    check = builder.instance_type(a_bake(**FALL_BACK), known, {"za": frozenset(in_zone)}, base)

    assert (check.status, "za has no" in check.detail) == (status, True)
    assert ("may not run on c7i.large" in check.detail) is (status == "warn")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"snapshot_copy_duration_minutes": 120, "ami_regions": ["us-east-1"]}, "ok"),
        ({"snapshot_copy_duration_minutes": 135, "ami_regions": ["us-east-1"]}, "warn"),
        ({"snapshot_copy_duration_minutes": 135, "ami_regions": ["r"]}, "ok"),
        ({"snapshot_copy_duration_minutes": 135}, "ok"),
        ({"ami_regions": ["us-east-1"]}, "ok"),
    ],
)
def test_a_copy_may_not_take_longer_than_packer_waits(changed: dict[str, Any], status: str) -> None:
    """EC2 keeps its promise, and Packer has given the copy up by then: two hours are its default."""
    check = builder.waits(a_bake(**changed), "r")

    assert check.status == status
    assert ("Set poll_max_attempts to 540 or more" in check.fix) is (status == "warn")
    if status == "warn":
        assert builder.waits(a_bake(**changed, poll_max_attempts=540), "r").status == "ok", "the advice is enough"


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("g5.xlarge", True),
        ("g4dn.xlarge", True),
        ("gr6.4xlarge", True),
        ("p5.48xlarge", True),
        ("c7gn.4xlarge", False),
        ("vt1.3xlarge", False),
        ("inf2.xlarge", False),
        ("m7i-flex.large", False),
        ("", False),
    ],
)
def test_a_type_with_gpus_is_known_by_its_name(name: str, *, has: bool) -> None:
    """A fall-back of the other kind would bake something else; EC2 is not called for a dry run."""
    assert has_gpu(name) is has


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("c7i.4xlarge", "standard"),
        ("m7i-flex.large", "standard"),
        ("im4gn.large", "standard"),
        ("t3.micro", "standard"),
        ("g5.xlarge", "g"),
        ("gr6.4xlarge", "g"),
        ("g4dn.xlarge", "g"),
        ("vt1.3xlarge", "g"),
        ("p5.48xlarge", "p"),
        ("trn1.2xlarge", None),
        ("inf2.xlarge", None),
        ("x2idn.16xlarge", None),
        ("hpc7a.96xlarge", None),
        ("mac2.metal", None),
        ("", None),
    ],
)
def test_each_type_counts_against_its_own_quota(name: str, kind: str | None) -> None:
    """EC2 counts vCPUs per class: trn is not t, mac not m, inf not i."""
    assert quota_class(name) == kind


@pytest.mark.parametrize(
    ("market", "types", "value", "used", "status"),
    [
        ("on-demand", [CPU], 16, 0, "ok"),
        ("on-demand", [CPU], 16, 1, "fail"),
        ("on-demand", [CPU], 5, 0, "fail"),
        ("on-demand", [CPU, SMALL], 5, 0, "fail"),  # a quota is no lack of room: the build does not go on
        ("spot", [CPU, SMALL], 5, 0, "warn"),
        ("spot", [CPU, SMALL], 1, 0, "fail"),
        ("spot", [CPU, SMALL], 100, 84, "ok"),
    ],
)
def test_vcpu_quota(market: Any, types: list[InstanceType], value: float, used: int, status: str) -> None:
    """A new account has 5, and none of G."""
    check = builder.vcpu_quota(market, types, Quota("L-1", "some quota", value), used)

    assert check.status == status
    if status != "ok":
        assert f"--quota-code L-1 --desired-value {used + 16}" in check.fix


def test_a_class_without_a_known_quota_is_skipped() -> None:
    """Not taken for room."""
    assert builder.vcpu_quota("spot", [CPU], None, 0).status == "skip"


@pytest.mark.parametrize(
    ("require_gpu", "types", "status", "said"),
    [
        (False, [CPU], "ok", '"GPU not detected" is normal'),
        (False, [GPU], "ok", "verify-gpu.sh checks it"),
        (True, [GPU], "ok", "verify-gpu.sh checks it"),
        (True, [CPU], "fail", "c7i.4xlarge has no GPU"),
        (True, [GPU, CPU], "fail", "c7i.4xlarge has no GPU"),
    ],
)
def test_gpu(require_gpu: bool, types: list[InstanceType], status: str, said: str) -> None:
    """A CPU builder is not a fault."""
    check = builder.gpu(a_bake(require_gpu=require_gpu), types)

    assert (check.status, said in check.detail) == (status, True)


@pytest.mark.parametrize(
    ("changed", "found", "status", "said"),
    [
        ({}, None, "ok", "default EBS key"),
        ({"kms_key_id": "k"}, None, "fail", "no key k"),
        ({"kms_key_id": "k"}, KEY, "ok", KEY.arn),
        ({"kms_key_id": "k"}, replace(KEY, state="PendingDeletion"), "fail", "PendingDeletion"),
        ({"kms_key_id": "k"}, replace(KEY, usage="SIGN_VERIFY", spec="RSA_2048"), "fail", "RSA_2048"),
        ({"kms_key_id": "k"}, replace(KEY, is_amazons=True), "ok", KEY.arn),
        ({"kms_key_id": "k", "ami_users": ["2"]}, replace(KEY, is_amazons=True), "fail", "cannot be shared"),
        ({"kms_key_id": "k", "ami_users": ["2"]}, KEY, "ok", KEY.arn),
        ({"kms_key_id": "k"}, replace(KEY, lets_auto_scaling=True), "ok", KEY.arn),
        ({"kms_key_id": "k"}, replace(KEY, lets_auto_scaling=False), "warn", "Batch starts no instance"),
    ],
)
def test_encryption(changed: dict[str, Any], found: Key | None, status: str, said: str) -> None:
    """What cannot encrypt, or cannot be shared when the AMI is, fails here and not at the end of a bake."""
    check = encryption.key(a_bake(**changed), found)

    assert (check.status, said in check.detail) == (status, True)


@pytest.mark.parametrize(
    ("delay", "attempts", "status", "said"),
    [
        (15, 480, "ok", "120 minutes each"),
        (120, 10, "ok", "20 minutes each"),
        (121, 480, "fail", "above 120 the amazon plugin fails at its first wait"),
        (1, 16, "ok", "0 minutes each"),
        (1, 15, "fail", "is 15 s: time for one look at the AMI"),
        (15, 1, "fail", "is 15 s"),
    ],
)
def test_waits_that_cannot_work_are_told_before_an_instance_is_paid_for(
    delay: float, attempts: float, status: str, said: str
) -> None:
    """The two are a budget of time; one that the plugin cannot keep ends a build at a wait, maybe the last one."""
    check = builder.waits(a_bake(poll_delay_seconds=delay, poll_max_attempts=attempts))

    assert (check.status, said in check.detail) == (status, True)


# --- the agent's settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "status", "said", "fix"),
    [
        ({}, "ok", "the template's own", ""),
        ({"ECS_RESERVED_MEMORY": "256"}, "ok", "and 1 of ecs_extra_config", ""),
        (
            {"ECS_CONTAINER_START_TIMEOUT": "9m", "ECS_RESERVED_MEMORY": "1"},
            "fail",
            "sets ECS_CONTAINER_START_TIMEOUT",
            "Set ecs_container_start_timeout for ECS_CONTAINER_START_TIMEOUT instead.",
        ),
        ({"ECS_ENABLE_GPU_SUPPORT": "true"}, "fail", "sets ECS_ENABLE_GPU_SUPPORT", "always sets it to true"),
        ({"ECS_ENGINE_AUTH_DATA": "{}"}, "fail", "a registry's password", "repository credentials"),
        (
            {"ECS_ENABLE_SPOT_INSTANCE_DRAINING": "false", "ECS_ENABLE_GPU_SUPPORT": "true"},
            "fail",
            "ECS_ENABLE_SPOT_INSTANCE_DRAINING, ECS_ENABLE_GPU_SUPPORT",
            "ecs_spot_instance_draining",
        ),
    ],
)
def test_a_setting_of_two_values_does_not_start_a_bake(extra: dict[str, str], status: str, said: str, fix: str) -> None:
    """The last step of the bake finds it, after a quarter of an hour or more that is paid for."""
    check = agent.settings(a_bake(ecs_extra_config=extra))

    assert (check.status, said in check.detail, fix in check.fix) == (status, True, True)


# --- permissions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "has_vpc", "refusal", "said"),
    [
        ("x86_64", True, None, ""),
        ("x86_64", None, None, ""),
        ("x86_64", False, None, "r has no default VPC"),
        ("x86_64", False, "VPCIdNotSpecified", "r has no default VPC"),
        ("arm64", True, "InvalidParameterValue", "the base AMI is arm64"),
        ("x86_64", False, "UnauthorizedOperation", "r has no default VPC"),
        ("arm64", True, "UnauthorizedOperation", "the base AMI is arm64"),
        ("x86_64", True, "UnauthorizedOperation", "these credentials may not do that"),
        ("x86_64", True, "Unsupported", "EC2 refuses that (no such type)"),
    ],
)
def test_a_temporary_profile_has_to_pass_packers_own_trial(
    architecture: str, has_vpc: bool | None, refusal: str | None, said: str
) -> None:
    """A refusal of it ends each build, under a name that says nothing of the cause."""
    error = RefusedError("no such type", refusal) if refusal else None

    check = permissions.temporary_profile("x", "r", architecture, has_default_vpc=has_vpc, refusal=error)

    # Of a denial nobody knows: Packer's own trial names the profile, and a policy may insist on one.
    bad = "warn" if refusal == "UnauthorizedOperation" and has_vpc and architecture == "x86_64" else "fail"
    assert check.status == (bad if said else "ok")
    assert said in check.detail
    assert ("Give iam_instance_profile" in check.fix) is bool(said)


def parts(**changed: Any) -> dict[str, set[str]]:
    """Return the actions that a bake needs, by part."""
    scene = permissions.Scene("1", "r", "aws")
    needed = permissions.needed(a_bake(**changed), scene, role="arn:aws:iam::1:role/b", key="arn:aws:kms:r:1:key/k")
    found: dict[str, set[str]] = {}
    for part in needed:
        found.setdefault(part.part, set()).update(part.actions)
    return found


def test_each_variable_brings_its_permissions() -> None:
    """And only then: nobody is told to give rights that the bake does not use."""
    plain, more = (
        parts(iam_instance_profile="p"),
        parts(
            security_group_id="",
            spot=True,
            ssh_interface="session_manager",
            deprecate_after_days=1,
            deregistration_protection="on",
            ami_regions=["us-east-1"],
            ami_users=["2"],
        ),
    )

    assert set(plain) == {"look-ups", "builder", "AMI", "instance profile", "key"}
    assert set(more) == {"look-ups", "builder", "AMI", "temporary group", "temporary profile", "session", "key"}
    assert more["builder"] - plain["builder"] == {
        "ec2:CreateFleet",
        "ec2:CreateLaunchTemplate",
        "ec2:DeleteLaunchTemplate",
    }
    assert more["AMI"] - plain["AMI"] == {
        "ec2:EnableImageDeprecation",
        "ec2:EnableImageDeregistrationProtection",
        "ec2:CopyImage",
        "ec2:ModifySnapshotAttribute",
    }
    assert "iam:PassRole" in plain["instance profile"] & more["temporary profile"]


def tagging(**changed: Any) -> set[tuple[str, str, bool]]:
    """Return what a bake tags: region and kind, in the act of what, and whether it carries the tags already."""
    scene = permissions.Scene("1", "r", "aws")
    needed = permissions.needed(a_bake(**changed), scene, role=None, key=None)
    tags = [part for part in needed if "ec2:CreateTags" in part.actions]
    assert all(part.sends_tags for part in tags)
    return {
        (f"{permissions.region_of(part)} {part.resource.split(':')[5].partition('/')[0]}", part.creating, part.has_tags)
        for part in tags
    }


def test_tags_are_asked_for_as_packer_sends_them() -> None:
    """With ec2:CreateAction in the act of making, and without it in calls of their own: a policy may allow just one."""
    plain = tagging(iam_instance_profile="p", security_group_id="sg-1")
    spot = tagging(iam_instance_profile="p", security_group_id="sg-1", spot=True)
    copied = tagging(iam_instance_profile="p", security_group_id="sg-1", ami_regions=["r", "us-east-1"])
    shared = tagging(iam_instance_profile="p", security_group_id="sg-1", ami_regions=["us-east-1"], ami_users=["2"])

    assert plain == {
        ("r key-pair", "CreateKeyPair", False),
        ("r instance", "RunInstances", False),
        ("r network-interface", "RunInstances", False),
        ("r volume", "RunInstances", False),
        ("r image", "CreateImage", False),
        ("r snapshot", "CreateImage", False),
        ("r image", "", True),
        ("r snapshot", "", True),
    }
    assert spot - plain == {
        ("r fleet", "CreateFleet", False),
        ("r launch-template", "CreateLaunchTemplate", False),
        ("r spot-instances-request", "", False),
        ("r instance", "", True),
        ("r volume", "", True),
    }
    assert copied - plain == {("us-east-1 image", "", True), ("us-east-1 snapshot", "", False)}
    assert shared - copied == {("r snapshot", "", False)}


def test_a_request_has_the_keys_of_its_moment() -> None:
    """A key that is only sometimes there must not open a simulation for all times."""
    scene = permissions.Scene("1", "r", "aws")

    def keys(**moment: Any) -> set[str]:
        return set(permissions.context(scene, {"t": "v"}, permissions.Needed("x", ("a",), **moment)))

    always = keys()
    assert not {key for key in always if "Tag" in key or "CreateAction" in key}
    assert keys(sends_tags=True, creating="CreateFleet") - always == {
        "aws:RequestTag/t",
        "aws:TagKeys",
        "ec2:CreateAction",
    }
    assert keys(has_tags=True) - always == {"aws:ResourceTag/t", "ec2:ResourceTag/t", "ssm:resourceTag/t"}
    there = permissions.Needed("x", ("a",), permissions.Scene("1", "q", "aws").arn("image"))
    assert permissions.context(scene, {}, there)["aws:RequestedRegion"] == ("q",)


@pytest.mark.parametrize(
    ("answers", "simulated", "status", "said"),
    [
        ({"a": "allowed", "b": "allowed"}, True, "ok", "all 2 actions are allowed, simulated by IAM"),
        ({"a": "allowed"}, False, "ok", "the action is allowed, tried as dry runs"),
        ({"a": "allowed", "b": "denied", "c": "unknown"}, False, "fail", "denied: b"),
        ({"a": "allowed", "b": "unknown"}, False, "warn", "1 of 2 allowed, tried as dry runs; not known: b"),
        ({"a": "allowed", "b": "unknown"}, True, "warn", "1 of 2 allowed, simulated by IAM; not known: b"),
    ],
)
def test_what_is_not_known_is_never_allowed(answers: Any, simulated: bool, status: str, said: str) -> None:
    """One denial fails, one doubt warns."""
    check = permissions.judge("AMI", answers, simulated=simulated, who="me")

    assert (check.check, check.status, said in check.detail) == ("permissions: AMI", status, True)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        (None, "warn"),
        ({"ecr:GetAuthorizationToken": "allowed"}, "ok"),
        ({"ecr:GetAuthorizationToken": "denied"}, "fail"),
        ({"ecr:GetAuthorizationToken": "unknown"}, "fail"),
    ],
)
def test_the_builders_role(answers: Any, status: str) -> None:
    """The classic failure: the role cannot log in."""
    check = permissions.judge_profile("ECR login", "p", "arn:aws:iam::1:role/x/b", answers, "ap-northeast-2")

    assert check.status == status
    if status != "ok":
        assert "AmazonEC2ContainerRegistryReadOnly" in check.fix
        assert "aws ecr get-login-password --region ap-northeast-2" in check.fix
