"""Here the parser itself is tested."""

from __future__ import annotations

import inspect

import pytest

from gpu_ami.hcl import parser


@pytest.fixture(autouse=True)
def parsed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is parsed, however often: what parses it is what these tests are about."""
    monkeypatch.setattr(parser, "values", inspect.unwrap(parser.values))
