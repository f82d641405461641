"""Where Terraform's state is: a backend that is overlooked looks like a state that needs nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.terraform.backends import is_tofu, naming_file


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

    assert naming_file(tmp_path) == file


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

    assert naming_file(tmp_path) is None


def test_what_init_noted_is_looked_for_where_it_is(tmp_path: Path) -> None:
    """TF_DATA_DIR moves it."""
    note = _write(tmp_path, "data/terraform.tfstate", _note("s3"))

    assert naming_file(tmp_path, "data") == note
    assert naming_file(tmp_path, str(tmp_path / "data")) == note


def test_opentofus_file_comes_first(tmp_path: Path) -> None:
    """Terraform does not see it, so it must not be hidden behind one that Terraform sees."""
    _write(tmp_path, "a.tf", 'terraform {\n  backend "s3" {}\n}\n')
    tofu = _write(tmp_path, "b.tofu", 'terraform {\n  backend "s3" {}\n}\n')

    assert naming_file(tmp_path) == tofu
    assert is_tofu(tofu)


def test_code_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    """It may name a backend. Reading a pipe would never end."""
    (tmp_path / "a.tf").symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match="cannot be read"):
        naming_file(tmp_path)

    (tmp_path / "a.tf").unlink()
    os.mkfifo(tmp_path / "a.tf")
    with pytest.raises(UsageError, match="is no file"):
        naming_file(tmp_path)
