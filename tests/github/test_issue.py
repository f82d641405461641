"""One issue, not one a night."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.github.issue import report, report_members
from tests.github.conftest import GitHub


def plan(*, delete: int = 0, failed: bool = False, usd: float | None = 4.2) -> dict[str, Any]:
    """Return a clean-up plan's document."""
    verdicts = [
        {"image_id": f"ami-{number}", "region": "eu-west-1", "created": "2025-01-02T00:00:00Z", "action": "delete"}
        for number in range(delete)
    ]
    kept = {"image_id": "ami-kept", "region": "eu-west-1", "created": "2026-01-02T00:00:00Z", "action": "keep"}
    bad = [{"name": "batch", "region": "eu-west-1", "status": "failed", "error": "AccessDenied"}] if failed else []
    return {
        "totals": {"delete": delete, "keep": 1, "gib": 28.0 * delete, "usd_per_month": usd},
        "sources": [{"name": "instances", "region": "eu-west-1", "status": "ok"}, *bad],
        "verdicts": [*verdicts, kept],
    }


def test_the_first_plan_with_work_opens_an_issue(github: GitHub) -> None:
    """It says how much, which, and what to do."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/12\n")

    assert report(plan(delete=2), github.runner, github.clone) == "12"
    text = (github.clone / "cleanup-issue.md").read_text()
    assert "Nothing needs 2 AMIs (56 GiB, $4.20 a month); 1 is kept." in text
    assert "| ami-0 | eu-west-1 | 2025-01-02 | delete |" in text
    assert "ami-kept" not in text
    assert "actions/runs/7" in text


def test_one_ami_is_no_plural(github: GitHub) -> None:
    """The everyday case of an account that is cleaned up each month."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/12\n")

    report(plan(delete=1), github.runner, github.clone)

    assert "Nothing needs 1 AMI (28 GiB" in (github.clone / "cleanup-issue.md").read_text()


def test_the_next_one_updates_it(github: GitHub) -> None:
    """Somebody who watches it is not told every night."""
    (github.answers / "issue-list").write_text("12\n")

    assert report(plan(delete=2), github.runner, github.clone) == "12"
    assert len(github.called("issue edit 12 --body-file")) == 1
    assert github.called("issue create") == github.called("issue close") == []


def test_nothing_left_to_remove_closes_it(github: GitHub) -> None:
    """An open issue means work."""
    (github.answers / "issue-list").write_text("12\n")

    assert report(plan(), github.runner, github.clone) == "12"
    assert len(github.called("issue close 12")) == 1


def test_nothing_to_say_makes_no_issue(github: GitHub) -> None:
    """A healthy account stays quiet."""
    assert report(plan(), github.runner, github.clone) == ""
    assert github.called("issue create") == []


def test_what_could_not_be_looked_at_is_work(github: GitHub) -> None:
    """While a permission is missing nothing is ever cleaned up, and nobody would notice."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/13\n")
    bare = github.runner.__class__(github.runner.summary, github.runner.outputs)

    assert report(plan(failed=True, usd=None), bare, github.clone) == "13"
    text = (github.clone / "cleanup-issue.md").read_text()
    assert "- batch (eu-west-1): AccessDenied" in text
    assert "a month" not in text


def test_what_aws_says_is_no_markup(github: GitHub) -> None:
    """The issue is the team's word: a resource's name must put no link, picture or row into it."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/14\n")
    document = plan(delete=1, failed=True)
    document["sources"][-1]["error"] = "no\n| x | <img src=y> [z](q) `r`"
    document["verdicts"][0]["region"] = "a|b"

    report(document, github.runner, github.clone)

    text = (github.clone / "cleanup-issue.md").read_text()
    assert "- batch (eu-west-1): no\\\\x0a\\| x \\| \\<img src=y> \\[z](q) \\`r\\`\n" in text
    assert "| ami-0 | a\\|b | 2025-01-02 | delete |" in text


def test_all_that_a_role_may_not_read_is_one_line(github: GitHub) -> None:
    """After an upgrade that reads more; the issue is read on a phone."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/13\n")
    document = plan(failed=True)
    for name, action in (("pcs-x", "pcs:ListClusters"), ("emr-x", "elasticmapreduce:ListClusters")):
        source = {"name": name, "region": "eu-west-1", "status": "failed", "error": "AccessDenied", "denied": action}
        document["sources"].append(source)

    report(document, github.runner, github.clone)

    text = (github.clone / "cleanup-issue.md").read_text()
    assert "- the role may not do elasticmapreduce:ListClusters, pcs:ListClusters (emr-x, pcs-x): docs" in text
    assert text.count("AccessDenied") == 1


def test_what_is_new_at_aws_opens_an_issue(github: GitHub) -> None:
    """A service that nobody looks through can lose somebody their AMI: its members are named, and what to do."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/14\n")
    document = {"botocore": "1.50.0", "new": ["pcs GetNodeImage NodeImage.amiId", "ec2 DescribeX X.ImageId"]}

    assert report_members(document, github.runner, github.clone) == "14"
    text = (github.clone / "members-issue.md").read_text()
    assert "botocore 1.50.0 has 2 members" in text
    assert "- pcs GetNodeImage NodeImage.amiId\n- ec2 DescribeX X.ImageId\n" in text
    assert "gpu-ami:keep" in text
    assert "actions/runs/7" in text
    assert len(github.called("issue list --label gpu-ami-members")) == 1
    assert len(github.called("issue create --title New at AWS")) == 1


def test_a_long_list_of_what_is_new_is_cut_off_and_counted(github: GitHub) -> None:
    """GitHub refuses a text without end, and then nobody hears anything."""
    (github.answers / "issue-list").write_text("14\n")
    bare = github.runner.__class__(github.runner.summary, github.runner.outputs)

    report_members({"botocore": "2", "new": [f"s Get{n} S.imageId" for n in range(5000)]}, bare, github.clone)

    text = (github.clone / "members-issue.md").read_text()
    assert "- and 4800 more" in text
    assert len(text) < 60_000


def test_nothing_new_closes_the_issue_and_makes_none(github: GitHub) -> None:
    """Once each member has its row there is nothing to do."""
    assert report_members({"botocore": "1", "new": []}, github.runner, github.clone) == ""
    (github.answers / "issue-list").write_text("14\n")

    assert report_members({"botocore": "1", "new": []}, github.runner, github.clone) == "14"
    assert len(github.called("issue close 14 --comment Nothing is new at AWS any more.")) == 1
    assert github.called("issue create") == []


@pytest.mark.parametrize("document", [{}, {"new": None}, {"new": "pcs"}, {"sources": []}])
def test_another_document_is_not_taken_for_nothing_new(github: GitHub, document: dict[str, Any]) -> None:
    """It would close the issue that says what is missing."""
    with pytest.raises(UsageError, match="has no list"):
        report_members(document, github.runner, github.clone)
    assert not github.calls.exists()


def test_each_of_several_families_has_an_issue(github: GitHub) -> None:
    """Else the second family's plan takes the place of the first one's, or closes its issue."""
    (github.answers / "issue-create").write_text("https://github.example/team/ami/issues/12\n")

    report(plan(delete=2), github.runner, github.clone, family="video")

    (created,) = github.called("issue", "create")
    assert "--title AMIs that nothing needs, of video --label cleanup-video" in created
