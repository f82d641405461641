"""What one run of the command line opens and takes away again."""

from __future__ import annotations

import io
from pathlib import Path

from gpu_ami.console import Console
from gpu_ami.invocation import Invocation
from gpu_ami.options import Options


def test_a_private_file_is_its_owner_s_alone_and_ends_with_the_run(tmp_path: Path) -> None:
    """A presigned URL goes to Packer by it: nobody else reads it, and it does not stay."""
    run = Invocation(tmp_path, Options(), Console("json", err=io.StringIO()))

    path = run.private_file("given.pkrvars.hcl", "secret\n")

    assert path.read_text() == "secret\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert tmp_path not in path.parents, "not in the repository, where it could be committed"
    run.close()
    assert not path.parent.exists()
