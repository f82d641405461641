"""Flags and settings, made into a policy."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gpu_ami.aws.references.registry import SOURCES
from gpu_ami.cleanup.policy import Flags, Scope, left_out, policy_from, policy_of
from gpu_ami.errors import UsageError
from gpu_ami.settings import EMBEDDED, Cleanup


def test_without_flags_the_settings_decide() -> None:
    """A bare `invoke cleanup` takes this pipeline's AMIs, 30 days and 3."""
    policy = policy_from(EMBEDDED, Flags())

    assert (policy.older_than, policy.keep, policy.mode) == (timedelta(days=30), 3, "delete")
    assert policy.scope == Scope(family=EMBEDDED.family)
    assert policy.max_deletions is None


def test_flags_go_before_settings() -> None:
    """What is typed last counts."""
    settings = msgspec.structs.replace(EMBEDDED, cleanup=Cleanup(older_than="7d", keep=5, max_deletions=9))

    assert policy_from(settings, Flags()).max_deletions == 9
    flags = Flags(older_than="2w", keep="0", max_deletions="4", mode="disable", template_versions="2")
    policy = policy_from(settings, flags)
    assert (policy.older_than, policy.keep, policy.max_deletions) == (timedelta(weeks=2), 0, 4)
    assert (policy.mode, policy.template_versions) == ("disable", 2)


@pytest.mark.parametrize(
    "text", ["0d", "-1d", "30", "1mo", "", "d", "30 days", "1.5d", "9999999w", "\uff11d", "1d1h", "3654d", "nan"]
)
def test_an_age_in_a_wrong_form_is_refused(text: str) -> None:
    """A slip in --older-than could mean every AMI; none of these may be guessed at."""
    with pytest.raises(UsageError, match="--older-than"):
        policy_from(EMBEDDED, Flags(older_than=text))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"keep": "-1"}, "--keep"),
        ({"keep": "three"}, "--keep"),
        ({"keep": "1.5"}, "--keep"),
        ({"keep": "9999999"}, "--keep"),
        ({"max_deletions": "0"}, "--max-deletions"),
        ({"template_versions": "0"}, "--template-versions"),
        ({"mode": "remove"}, "delete, disable, deprecate"),
        ({"tag": ("team",)}, "KEY=VALUE"),
        ({"tag": ("=x",)}, "KEY=VALUE"),
        ({"tag": ("a=1", "a=2")}, "twice"),
        ({"name": ""}, "--name is empty"),
        ({"name": "x", "all_owned": True}, "--all-owned"),
        ({"tag": ("a=1",), "all_owned": True}, "--all-owned"),
        ({"skip_source": ("nonsense",)}, "not a source"),
        ({"usage_reports": True}, "add --include-shared, or leave it out"),
        (
            {"usage_reports": True, "include_shared": True, "skip_source": ("launch-permissions",)},
            "leave out --skip-source launch-permissions",
        ),
        (
            {"usage_reports": True, "include_shared": True, "skip_source": ("receipts", "public-snapshots")},
            "leave out --skip-source public-snapshots",
        ),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused(flags: dict[str, Any], message: str) -> None:
    """Each error names the flag and what would do."""
    with pytest.raises(UsageError, match=message):
        policy_from(EMBEDDED, Flags(**flags))


@pytest.mark.parametrize("name", ["instances", "launch-templates", "auto-scaling", "batch", "parameters"])
def test_the_essential_sources_cannot_be_skipped(name: str) -> None:
    """Without one of these five, AMIs in use would go."""
    with pytest.raises(UsageError, match="refused"):
        policy_from(EMBEDDED, Flags(skip_source=(name,)))


def test_every_other_source_can_be_skipped() -> None:
    """An account without Image Builder permissions must still be cleanable, knowingly."""
    names = [source.name for source in SOURCES if not source.is_essential]

    assert policy_from(EMBEDDED, Flags(skip_source=(*names, "receipts"))).skip_sources == {*names, "receipts"}
    assert len({source.name for source in SOURCES}) == len(SOURCES)


def test_the_settings_leave_sources_out_as_flags_do() -> None:
    """A role that may not read a service is the same role every night; sweep has no flag for it."""
    chosen = msgspec.structs.replace(EMBEDDED.cleanup, skip_sources=("image-builder", "receipts"))
    settings = msgspec.structs.replace(EMBEDDED, cleanup=chosen)

    policy = policy_from(settings, Flags(skip_source=("fleets",)))

    assert policy.skip_sources == {"image-builder", "receipts", "fleets"}
    assert left_out(settings) == {"image-builder", "receipts"}


@pytest.mark.parametrize("name", ["launch-permissions", "public-snapshots"])
def test_the_settings_do_not_undo_usage_reports(name: str) -> None:
    """Unseen, a shared AMI needs no report and goes; the error says where the name stands."""
    chosen = msgspec.structs.replace(EMBEDDED.cleanup, skip_sources=("receipts", name))
    settings = msgspec.structs.replace(EMBEDDED, cleanup=chosen)
    flags = Flags(include_shared=True, usage_reports=True)

    with pytest.raises(UsageError, match=r"take it out of cleanup\.skip_sources in pipeline\.yaml\.$") as told:
        policy_from(settings, flags)
    assert name in str(told.value)

    assert policy_from(settings, Flags(include_shared=True)).skip_sources == {"receipts", name}
    document = policy_from(EMBEDDED, flags).document() | {"skip_sources": [name]}
    with pytest.raises(UsageError, match=rf"{name} finds: take it out of the plan's skip_sources"):
        policy_of(document)


@pytest.mark.parametrize("name", ["batch", "nonsense"])
def test_the_settings_may_leave_out_no_more_than_flags(name: str) -> None:
    """And the error says where the name stands."""
    chosen = msgspec.structs.replace(EMBEDDED.cleanup, skip_sources=(name,))

    with pytest.raises(UsageError, match=r"^cleanup\.skip_sources in pipeline\.yaml: "):
        left_out(msgspec.structs.replace(EMBEDDED, cleanup=chosen))


@pytest.mark.parametrize(
    ("flags", "inside", "outside"),
    [
        ({"name": "web-*"}, ("web-1", {}), ("db-1", {})),
        ({"tag": ("a=1", "b=2")}, ("x", {"a": "1", "b": "2"}), ("x", {"a": "1"})),
        ({"name": "gpu [v1] *"}, ("gpu [v1] 2", {}), ("gpu v 2", {})),
        ({"name": "[!a]?"}, ("[!a]b", {}), ("bb", {})),
        ({"name": "w*", "tag": ("a=1",)}, ("web", {"a": "1"}), ("web", {"a": "2"})),
        ({}, ("x", {"gpu-ami:family": "gpu-batch"}), ("gpu-batch-1", {})),
    ],
)
def test_the_scope_covers_what_was_asked_for(
    flags: dict[str, Any], inside: tuple[str, dict[str, str]], outside: tuple[str, dict[str, str]]
) -> None:
    """Nothing outside the scope is ever touched."""
    scope = policy_from(EMBEDDED, Flags(**flags)).scope

    assert scope.covers(*inside)
    assert not scope.covers(*outside)


EVERY_FLAG = Flags(
    older_than="36h",
    keep="0",
    name="web-*",
    tag=("a=1", "b="),
    mode="disable",
    include_shared=True,
    usage_reports=True,
    max_deletions="4",
    skip_source=("receipts", "aws-backup"),
    allow_no_references=True,
    template_versions="2",
)


@pytest.mark.parametrize("flags", [Flags(), Flags(all_owned=True), EVERY_FLAG], ids=["none", "all owned", "every"])
def test_a_policy_comes_back_from_its_document(flags: Flags) -> None:
    """A saved plan is carried out by the policy that made it."""
    policy = policy_from(EMBEDDED, flags)

    assert policy_of(json.loads(json.dumps(policy.document()))) == policy


@pytest.mark.parametrize(
    "change",
    [
        {"older_than_s": -(10**6)},
        {"older_than_s": 0},
        {"older_than_s": 3601},
        {"older_than_s": "86400"},
        {"older_than_s": 10**10},
        {"keep": -100},
        {"keep": True},
        {"keep": 2.5},
        {"keep": None},
        {"template_versions": -3},
        {"template_versions": 0},
        {"max_deletions": -1},
        {"skip_sources": ["instances"]},
        {"skip_sources": ["batch", "receipts"]},
        {"skip_sources": ["nonsense"]},
        {"skip_sources": "batch"},
        {"mode": None},
        {"mode": "explode"},
        {"include_shared": "false"},
        {"allow_no_references": 1},
        {"usage_reports": True},
        {"usage_reports": "true", "include_shared": True},
        {"usage_reports": 1, "include_shared": True},
        {"usage_reports": True, "include_shared": True, "skip_sources": ["launch-permissions"]},
        {"scope": {"family": 3, "name": None, "tags": {}}},
        {"scope": {"family": None, "name": "", "tags": {}}},
        {"scope": {"family": None, "name": None, "tags": {"a": 1}}},
        {"scope": {"family": None, "name": None, "tags": {"": "1"}}},
        {"scope": {"family": None, "name": None}},
        {"something": "new"},
    ],
    ids=str,
)
def test_a_policy_that_no_flags_could_make_is_refused(change: dict[str, Any]) -> None:
    """A plan's file can be edited; what no flag may do, such as not to ask Batch, it must not do either."""
    document = policy_from(EMBEDDED, Flags()).document()

    with pytest.raises((UsageError, ValueError, LookupError, TypeError)):
        policy_of(document | change)


def test_all_owned_covers_everything() -> None:
    """Said explicitly, every own AMI may be considered."""
    assert policy_from(EMBEDDED, Flags(all_owned=True)).scope.covers("anything", {})
