"""The names that people give to values inside a file."""

from __future__ import annotations

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.hcl import parse_path, show_path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("gpu_ami_id", ("gpu_ami_id",)),
        ("variable.gpu_ami_id.default", ("variable", "gpu_ami_id", "default")),
        ("resource.a.b.block[1].image_id", ("resource", "a", "b", "block", 1, "image_id")),
        ('amis["ap-northeast-2"]', ("amis", "ap-northeast-2")),
        ("amis.ap-northeast-2", ("amis", "ap-northeast-2")),
        ('resource.a."b.c".x', ("resource", "a", "b.c", "x")),
        ("변수", ("변수",)),
    ],
)
def test_a_path_is_read_and_shown_again(text: str, path: tuple[str | int, ...]) -> None:
    """What a message shows can be typed."""
    assert parse_path(text) == path
    assert parse_path(show_path(path)) == path


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "a[", "a[x]", "[0]", "a]", 'a["x', "a\nb", "a[-1]"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """A slip must not lead to another value."""
    with pytest.raises(UsageError, match="is not a variable or a path"):
        parse_path(text)
