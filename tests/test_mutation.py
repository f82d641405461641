"""How mutants of two trees are compared: a survivor that only moved is not new, and a new one is never taken for it."""

from __future__ import annotations

import pytest

from tests.mutation import change_of, new_survivors, short_name

THEN = {"history._pile 14": "- a\n+ b", "guard.judge 2": "- c\n+ d"}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gpu_ami.deploy.guard.x_judge__mutmut_12", "guard.judge 12"),
        ("gpu_ami.deploy.guard.x__why__mutmut_1", "guard._why 1"),
        ("gpu_ami.cleanup.decide.xǁDecisionǁdocument__mutmut_3", "decide.Decision.document 3"),
    ],
)
def test_a_mutants_name_says_nothing_of_its_folder(name: str, short: str) -> None:
    """The guard moves to another folder; its survivors stay the same ones."""
    assert short_name(name) == short


def test_a_change_is_its_lines_alone() -> None:
    """Line numbers and what is around it move with every edit."""
    diff = "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n def f():\n-    return   1\n+    return   2\n"

    assert change_of(diff) == "- return 1\n+ return 2"


@pytest.mark.parametrize(
    ("name", "change", "is_new"),
    [
        ("guard.judge 2", "- other\n+ lines", False),
        ("history._amis 14", "- a\n+ b", False),
        ("guard._amis 14", "- a\n+ b", True),
        ("guard.judge 3", "- e\n+ f", True),
    ],
    ids=["same name", "renamed function", "another module's change", "new"],
)
def test_a_survivor_is_new_unless_its_name_or_its_change_is_known(name: str, change: str, *, is_new: bool) -> None:
    """A renamed function must not hide a test that got lost, nor be taken for one."""
    assert bool(new_survivors({name: change}, THEN)) is is_new
