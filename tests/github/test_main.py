"""The entry point: each command in a repository, its output and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest

from gpu_ami import process
from gpu_ami.aws.access import Access
from gpu_ami.github.__main__ import main
from gpu_ami.records import archive
from gpu_ami.terraform.terraform_command import terraform_in
from gpu_ami.tools import terraform_tools
from tests.github.conftest import HANDOVER, GitHub
from tests.support.account import REGION, World
from tests.support.workflows.files import workflow


def build_result(github: GitHub, ami: str = "ami-0bbbbbbbbbbbbbbbb") -> Path:
    """Leave what a build leaves, and return its JSON."""
    file = github.clone.parent / "build.json"
    file.write_text(json.dumps({"ami_id": ami, "duration_s": 60}))
    (github.clone / HANDOVER).write_text(json.dumps({"gpu_ami_id": ami}))
    return file


def test_collect_compares_with_what_git_has(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The file on disk is the new one already."""
    code = main(["collect", str(build_result(github)), "--title", "Use {ami}"], github.env, github.clone)

    assert code == 0
    assert "the hand-over changed" in capsys.readouterr().err
    assert (github.clone / "artifacts" / "title.txt").read_text() == "Use ami-0bbbbbbbbbbbbbbbb\n"
    assert "ami-0aaaaaaaaaaaaaaaa" in github.summary


@pytest.mark.parametrize(
    ("more", "env", "shared"),
    [
        ({}, {"STATE_BUCKET": "share-states", "STATE_KEY": "gpu/t.tfstate"}, True),
        ({"built": False}, {"STATE_BUCKET": "share-states"}, False),
        ({}, {}, False),
        ({}, {"STATE_BUCKET": "share-states", "GPU_AMI_SANDBOX": "1"}, False),
    ],
    ids=["built", "not built", "no bucket", "sandbox"],
)
def test_an_archive_goes_beside_the_state(
    github: GitHub,
    here: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: dict[str, object],
    env: dict[str, str],
    shared: bool,
) -> None:
    """A runner's tree ends with its job: whoever compares the AMI later reads it there."""
    monkeypatch.setattr("gpu_ami.aws.access.Access", lambda region: here.access)
    s3, ami = here.access.client("s3"), "ami-0bbbbbbbbbbbbbbbb"
    s3.create_bucket(Bucket="share-states", CreateBucketConfiguration={"LocationConstraint": REGION})
    archive.keep(github.clone / "packer" / "builds", ami, {archive.RELEASE: "{}", archive.BILL: "[]"})
    file = github.clone.parent / "build.json"
    file.write_text(json.dumps({"ami_id": ami, "built": True} | more))

    code = main(["share", str(file)], github.env | env | {"STATE_REGION": REGION}, github.clone)

    assert code == 0
    rows = s3.list_objects_v2(Bucket="share-states").get("Contents", [])
    keys = [f"gpu/builds/{ami}/{name}" for name in (archive.BILL, archive.RELEASE)]
    assert [row["Key"] for row in rows] == (keys if shared else [])
    said = f"Shared release.json, bill.cdx.json in s3://share-states/gpu/builds/{ami}/." if shared else "no archive to"
    assert said in capsys.readouterr().err


def test_collect_in_a_called_workflow_compares_with_the_caller(github: GitHub) -> None:
    """The pipeline's own git knows nothing of the caller's file."""
    file = build_result(github)
    caller = github.clone / "caller" / HANDOVER
    caller.parent.mkdir(parents=True)
    caller.write_text((github.clone / HANDOVER).read_text())

    assert main(["collect", str(file), "--title", "x"], github.env, github.clone) == 0
    assert github.outputs[-1] == "changed=false"


def test_collect_where_git_has_no_file_yet(github: GitHub) -> None:
    """The first build of a repository."""
    github.git("rm", "--quiet", "--cached", HANDOVER)
    github.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Without")

    assert main(["collect", str(build_result(github)), "--title", "x"], github.env, github.clone) == 0
    assert github.outputs[-1] == "changed=true"


@pytest.mark.parametrize("content", [b'{\r\n  "gpu_ami_id": null\r\n}\r\n', b'{"gpu_ami_id": null}', b'\n{"a": 1}\n\n'])
@pytest.mark.parametrize("attributes", ["", "* text=auto eol=crlf\n"], ids=["as-it-is", "eol=crlf"])
def test_a_file_that_is_as_git_has_it_did_not_change(github: GitHub, content: bytes, attributes: str) -> None:
    """Whatever its line ends, with or without the last one, and whatever git itself makes of them."""
    (github.clone / ".gitattributes").write_text(attributes)
    (github.clone / HANDOVER).write_bytes(content)
    github.git("add", ".")
    github.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Another layout")
    (github.clone / HANDOVER).unlink()
    github.git("checkout", "--quiet", "--", HANDOVER)
    file = github.clone.parent / "build.json"
    file.write_text('{"ami_id": null}')

    assert main(["collect", str(file), "--title", "x"], github.env, github.clone) == 0
    assert github.outputs[-1] == "changed=false"


def test_propose_uses_the_family_s_branch(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pipelines in one repository do not push to one branch."""
    main(["collect", str(build_result(github)), "--title", "x"], github.env, github.clone)
    github.git("checkout", "--quiet", HANDOVER)
    (github.answers / "pr-create").write_text("https://github.example/pull/1")

    assert main(["propose", "--repository", str(github.clone)], github.env, github.clone) == 0
    assert "https://github.example/pull/1" in capsys.readouterr().err
    assert "gpu-ami/films" in github.git("branch", "--list", "gpu-ami/*", cwd=github.remote)


def test_propose_uses_a_branch_for_each_region(github: GitHub) -> None:
    """Of a family that is built in several, the second's push would take the first's AMI back."""
    (github.clone / HANDOVER).write_text(json.dumps({"gpu_ami_id": {"eu-west-1": None}}))
    github.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-am", "A map")
    file = build_result(github)
    (github.clone / HANDOVER).write_text(json.dumps({"gpu_ami_id": {"eu-west-1": "ami-0bbbbbbbbbbbbbbbb"}}))
    main(["collect", str(file), "--title", "x"], github.env, github.clone)
    github.git("checkout", "--quiet", HANDOVER)

    env = {**github.env, "INPUT_NAME": "films.eu-west-1"}
    assert main(["propose", "--repository", str(github.clone)], env, github.clone) == 0
    assert "gpu-ami/films.eu-west-1" in github.git("branch", "--list", "gpu-ami/*", cwd=github.remote)


@pytest.mark.parametrize("name", ["video", "films.", "films.x/../main", "films.eu-west-1\n", "eu-west-1"])
def test_propose_takes_no_other_name(
    github: GitHub, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is free text of a calling workflow, and names the branch that is pushed by force."""
    env = {**github.env, "INPUT_NAME": name}

    assert main(["propose", "--repository", str(github.clone)], env, github.clone) == 2
    assert "give films, or films.REGION" in capsys.readouterr().err
    # Before the bake, too: GitHub would refuse the artifact, and the AMI would never be proposed.
    monkeypatch.setattr(process, "become", lambda argv: pytest.fail(f"{argv} is run"))
    assert main(["task", "doctor"], env, github.clone) == 2
    assert "give films, or films.REGION" in capsys.readouterr().err
    assert workflow("build-ami.yml")["jobs"]["build"]["env"]["INPUT_NAME"] == "${{ inputs.name }}"


@pytest.mark.parametrize(
    ("regions", "handover", "code"),
    [
        (["eu-west-1"], '{"gpu_ami_id": null}', 0),
        (["eu-west-1", "us-east-1"], '{"gpu_ami_id": {"eu-west-1": null, "us-east-1": null}}', 0),
        (["eu-west-1", "us-east-1"], '{"gpu_ami_id": null}', 2),
        (["eu-west-1", "us-east-1"], None, 2),
    ],
    ids=["one", "map", "one-value", "no-file"],
)
def test_builds_that_would_undo_each_other_s_are_refused(
    github: GitHub, regions: list[str], handover: str | None, code: int
) -> None:
    """Before an hour of each is paid: one variable for one AMI takes only the last one's."""
    (github.clone / HANDOVER).unlink()
    if handover is not None:
        (github.clone / HANDOVER).write_text(handover)
    names = ["films"] if len(regions) == 1 else [f"films.{region}" for region in regions]
    document = {
        "include": [
            {"family": "films", "region": region, "name": name} for region, name in zip(regions, names, strict=True)
        ]
    }
    file = github.clone / "matrix.json"
    file.write_text(json.dumps(document))

    assert main(["matrix", str(file)], github.env, github.clone) == code
    assert github.outputs == ([f"matrix={json.dumps(document)}"] if code == 0 else [])


def test_backend_takes_the_region_of_the_settings(github: GitHub) -> None:
    """One place says where everything is."""
    env = {**github.env, "STATE_BUCKET": "team-state"}

    assert main(["backend"], env, github.clone) == 0
    assert '"eu-west-1"' in (github.clone / "terraform" / "backend.tf").read_text()


def test_a_job_in_another_region_looks_for_the_state_where_it_is(github: GitHub) -> None:
    """A build of each of several regions is given one; there is one bucket, and it is in none of them but its own."""
    env = {**github.env, "STATE_BUCKET": "team-state", "GPU_AMI_REGION": "us-east-1"}

    assert main(["backend"], env, github.clone) == 0
    assert '"eu-west-1"' in (github.clone / "terraform" / "backend.tf").read_text()


@pytest.mark.parametrize(
    ("backend", "code", "said"),
    [
        ('backend "local" { path = "../elsewhere.tfstate" }', 0, "Terraform is connected to its state.\n"),
        ('backend "local" { nonsense = 1 }', 6, "error: `terraform init` failed: "),
        ("", 0, "Terraform's state is a file: there is no backend to connect to.\n"),
    ],
    ids=["connected", "refused", "none"],
)
def test_connect_lets_a_clean_checkout_read_the_state(
    github: GitHub, backend: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`terraform state pull` of a module that was never initialized fails, and by that a clean-up keeps everything."""
    (github.clone / "terraform" / "backend.tf").write_text(f"terraform {{\n  {backend}\n}}\n")
    (github.clone / "elsewhere.tfstate").write_text('{"version": 4, "serial": 1, "lineage": "x", "resources": []}')

    assert main(["connect"], github.env, github.clone) == code
    assert capsys.readouterr().err.startswith(said)
    pulled = terraform_in(
        github.clone / "terraform", terraform_tools(), Access(region=REGION).child_environment
    ).state()
    done = process.run(pulled, timeout_s=300)
    assert (done.returncode == 0, '"lineage": "x"' in done.stdout) == (code == 0, code == 0 and bool(backend))


def test_a_refusal_is_one_line_and_its_exit_code(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The step fails, and the log's last line says why."""
    assert main(["backend"], github.env, github.clone) == 8
    assert capsys.readouterr().err.startswith("error: Terraform has no S3 backend here")


def test_adopt_names_what_it_took(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The log of a called workflow shows what was the caller's."""
    (github.clone / "caller").mkdir()
    (github.clone / "caller" / "pipeline.yaml").write_text("region: us-west-2\n")

    assert main(["adopt"], github.env, github.clone) == 0
    assert capsys.readouterr().err == "Took pipeline.yaml from the calling repository.\n"


def test_issue_says_which(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The log leads to it."""
    file = github.clone / "plan.json"
    file.write_text('{"totals": {"delete": 0}}')

    assert main(["issue", str(file)], github.env, github.clone) == 0
    (github.answers / "issue-list").write_text("4")
    assert main(["issue", str(file)], github.env, github.clone) == 0
    assert capsys.readouterr().err == "No issue is needed.\nIssue #4.\n"


@pytest.mark.parametrize(
    ("sources", "code"),
    [
        ([{"name": "terraform-state", "status": "ok", "references": 2}], 0),
        ([{"name": "terraform-state", "status": "skipped", "error": "none here"}], 8),
        ([{"name": "terraform-state", "status": "failed"}], 8),
        ([], 8),
    ],
    ids=["ok", "skipped", "failed", "absent"],
)
def test_require_lets_only_a_source_pass_that_was_read(github: GitHub, sources: list[object], code: int) -> None:
    """A state that was not read may name every AMI that the plan would remove."""
    file = github.clone / "plan.json"
    file.write_text(json.dumps({"sources": sources}))

    assert main(["require", "terraform-state", str(file)], github.env, github.clone) == code
    assert ("Nothing is removed" in github.summary) == (code == 8)


def test_task_becomes_the_task(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process's place, so that the signal of a cancelled job reaches it."""
    seen: list[tuple[str, ...]] = []

    def become(argv: tuple[str, ...]) -> NoReturn:
        seen.append(argv)
        raise SystemExit

    monkeypatch.setattr(process, "become", become)

    with pytest.raises(SystemExit):
        main(["task", "build", "--output", "json"], {"INPUT_IMAGE_TAG": "v2"}, github.clone)

    assert seen[0][1:] == ("-m", "invoke", "build", "--packer-var", "image_tag=v2", "--if-stale", "--output", "json")


def test_members_says_what_became_of_the_issue(github: GitHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The step's one line."""
    file = github.clone.parent / "new-members.json"
    file.write_text('{"botocore": "1.50.0", "new": []}')

    assert main(["members", str(file)], github.env, github.clone) == 0
    assert "No issue is needed." in capsys.readouterr().err


def test_each_of_several_families_has_its_branch_and_its_files(
    github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by the workflow's environment; where none is named, nothing is proposed for a guess."""
    file = "terraform/video.auto.tfvars.json"
    (github.clone / "pipeline.yaml").write_text(
        "region: eu-west-1\nfamilies:\n"
        f"  video: {{variables_file: a, handover: {{file: {file}, variable: v}}}}\n  training: {{}}\n"
    )
    (github.clone / file).write_text('{"t": "ami-0cccccccccccccccc", "v": "ami-0bbbbbbbbbbbbbbbb"}')
    (github.clone / "packer").mkdir()
    for name in ("manifest.json", "manifest-video.json", "manifest-training.json"):
        (github.clone / "packer" / name).write_text("{}")
    result = github.clone.parent / "build.json"
    result.write_text('{"ami_id": null}')
    env = {**github.env, "GPU_AMI_FAMILY": "video"}

    assert main(["collect", str(result), "--title", "x"], github.env, github.clone) == 2
    assert "has several families: set GPU_AMI_FAMILY to one of video, training" in capsys.readouterr().err
    assert main(["collect", str(result), "--title", "x"], env, github.clone) == 0
    assert github.outputs[0] == "ami-id=ami-0bbbbbbbbbbbbbbbb"
    assert sorted(path.name for path in (github.clone / "artifacts").glob("manifest*")) == ["manifest-video.json"]
    assert (github.clone / "artifacts" / "handover" / file).is_file()
    (github.clone / file).write_text('{"t": "ami-0dddddddddddddddd", "v": null}')
    (github.answers / "pr-create").write_text("https://github.example/pull/1")
    assert main(["propose", "--repository", str(github.clone)], env, github.clone) == 0
    assert "gpu-ami/video" in github.git("branch", "--list", "gpu-ami/*", cwd=github.remote)
    proposed = github.git("show", f"gpu-ami/video:{file}", cwd=github.remote)
    assert proposed.strip() == '{"t": "ami-0dddddddddddddddd", "v": "ami-0bbbbbbbbbbbbbbbb"}'
    plan = github.clone.parent / "plan.json"
    plan.write_text("{}")
    assert main(["issue", str(plan)], env, github.clone) == 0
    assert github.called("label", "create", "cleanup-video")
