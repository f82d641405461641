"""A local AWS with a demo account and a build instance to log in to: everything runs, nothing is charged."""

from __future__ import annotations

from gpu_ami_sandbox.session import Sandbox, open_sandbox, serve

__all__ = ["Sandbox", "open_sandbox", "serve"]
