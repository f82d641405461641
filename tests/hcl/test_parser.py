"""The gateway to python-hcl2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpu_ami.hcl import parser


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_get_their_own_values(hurried_threads: None) -> None:
    """Several checks of one command read variables side by side; a wrong value would raise nothing."""
    text = "".join(
        f'variable "v{n}" {{\n  type    = list(string)\n  default = ["{n}", "${{x.y}}"]\n}}\n' for n in range(60)
    )
    alone = parser.values(text)

    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(parser.values, [text] * 12))

    assert found == [alone] * 12
