"""The working tree: every file that may need an AMI, and what happens to those that cannot be read."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ami.cleanup.local_references import LocalSource, last_build_ids, protected_by_receipts, scan
from gpu_ami.cleanup.plan_document import FORMAT
from gpu_ami.cleanup.policy import LOCAL_SOURCES
from gpu_ami.deploy.history import steps_back
from gpu_ami.errors import TerraformError
from gpu_ami.records.archive import LIMITS
from gpu_ami.records.receipt import Action, Change, Receipt, StateIdentity, Status, StoredReceipt, encode

A, B, C, D, E = (f"ami-{number:017x}" for number in range(1, 6))


def tree_of(root: Path, **files: str | bytes) -> Path:
    """Write *files* under *root*, which is returned."""
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def scanned(root: Path, **more: Any) -> dict[str, LocalSource]:
    """Return the sources of the tree *root* by name."""
    found = scan(root, **({"state": lambda: None} | more))
    return {source.report.name: source for source in found}


def named(source: LocalSource) -> set[str]:
    """Return what *source* names."""
    return {reference.target for reference in source.references}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("terraform/main.tf", "terraform-code"),
        ("terraform/modules/a/b.tf.json", "terraform-code"),
        ("main.tofu", "terraform-code"),
        ("packer/a.pkr.hcl", "terraform-code"),
        ("terraform/terraform.tfvars", "terraform-variables"),
        ("terraform/x.auto.tfvars.json", "terraform-variables"),
        ("packer/v.auto.pkrvars.hcl", "terraform-variables"),
        ("terraform/terraform.tfstate", "terraform-state"),
        ("terraform/terraform.tfstate.backup", "terraform-state"),
        ("terraform/terraform.tfstate.1700000000.backup", "terraform-state"),
        ("terraform/terraform.tfstate.d/dev/terraform.tfstate", "terraform-state"),
        (".envs/prod.tfvars", "terraform-variables"),
        (".live/main.tf", "terraform-code"),
        (".github/workflows/a.yml", "workflows"),
        (".github/actions/x/action.yaml", "workflows"),
    ],
)
def test_every_kind_of_file_protects_what_it_names(tmp_path: Path, name: str, source: str) -> None:
    """Comments too: whoever wrote an id into a file meant something by it."""
    found = scanned(tree_of(tmp_path, **{name: f"# {A}\n"}))

    assert named(found[source]) == {A}
    assert (found[source].report.status, found[source].report.region) == ("ok", None)
    assert found[source].references[0].detail == f"named in {name}"


@pytest.mark.parametrize(
    "name",
    [
        "logs/cleanup-1.jsonl",
        "logs/a.tf",
        "fleet-parts/release.json",
        "fleet-parts/a/main.tf",
        "node_modules/a.tf",
        ".terraform/modules/a.tf",
        ".venv/a.tf",
        ".git/a.tf",
        ".sandbox/terraform/a.tf",
        "a.txt",
    ],
)
def test_copies_caches_and_our_own_journals_need_nothing(tmp_path: Path, name: str) -> None:
    """A journal names every AMI that was deleted: read as a reference it would keep the restored ones forever."""
    found = scanned(tree_of(tmp_path, **{name: A}))

    assert not any(source.references for source in found.values())


@pytest.mark.parametrize("name", ["logs", "fleet-parts"])
def test_a_module_of_such_a_name_is_read(tmp_path: Path, name: str) -> None:
    """Only the folders at the top hold our journals, and what a fleet's machines pass on."""
    found = scanned(tree_of(tmp_path, **{f"terraform/modules/{name}/main.tf": A}))

    assert named(found["terraform-code"]) == {A}


def test_a_linked_folder_is_read_once(tmp_path: Path) -> None:
    """Terraform follows links to modules; one that leads back up must not go on for ever."""
    tree_of(tmp_path, **{"shared/main.tf": A, "tree/terraform/main.tf": B})
    (tmp_path / "tree" / "terraform" / "module").symlink_to(tmp_path / "shared")
    (tmp_path / "tree" / "terraform" / "up").symlink_to(tmp_path / "tree")

    found = scanned(tmp_path / "tree")

    assert named(found["terraform-code"]) == {A, B}
    assert found["terraform-code"].report.references == 2


def test_a_tree_without_such_files_is_skipped_not_ok(tmp_path: Path) -> None:
    """A CI checkout without state must not read as: the state needs nothing."""
    found = scanned(tmp_path)

    assert set(found) == set(LOCAL_SOURCES)
    assert {source.report.status for source in found.values()} == {"skipped"}
    assert "not known" in str(found["terraform-state"].report.error)


def test_a_whole_tree_without_such_files_needs_nothing(tmp_path: Path) -> None:
    """The sandbox has no files elsewhere; what its own tree holds and cannot be read is still not known."""
    found = scanned(tmp_path, is_whole=True)
    assert {(source.report.status, source.report.error) for source in found.values()} == {("ok", None)}

    (tmp_path / "a.tf").symlink_to("/dev/null")
    found = scanned(tmp_path, is_whole=True, skip=frozenset({"workflows"}))
    assert found["terraform-code"].report.status == "failed"
    assert found["workflows"].report.status == "skipped"


def test_a_file_in_utf_16_is_read(tmp_path: Path) -> None:
    """PowerShell's `>` writes UTF-16, where an id has a zero byte between its letters."""
    found = scanned(tree_of(tmp_path, **{"a.tfvars": f'x = "{A}"'.encode("utf-16")}))

    assert named(found["terraform-variables"]) == {A}


def test_a_file_larger_than_a_chunk_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state can have hundreds of megabytes, and an id can lie across two chunks."""
    monkeypatch.setattr("gpu_ami.cleanup.local_references._CHUNK", 40)
    found = scanned(tree_of(tmp_path, **{"a.tfstate": "x" * 35 + A + "\xff" * 90 + B}))

    assert named(found["terraform-state"]) == {A, B}


def test_a_file_that_cannot_be_read_fails_its_source(tmp_path: Path) -> None:
    """It may name any AMI. A dangling link is a file that root cannot read either."""
    for name in ("a.tf", "manifest.json"):
        (tmp_path / name).symlink_to(tmp_path / "gone")

    found = scanned(tmp_path)

    for source, name in (("terraform-code", "a.tf"), ("manifests", "manifest.json")):
        report = found[source].report
        assert (report.status, name in str(report.error)) == ("failed", True)


def test_archived_builds_need_nothing(tmp_path: Path) -> None:
    """Each names its AMI and the base: after a year of builds clean-up would remove nothing any more."""
    manifest = json.dumps({"builds": [{"artifact_id": f"eu-west-1:{A}"}]})
    tree = tree_of(tmp_path, **{"packer/manifest.json": manifest, "terraform/a.tf": B})
    before = scanned(tree)
    for number in range(50):
        ami = f"ami-{number:017x}"
        for name in LIMITS:
            tree_of(tree, **{f"packer/builds/{ami}/{name}": f'{{"ami": "{ami}", "source": "{C}"}}'})
    tree_of(tree, **{f"packer/builds/.{D}.x1y2/release.json": D})

    assert scanned(tree) == before


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (f"packer/builds/{A}/main.tf", "terraform-code"),
        (f"packer/builds/{A}/release-v2.json", "manifests"),
        (f"builds/{A}/release.json", "manifests"),
        ("packer/builds/prod/release.json", "manifests"),
        ("packer/builds/release.json", "manifests"),
        ("packer/release.json", "manifests"),
    ],
)
def test_only_an_archive_s_own_files_are_left_out(tmp_path: Path, name: str, source: str) -> None:
    """Whatever else somebody keeps there may be in use."""
    assert named(scanned(tree_of(tmp_path, **{name: B}))[source]) == {B}


@pytest.mark.parametrize(("name", "source"), [("a.tf", "terraform-code"), ("release.json", "manifests")])
def test_a_pipe_fails_its_source(tmp_path: Path, name: str, source: str) -> None:
    """To read it would never end."""
    os.mkfifo(tmp_path / name)

    report = scanned(tmp_path)[source].report

    assert (report.status, name in str(report.error)) == ("failed", True)


def test_a_folder_that_cannot_be_listed_fails_every_source(tmp_path: Path) -> None:
    """What lies in it is not known, so nothing of it is."""
    found = scanned(tmp_path / "missing")

    assert {source.report.status for source in found.values()} == {"failed"}


def test_the_state_of_a_backend_is_read_too(tmp_path: Path) -> None:
    """With a backend there is no state file on this machine."""
    found = scanned(tmp_path, state=lambda: json.dumps({"image": A}))

    assert named(found["terraform-state"]) == {A}
    assert found["terraform-state"].report.status == "ok"


def test_a_backend_that_cannot_be_read_fails(tmp_path: Path) -> None:
    """The state holds the AMIs that Terraform would miss."""

    def fail() -> str | None:
        msg = "no credentials"
        raise TerraformError(msg)

    found = scanned(tree_of(tmp_path, **{"a.tfstate": A}), state=fail)

    assert found["terraform-state"].report.status == "failed"


def test_a_source_that_is_skipped_is_not_read(tmp_path: Path) -> None:
    """And says why it found nothing."""
    found = scanned(tree_of(tmp_path, **{"a.tf": A}), skip=frozenset({"terraform-code"}))

    assert (found["terraform-code"].report.status, found["terraform-code"].references) == ("skipped", ())
    assert "--skip-source" in str(found["terraform-code"].report.error)


def _build(ami: str, **more: Any) -> dict[str, Any]:
    return {"name": "gpu", "artifact_id": f"r:{ami}", "build_time": 1, "packer_run_uuid": "1"} | more


def test_of_a_manifest_only_the_last_build_counts() -> None:
    """A manifest lists years of builds; all but the last may go."""
    builds = [_build(A), _build(B, build_time=2, packer_run_uuid="2")]

    assert last_build_ids(json.dumps({"builds": builds, "last_run_uuid": "2"})) == {B}


def test_the_newest_build_is_the_newest_whatever_the_unit_of_its_time() -> None:
    """A year ago in milliseconds is a greater number than today in seconds; today's AMI must stay."""
    builds = [
        _build(A, build_time=1732364000000),
        _build(B, build_time=1763900000),
        _build(C, name="y", packer_run_uuid="3"),
    ]

    assert last_build_ids(json.dumps({"builds": builds, "last_run_uuid": "3"})) == {B, C}


def test_of_a_manifest_the_newest_build_of_each_name_counts() -> None:
    """A run of one source alone must not unprotect what the others made last."""
    builds = [
        _build(A, name="x", build_time=1),
        _build(B, name="x", build_time=2),
        _build(C, name="y", packer_run_uuid="3"),
    ]

    assert last_build_ids(json.dumps({"builds": builds, "last_run_uuid": "3"})) == {B, C}


@pytest.mark.parametrize(
    "text",
    [
        f'{{"builds": [{{"artifact_id": "r:{A}"}}, {{"artifact_id": "r:{B}',
        f'{{"builds": {{"a": "{A} {B}"}}}}',
        f'["{A}", "{B}"]',
        f'{{"builds": [{{"build_time": "x", "artifact_id": "{A} {B}"}}, {{"artifact_id": "{A}"}}]}}',
        f"{A} {B}",
        f'{{"builds": [], "last": "{A} {B}"}}',
        f'{{"builds": [{{"artifact_id": ["{A}"]}}, {{"artifact_id": "r:{B}"}}]}}',
        f'{{"builds": [{{"ami": "{A}"}}, {{"artifact_id": "r:{B}"}}]}}',
        f'{{"builds": [{{"artifact_id": "x", "ami": "{A} {B}"}}]}}',
    ],
    ids=[
        "cut off",
        "wrong form",
        "list",
        "wrong time",
        "not JSON",
        "no builds",
        "list of artifacts",
        "no artifact",
        "other artifact",
    ],
)
def test_of_a_manifest_that_cannot_be_read_every_id_counts(text: str) -> None:
    """Which of them is the last is not known."""
    assert last_build_ids(text) in ({A, B}, {A})
    assert A in (last_build_ids(text) or ())


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"builds_of": "something"}'])
def test_other_json_files_are_no_manifests(text: str) -> None:
    """A package's manifest.json names no AMI."""
    assert last_build_ids(text) is None


def test_a_plan_of_a_clean_up_protects_nothing() -> None:
    """It names what is to go; called release-plan.json it would keep all of it."""
    assert last_build_ids(json.dumps({"format": FORMAT, "verdicts": [{"image_id": A}]})) is None


def test_manifests_and_release_records_are_found_by_name(tmp_path: Path) -> None:
    """The one beside the template, and others that somebody keeps."""
    manifest = json.dumps({"builds": [_build(A)], "last_run_uuid": "1"})
    found = scanned(
        tree_of(
            tmp_path, **{"packer/manifest.json": manifest, "packer/release.json": f'{{"source": "{B}"}}', "x.json": C}
        )
    )

    assert named(found["manifests"]) == {A, B}


def _receipt(
    when: str, *changes: tuple[str, str | None, str], account: str = "1", region: str = "here", **more: Any
) -> str:
    listed = [{"address": address, "old": old, "new": new} for address, old, new in changes]
    return json.dumps({"when": when, "account": account, "region": region, "changes": listed} | more)


def test_of_receipts_the_newest_of_each_address_counts() -> None:
    """Live and the one to roll back to; older ones are history. The clock's zone must not matter."""
    texts = [
        ("3", _receipt("2026-01-01T00:30:00+09:00", ("a", C, D))),
        ("1", _receipt("2026-01-01T00:00:00Z", ("a", D, A), ("b", None, C))),
        ("2", _receipt("2026-02-01T00:00:00Z", ("a", A, B))),
    ]

    references = protected_by_receipts(texts)

    assert {(r.target, r.detail) for r in references} == {
        (B, "live at a by 2"),
        (A, "the one to roll back to at a by 2"),
        (C, "live at b by 1"),
    }


@pytest.mark.parametrize(
    "text",
    [
        f"{{cut {A} {B}",
        json.dumps({"when": "soon", "changes": [{"address": "a", "new": f"{A} {B}"}]}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [], "x": f"{A} {B}"}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [{"address": 3, "new": f"{A} {B}"}]}),
        json.dumps({"when": "2026-01-01T00:00:00Z", "changes": [{"address": "a", "new": None, "old": f"{A} {B}"}]}),
        json.dumps([A, B]),
    ],
)
def test_a_receipt_that_cannot_be_understood_protects_every_id_in_it(text: str) -> None:
    """It may be the newest one."""
    assert {r.target for r in protected_by_receipts([("x", text)])} == {A, B}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("receipts/2", {"region": "there"}),
        ("receipts/2", {"account": "2"}),
        ("dev/receipts/2", {}),
        ("s3://bucket/dev/2", {}),
    ],
    ids=["region", "account", "root module", "bucket prefix"],
)
def test_a_receipt_from_elsewhere_is_no_newer_one_of_the_same_address(name: str, other: dict[str, str]) -> None:
    """The module has the same address everywhere; one region's hand-over must not give up another's way back."""
    older = _receipt("2026-01-01T00:00:00Z", ("a", A, B))
    newer = _receipt("2026-02-01T00:00:00Z", ("a", C, D), **other)

    assert {r.target for r in protected_by_receipts([("receipts/1", older), (name, newer)])} == {A, B, C, D}


def _protected(*texts: str) -> set[str]:
    found = protected_by_receipts([(f"s3://b/receipts/{number}.json", text) for number, text in enumerate(texts)])
    return {reference.target for reference in found}


@pytest.mark.parametrize("member", ["key", "workspace", "bucket", "family"])
def test_every_state_keeps_its_own_pair(member: str) -> None:
    """Two workspaces share the folder beside the state: what staging tries must not give up prod's way back."""
    prod, staging = ({"backend": "s3", "key": "k", member: name} for name in ("prod", "staging"))

    assert _protected(
        _receipt("2026-01-01T00:00:00Z", ("a", A, B), state=prod),
        _receipt("2026-02-01T00:00:00Z", ("a", B, C), state=staging),
        _receipt("2026-03-01T00:00:00Z", ("a", C, D), state=staging),
    ) == {A, B, C, D}
    # One state's own history is let go of.
    assert _protected(
        _receipt("2026-01-01T00:00:00Z", ("a", A, B), state=prod),
        _receipt("2026-02-01T00:00:00Z", ("a", B, C), state=prod),
    ) == {B, C}


def test_a_state_that_is_none_protects_every_id() -> None:
    """Which history it belongs to cannot be told."""
    assert _protected(
        _receipt("2026-01-01T00:00:00Z", ("a", A, B), state="prod"), _receipt("2026-02-01T00:00:00Z", ("a", B, C))
    ) == {A, B, C}


def test_receipts_of_an_unknown_state_keep_the_pair_of_each_chain() -> None:
    """Version 0.1.0 wrote no state: an act that does not go on from where another one ended may be another state's."""
    prod, staging = _receipt("2026-01-01T00:00:00Z", ("a", A, B)), _receipt("2026-02-01T00:00:00Z", ("a", C, D))
    later = _receipt("2026-03-01T00:00:00Z", ("a", D, E))

    assert _protected(prod, staging) == {A, B, C, D}
    assert _protected(prod, staging, later) == {A, B, D, E}
    # The state's own receipts say nothing of whether the old ones are its.
    known = _receipt("2026-04-01T00:00:00Z", ("a", B, E), state={"backend": "local"})
    assert _protected(prod, known) == {A, B, E}


def test_two_first_acts_of_an_unknown_state_are_two_chains() -> None:
    """One that failed half-way may have left its AMI live; another environment's first apply is no sequel to it."""
    failed = _receipt("2026-01-01T00:00:00Z", ("a", None, A), status="failed")

    assert _protected(failed, _receipt("2026-02-01T00:00:00Z", ("a", None, B))) == {A, B}


@pytest.mark.parametrize("status", ["started", "failed"])
@pytest.mark.parametrize("went_on_from", [B, C])
def test_an_unsure_act_may_have_moved_or_not(status: str, went_on_from: str) -> None:
    """Either way the next act goes on from there: it is one chain, and its newest pair is what counts."""
    assert _protected(
        _receipt("2026-01-01T00:00:00Z", ("a", A, B)),
        _receipt("2026-02-01T00:00:00Z", ("a", B, C), status=status),
        _receipt("2026-03-01T00:00:00Z", ("a", went_on_from, D)),
    ) == {went_on_from, D}


def test_a_move_there_and_back_keeps_the_way_back() -> None:
    """The newest receipt of the address names the live AMI twice; a rollback goes past it."""
    state: dict[str, Any] = {"state": {"backend": "local"}}
    acts = [
        _receipt("2026-01-01T00:00:00Z", ("a", A, B), **state),
        _receipt("2026-02-01T00:00:00Z", ("a", B, C), **state),
        _receipt("2026-03-01T00:00:00Z", ("b", C, C), **state),
        _receipt("2026-04-01T00:00:00Z", ("a", C, C), **state),
    ]

    assert _protected(*acts) == {B, C}
    # What came with the environment is live, and what an act that failed came from is the way back.
    assert _protected(acts[0], _receipt("2026-05-01T00:00:00Z", ("a", D, D), **state)) == {A, B, D}
    unsure = _receipt("2026-02-02T00:00:00Z", ("a", C, D), status="failed", **state)
    assert _protected(*acts[:2], unsure, *acts[2:]) == {B, C, D}
    assert _protected(acts[2]) == {C}


def test_a_parameter_has_one_history() -> None:
    """A publication is about no state, and somebody may set it in between: all before was kept for ever."""
    ssm = "ssm:us-west-2:/gpu-ami/ami-id"

    assert _protected(
        _receipt("2026-01-01T00:00:00Z", (ssm, A, B), action="publish"),
        _receipt("2026-02-01T00:00:00Z", (ssm, C, D), action="publish"),
    ) == {C, D}


def test_receipts_of_one_folder_are_one_history(tmp_path: Path) -> None:
    """Else every AMI that was ever handed over would stay."""
    older = _receipt("2026-01-01T00:00:00Z", ("a", A, B))
    newer = _receipt("2026-02-01T00:00:00Z", ("a", B, C))

    found = scan(tree_of(tmp_path, **{"x/receipts/1.json": older, "x/receipts/2.json": newer}), state=lambda: None)

    assert {reference.target for source in found for reference in source.references} == {B, C}


def test_receipts_beside_the_state_count_too(tmp_path: Path) -> None:
    """A CI checkout has none of its own; whether the checkout's are of the same module is not known, so both count."""
    tree = tree_of(tmp_path, **{"terraform/receipts/1.json": _receipt("2026-01-01T00:00:00Z", ("a", None, A))})

    found = scanned(tree, receipts=lambda: [("s3://b/2.json", _receipt("2026-02-01T00:00:00Z", ("a", B, C)))])

    assert named(found["receipts"]) == {A, B, C}
    assert "live at a by s3://b/2.json" in {reference.detail for reference in found["receipts"].references}


def test_receipts_beside_the_state_that_cannot_be_read_fail(tmp_path: Path) -> None:
    """The AMI to roll back to may be in one of them."""

    def fail() -> list[tuple[str, str]]:
        msg = "AccessDenied"
        raise TerraformError(msg)

    found = scanned(tree_of(tmp_path, **{"receipts/1.json": "{}"}), receipts=fail)

    assert (found["receipts"].report.status, found["receipts"].report.error) == ("failed", "AccessDenied")


def test_receipts_are_found_in_their_folder(tmp_path: Path) -> None:
    """Committed beside the Terraform code."""
    found = scanned(
        tree_of(tmp_path, **{"terraform/receipts/1.json": _receipt("2026-01-01T00:00:00Z", ("a", None, A))})
    )

    assert named(found["receipts"]) == {A}
    assert found["manifests"].report.status == "skipped"


@st.composite
def _histories(draw: st.DrawFn) -> list[StoredReceipt]:
    """Applies of ever newer AMIs and rollbacks to where receipts lead, some of them cut short or in vain.

    The environment may get another address on the way, with its AMI or with another one.
    """
    found: list[StoredReceipt] = []
    live: str | None = draw(st.sampled_from([None, f"ami-{0:08x}"]))
    address, name = "a", "ce"
    state = StateIdentity(backend="local", workspace="default", account="1", region="here", family="f")
    for number in range(1, draw(st.integers(1, 9)) + 1):
        new: str | None = f"ami-{number:08x}"
        action: Action = draw(st.sampled_from(["apply", "rollback"]))
        before, address = address, draw(st.sampled_from([address, address, address, f"{address}{number}"]))
        if action == "rollback":
            address, new = before, steps_back(found, {before: live}, names={before: name})[0].back
        elif address != before:
            new = draw(st.sampled_from([live, new]))
        if new in (None, live) and address == before:
            continue
        status: Status = draw(st.sampled_from(["applied", "applied", "failed", "started"]))
        moved = None if address == before else before
        act = Receipt(
            when=datetime(2026, 1, number, tzinfo=timezone.utc),
            who="me",
            account="1",
            region="here",
            changes=(Change(address=address, old=live, new=new, name=name, previous_address=moved),),
            action=action,
            status=status,
            state=state,
        )
        found.append(StoredReceipt(Path(f"{number}.json"), act))
        # What was cut short, or has failed, may have moved the AMI or not.
        live = new if status == "applied" else draw(st.sampled_from([live, new]))
    return found


@given(_histories(), st.booleans())
def test_what_a_rollback_would_go_to_is_kept(history: list[StoredReceipt], is_spread: bool) -> None:
    """After a rollback the receipt's old AMI is the bad one, and the way back is the AMI below the live one."""
    folders = ["x/receipts", "s3://b/receipts"] if is_spread else ["x/receipts"]
    texts = [(f"{folders[at % len(folders)]}/{one.path}", encode(one.receipt)) for at, one in enumerate(history)]
    kept = {r.target for r in protected_by_receipts(texts)}

    for last in history[-1].receipt.changes if history else ():
        for live in (last.new, last.old) if history[-1].receipt.status != "applied" else (last.new,):
            (step,) = steps_back(history, {last.address: live}, names={last.address: "ce"})
            assert {step.back} - {None} <= kept, step
