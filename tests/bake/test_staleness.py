"""Whether a bake would make another image than the live one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gpu_ami.bake import fingerprint
from gpu_ami.bake.staleness import FACTS, Fact, Fingerprints, differences
from gpu_ami.errors import UsageError
from gpu_ami.records.tags import FINGERPRINT_PREFIX

NOW = Fingerprints({fact: f"{fact} 1" for fact in FACTS})
LIVE = {f"{FINGERPRINT_PREFIX}{fact}": f"{fact} 1" for fact in FACTS}
# The template's variables that change the image, with what of it they change.
COUNTS = (
    # what is in it
    "ecr_repository_url",
    "ecs_container_create_timeout",
    "ecs_container_start_timeout",
    "ecs_extra_config",
    "ecs_image_pull_behavior",
    "ecs_image_pull_inactivity_timeout",
    "ecs_spot_instance_draining",
    "models_dir",
    "models_s3_bucket",  # lines of one's own in download-models.sh may take more from it than the listing says
    "prewarm",
    "prewarm_paths",
    "prewarm_readers",
    "prewarm_seconds",
    "update_container_stack",
    # what is promised of it
    "min_free_gib",
    # its volume, as the AMI maps it
    "kms_key_id",
    "volume_iops",
    "volume_size_gib",
    "volume_throughput_mib_s",
    # the AMI itself: without a bake nothing of these would come true
    "ami_org_arns",
    "ami_ou_arns",
    "ami_regions",
    "ami_users",
    "deprecate_after_days",
    "deregistration_protection",
    "extra_tags",
    "family",
    "region_kms_key_ids",
)


def test_an_image_made_from_the_same_things_is_not_stale() -> None:
    """Other tags of the AMI say nothing about it."""
    assert differences(LIVE | {"Name": "x", "gpu-ami:run": "r"}, NOW) == []


@pytest.mark.parametrize("fact", FACTS)
def test_each_fact_alone_makes_an_image_stale(fact: Fact) -> None:
    """A fact that is left out of the comparison would keep an old image alive for ever."""
    (found,) = differences(LIVE | {f"{FINGERPRINT_PREFIX}{fact}": "older"}, NOW)

    assert (found.fact, found.live, found.wanted) == (fact, "older", f"{fact} 1")
    assert "older is now" in found.detail
    assert json.loads(json.dumps(found.document()))["fact"] == fact


@pytest.mark.parametrize("fact", FACTS)
def test_an_image_that_does_not_say_is_stale(fact: Fact) -> None:
    """AMIs of earlier versions have no fingerprints: nothing is taken for equal that nobody compared."""
    silent = {key: value for key, value in LIVE.items() if key != f"{FINGERPRINT_PREFIX}{fact}"}

    (found,) = differences(silent, NOW)

    assert found.live is None
    assert "does not say" in found.detail


@pytest.mark.parametrize("fact", FACTS)
def test_a_look_that_fails_is_a_difference_with_its_reason(fact: Fact) -> None:
    """Better one bake too many than an image that is silently old."""
    known = {name: value for name, value in NOW.values.items() if name != fact}

    (found,) = differences(LIVE, Fingerprints(known, {fact: "AWS refused."}))

    assert found.wanted is None
    assert found.detail.endswith("could not be looked up (AWS refused)")


def test_without_an_image_there_is_everything_to_do() -> None:
    """The first build of a family."""
    (found,) = differences(None, NOW)

    assert (found.fact, found.live, found.wanted) == ("live", None, None)


def test_the_same_value_in_another_spelling_is_the_same_setting() -> None:
    """A flag gives text where a file gives a number or a list."""
    plain = {"volume_size_gib": 80, "ecs_extra_config": {"A": "1"}, "ami_regions": ["us-east-1"]}
    spelt = {"volume_size_gib": "80", "ecs_extra_config": '{"A": "1"}', "ami_regions": '["us-east-1"]'}

    assert fingerprint.of_settings(plain) == fingerprint.of_settings(spelt)


def test_a_setting_that_nobody_knows_counts() -> None:
    """A variable that somebody adds to the template may change the image."""
    assert fingerprint.of_settings({"unheard_of": "a"}) != fingerprint.of_settings({"unheard_of": "b"})


@pytest.mark.parametrize("name", sorted(fingerprint.ELSEWHERE))
def test_where_and_when_it_is_baked_does_not_count(name: str) -> None:
    """Another subnet makes the same image; image and models are facts of their own."""
    assert fingerprint.of_settings({name: "a", "x": 1}) == fingerprint.of_settings({name: "b", "x": 1})


def test_every_variable_of_the_template_is_on_one_side() -> None:
    """A new or renamed one would count by itself, and a change of how the builder is bought would force a full bake."""
    variables = (Path(__file__).parents[2] / "packer" / "variables.pkr.hcl").read_text()
    names = re.findall(r'^variable "(\w+)"', variables, re.MULTILINE)

    assert sorted([*COUNTS, *fingerprint.ELSEWHERE]) == sorted(names)


@pytest.mark.parametrize("name", COUNTS)
def test_each_setting_of_the_image_counts(name: str) -> None:
    """A setting left out would never reach the image while `--if-stale` says that there is nothing to do."""
    assert fingerprint.of_settings({name: "a", "x": 1}) != fingerprint.of_settings({name: "b", "x": 1})


def _folder(root: Path, **more: str) -> Path:
    files = {"a.pkr.hcl": "build {}", "scripts/a.sh": "true", "rootfs/etc/unit": "x"} | more
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "name",
    [
        "a.pkr.hcl",
        "scripts/a.sh",
        "rootfs/etc/unit",
        "scripts/new.sh",
        "rootfs/opt/release-a.json",
        "x/manifest-a.json",
    ],
)
def test_each_file_of_the_bake_counts(tmp_path: Path, name: str) -> None:
    """Files that are new, moved or changed make another image."""
    before = fingerprint.of_folder(_folder(tmp_path / "a"))

    assert fingerprint.of_folder(_folder(tmp_path / "b", **{name: "other"})) != before


def test_an_executable_bit_counts(tmp_path: Path) -> None:
    """A unit's program that lost it would not start."""
    folder = _folder(tmp_path)
    before = fingerprint.of_folder(folder)
    (folder / "scripts" / "a.sh").chmod(0o755)

    assert fingerprint.of_folder(folder) != before


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "v.auto.pkrvars.hcl",
        "manifest.json",
        "manifest-video.json",
        "release.json",
        "release-video.json",
        "contents.json",
        "bill.cdx.json",
        "builds/ami-0123456789abcdef0/bill.cdx.json",
        "models.yaml",
        ".gitignore",
        "ec2_gpu.pem",
        "x.example",
    ],
)
def test_what_does_not_reach_the_image_does_not_count(tmp_path: Path, name: str) -> None:
    """The last build's own manifest beside the template would make each next build stale; models are another fact."""
    before = fingerprint.of_folder(_folder(tmp_path / "a"))

    assert fingerprint.of_folder(_folder(tmp_path / "b", **{name: "other"})) == before


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint of half the files would be one of another bake."""
    folder = _folder(tmp_path)

    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(UsageError, match="cannot be read"):
        fingerprint.of_folder(folder)


OBJECTS = [("a.pt", 3, '"e1"'), ("b.pt", 4, '"e2"')]


def test_the_order_of_a_listing_does_not_matter() -> None:
    """S3 lists by key, but nobody should rely on it."""
    assert fingerprint.of_models(OBJECTS, []) == fingerprint.of_models(OBJECTS[::-1], [])


@pytest.mark.parametrize(
    "changed",
    [OBJECTS[:1], [*OBJECTS, ("c", 1, "e")], [("a.pt", 3, '"e9"'), OBJECTS[1]], [("a.pt", 5, '"e1"'), OBJECTS[1]]],
)
def test_each_change_of_the_bucket_counts(changed: list[tuple[str, int, str]]) -> None:
    """Added, removed, replaced with the same size, resized."""
    assert fingerprint.of_models(changed, []) != fingerprint.of_models(OBJECTS, [])


def test_a_presigned_address_is_the_same_model_with_each_signature() -> None:
    """Signatures are new each time (and secret); the file they lead to is the same."""

    def listed(url: str) -> str:
        return fingerprint.of_models([], [{"url": url, "path": "a", "sha256": ""}])

    assert listed("https://h/a.pt?X-Amz-Signature=1") == listed("https://h/a.pt?X-Amz-Signature=2")
    assert listed("https://h/a.pt") != listed("https://h/b.pt")
    assert listed("https://[bad/a?1") == listed("https://[bad/a?2")


def test_a_listed_model_counts_in_either_list() -> None:
    """models.yaml and model_downloads are one list to the bake."""
    model = {"url": "https://h/a.pt", "path": "a", "sha256": ""}

    assert fingerprint.of_models([], [], [model]) != fingerprint.of_models([], [], None)
    assert fingerprint.of_models([], [model]) == fingerprint.of_models([], [], [model])


@pytest.mark.parametrize("downloads", ["${var.x}", None, 7, [1, "x"], {"a": 1}])
def test_a_list_of_downloads_of_any_shape_has_a_fingerprint(downloads: object) -> None:
    """What is wrong with it, Packer says; a comparison must not fall over it."""
    assert fingerprint.of_models([], downloads)
