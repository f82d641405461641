"""The gateway to python-hcl2, one caller at a time.

Its parser keeps state between calls: two threads at once get wrong values and no error (8.1.4, seen).
"""

from __future__ import annotations

import threading
from typing import Any

_ONE_AT_A_TIME = threading.Lock()


def values(text: str) -> dict[str, Any]:
    """Return *text* as plain values; expressions stay strings like ``"${var.x}"``.

    Raises:
        lark.exceptions.LarkError: It is not HCL.
    """
    import hcl2

    options = hcl2.SerializationOptions(strip_string_quotes=True, with_comments=False, explicit_blocks=False)
    with _ONE_AT_A_TIME:
        found: dict[str, Any] = hcl2.loads(text, serialization_options=options)
    return found


def tree(text: str) -> Any:
    """Return python-hcl2's syntax tree of *text*, whose tokens carry their positions.

    Raises:
        lark.exceptions.LarkError: It is not HCL.
    """
    import hcl2

    with _ONE_AT_A_TIME:
        return hcl2.parses_to_tree(text)
