"""What a calling repository decides is taken; what it could run is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github.adopt import adopt


def write(root: Path, **files: str) -> Path:
    """Make files, a folder's separator written as two underscores."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The pipeline's own checkout."""
    root = write(tmp_path / "pipeline", tasks="ours", packer__template="ours", terraform__main="ours")
    (root / "pipeline.yaml").write_text("region: us-east-1\n", encoding="utf-8")
    return root


@pytest.fixture
def caller(tmp_path: Path) -> Path:
    """A calling repository with settings, variables, a root module and code of its own."""
    root = write(tmp_path / "caller", tasks="theirs", scripts__x="theirs", packer__template="theirs")
    for name in ("pipeline.yaml", "packer/a.auto.pkrvars.hcl", "terraform/prod.tf", "terraform/receipts/1.json"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("theirs", encoding="utf-8")
    return root


def test_settings_variables_and_terraform_are_the_caller_s(caller: Path, pipeline: Path) -> None:
    """That is what a team decides."""
    assert adopt(caller, pipeline) == ["pipeline.yaml", "packer/a.auto.pkrvars.hcl", "terraform"]

    theirs = ("pipeline.yaml", "packer/a.auto.pkrvars.hcl", "terraform/prod.tf", "terraform/receipts/1.json")
    assert {(pipeline / name).read_text() for name in theirs} == {"theirs"}
    assert not (pipeline / "terraform" / "main").exists()


def test_the_public_keys_that_the_settings_name_come_along(caller: Path, pipeline: Path, tmp_path: Path) -> None:
    """Whose signature counts is the team's to say; nothing else comes in by that way, and nothing of the runner's."""
    named = (
        "keys/new.pem",
        "gone.pem",
        "scripts/x",
        "../pipeline/tasks.pem",
        str(tmp_path / "away.pem"),
        "awskms:///a",
    )
    for path in (caller / "keys/new.pem", pipeline / "tasks.pem", tmp_path / "away.pem"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a key")
    settings = f"region: us-east-1\nprovenance: {{verifiers: [{', '.join(named)}]}}\n"
    (caller / "pipeline.yaml").write_text(settings, encoding="utf-8")

    assert adopt(caller, pipeline) == ["pipeline.yaml", "packer/a.auto.pkrvars.hcl", "terraform", "keys/new.pem"]
    assert (pipeline / "keys/new.pem").read_text() == "a key"


def test_code_of_the_caller_is_left_alone(caller: Path, pipeline: Path) -> None:
    """What runs with the roles is the commit that was named, whatever lies in the caller's repository."""
    adopt(caller, pipeline)

    assert (pipeline / "tasks").read_text() == "ours"
    assert (pipeline / "packer" / "template").read_text() == "ours"
    assert not (pipeline / "scripts").exists()


def test_a_caller_without_a_terraform_folder_keeps_ours(caller: Path, pipeline: Path) -> None:
    """Then the pipeline's own module is used."""
    (caller / "terraform").rename(caller / "infrastructure")

    adopt(caller, pipeline)

    assert (pipeline / "terraform" / "main").read_text() == "ours"


def test_a_repository_without_settings_is_refused(tmp_path: Path, pipeline: Path) -> None:
    """It would be built with the pipeline's own example settings."""
    with pytest.raises(UsageError, match=r"has no pipeline.yaml"):
        adopt(tmp_path, pipeline)


def test_a_link_is_refused_before_anything_is_copied(caller: Path, pipeline: Path, tmp_path: Path) -> None:
    """It could name any file of the runner."""
    (caller / "terraform" / "secret.tf").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError, match=r"secret.tf is a link"):
        adopt(caller, pipeline)

    assert (pipeline / "pipeline.yaml").read_text() == "region: us-east-1\n"


def test_the_families_variables_are_the_caller_s_and_nothing_else_that_is_named_so(
    caller: Path, pipeline: Path
) -> None:
    """A file of another kind or place could be code, which runs with the roles."""
    files = {
        "video": "packer/video.pkrvars.hcl",
        "own": "packer/more/own.pkrvars.json",
        "code": "tasks",
        "out": "packer/../scripts/x.pkrvars.hcl",
        "gone": "packer/gone.pkrvars.hcl",
    }
    rows = [f"  {name}: {{variables_file: {file}, handover: {{variable: {name}}}}}\n" for name, file in files.items()]
    (caller / "pipeline.yaml").write_text("region: eu-west-1\nfamilies:\n" + "".join(rows))
    for name in ("packer/video.pkrvars.hcl", "packer/more/own.pkrvars.json", "scripts/x.pkrvars.hcl"):
        (caller / name).parent.mkdir(parents=True, exist_ok=True)
        if not (caller / name).parent.is_file():
            (caller / name).write_text("theirs")

    assert adopt(caller, pipeline)[-2:] == ["packer/video.pkrvars.hcl", "packer/more/own.pkrvars.json"]

    assert (pipeline / "packer" / "more" / "own.pkrvars.json").read_text() == "theirs"
    assert (pipeline / "tasks").read_text() == "ours"
    assert not (pipeline / "scripts").exists()
