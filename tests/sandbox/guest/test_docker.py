"""The emulated docker: real bytes from a registry, real digests, and what prunes take away."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable

import pytest

from gpu_ami_sandbox.guest.programs import docker, systemctl
from gpu_ami_sandbox.guest.programs.images import Store
from gpu_ami_sandbox.guest.programs.registry import parse
from tests.sandbox.guest.parts import ECR, Endpoint, Inside, sha256

View = Callable[..., Inside]
_LAYERS = [b"first layer" * 1000, b"second layer"]


def _docker(command: str, here: Inside) -> tuple[int, str]:
    here.system.out = here.out = io.StringIO()
    here.system.err = here.err = io.StringIO()
    return docker.main(["docker", *shlex.split(command)], here.system), here.text


@pytest.fixture
def logged_in(inside: View, endpoint: Endpoint) -> Inside:
    """A client that has the registry's password."""
    endpoint.add_image("batch-processor", "1", _LAYERS)
    here = inside(stdin="secret\n")
    assert _docker(f"login -u AWS --password-stdin {ECR}", here)[0] == 0
    return here


def test_a_pull_by_digest_stores_checked_bytes(logged_in: Inside, endpoint: Endpoint) -> None:
    """This is the image that the AMI is about."""
    digest = endpoint.add_image("batch-processor", "1", _LAYERS)
    reference = f"{ECR}/batch-processor@{digest}"

    status, said = _docker(f"pull {reference}", logged_in)

    assert status == 0
    assert f"Digest: {digest}" in said
    assert f"Status: Downloaded newer image for {reference}" in said
    for layer in _LAYERS:
        stored = Store(logged_in.system).layer(sha256(layer))
        assert stored.read_bytes() == layer
    image = json.loads(_docker(f"image inspect {reference}", logged_in)[1])[0]
    assert image["RepoDigests"] == [reference]
    assert image["RepoTags"] == []
    assert image["Size"] == sum(map(len, _LAYERS))
    assert list((logged_in.system.root / "var/lib/docker/tmp").iterdir()) == []


def test_a_pull_by_tag_knows_the_digest_too(logged_in: Inside) -> None:
    """`docker tag` and the release record need it."""
    status, said = _docker(f"pull --quiet {ECR}/batch-processor:1", logged_in)

    assert (status, said) == (0, f"{ECR}/batch-processor:1\n")
    again = _docker(f"pull {ECR}/batch-processor:1", logged_in)[1]
    assert "Already exists" in again
    assert "Status: Image is up to date" in again
    (digest,) = json.loads(_docker(f"image inspect {ECR}/batch-processor:1", logged_in)[1])[0]["RepoDigests"]
    assert digest.startswith(f"{ECR}/batch-processor@sha256:")


def test_an_index_leads_to_the_image_for_this_machine(logged_in: Inside, endpoint: Endpoint) -> None:
    """Buildx pushes indexes; the digest that counts is the index's."""
    inner = endpoint.add_image("many", "amd", [b"for amd64"])
    index = json.dumps(
        {"manifests": [{"digest": "sha256:0", "platform": {"architecture": "arm64"}}]}
        | {"manifests": [{"digest": inner, "platform": {"architecture": "amd64"}}]}
    ).encode()
    endpoint.content["many/manifests/1"] = index
    endpoint.content["many/manifests/arm"] = json.dumps({"manifests": []}).encode()

    status, said = _docker(f"pull {ECR}/many:1", logged_in)

    assert status == 0
    assert f"Digest: {sha256(index)}" in said
    assert "no matching manifest for linux/amd64" in _docker(f"pull {ECR}/many:arm", logged_in)[1]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("layer", "filesystem layer verification failed for digest sha256:"),
        ("manifest", "manifest verification failed for digest sha256:"),
        ("config", "image verification failed for digest sha256:"),
        ("html", "unsupported manifest media type"),
        ("no layer", "blob unknown: "),
        ("no config", "blob unknown: "),
    ],
)
def test_what_is_not_what_its_digest_says_is_refused(
    logged_in: Inside, endpoint: Endpoint, what: str, says: str
) -> None:
    """A registry that sends other bytes must not get them into an image."""
    name = f"bad-{what.replace(' ', '-')}"
    digest = endpoint.add_image(name, "1", [b"good"], sent=[b"evil"] if what == "layer" else None)
    manifest = json.loads(endpoint.content[f"{name}/manifests/1"])
    missing = json.dumps({"errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry"}]})
    reference = f"{ECR}/{name}:1"
    if what == "manifest":
        endpoint.content[f"{name}/manifests/{digest}"] = b"{}"
        reference = f"{ECR}/{name}@{digest}"
    elif what == "config":
        endpoint.content[f"{name}/blobs/{manifest['config']['digest']}"] = b"{}"
    elif what == "html":
        endpoint.content[f"{name}/manifests/1"] = b"<html>"
    elif what != "layer":
        gone = manifest["config"] if what == "no config" else manifest["layers"][0]
        endpoint.gone[f"{name}/blobs/{gone['digest']}"] = missing.encode()

    status, said = _docker(f"pull {reference}", logged_in)

    assert status == 1
    assert f"Error response from daemon: {says}" in said
    assert Store(logged_in.system).find(reference) is None
    assert not Store(logged_in.system).layer(sha256(b"evil")).exists()


def test_an_expired_login_is_told_apart_from_none(inside: View, endpoint: Endpoint) -> None:
    """ECR's tokens live for 12 hours; a long bake outlives them."""
    here = inside()
    folder = here.system.root / "root/.docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {ECR: {"auth": "QVdTOmV4cGlyZWQ="}}}))  # AWS:expired

    status, said = _docker(f"pull {ECR}/batch-processor:1", here)

    assert status == 1
    assert f"pull access denied for {ECR}/batch-processor, repository does not exist or may require" in said
    assert "denied: Your authorization token has expired. Reauthenticate and try again." in said


def test_a_wrong_password_is_refused_at_the_login(inside: View) -> None:
    """And nothing is stored."""
    here = inside(stdin="wrong")

    status, said = _docker(f"login --username AWS --password-stdin https://{ECR}", here)

    assert status == 1
    assert f"login attempt to https://{ECR}/v2/ failed with status: 401 Unauthorized" in said
    assert not (here.system.root / "root/.docker").exists()
    assert _docker("login -u me -p pw ghcr.io", here)[1].endswith("lookup ghcr.io: no such host\n")


def test_logins_live_where_docker_config_says(inside: View) -> None:
    """The bake keeps its token in memory that way."""
    here = inside(stdin="secret", DOCKER_CONFIG="/run/gpu-ami/docker")
    stored = here.system.root / "run/gpu-ami/docker/config.json"

    assert "Login Succeeded" in _docker(f"login --username=AWS --password-stdin {ECR}", here)[1]
    assert list(json.loads(stored.read_text())["auths"]) == [ECR]
    assert stored.stat().st_mode & 0o777 == 0o600
    assert "Removing login credentials" in _docker(f"logout {ECR}", here)[1]
    assert "Not logged in" in _docker(f"logout {ECR}", here)[1]
    assert "Not logged in to https://index.docker.io" in _docker("logout", here)[1]
    assert "Not logged in" in _docker(f"--config /root/other logout {ECR}", here)[1]


def test_layers_are_staged_where_the_daemon_is_told(logged_in: Inside) -> None:
    """The bake moves them into memory with DOCKER_TMPDIR."""
    drop_in = logged_in.system.root / "run/systemd/system/docker.service.d/layers.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nEnvironment=OTHER=1\nEnvironment=DOCKER_TMPDIR=/run/layers\n")

    assert _docker(f"pull {ECR}/batch-processor:1", logged_in)[0] == 0
    assert (logged_in.system.root / "run/layers").is_dir()


def test_a_registry_that_is_down_is_told(logged_in: Inside) -> None:
    """The daemon's message names the address."""
    profile = logged_in.system.root / "usr/libexec/guest/instance.json"
    profile.write_text(json.dumps({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}))

    assert f'Get "https://{ECR}/v2/' in _docker(f"pull {ECR}/batch-processor:1", logged_in)[1]


def test_a_registry_that_answers_nonsense_is_told(logged_in: Inside, endpoint: Endpoint) -> None:
    """A proxy's error page is no registry's error."""
    endpoint.gone["broken/manifests/1"] = b"<html>"

    assert "received unexpected HTTP status: 404 Not Found" in _docker(f"pull {ECR}/broken:1", logged_in)[1]


def test_tags_follow_the_image(logged_in: Inside) -> None:
    """Job definitions name the tag: it has to point at the digest that was pulled."""
    _docker(f"pull {ECR}/batch-processor:1", logged_in)

    assert _docker(f"tag {ECR}/batch-processor:1 {ECR}/batch-processor:live", logged_in)[0] == 0
    assert "invalid reference" in _docker(f"tag {ECR}/batch-processor:1 Bad@x", logged_in)[1]
    (image,) = json.loads(_docker(f"image inspect {ECR}/batch-processor:live", logged_in)[1])
    assert image["RepoTags"] == [f"{ECR}/batch-processor:1", f"{ECR}/batch-processor:live"]
    assert "Untagged" in _docker(f"image rm {ECR}/batch-processor:live", logged_in)[1]
    assert "Deleted: sha256:" in _docker(f"image rm {ECR}/batch-processor:1", logged_in)[1]
    assert not Store(logged_in.system).layer(sha256(_LAYERS[0])).exists()


def test_images_are_listed(logged_in: Inside) -> None:
    """pull-image removes an earlier bake's images by these ids, collect-logs prints the table."""
    _docker(f"pull {ECR}/batch-processor:1", logged_in)

    table = _docker("image ls", logged_in)[1]
    ids = _docker("image ls -q", logged_in)[1].split()
    long = _docker("image ls -q --no-trunc", logged_in)[1].split()
    (own,) = _docker(f"image ls --no-trunc --quiet {ECR}/batch-processor", logged_in)[1].split()

    assert f"{ECR}/batch-processor 1 " in table
    assert "amazon/amazon-ecs-agent latest " in table
    assert len(ids) == 2
    assert sorted(identity.removeprefix("sha256:")[:12] for identity in long) == sorted(ids)
    assert own in long
    assert json.loads(_docker(f"image inspect {ids[0]}", logged_in)[1])[0]["Id"] in long


def test_one_field_is_shown_and_no_other_template_is_taken(logged_in: Inside) -> None:
    """pull-image asks for an image's id; a template that is not emulated must not be taken for an empty answer."""
    _docker(f"pull {ECR}/batch-processor:1", logged_in)
    (known,) = _docker(f"image ls --no-trunc --quiet {ECR}/batch-processor", logged_in)[1].split()

    def show(template: str) -> tuple[int, str]:
        return _docker(f"image inspect --format '{template}' {ECR}/batch-processor:1", logged_in)

    assert show("{{.Id}}") == show("{{ .Id }}") == (0, f"{known}\n")
    assert show("{{json .Id}}") == (1, 'template parsing error: template: :1: function "json" not defined\n')
    assert show("{{.Id") == (1, "template parsing error: template: :1: unclosed action\n")
    assert "no entry for key" in show("{{.Nope}}")[1]
    missing = _docker("image inspect --format '{{.Id}}' nope", logged_in)
    assert missing == (1, "Error response from daemon: No such image: nope:latest\n")


def test_layers_that_two_images_share_stay(logged_in: Inside, endpoint: Endpoint) -> None:
    """Removing one image must not break the other."""
    endpoint.add_image("other", "2", [_LAYERS[0], b"its own"])
    _docker(f"pull {ECR}/batch-processor:1", logged_in)
    _docker(f"pull {ECR}/other:2", logged_in)

    _docker(f"image rm {ECR}/other:2", logged_in)

    assert Store(logged_in.system).layer(sha256(_LAYERS[0])).exists()
    assert not Store(logged_in.system).layer(sha256(b"its own")).exists()


def test_containers_are_listed_and_pruned(inside: View) -> None:
    """The image check counts them; what still runs is not pruned."""
    here = inside()
    store = Store(here.system)

    assert "ecs-agent" in _docker("ps", here)[1]
    assert "conflict" in _docker("image rm amazon/amazon-ecs-agent", here)[1]
    assert _docker("container prune -f", here) == (0, "Total reclaimed space: 0B\n")
    (agent,) = store.containers()
    file = here.system.root / f"var/lib/docker/containers/{agent['ID']}/config.v2.json"
    file.write_text(json.dumps(agent | {"State": {"Running": False}}))
    assert _docker("ps --quiet", here)[1] == ""
    assert _docker("ps -aq --no-trunc", here) == (0, f"{agent['ID']}\n")
    assert "Deleted Containers:" in _docker("container prune -f", here)[1]
    assert _docker("rm --force ecs-agent", here)[0] == 0
    assert _docker("ps --all --quiet", here) == (0, "")


def test_a_running_container_is_removed_by_force_only(inside: View) -> None:
    """As `docker rm --force ecs-agent` in the bake's clean-up."""
    here = inside()

    assert _docker("rm ecs-agent", here)[0] == 1
    assert _docker("rm -f ecs-agent", here) == (0, "ecs-agent\n")


def test_volumes_are_pruned_when_that_is_confirmed(inside: View) -> None:
    """A script that forgets --force must not go on as if they were gone."""
    here = inside(stdin="n\ny\n")
    volume = here.system.root / "var/lib/docker/volumes/data"
    volume.mkdir(parents=True)

    assert _docker("volume prune", here)[0] == 0
    assert volume.exists()  # the answer was no
    assert "reclaimed" in _docker("volume prune", here)[1]
    assert not volume.exists()
    assert _docker("container prune", here) == (0, "Are you sure you want to continue? [y/N] \n")


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("system prune -af", 1, "docker: 'system' is not a docker command."),
        ("image prune", 1, "docker: 'image' is not a docker command."),
        ("", 0, "Usage:  docker"),
        ("run --rm amazon/amazon-ecs-agent", 125, "the sandbox's guest runs no containers"),
        ("run --gpus=all amazon/amazon-ecs-agent nvidia-smi -L", 125, "nvml error"),
        ("run", 1, "requires at least 1 argument"),
        ("ps -x", 125, "unknown shorthand flag: -x"),
    ],
)
def test_questions_to_the_daemon(inside: View, command: str, status: int, says: str) -> None:
    """What scripts and people ask."""
    answer = _docker(command, inside())

    assert answer[0] == status
    assert says in answer[1]


def test_the_socket_starts_the_daemon(inside: View) -> None:
    """Systemctl warns of it: a stopped docker.service comes back with the next docker command."""
    here = inside()
    systemctl.main(["systemctl", "stop", "docker"], here.system)

    assert _docker("ps", here)[0] == 0
    assert systemctl.main(["systemctl", "is-active", "docker"], here.system) == 0


def test_an_image_without_a_name_is_listed_as_dangling(logged_in: Inside) -> None:
    """A moved tag leaves the older image behind, which the bake has to see."""
    _docker(f"pull {ECR}/batch-processor:1", logged_in)
    for name in Store(logged_in.system).find(f"{ECR}/batch-processor:1").names:  # type: ignore[union-attr]
        Store(logged_in.system).unname(name)

    assert "<none> <none>" in _docker("image ls", logged_in)[1]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ubuntu", ("docker.io", "library/ubuntu", "latest", "")),
        ("amazon/agent:1", ("docker.io", "amazon/agent", "1", "")),
        ("localhost/app", ("localhost", "app", "latest", "")),
        ("host:5000/a/b:c", ("host:5000", "a/b", "c", "")),
        (f"{ECR}/a@sha256:{'0' * 64}", (ECR, "a", "", f"sha256:{'0' * 64}")),
        ("UPPER", None),
        ("a:b:c", None),
        ("a@sha256:short", None),
    ],
)
def test_references(text: str, parts: tuple[str, str, str, str] | None) -> None:
    """Docker's own rules for what a name means."""
    assert parse(text) == parts
