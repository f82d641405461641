"""Where Terraform's state is: a backend that is overlooked looks like a state that needs nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.terraform.backends import is_connected, is_tofu, location, naming_file


def _write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def _note(kind: str, **config: object) -> str:
    return json.dumps({"version": 3, "backend": {"type": kind, "config": config}})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tf", 'terraform {\n  backend "s3" {\n    bucket = "b"\n  }\n}\n'),
        ("a.tf", "terraform {\n  backend s3 {\n  }\n}\n"),
        ("a.tf", 'terraform {\n  backend"gcs"{}\n}\n'),
        ("a.tf", "terraform {\r\n\tcloud {\r\n}\r\n}\r\n"),
        ("a.tf", 'terraform {\n  backend "local" {\n    path = "/srv/gpu.state"\n  }\n}\n'),
        ("a.tofu", 'terraform {\n  backend "s3" {}\n}\n'),
        ("a.tf.json", '{"terraform": {"backend": {"s3": {"bucket": "b"}}}}'),
        ("a.tf.json", '[{"terraform": [{"backend": [{"s3": {}}]}]}]'),
        ("a.tf.json", '{"terraform": {"cloud": {}}}'),
        ("a.tofu.json", '{"terraform": {"backend": {"local": {"path": "/srv/gpu.state"}}}}'),
        ("a.tf.json", "{cut off"),
        (".terraform/terraform.tfstate", _note("s3", bucket="b")),
        (".terraform/terraform.tfstate", _note("local", path="/srv/gpu.state")),
        (".terraform/terraform.tfstate", "{cut off"),
    ],
)
def test_every_form_of_a_backend_is_seen(tmp_path: Path, name: str, text: str) -> None:
    """Terraform takes all of them, and the AMIs in that state are in use."""
    file = _write(tmp_path, name, text)

    assert naming_file(tmp_path, {}) == file


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tf", '# backend "s3" {}\n'),
        ("a.tf", 'terraform {\n  backend "local" {}\n}\n'),
        ("a.tf", 'backend = "s3"\nvariable "backend" {\n}\n'),
        ("a.tf.json", '{"variable": {"backend": {"default": "s3"}}, "terraform": {"required_version": "1"}}'),
        ("a.tf.json", '{"terraform": {"backend": {"local": {}}}}'),
        ("modules/a/a.tf", 'terraform {\n  backend "s3" {}\n}\n'),
        (".terraform/terraform.tfstate", _note("local", path=None, workspace_dir=None)),
        (".terraform/terraform.tfstate", '{"version": 3}'),
        ("x.tf/a.tf", 'terraform {\n  backend "s3" {}\n}\n'),
    ],
)
def test_what_is_no_backend_is_none(tmp_path: Path, name: str, text: str) -> None:
    """A state beside the code can be read without Terraform, and without having run `terraform init`."""
    _write(tmp_path, name, text)

    assert naming_file(tmp_path, {}) is None


def test_what_init_noted_is_looked_for_where_it_is(tmp_path: Path) -> None:
    """TF_DATA_DIR moves it."""
    note = _write(tmp_path, "data/terraform.tfstate", _note("s3"))

    assert naming_file(tmp_path, {"TF_DATA_DIR": "data"}) == note
    assert naming_file(tmp_path, {"TF_DATA_DIR": str(tmp_path / "data")}) == note


def test_opentofus_file_comes_first(tmp_path: Path) -> None:
    """Terraform does not see it, so it must not be hidden behind one that Terraform sees."""
    _write(tmp_path, "a.tf", 'terraform {\n  backend "s3" {}\n}\n')
    tofu = _write(tmp_path, "b.tofu", 'terraform {\n  backend "s3" {}\n}\n')

    assert naming_file(tmp_path, {}) == tofu
    assert is_tofu(tofu)


def test_code_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """It may name a backend. Reading a pipe would never end."""
    (tmp_path / "a.tf").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read"):
        naming_file(tmp_path, {})

    (tmp_path / "a.tf").unlink()
    os.mkfifo(tmp_path / "a.tf")
    with pytest.raises(UsageError, match="is no file"):
        naming_file(tmp_path, {})


S3 = _note("s3", bucket="b", key="batch/gpu.tfstate", region="eu-west-1", workspace_key_prefix=None)


@pytest.mark.parametrize(
    ("environment", "files", "workspace", "key"),
    [
        ({}, {}, "default", "batch/gpu.tfstate"),
        ({"TF_WORKSPACE": "prod"}, {}, "prod", "env:/prod/batch/gpu.tfstate"),
        ({"TF_WORKSPACE": ""}, {}, "default", "batch/gpu.tfstate"),
        ({}, {".terraform/environment": "dev\n"}, "dev", "env:/dev/batch/gpu.tfstate"),
        ({"TF_WORKSPACE": "prod"}, {".terraform/environment": "dev"}, "prod", "env:/prod/batch/gpu.tfstate"),
        ({"TF_WORKSPACE": "default"}, {".terraform/environment": "dev"}, "default", "batch/gpu.tfstate"),
        ({}, {".terraform/environment": ""}, "default", "batch/gpu.tfstate"),
    ],
)
def test_a_workspace_is_another_state(
    tmp_path: Path, environment: dict[str, str], files: dict[str, str], workspace: str, key: str
) -> None:
    """The variable goes before what was selected in the folder, as with Terraform."""
    _write(tmp_path, ".terraform/terraform.tfstate", S3)
    for name, text in files.items():
        _write(tmp_path, name, text)

    found = location(tmp_path, environment)

    assert (found.backend, found.bucket, found.workspace, found.key) == ("s3", "b", workspace, key)
    assert found.shown("terraform") == f"s3://b/{key}"


@pytest.mark.parametrize("named", ["data", ".terraform-prod"])
def test_the_data_folder_is_terraforms(tmp_path: Path, named: str) -> None:
    """People set TF_DATA_DIR per environment: another's backend and workspace must not be taken for theirs."""
    _write(tmp_path, ".terraform/terraform.tfstate", S3)
    _write(tmp_path, ".terraform/environment", "dev")
    _write(tmp_path, f"{named}/terraform.tfstate", _note("s3", bucket="c", key="gpu.tfstate"))

    for folder in (named, str(tmp_path / named)):
        found = location(tmp_path, {"TF_DATA_DIR": folder})
        assert (found.bucket, found.key, found.workspace) == ("c", "gpu.tfstate", "default")
    assert location(tmp_path, {"TF_DATA_DIR": ""}).bucket == "b"
    assert is_connected(tmp_path, {"TF_DATA_DIR": named})
    assert not is_connected(tmp_path, {"TF_DATA_DIR": "elsewhere"})


@pytest.mark.parametrize(
    ("note", "workspace", "backend", "bucket", "key", "shown"),
    [
        (None, "", "local", None, "terraform.tfstate", "x/terraform.tfstate"),
        (
            None,
            "dev",
            "local",
            None,
            "terraform.tfstate.d/dev/terraform.tfstate",
            "x/terraform.tfstate.d/dev/terraform.tfstate",
        ),
        (_note("local", path="/srv/gpu.state"), "", "local", None, "/srv/gpu.state", "/srv/gpu.state"),
        (
            _note("local", workspace_dir="states"),
            "dev",
            "local",
            None,
            "states/dev/terraform.tfstate",
            "x/states/dev/terraform.tfstate",
        ),
        (
            _note("s3", bucket="b", key="k", workspace_key_prefix="teams"),
            "a",
            "s3",
            "b",
            "teams/a/k",
            "s3://b/teams/a/k",
        ),
        (_note("gcs", bucket="b", prefix="gpu"), "", "gcs", "b", "gpu", "gcs b/gpu"),
        (_note("azurerm", storage_account_name="s", key="gpu"), "", "azurerm", "s", "gpu", "azurerm s/gpu"),
        (_note("remote", organization="o", workspaces=[{"name": "w"}]), "", "remote", "o", "w", "remote o/w"),
        (_note("cloud", organization="o", workspaces={"name": "w"}), "", "cloud", "o", "w", "cloud o/w"),
        (_note("cloud", organization="o", workspaces={"tags": ["w"]}), "w", "cloud", "o", None, "cloud o"),
        (
            _note("http", address="https://x.example/s"),
            "",
            "http",
            None,
            "https://x.example/s",
            "http https://x.example/s",
        ),
        ("{cut off", "", "local", None, "terraform.tfstate", "x/terraform.tfstate"),
        ('{"backend": {"type": 3}}', "", "local", None, "terraform.tfstate", "x/terraform.tfstate"),
    ],
)
def test_each_backend_names_its_state(
    tmp_path: Path, note: str | None, workspace: str, backend: str, bucket: str | None, key: str | None, shown: str
) -> None:
    """Two states must never look the same; what a person reads is what Terraform's own documentation calls it."""
    if note is not None:
        _write(tmp_path, ".terraform/terraform.tfstate", note)

    found = location(tmp_path, {"TF_WORKSPACE": workspace})

    assert (found.backend, found.bucket, found.key) == (backend, bucket, key)
    assert found.shown("x") == shown


@pytest.mark.parametrize(
    ("backend", "one", "other"),
    [
        ("azurerm", {"container_name": "prod"}, {"container_name": "staging"}),
        ("remote", {"workspaces": [{"name": "prod"}]}, {"workspaces": [{"name": "staging"}]}),
        ("remote", {"workspaces": [{"prefix": "gpu-"}]}, {"workspaces": [{"prefix": "cpu-"}]}),
        ("remote", {"hostname": "a.example"}, {"hostname": "b.example"}),
        ("cloud", {"workspaces": {"name": "prod"}}, {"workspaces": {"name": "staging"}}),
        ("oss", {"prefix": "prod"}, {"prefix": "staging"}),
        ("cos", {"prefix": "prod"}, {"prefix": "staging"}),
        ("kubernetes", {"namespace": "prod"}, {"namespace": "staging"}),
        ("kubernetes", {"config_context": "prod"}, {"config_context": "staging"}),
        ("consul", {"address": "prod:8500", "path": "x"}, {"address": "staging:8500", "path": "x"}),
        ("http", {"address": "https://x.example/s?of=prod"}, {"address": "https://x.example/s?of=staging"}),
        ("pg", {"conn_str": "postgres://a/prod"}, {"conn_str": "postgres://a/staging"}),
        ("pg", {"conn_str": "host=prod password='a b'"}, {"conn_str": "host=staging password='a b'"}),
    ],
)
def test_two_states_never_look_the_same(
    tmp_path: Path, backend: str, one: dict[str, object], other: dict[str, object]
) -> None:
    """A rollback of one went by the other's receipts."""
    common = {"key": "gpu", "storage_account_name": "s", "organization": "o", "secret_suffix": "s"}
    found = []
    for config in (one, other):
        _write(tmp_path, ".terraform/terraform.tfstate", _note(backend, **(common | config)))
        found.append(location(tmp_path, {}))

    assert (found[0].bucket, found[0].key) != (found[1].bucket, found[1].key)
    assert found[0].shown("x") != found[1].shown("x")


@pytest.mark.parametrize(
    ("backend", "config"),
    [
        ("http", {"address": "https://user:{}@x.example/s"}),
        ("http", {"address": "https://{}@x.example/s"}),
        ("http", {"address": "https://x.example/s?token={}"}),
        ("consul", {"address": "user:{}@x.example:8500", "path": "gpu"}),
        ("pg", {"conn_str": "postgres://user:{}@db.example/terraform"}),
        ("pg", {"conn_str": "host=db.example password={} dbname=terraform"}),
        ("pg", {"conn_str": "postgres://db.example/terraform?password={}&sslmode=require"}),
    ],
)
def test_no_secret_of_an_address_gets_into_a_receipt(tmp_path: Path, backend: str, config: dict[str, str]) -> None:
    """Receipts are committed, and the line with the state is in every log."""
    shown = []
    for secret in ("hunter2", "correct-horse"):
        note = _note(backend, **{name: text.format(secret) for name, text in config.items()})
        _write(tmp_path, ".terraform/terraform.tfstate", note)
        found = location(tmp_path, {})
        assert secret not in f"{found.bucket} {found.key} {found.shown('x')}"
        shown.append(found.shown("x"))

    if "token" not in str(config):
        assert shown[0] == shown[1], "a new password is no other state"
