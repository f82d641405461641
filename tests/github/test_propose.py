"""One pull request with one file, and the records of what was measured."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest

from gpu_ami.errors import PipelineError, UsageError
from gpu_ami.github.collect import MEASURED
from gpu_ami.github.propose import Proposal, propose, records
from tests.github.conftest import HANDOVER, GitHub

A, B, C = (f"ami-0{letter * 16}" for letter in "abc")
NEW = '{\n  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"\n}\n'


@pytest.fixture
def proposal(github: GitHub) -> Proposal:
    """What a build collected: a new AMI and its plan."""
    artifacts = github.clone.parent / "artifacts"
    (artifacts / "handover" / "terraform").mkdir(parents=True)
    (artifacts / "handover" / HANDOVER).write_text(NEW)
    (artifacts / "title.txt").write_text("Use ami-0bbbbbbbbbbbbbbbb\n")
    (artifacts / "body.md").write_text("| AMI | ami-0bbbbbbbbbbbbbbbb |\n")
    (artifacts / "plan.md").write_text("1 to change\n")
    (github.answers / "pr-create").write_text("https://github.example/team/ami/pull/8\n")
    return Proposal(github.clone, artifacts, HANDOVER, "gpu-ami/films")


def test_the_change_is_pushed_to_the_pipeline_s_branch(github: GitHub, proposal: Proposal) -> None:
    """Exactly one file differs from main."""
    url = propose(proposal, github.runner)

    assert url == "https://github.example/team/ami/pull/8"
    assert github.git("diff", "--name-only", "main", "gpu-ami/films", cwd=github.remote) == HANDOVER
    assert github.git("show", f"gpu-ami/films:{HANDOVER}", cwd=github.remote) == NEW.strip()
    assert github.git("log", "-1", "--format=%s|%an", "gpu-ami/films", cwd=github.remote) == (
        "Use ami-0bbbbbbbbbbbbbbbb|github-actions[bot]"
    )


def test_the_pull_request_has_the_plan_in_its_text(github: GitHub, proposal: Proposal) -> None:
    """A pull request of the default token starts no workflow that would show it."""
    propose(proposal, github.runner)

    (created,) = github.called("pr create")
    assert "--head gpu-ami/films --base main --title Use ami-0bbbbbbbbbbbbbbbb" in created
    body = (proposal.artifacts / "pull-request.md").read_text()
    assert "| AMI | ami-0bbbbbbbbbbbbbbbb |" in body
    assert "## Plan\n\n1 to change" in body
    assert "[this run](https://github.example/team/ami/actions/runs/7)" in body
    assert "starts no workflow" in body


COMPARED = {
    "from": "ami-0aaaaaaaaaaaaaaaa",
    "to": "ami-0bbbbbbbbbbbbbbbb",
    "summary": "kernel 6.1.141 → 6.1.150, 2 models new",
    "differences": [
        {"kind": "kernel", "name": "kernel", "old": "6.1.141", "new": "6.1.150"},
        {"kind": "model", "name": "a|b.pt", "old": None, "new": "sha256:ab", "old_bytes": None, "new_bytes": 2048},
        *({"kind": "package", "name": f"p{number}", "old": "1", "new": None} for number in range(70)),
    ],
    "unknown": ["setting"],
}


def test_the_pull_request_says_what_changes(github: GitHub, proposal: Proposal) -> None:
    """A reviewer decides on a kernel and a model, not on an id."""
    (proposal.artifacts / "diff.json").write_text(json.dumps(COMPARED))

    propose(proposal, github.runner)

    title = "Use ami-0bbbbbbbbbbbbbbbb: kernel 6.1.141 → 6.1.150, 2 models new"
    (created,) = github.called("pr create")
    assert f"--title {title} --body-file" in created
    assert github.git("log", "-1", "--format=%s", "gpu-ami/films", cwd=github.remote) == title
    body = (proposal.artifacts / "pull-request.md").read_text()
    assert "## What changes\n\nBeside ami-0aaaaaaaaaaaaaaaa: kernel 6.1.141 → 6.1.150, 2 models new.\n" in body
    assert "| kernel | kernel | 6.1.141 | 6.1.150 |" in body
    assert "| model | a\\|b.pt | none | 2.0 KiB, sha256:ab |" in body
    assert "And 12 more differences: `invoke diff` lists them." in body
    assert "so not compared: setting." in body
    assert body.index("| AMI |") < body.index("## What changes") < body.index("## Plan")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        (json.dumps(COMPARED | {"to": "ami-0cccccccccccccccc"}), ""),
        (
            json.dumps(COMPARED | {"differences": [], "summary": "no difference"}),
            "Beside ami-0aaaaaaaaaaaaaaaa: no diff",
        ),
    ],
    ids=["empty", "cut off", "a list", "another AMI", "the same"],
)
def test_without_a_comparison_the_pull_request_is_as_before(
    github: GitHub, proposal: Proposal, text: str, said: str
) -> None:
    """A first AMI has none to be compared with; what is about another AMI is not said of this one."""
    (proposal.artifacts / "diff.json").write_text(text)

    propose(proposal, github.runner)

    (created,) = github.called("pr create")
    assert "--title Use ami-0bbbbbbbbbbbbbbbb --body-file" in created
    body = (proposal.artifacts / "pull-request.md").read_text()
    assert ("## What changes" in body) is bool(said)
    assert said in body


def test_names_of_models_and_images_mention_nobody_and_close_nothing(github: GitHub, proposal: Proposal) -> None:
    """Whoever may write to the bucket or push an image chooses them; the title is a commit's subject, too."""
    hostile = "@octocat fixes #12"
    change = {"kind": "model", "name": f"{hostile}/<b>*x*", "old": None, "new": f"sha256:ab {hostile}"}
    document = {**COMPARED, "summary": f"container image v1 → {hostile}", "differences": [change]}
    (proposal.artifacts / "diff.json").write_text(json.dumps(document))

    propose(proposal, github.runner)

    body = (proposal.artifacts / "pull-request.md").read_text()
    defused = "@&#8203;octocat fixes #&#8203;12"
    assert f"| model | {defused}/\\<b>\\*x\\* | none | sha256:ab {defused} |" in body
    assert f": container image v1 → {defused}." in body
    assert hostile not in body
    (created,) = github.called("pr create")
    assert "container image v1 → @ octocat fixes # 12 --body-file" in created
    assert hostile not in github.git("log", "-1", "--format=%B", "gpu-ami/films", cwd=github.remote)


def test_what_was_measured_goes_into_the_same_commit(github: GitHub, proposal: Proposal) -> None:
    """An apply believes records beside Terraform's code alone; what is no AMI's record stays out of the repository."""
    new = "ami-0bbbbbbbbbbbbbbbb"
    folder = proposal.artifacts / MEASURED
    kept = [f"terraform/{name}/{new}.json" for name in ("benches", "provenance", "verifications")]
    kept.append(f"terraform/provenance/{new}.sigstore.json")
    for name in (*kept, "terraform/benches/main.tf", "terraform/provenance/ami-x.json", "logs/bench-1.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}\n")
    (folder / "terraform" / "benches" / "ami-0aaaaaaaaaaaaaaaa.json").symlink_to("/etc/passwd")

    propose(dataclasses.replace(proposal, records=records(proposal.artifacts)), github.runner)

    changed = github.git("diff", "--name-only", "main", "gpu-ami/films", cwd=github.remote)
    assert changed.split() == sorted([*kept, HANDOVER])


def test_git_signs_in_through_gh_before_it_pushes(github: GitHub, proposal: Proposal) -> None:
    """The checkout keeps no token."""
    propose(proposal, github.runner)

    assert github.called()[0] == "auth setup-git"


def test_an_open_pull_request_is_brought_up_to_date(github: GitHub, proposal: Proposal) -> None:
    """A build a week must not become a pull request a week."""
    (github.answers / "pr-list").write_text("https://github.example/team/ami/pull/3\n")
    github.git("push", "--quiet", "origin", "HEAD:refs/heads/gpu-ami/films")

    assert propose(proposal, github.runner) == "https://github.example/team/ami/pull/3"
    assert github.called("pr create") == []
    assert len(github.called("pr edit https://github.example/team/ami/pull/3")) == 1
    assert github.outputs == ["pull-request=https://github.example/team/ami/pull/3"]


def test_a_plan_that_failed_leaves_the_text_without_one(github: GitHub, proposal: Proposal) -> None:
    """The pull request is still opened: a person decides."""
    (proposal.artifacts / "plan.md").unlink()

    assert propose(proposal, github.runner)
    assert "## Plan" not in (proposal.artifacts / "pull-request.md").read_text()


def test_a_plan_of_any_size_fits(github: GitHub, proposal: Proposal) -> None:
    """GitHub refuses a text above 65,536 characters."""
    (proposal.artifacts / "plan.md").write_text("+ resource\n" * 20_000)
    propose(proposal, github.runner)

    assert len((proposal.artifacts / "pull-request.md").read_text()) < 65_536


def test_a_comparison_of_any_size_leaves_the_text_short_enough(github: GitHub, proposal: Proposal) -> None:
    """GitHub refuses a text above 65,536 characters, and nothing is proposed; two letters here are written as nine."""
    rows = [{"kind": "setting", "name": f"{n}{'#1' * 49}", "old": "#1" * 50, "new": "[" * 100} for n in range(10, 70)]
    (proposal.artifacts / "diff.json").write_text(json.dumps({**COMPARED, "differences": rows * 2}))
    (proposal.artifacts / "body.md").write_text("| AMI | ami-0bbbbbbbbbbbbbbbb |\n" + "a line of the diff\n" * 2_000)
    (proposal.artifacts / "plan.md").write_text("1 to change\n" * 10_000)

    propose(proposal, github.runner)

    body = (proposal.artifacts / "pull-request.md").read_text()
    assert len(body) < 65_536
    assert body.startswith("| AMI | ami-0bbbbbbbbbbbbbbbb |")
    assert "## What changes" in body
    assert "starts no workflow" in body


def test_the_bytes_of_the_file_are_pushed(github: GitHub, proposal: Proposal) -> None:
    """A pull request that rewrites every line end hides the one line that matters."""
    content = b'{\r\n  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"\r\n}'
    (proposal.artifacts / "handover" / HANDOVER).write_bytes(content)
    propose(proposal, github.runner)

    done = ("git", "show", f"gpu-ami/films:{HANDOVER}")
    assert subprocess.run(done, cwd=github.remote, capture_output=True, check=True).stdout == content


@pytest.mark.parametrize(
    ("built", "merged", "expected"),
    [
        ({"a": A, "b": B}, {"a": C, "b": A}, {"a": C, "b": B}),
        ({"a": A, "b": B}, {"a": C}, {"a": C, "b": B}),
        ({"a": A, "b": {"r": B, "s": A}}, {"a": C, "b": {"r": A, "s": A}}, {"a": C, "b": {"r": B, "s": A}}),
    ],
)
def test_another_family_s_ami_that_was_merged_meanwhile_stays(
    github: GitHub, proposal: Proposal, built: object, merged: object, expected: object
) -> None:
    """They share one file, and this one was built for an hour: its file still names what was live before."""
    (proposal.artifacts / "handover" / HANDOVER).write_text(json.dumps(built))
    (github.clone / HANDOVER).write_text(json.dumps(merged))

    propose(dataclasses.replace(proposal, variable="b"), github.runner)

    done = ("git", "show", f"gpu-ami/films:{HANDOVER}")
    assert json.loads(subprocess.run(done, cwd=github.remote, capture_output=True, check=True).stdout) == expected


def test_another_region_s_ami_that_was_merged_meanwhile_stays(github: GitHub, proposal: Proposal) -> None:
    """A family that is built in two regions at once has a pull request each, into one map."""
    for folder, regions in (("before", {"r": A, "s": A}), ("handover", {"r": B, "s": A})):
        file = proposal.artifacts / folder / HANDOVER
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"b": regions}))
    (github.clone / HANDOVER).write_text(json.dumps({"b": {"r": A, "s": C}}))

    propose(dataclasses.replace(proposal, variable="b"), github.runner)

    done = ("git", "show", f"gpu-ami/films:{HANDOVER}")
    pushed = subprocess.run(done, cwd=github.remote, capture_output=True, check=True).stdout
    assert json.loads(pushed) == {"b": {"r": B, "s": C}}


def test_a_variable_that_is_gone_by_now_is_one_line(github: GitHub, proposal: Proposal) -> None:
    """A map cannot be made anew, and the whole file would take others' changes back."""
    (proposal.artifacts / "handover" / HANDOVER).write_text(json.dumps({"b": {"r": B}}))
    (github.clone / HANDOVER).write_text("{}")

    with pytest.raises(UsageError, match="has no b to take what was handed over"):
        propose(dataclasses.replace(proposal, variable="b"), github.runner)


def test_nothing_collected_is_nothing_proposed(github: GitHub, proposal: Proposal) -> None:
    """A fresh AMI ends here."""
    (proposal.artifacts / "handover" / HANDOVER).unlink()

    assert propose(proposal, github.runner) == ""
    assert "Nothing to propose" in github.summary


def test_a_change_that_is_merged_already_is_not_proposed(github: GitHub, proposal: Proposal) -> None:
    """Somebody was quicker."""
    (proposal.artifacts / "handover" / HANDOVER).write_text((github.clone / HANDOVER).read_text())

    assert propose(proposal, github.runner) == ""
    assert "has this change already" in github.summary
    assert github.called() == []


def test_a_link_in_the_repository_is_not_followed(github: GitHub, proposal: Proposal, tmp_path: Path) -> None:
    """It could name a file of the runner."""
    (github.clone / HANDOVER).unlink()
    (github.clone / HANDOVER).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UsageError, match="is a link"):
        propose(proposal, github.runner)

    assert not (tmp_path / "elsewhere").exists()


def test_a_refusal_of_gh_is_one_line_that_says_where_to_look(github: GitHub, proposal: Proposal) -> None:
    """Most often the repository does not allow workflows to open pull requests."""
    (github.answers / "refuse-pr").touch()

    with pytest.raises(PipelineError, match=r"`gh pr list` refused: HTTP 403.*docs/github-actions.md"):
        propose(proposal, github.runner)
