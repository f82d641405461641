"""What the root module says of itself: `terraform output -json`."""

from __future__ import annotations

import json

from gpu_ami.errors import TerraformError


def parse(text: str) -> dict[str, str]:
    """Return name to value of the outputs that are strings; secret ones and those without a value are left out.

    Raises:
        TerraformError: *text* is not what Terraform prints.
    """
    try:
        document = json.loads(text)
        rows = {name: (row["value"], row.get("sensitive", False)) for name, row in document.items()}
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as exc:
        msg = f"`terraform output -json` printed {text[:60]!r}, which are no outputs: run it there to see why."
        raise TerraformError(msg) from exc
    return {name: value for name, (value, secret) in rows.items() if isinstance(value, str) and not secret}
