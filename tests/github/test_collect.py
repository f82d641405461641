"""What a build hands to the pull request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github.collect import RunFiles, collect, document_in
from gpu_ami.github.propose import records
from gpu_ami.workspace import Workspace
from tests.github.conftest import HANDOVER, GitHub

BUILD = {
    "ami_id": "ami-0bbbbbbbbbbbbbbbb",
    "region": "ap-northeast-2",
    "name": "gpu-batch-1",
    "source_ami_id": "ami-0ccccccccccccccccc",
    "snapshot_gib": 27.96,
    "duration_s": 1083.4,
    "build_cost_usd": 0.2166,
}


def gathered(github: GitHub, document: dict[str, Any], *, new: str | None, before: bool = True) -> tuple[bool, Path]:
    """Collect in a workspace whose hand-over file is *new*."""
    root = github.clone.parent / "root"
    workspace = Workspace(root, sandbox=True)
    (root / ".sandbox" / "terraform").mkdir(parents=True, exist_ok=True)
    workspace.manifest.write_text("{}")
    if new is not None:
        (workspace.state / HANDOVER).write_text(new)
    old = github.clone / HANDOVER if before else None
    files = RunFiles(workspace, HANDOVER, old, root / "artifacts")
    return collect(document, "Use the new AMI", files, github.runner), files.artifacts


def test_a_build_leaves_all_that_the_next_job_needs(github: GitHub) -> None:
    """The file to commit, a text for people, and the records."""
    changed, folder = gathered(github, BUILD, new='{\n  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"\n}\n')

    assert changed
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"body.md", "title.txt", "result.json", "manifest.json", f"handover/{HANDOVER}"}
    assert json.loads((folder / "result.json").read_text()) == BUILD
    assert github.outputs == ["ami-id=ami-0bbbbbbbbbbbbbbbb", "changed=true"]


def test_the_provenance_of_what_was_made_goes_with_it(github: GitHub) -> None:
    """The next job commits it with the hand-over: an apply, elsewhere, looks for it beside the code."""
    folder = github.clone.parent / "root/.sandbox/terraform/provenance"
    folder.mkdir(parents=True)
    made, other = "ami-0bbbbbbbbbbbbbbbb", "ami-0ddddddddddddddddd"
    for name in (f"{made}.json", f"{made}.sigstore.json", f"{other}.json"):
        (folder / name).write_text("{}")

    _, artifacts = gathered(github, BUILD | {"amis": {"ap-northeast-2": made, "x": "../x"}}, new='{"gpu_ami_id": null}')

    measured = artifacts / "measured"
    found = sorted(path.relative_to(measured).as_posix() for path in measured.rglob("*.json"))
    assert found == [f"terraform/provenance/{made}.json", f"terraform/provenance/{made}.sigstore.json"]
    assert records(artifacts) == tuple(found)


def test_the_summary_says_ami_size_minutes_cost_and_diff(github: GitHub) -> None:
    """That is what somebody with a phone wants to know."""
    gathered(github, BUILD, new='{\n  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"\n}\n')

    for part in (
        *(
            "| AMI | ami-0bbbbbbbbbbbbbbbb |",
            "| Snapshot | 28.0 GiB |",
            "| Took | 18 m 03 s |",
            "| Build cost | $0.22 |",
        ),
        *('-  "gpu_ami_id": "ami-0aaaaaaaaaaaaaaaa"', '+  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"'),
    ):
        assert part in github.summary


def test_a_fresh_ami_changes_nothing(github: GitHub) -> None:
    """No pull request, and the summary says why."""
    same = (github.clone / HANDOVER).read_text()
    changed, folder = gathered(github, {"ami_id": None, "reason": "everything is as it was"}, new=same)

    assert not changed
    assert "| Why | everything is as it was |" in github.summary
    assert "up to date" in github.summary
    assert github.outputs == ["ami-id=ami-0aaaaaaaaaaaaaaaa", "changed=false"]
    assert not (folder / "handover").exists()


@pytest.mark.parametrize(
    "content", [b'{\r\n  "gpu_ami_id": null\r\n}\r\n', b'{"gpu_ami_id": null}', b"\xef\xbb\xbf{}\n\x0b"]
)
def test_a_file_of_any_layout_that_did_not_change_is_not_proposed(github: GitHub, content: bytes) -> None:
    """A pull request each Monday that only rewrites line ends is one that nobody reads any more."""
    root = github.clone.parent / "root"
    before, after = github.clone / HANDOVER, root / HANDOVER
    after.parent.mkdir(parents=True)
    before.write_bytes(content)
    after.write_bytes(content)

    assert not collect({}, "x", RunFiles(Workspace(root), HANDOVER, before, root / "artifacts"), github.runner)
    assert github.outputs[-1] == "changed=false"


def test_what_is_proposed_is_the_file_byte_for_byte(github: GitHub) -> None:
    """The AMI changes, and not a line end beside it; the diff shows one line."""
    root = github.clone.parent / "root"
    before, after = github.clone / HANDOVER, root / HANDOVER
    after.parent.mkdir(parents=True)
    before.write_bytes(b'{\r\n  "gpu_ami_id": "ami-0aaaaaaaaaaaaaaaa"\r\n}')
    after.write_bytes(b'{\r\n  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"\r\n}')

    assert collect(BUILD, "x", RunFiles(Workspace(root), HANDOVER, before, root / "artifacts"), github.runner)
    assert (root / "artifacts" / "handover" / HANDOVER).read_bytes() == after.read_bytes()
    changed = [line for line in github.summary.splitlines() if line.startswith(("+ ", "- "))]
    assert changed == ['-  "gpu_ami_id": "ami-0aaaaaaaaaaaaaaaa"', '+  "gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb"']


def test_other_line_ends_alone_are_a_change(github: GitHub) -> None:
    """Whoever changed them on purpose gets them proposed."""
    root = github.clone.parent / "root"
    before, after = github.clone / HANDOVER, root / HANDOVER
    after.parent.mkdir(parents=True)
    before.write_bytes(b'{"gpu_ami_id": null}\r\n')
    after.write_bytes(b'{"gpu_ami_id": null}\n')

    assert collect({}, "x", RunFiles(Workspace(root), HANDOVER, before, root / "artifacts"), github.runner)


def test_the_first_ami_of_a_repository_is_a_change(github: GitHub) -> None:
    """There is no file before."""
    assert gathered(github, BUILD, new="{}\n", before=False)[0]


def test_of_several_families_in_one_file_the_own_ami_is_named(github: GitHub) -> None:
    """A rollback's document names environments: the pull request would say "Go back to" another family's AMI."""
    root, other = github.clone, "ami-0cccccccccccccccc"
    before = github.clone.parent / "before.json"
    before.write_text(f'{{"a": "{other}", "b": "ami-0aaaaaaaaaaaaaaaa"}}')
    (root / HANDOVER).write_text(f'{{"a": "{other}", "b": "ami-0bbbbbbbbbbbbbbbb"}}')
    files = RunFiles(Workspace(root), HANDOVER, before, root / "artifacts", "b")

    assert collect({}, "Go back to {ami}", files, github.runner)

    assert (root / "artifacts" / "title.txt").read_text() == "Go back to ami-0bbbbbbbbbbbbbbbb\n"
    assert "ami-id=ami-0bbbbbbbbbbbbbbbb" in github.outputs


def test_no_file_at_all_is_no_change(github: GitHub) -> None:
    """A build that failed before the hand-over proposes nothing."""
    assert not gathered(github, {}, new=None, before=False)[0]


def test_the_document_is_the_last_line_or_the_whole_file(tmp_path: Path) -> None:
    """On stdout JSON goes a line per task; a plan in a file is laid out for people."""
    file = tmp_path / "x.json"
    file.write_text('{"a": 1}\n{"b": 2}\n')
    assert document_in(file) == {"b": 2}

    file.write_text(json.dumps({"b": {"c": 3}}, indent=1) + "\n")
    assert document_in(file) == {"b": {"c": 3}}


@pytest.mark.parametrize(("text", "said"), [("oops", "not the JSON"), ("[1]", "holds a list"), ("{", "not the JSON")])
def test_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A step that went wrong must not become a pull request."""
    file = tmp_path / "x.json"
    file.write_text(text)

    with pytest.raises(UsageError, match=said):
        document_in(file)


def test_an_empty_result_is_nothing(tmp_path: Path) -> None:
    """A dry run prints no result."""
    file = tmp_path / "x.json"
    file.write_text("\n")

    assert document_in(file) == {}


def test_neither_a_fact_nor_the_file_breaks_out_of_its_place(github: GitHub) -> None:
    """A line of the file that is a fence would end the block, and what follows it would be the page's own text."""
    document = BUILD | {"reason": "<b>|[x](y)\x9b"}
    gathered(github, document, new='{\n```\n"gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb\x1b"\n<i>\n}\n')

    assert "| Why | \\<b>\\|\\[x](y)\\\\x9b |" in github.summary
    block = github.summary.partition("````diff\n")[2].partition("\n````\n")[0]
    assert "+```" in block
    assert '+"gpu_ami_id": "ami-0bbbbbbbbbbbbbbbb\\x1b"' in block
    assert "+<i>" in block
