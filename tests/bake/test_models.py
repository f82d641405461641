"""models.yaml: every kind of bad content is one line with the entry and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.bake.models import Model, load
from gpu_ami.errors import UsageError

SHA256 = "ab" * 32


def write(folder: Path, text: str) -> Path:
    """Return models.yaml in *folder* with *text*."""
    path = folder / "models.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_entries_are_read(tmp_path: Path) -> None:
    """The three keys, the checksum optional."""
    path = write(
        tmp_path, f"- {{url: https://h/a.pt, path: a.pt}}\n- {{url: s3://b/k, path: x/k, sha256: '{SHA256}'}}\n"
    )

    assert load(path) == (Model(url="https://h/a.pt", path="a.pt"), Model(url="s3://b/k", path="x/k", sha256=SHA256))


@pytest.mark.parametrize("text", ["", "# only a comment\n", "[]\n"])
def test_nothing_is_no_models(tmp_path: Path, text: str) -> None:
    """The repository's own file lists none."""
    assert load(write(tmp_path, text)) == ()
    assert load(tmp_path / "none.yaml") == ()


def test_the_repository_s_own_file_is_good() -> None:
    """It is the example that people start from."""
    assert load(Path(__file__).parents[2] / "packer" / "models.yaml") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- {url: 'https://h/a?s=5ec2e7 b', path: a}", "entry 1: url must be an http(s) or s3 address"),
        ("- {url: 'ftp://5ec2e7', path: a}", "entry 1: url must be"),
        ("- {url: https://h/a, path: a}\n- {url: https://h/b, path: /etc/b}", "entry 2: path must be a relative path"),
        ("- {url: https://h/a, path: a/../../b}", "entry 1: path must be a relative path"),
        ("- {url: https://h/a, path: a, sha256: 5ec2e7}", "entry 1: sha256 must be 64 hexadecimal digits"),
        ("- {url: https://h/a, path: 5}", "entry 1: path must be"),
        ("- path: a\n  url: >\n    https://h/a?s=5ec2e7\n", "entry 1: url must be an http(s) or s3 address"),
        ("- url: https://h/a\n  path: |\n    a\n", "entry 1: path must be a relative path"),
        ("- {url: https://h/a}", "entry 1: object missing required field `path`"),
        ("- {url: https://h/a, path: a, sha: x}", "entry 1: object contains unknown field `sha`"),
        ("- just text", "entry 1: expected `object`, got `str`"),
        ("models: []", "write a list of url, path and sha256"),
        ("5", "write a list of url, path and sha256"),
        ("- {url: https://h/a, path: a,\n   path: b}", "has the key 'path' twice, in lines 1 and 2: keep one"),
        ("- {url: [", "is not YAML"),
        ("[" * 3000, "YAML|nested"),
    ],
)
def test_what_cannot_be_used_is_told_without_the_address(tmp_path: Path, text: str, problem: str) -> None:
    """The line names file and entry; an address may be a secret."""
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, text))

    said = str(caught.value)
    assert any(part in said for part in problem.split("|")), said
    assert "models.yaml" in said
    assert "5ec2e7" not in said
    assert "\n" not in said


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"x" * (1024 * 1024 + 1)], ids=["encoding", "huge"])
def test_file_that_is_no_text_of_ours_is_told(tmp_path: Path, raw: bytes) -> None:
    """Every kind of bad input is one line."""
    path = tmp_path / "models.yaml"
    path.write_bytes(raw)

    with pytest.raises(UsageError, match="list of models"):
        load(path)
