"""What a bake costs, what it saves, and when it pays."""

from __future__ import annotations

from gpu_ami.cost.line import BuildPrice, build_line, storage_usd_per_month

__all__ = ["BuildPrice", "build_line", "storage_usd_per_month"]
