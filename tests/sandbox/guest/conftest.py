"""A guest to log in to, a small endpoint behind it, and an instance's files for tests that need no SSH."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_ami_sandbox.guest import Builder, machine
from gpu_ami_sandbox.guest.programs import systemctl
from gpu_ami_sandbox.guest.programs.system import System
from gpu_ami_sandbox.guest.userdata import UserData
from tests.sandbox.guest.parts import REGION, Client, Endpoint, Inside, Watched, World, running_guest


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    """An HTTP server on loopback that answers instead of the local AWS."""
    here = Endpoint()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.seen.append(self.path)
            status, body = here.answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        here.port = server.server_address[1]
        yield here
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def world(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A guest for the tests of one module."""
    with running_guest(tmp_path_factory.mktemp("guest"), endpoint.port) as running:
        yield running


@pytest.fixture
def own_world(endpoint: Endpoint, tmp_path: Path) -> Iterator[World]:
    """A guest for one test, which may stop it."""
    with running_guest(tmp_path / "guest", endpoint.port) as running:
        yield running


@pytest.fixture
def client(world: World) -> Client:
    """A client of a fresh instance."""
    return world.add()


@pytest.fixture
def inside(tmp_path: Path, endpoint: Endpoint) -> Callable[..., Inside]:
    """Make views of one fresh instance, as root or as another user."""
    root = tmp_path / "root"
    builder = Builder("i-0123456789abcdef0", "ssh-ed25519 AAAA test")
    machine.make_root(root, builder, UserData(), tools=["bash", "true"], region=REGION)
    (root / "tmp").rmdir()
    machine.make_memory(root / "run", root / "tmp")
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/hostname").write_text("ip-10-0-1-2\n")
    profile = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{endpoint.port}", "AWS_REGION": REGION}
    (root / "usr/libexec/guest/instance.json").write_text(json.dumps(profile))
    systemctl.boot(System(root, env={}))

    def view(user: str = "root", *, stdin: str = "", **env: str) -> Inside:
        out, err = io.StringIO(), io.StringIO()
        system = Watched(root, env={"USER": user, "HOME": "/root", **env}, stdin=io.StringIO(stdin), out=out, err=err)
        system.became = []
        return Inside(system, out, err, system.became)

    return view
