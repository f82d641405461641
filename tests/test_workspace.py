"""Where things lie."""

from __future__ import annotations

from pathlib import Path

from gpu_ami.workspace import auto_variables


def test_packers_own_files_come_in_packers_order(tmp_path: Path) -> None:
    """HCL by name, then JSON by name: a JSON file wins whatever its letters. Another order compares wrong values."""
    for name in (
        "z.auto.pkrvars.hcl",
        "B.auto.pkrvars.hcl",
        "a.auto.pkrvars.hcl",
        "a.auto.pkrvars.json",
        "0.pkrvars.hcl",
    ):
        (tmp_path / name).write_text("")
    (tmp_path / ".auto.pkrvars.json").write_text("{}")
    (tmp_path / "folder.auto.pkrvars.hcl").mkdir()

    assert [path.name for path in auto_variables(tmp_path)] == [
        "B.auto.pkrvars.hcl",
        "a.auto.pkrvars.hcl",
        "z.auto.pkrvars.hcl",
        ".auto.pkrvars.json",
        "a.auto.pkrvars.json",
    ]
    assert auto_variables(tmp_path / "none") == ()
