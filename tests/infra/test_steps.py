"""The smaller provisioning steps: what each leaves, says and refuses."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from gpu_ami.bake import bill_of_materials
from gpu_ami.bake.checks import agent
from gpu_ami.bake.template import load_hcl
from gpu_ami.records.release import Model, models_digest
from tests.infra.box import PACKER, Box, Result
from tests.infra.finished import DIGEST, INPUTS, REFERENCE, finish

ECS = {
    "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
    "ECS_CONTAINER_START_TIMEOUT": "15m",
    "ECS_CONTAINER_CREATE_TIMEOUT": "15m",
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "5m",
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    "ECS_EXTRA_CONFIG": "{}",
}

# What AWS Batch's user data appends at boot, from public captures.
BATCH = """ECS_CLUSTER=video_Batch_1
ECS_DISABLE_IMAGE_CLEANUP=false
ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=2m
ECS_IMAGE_CLEANUP_INTERVAL=10m
ECS_IMAGE_MINIMUM_CLEANUP_AGE=10m
ECS_NUM_IMAGES_DELETE_PER_CYCLE=5
ECS_RESERVED_MEMORY=32
ECS_AVAILABLE_LOGGING_DRIVERS=["json-file","awslogs"]
ECS_INSTANCE_ATTRIBUTES={"com.amazonaws.batch.compute-environment-revision":"0"}
"""


def effective(config: str) -> dict[str, str]:
    """Return what the agent sees: the last line of a key counts."""
    return dict(line.split("=", 1) for line in config.splitlines() if "=" in line)


def test_ecs_config_gets_our_keys_and_keeps_the_others(box: Box) -> None:
    """Batch, other tools and people write to the same file."""
    box.write("/etc/ecs/ecs.config", "# mine\nECS_LOGLEVEL=debug\nECS_CONTAINER_START_TIMEOUT=3m\n")

    result = box.run("configure-ecs.sh", **ECS)

    assert result.status == 0, result.said
    config = box.read("/etc/ecs/ecs.config")
    assert config.startswith("# mine\nECS_LOGLEVEL=debug\n")
    assert config.count("ECS_CONTAINER_START_TIMEOUT=") == 1
    assert effective(config) == {
        "ECS_LOGLEVEL": "debug",
        "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
        "ECS_ENABLE_GPU_SUPPORT": "true",
        "ECS_CONTAINER_START_TIMEOUT": "15m",
        "ECS_CONTAINER_CREATE_TIMEOUT": "15m",
        "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": "5m",
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING": "true",
    }
    assert box.path("/etc/ecs/ecs.config").stat().st_mode & 0o777 == 0o644


def test_ecs_config_twice_is_once(box: Box) -> None:
    """No second line of a key, no temporary file left."""
    box.run("configure-ecs.sh", **ECS)
    once = box.read("/etc/ecs/ecs.config")
    box.run("configure-ecs.sh", **ECS)

    assert box.read("/etc/ecs/ecs.config") == once
    assert [path.name for path in box.path("/etc/ecs").iterdir()] == ["ecs.config"]


def test_extra_ecs_settings_are_set_as_given(box: Box) -> None:
    """Values may be JSON themselves."""
    extra = {"ECS_RESERVED_MEMORY": "256", "ECS_INSTANCE_ATTRIBUTES": '{"tier":"gpu","at":"C:\\\\x=y"}'}

    result = box.run("configure-ecs.sh", **ECS | {"ECS_EXTRA_CONFIG": json.dumps(extra)})

    assert result.status == 0, result.said
    assert extra.items() <= effective(box.read("/etc/ecs/ecs.config")).items()


def test_spot_draining_can_be_switched_off(box: Box) -> None:
    """Jobs that save their state themselves lose what the agent ends early."""
    result = box.run("configure-ecs.sh", **ECS | {"ECS_ENABLE_SPOT_INSTANCE_DRAINING": "false"})

    assert result.status == 0, result.said
    assert effective(box.read("/etc/ecs/ecs.config"))["ECS_ENABLE_SPOT_INSTANCE_DRAINING"] == "false"


def test_the_doctor_knows_every_setting_that_the_step_sets() -> None:
    """One that it does not know, given in ecs_extra_config too, would fail the bake's last step: after all the work."""
    script = (PACKER / "scripts" / "configure-ecs.sh").read_text(encoding="utf-8")
    sets = set(re.findall(r"^set_key (ECS_\w+) ", script, flags=re.MULTILINE))
    variables = {
        name: body
        for block in load_hcl(PACKER / "variables.pkr.hcl", what="x")["variable"]
        for name, body in block.items()
    }
    rules = " ".join(str(rule["condition"]) for rule in variables["ecs_extra_config"]["validation"])

    assert set(agent.OWN) == sets
    assert {name for name in re.findall(r"ECS_[A-Z_]+", rules) if name in sets} == sets
    assert set(filter(None, agent.OWN.values())) <= set(variables)


def keeps_its_images(settings: dict[str, str]) -> bool:
    """Return whether the agent leaves images alone, as its ImageManager decides."""
    disabled = settings.get("ECS_DISABLE_IMAGE_CLEANUP", "false") == "true"
    return disabled or settings.get("ECS_IMAGE_PULL_BEHAVIOR") == "prefer-cached"


def at_boot(box: Box) -> dict[str, str]:
    """Append Batch's lines as its user data does; return what the agent then sees: /var/lib/ecs first, /etc wins."""
    box.write("/var/lib/ecs/ecs.config", "ECS_ENABLE_GPU_SUPPORT=true\nECS_IMAGE_PULL_BEHAVIOR=default\n")
    box.write("/srv/batch", BATCH)
    done = box.bash('while IFS= read -r line; do echo "$line" >>/etc/ecs/ecs.config; done </srv/batch')
    assert done.status == 0, done.said
    return effective(box.read("/var/lib/ecs/ecs.config")) | effective(box.read("/etc/ecs/ecs.config"))


def test_batch_s_own_lines_at_boot_do_not_lose_the_baked_image(box: Box) -> None:
    """Batch turns image clean-up back on; prefer-cached, which it leaves alone, switches it off in the agent."""
    box.run("configure-ecs.sh", **ECS)
    ours = effective(box.read("/etc/ecs/ecs.config"))

    settings = at_boot(box)

    assert settings["ECS_DISABLE_IMAGE_CLEANUP"] == "false", "every line of Batch's took effect"
    assert effective(BATCH).items() <= settings.items()
    assert ours.items() <= settings.items(), "and none of ours was lost"
    assert keeps_its_images(settings)


@pytest.mark.parametrize("behavior", ["default", "once", "always"])
def test_with_another_pull_behavior_batch_would_lose_the_image(box: Box, behavior: str) -> None:
    """What the test above rests on: not even ECS_DISABLE_IMAGE_CLEANUP=true in the image would help."""
    extra = json.dumps({"ECS_DISABLE_IMAGE_CLEANUP": "true"})
    box.run("configure-ecs.sh", **ECS | {"ECS_IMAGE_PULL_BEHAVIOR": behavior, "ECS_EXTRA_CONFIG": extra})

    assert keeps_its_images(effective(box.read("/etc/ecs/ecs.config")))
    assert not keeps_its_images(at_boot(box))


@pytest.mark.parametrize(
    ("cloud_init", "status", "said"),
    [("0", 0, "cloud-init is done"), ("2", 0, "errors it recovered from"), ("1", 1, "cloud-init failed with status 1")],
)
def test_boot_is_waited_for_and_judged(box: Box, cloud_init: str, status: int, said: str) -> None:
    """Provisioning beside a running cloud-init races with it for dnf's lock and the user data's mask."""
    finish(box)
    box.write("/srv/ecs-unit", "masked\n")
    box.write("/srv/cloud-init", cloud_init)

    result = box.run("wait-for-boot.sh")

    assert result.status == status
    assert said in result.said
    assert "cloud-init status --wait" in box.calls()


def test_agent_that_user_data_did_not_mask_is_masked(box: Box) -> None:
    """A running agent joins a cluster and writes its state into the image."""
    finish(box)

    result = box.run("wait-for-boot.sh")

    assert "was not masked by user data; it is now" in result.said
    assert "systemctl mask --now ecs.service" in box.calls()


def test_system_update_brings_aws_cli_and_jq(box: Box) -> None:
    """The minimal base AMI has neither, and AL2023 updates nothing without --releasever."""
    updatable(box)

    result = box.run("update-system.sh")

    assert result.status == 0, result.said
    kept = "--exclude=docker,containerd,runc,ecs-init"
    assert [call for call in box.calls() if call.startswith("dnf")] == [
        f"dnf -y --quiet --releasever=latest {kept} update",
        f"dnf -y --quiet --releasever=latest {kept} install awscli-2 jq",
    ]
    assert "installed aws-cli/2.31.0 and jq-1.7.1" in result.said


def updatable(box: Box) -> None:
    """Give *box* what update-system.sh calls."""
    box.fake("dnf", "exit 0")
    box.fake("aws", "echo aws-cli/2.31.0 Python/3.13")
    box.fake("jq", "echo jq-1.7.1")
    box.fake("rpm", "echo 'docker 25.0.16-1'")


def test_what_the_base_brought_is_noted_before_anything_moves(box: Box) -> None:
    """A second run of the step, after what the first one moved, must not take that for the base's; none, no update."""
    updatable(box)
    box.run("update-system.sh")
    assert box.calls()[0].startswith("rpm -qa")
    box.fake("rpm", "echo 'docker 25.0.17-1'")

    box.run("update-system.sh")

    assert box.read("/run/gpu-ami/packages-before") == "docker 25.0.16-1\n"
    box.path("/run/gpu-ami/packages-before").unlink()
    box.fake("rpm", "echo 'rpmdb: damaged' >&2; exit 3")
    box.path("/srv/calls").unlink()
    failed = box.run("update-system.sh")
    assert (failed.status, failed.tail()) == (1, "update-system: rpm does not list what is installed")
    assert not [call for call in box.calls() if call.startswith("dnf")]


@pytest.mark.parametrize("fails", ["update", "install"])
def test_unreachable_mirrors_fail_with_the_network_question(box: Box, fails: str) -> None:
    """The seed's second case: the subnet has no way out."""
    updatable(box)
    box.fake("dnf", f'[[ "$*" != *" {fails}"* ]]')

    result = box.run("update-system.sh")

    assert result.status == 1
    assert "can the subnet reach the internet" in result.tail()


RELEASE_INPUTS = INPUTS | {
    "FAMILY": "gpu-batch",
    "GIT_COMMIT": "0123abc",
    "PIPELINE_VERSION": "0.1.0",
    "SOURCE_AMI": "ami-0123456789abcdef0",
    "SOURCE_AMI_NAME": "al2023-ami-ecs-gpu-hvm-x",
    "STARTED_AT": "2026-11-23T20:00:00Z",
}


def _record(box: Box, **more: str) -> Result:
    """List what is there and write the record of it; return how that ended."""
    listed = box.run("list-contents.sh", **RELEASE_INPUTS)
    return box.run("write-release.sh", **RELEASE_INPUTS, **more) if listed.status == 0 else listed


def test_release_record_says_what_the_image_consists_of(box: Box) -> None:
    """Months later this file answers which driver, agent, image and weights a job ran with."""
    finish(box)
    box.path("/etc/gpu-ami-release.json").unlink()
    box.write("/opt/ml/models/ocr/a b.bin", "two\n")

    result = _record(box)

    assert result.status == 0, result.said
    release = json.loads(box.read("/etc/gpu-ami-release.json"))
    assert release["run_id"] == "run-1"
    assert release["source_ami"] == {"id": "ami-0123456789abcdef0", "name": "al2023-ami-ecs-gpu-hvm-x"}
    assert release["os"] == "Amazon Linux 2023.9"
    assert release["nvidia_driver"] == "580.159.03"
    assert release["docker"] == "25.0.16-1"
    assert release["containerd"] == "2.2.5-1"
    assert release["ecs_agent"] == "1.106.2-1"
    assert release["bill_sha256"] is None
    assert release["image"] == {"repository": REFERENCE, "tag": "v1", "digest": DIGEST, "size_bytes": 4096}
    assert [model["path"] for model in release["models"]["files"]] == ["detector.pt", "ocr/a b.bin"]
    assert release["models"]["files"][1]["size_bytes"] == 4
    assert release["used_bytes"] > 0
    assert release["bake_seconds"] > 0
    # Packer downloads it as the login user.
    assert box.path("/etc/gpu-ami-release.json").stat().st_mode & 0o777 == 0o644


def test_contents_are_listed_for_the_bill_of_materials(box: Box) -> None:
    """Every package with its licence, and what the models' checksums are: the record has the same, read once."""
    finish(box)
    box.write("/srv/packages", "nvidia-driver 580.9.1-1\nnvidia-driver 580.10.1-1\nkernel 6.1.1-1\nkernel 6.1.2-1\n")
    box.path("/etc/gpu-ami-release.json").unlink()

    result = _record(box, BILL_SHA256="e" * 64)

    assert result.status == 0, result.said
    contents = bill_of_materials.load(box.path("/run/gpu-ami/contents.json"))
    assert box.path("/run/gpu-ami/contents.json").stat().st_mode & 0o777 == 0o644
    assert (contents.run_id, contents.os_id, contents.os_version) == ("run-1", "amzn", "2023")
    assert [(package.name, package.version) for package in contents.packages] == [
        ("kernel", "6.1.1"),
        ("kernel", "6.1.2"),
        ("nvidia-driver", "580.10.1"),
        ("nvidia-driver", "580.9.1"),
    ]
    assert {(package.epoch, package.arch, package.license) for package in contents.packages} == {("0", "x86_64", "MIT")}
    release = json.loads(box.read("/etc/gpu-ami-release.json"))
    assert (release["bill_sha256"], release["nvidia_driver"], release["docker"]) == ("e" * 64, "580.10.1", "none")
    listed = {name: release["models"][name] for name in ("dir", "files")}
    assert listed == json.loads(msgspec.json.encode(contents.models))


ODD_NAMES = ["-c.pt", "a\tb.pt", "a\nb.pt", "ocr/\n\nb.pt", "c \"d\" 'e'.pt", "gewichte-u\u0308.pt", "  x  y .pt"]


def test_models_of_any_name_are_listed(box: Box) -> None:
    """A bucket's key may have anything in it: a bake of an hour must not end at this step over a tab."""
    finish(box)
    for name in ODD_NAMES:
        box.write(f"/opt/ml/models/{name}", "two\n")

    result = _record(box)

    assert result.status == 0, result.said
    contents = bill_of_materials.load(box.path("/run/gpu-ami/contents.json"))
    release = box.read("/etc/gpu-ami-release.json")
    listed = json.loads(release)["models"]
    assert listed.pop("digest") == models_digest(tuple(Model(**model) for model in listed["files"]))
    assert listed == json.loads(msgspec.json.encode(contents.models))
    assert release.isascii(), "Packer's file() composes a letter and its accent, and hashes that"
    found = {model.path: (model.size_bytes, model.sha256[:6]) for model in contents.models.files}
    assert {name: found.get(name) for name in ODD_NAMES} == dict.fromkeys(ODD_NAMES, (4, "27dd8e"))


def test_the_list_can_be_fetched_under_any_umask(box: Box) -> None:
    """A hardened base gives root 027 or 077 over SSH, and Packer fetches the list as ec2-user."""
    finish(box)

    result = box.bash("umask 077 && exec bash /scripts/list-contents.sh", RELEASE_INPUTS)

    assert result.status == 0, result.said
    assert box.path("/run/gpu-ami").stat().st_mode & 0o777 == 0o755
    assert box.path("/run/gpu-ami/contents.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("program", "reason"),
    [("rpm", "list-contents: what is installed cannot be told"), ("", "write-release: .* did list-contents.sh run")],
)
def test_what_cannot_be_listed_ends_the_bake(box: Box, program: str, reason: str) -> None:
    """An image of which nobody knows what is in it is not one to hand over."""
    finish(box)
    if program:
        box.fake(program, "echo 'rpmdb: damaged' >&2; exit 3")
        result = _record(box)
    else:
        result = box.run("write-release.sh", **RELEASE_INPUTS)

    assert result.status == 1
    assert re.search(reason, result.tail())


def test_release_record_is_in_ascii_and_has_the_digest_of_the_tag(box: Box) -> None:
    """Packer reads every text in Unicode's form C: what it signs would be another file where a path is in form D."""
    finish(box)
    box.path("/etc/gpu-ami-release.json").unlink()
    decomposed = "mode\u0300le.bin"
    box.write(f"/opt/ml/models/{decomposed}", "two\n")

    result = _record(box)

    assert result.status == 0, result.said
    text = box.read("/etc/gpu-ami-release.json")
    assert text.isascii()
    models = json.loads(text)["models"]
    assert decomposed in [model["path"] for model in models["files"]]
    assert models["digest"] == models_digest(tuple(Model(**model) for model in models["files"]))


BEFORE = """docker 25.0.16-1
gpg-pubkey d832c631-6515c85e
gpg-pubkey 1-2
kernel 6.1.1-1
kernel 6.1.2-1
left 1.0-1
openssl-libs 3.2.2-2
"""
NOW = """awscli-2 2.30.4-1
docker 25.0.16-1
gpg-pubkey 1-2
gpg-pubkey d832c631-6515c85e
kernel 6.1.2-1
kernel 6.1.3-1
openssl-libs 3.2.2-5
"""


def test_release_record_says_what_the_bake_has_moved(box: Box) -> None:
    """A job that fails since the last bake: which library is another one? Order and several versions are no change."""
    finish(box)
    box.write("/run/gpu-ami/packages-before", BEFORE)
    # The driver's and the agent's version are asked of it too.
    box.write("/srv/packages", NOW)

    result = _record(box)

    assert result.status == 0, result.said
    assert json.loads(box.read("/etc/gpu-ami-release.json"))["packages_moved"] == [
        {"name": "awscli-2", "old": None, "new": "2.30.4-1"},
        {"name": "kernel", "old": "6.1.1-1, 6.1.2-1", "new": "6.1.2-1, 6.1.3-1"},
        {"name": "left", "old": "1.0-1", "new": None},
        {"name": "openssl-libs", "old": "3.2.2-2", "new": "3.2.2-5"},
    ]
    assert "2 packages moved, 1 came new" in result.said


@pytest.mark.parametrize(("before", "moved"), [(None, None), ("", None), (NOW, [])], ids=["none", "empty", "the same"])
def test_what_was_not_noted_is_not_called_unmoved(box: Box, before: str | None, moved: list[str] | None) -> None:
    """An empty list says that nothing moved; where nobody looked it is null."""
    finish(box)
    if before is not None:
        box.write("/run/gpu-ami/packages-before", before)
    box.write("/srv/packages", NOW)

    result = _record(box)

    assert json.loads(box.read("/etc/gpu-ami-release.json"))["packages_moved"] == moved, result.said
    assert ("is not known" in result.said) is (moved is None)


def test_release_record_says_what_is_done_about_mps(box: Box) -> None:
    """The tag that spares `invoke status` its warning comes from here."""
    finish(box)

    _record(box)

    assert json.loads(box.read("/etc/gpu-ami-release.json"))["mps_pipe"] == "repair"


def test_release_record_has_room_for_many_models_and_packages(box: Box) -> None:
    """Linux takes no argument above 128 KiB: the bake would end in "Argument list too long" at its last step."""
    finish(box)
    folder = "/".join("long" * 50 for _ in range(4))
    for number in range(170):
        box.write(f"/opt/ml/models/{folder}/{number}.bin", "")
    names = [f"package-{number:04}-{'x' * 60}" for number in range(1500)]
    box.write("/run/gpu-ami/packages-before", "".join(f"{name} 1-1\n" for name in names))
    box.write("/srv/packages", "".join(f"{name} 2-1\n" for name in names))

    result = _record(box)

    assert result.status == 0, result.said[-300:]
    release = json.loads(box.read("/etc/gpu-ami-release.json"))
    assert len(release["models"]["files"]) == 171
    assert [moved["name"] for moved in release["packages_moved"]] == names
    assert min(len(json.dumps(part)) for part in (release["models"], release["packages_moved"])) > 128 * 1024


def test_release_record_satisfies_the_validation(box: Box) -> None:
    """Writer and checker agree on the file's shape."""
    finish(box)

    _record(box)

    assert box.run("validate-image.sh", **INPUTS).status == 0


@pytest.mark.parametrize("image", ["", '[{"RepoDigests": ["other@sha256:1"], "Size": 1}]'], ids=["missing", "other"])
def test_release_record_needs_the_pulled_image(box: Box, image: str) -> None:
    """A record without a digest would vouch for nothing; an old one is not left half-changed."""
    finish(box)
    before = box.read("/etc/gpu-ami-release.json")
    box.write("/srv/image.json", image)

    result = _record(box)

    assert result.status == 1
    assert "with its digest; did pull-image.sh run?" in result.tail()
    assert box.read("/etc/gpu-ami-release.json") == before


def test_collected_logs_hold_no_secrets(box: Box) -> None:
    """They are printed into a log that people attach to tickets."""
    box.write(
        "/var/log/cloud-init-output.log",
        "curl https://b.s3.amazonaws.com/m.pt?X-Amz-Signature=5ec2e7 failed\nAuthToken: 5ec2e7\npassword=5ec2e7 end\n"
        'Authorization: Bearer 5ec2e7\n{"auth": "5ec2e7"}\nkey ASIA5EC2E75EC2E75EC2\n',
    )

    result = box.run("collect-logs.sh")

    assert result.status == 0, result.said
    assert "curl https://b.s3.amazonaws.com/m.pt?... failed" in result.said
    assert "5ec2e7" not in result.said
    assert "password=... end" in result.said
    assert "key ASIA...\n" in result.said
    assert "5EC2E7" not in result.said


def test_collecting_logs_never_fails(box: Box) -> None:
    """It runs after a failure; a second one would hide the first."""
    for name in ("docker", "journalctl", "systemctl", "cloud-init"):
        box.fake(name, "echo broken >&2; exit 1")

    result = box.run("collect-logs.sh")

    assert result.status == 0
    assert result.said.count("--- ") == 15
    lines = result.said.splitlines()
    assert (lines[0], lines[-2]) == ("collect-logs: begin", "collect-logs: end")
