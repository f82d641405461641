"""The guest of a user who is not root: the isolation is the same, and so is what scripts see."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

from gpu_ami_sandbox.guest import interpreter

_NOBODY = 65534
_MOUNTED = Path("/mnt")

_PROGRAM = """\
import os, sys
from pathlib import Path
from tests.sandbox.guest.parts import running_guest

assert os.getuid() != 0 and open("/proc/self/status").read().split("CapEff:")[1].split()[0].strip("0") == ""
with running_guest(Path(sys.argv[1]), 40002) as world:
    client = world.add(b"#!/bin/bash\\nsystemctl mask --now ecs.service\\n")
    for command in (
        "sudo id -u; systemctl is-enabled ecs; sudo chown ec2-user /etc/hosts && echo owned",
        "sudo dnf -y install awscli-2 jq >/dev/null; aws --version; echo '{\\"a\\": 1}' | jq -c .",
        "echo x | sudo tee /usr/lib64/x /usr/libexec/guest/x; sudo touch /etc/mine && stat -c %u /etc/mine",
        "mkdir shut && chmod 0 shut",
    ):
        answer = client.run(command)
        print(answer.status, answer.text.split(), flush=True)
with running_guest(Path(sys.argv[1]), 40002) as world:  # removes the closed folder, too
    print(world.add().run("ls -d shut").status)
"""


def test_it_works_without_root(tmp_path: Path) -> None:
    """Most people are not root; as root this test becomes nobody, as others it simply runs."""
    home = tmp_path / "home"
    home.mkdir()
    repository, site = Path(__file__).parents[3], Path(sysconfig.get_path("purelib"))
    command, environment = [sys.executable], dict(os.environ)
    if os.geteuid() == 0:
        os.chown(home, _NOBODY, _NOBODY)
        command = _as_nobody(home=home, repository=repository, site=site)
        home, repository, site = _MOUNTED / "home", _MOUNTED / "repository", _MOUNTED / "site"
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}
        environment["XDG_CACHE_HOME"] = str(home)
    paths = [str(repository), f"{repository}/scripts", str(site)]

    done = subprocess.run(
        [*command, "-c", textwrap.dedent(_PROGRAM), str(home / "guest")],
        env=environment | {"PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    first, second, third, fourth, again = done.stdout.splitlines()
    assert first == "0 ['0', 'masked', 'owned']"
    assert second.startswith("0 ['aws-cli/")
    assert second.endswith("""'{"a":1}']""")
    assert third.startswith("0 ")
    assert third.count("'Read-only'") == 2
    assert "'0'" in third
    assert fourth == "0 []"
    assert again == "2"


def _as_nobody(**folders: Path) -> list[str]:
    """Return the arguments that start this Python as nobody.

    Nobody may not be able to look into root's home, a private temporary folder or the checkout: each of *folders*, and
    the Python, is bound to a folder of its name in a mount namespace of the test's own.
    """
    executable = interpreter.python_binds()[0].source
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--inh-caps=-all"]
    binds = {name: str(folder) for name, folder in folders.items()} | {"python": str(executable.parent.parent)}
    lines = [f"mount -t tmpfs -o mode=755 tmpfs {_MOUNTED}"]
    for name, folder in binds.items():
        lines.append(f"mkdir {_MOUNTED}/{name} && mount --bind {shlex.quote(folder)} {_MOUNTED}/{name}")
    python = _MOUNTED / "python" / "bin" / executable.name
    lines.append(f'LD_LIBRARY_PATH={_MOUNTED}/python/lib exec {shlex.join(drop)} {python} "$@"')
    return ["unshare", "--mount", "sh", "-c", " && ".join(lines), "sh"]
