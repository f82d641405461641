"""What the guest's tests are made of: an endpoint, an SSH client, an instance seen from inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from gpu_ami_sandbox.guest import Builder, Guest
from gpu_ami_sandbox.guest.builder import Gpus
from gpu_ami_sandbox.guest.programs.system import System

T = TypeVar("T")

REGION = "ap-northeast-2"
ECR = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"


def sha256(content: bytes) -> str:
    """Return the digest as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Endpoint:
    """Emulates the local AWS: a greeting at any path, and a registry with a few repositories.

    Attributes:
        port: Where it listens.
        seen: Paths requested so far.
        content: Answers of the registry by path below ``/v2/``.
        gone: Paths that are answered with status 404 and these bytes.
    """

    port: int = 0
    seen: list[str] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    gone: dict[str, bytes] = field(default_factory=dict)

    def add_image(self, repository: str, tag: str, layers: list[bytes], *, sent: list[bytes] | None = None) -> str:
        """Add an image whose registry sends the bytes *sent* instead of *layers*; return its digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}, "for": tag}).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "config": {"digest": sha256(config), "size": len(config)},
                "layers": [{"digest": sha256(layer), "size": len(layer)} for layer in layers],
            }
        ).encode()
        for layer, body in zip(layers, sent or layers, strict=True):
            self.content[f"{repository}/blobs/{sha256(layer)}"] = body
        self.content[f"{repository}/blobs/{sha256(config)}"] = config
        self.content[f"{repository}/manifests/{tag}"] = manifest
        self.content[f"{repository}/manifests/{sha256(manifest)}"] = manifest
        return sha256(manifest)

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Return status and body, as ECR answers."""
        if not path.startswith("/v2/"):
            return 200, f"hello from {path}".encode()
        password = base64.b64decode(authorization.removeprefix("Basic ")).decode().removeprefix("AWS:")
        if password != "secret":
            error = {"code": "DENIED", "message": "Your authorization token has expired. Reauthenticate and try again."}
            return 401, json.dumps({"errors": [error]}).encode() if password == "expired" else b"Not Authorized"
        requested = path.removeprefix("/v2/")
        if not requested:
            return 200, b"{}"
        if requested in self.gone:
            return 404, self.gone[requested]
        if requested in self.content:
            return 200, self.content[requested]
        repository = requested.partition("/manifests/")[0].partition("/blobs/")[0]
        known = any(path.startswith(f"{repository}/") for path in self.content)
        error = (
            {"code": "MANIFEST_UNKNOWN", "message": "Requested image not found"}
            if known
            else {"code": "NAME_UNKNOWN", "message": f"The repository with name '{repository}' does not exist"}
        )
        return 404, json.dumps({"errors": [error]}).encode()


@dataclass(frozen=True)
class Answer:
    """What a command over SSH left."""

    status: int | None
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.stdout + self.stderr


class Client:
    """An SSH client for tests: one loop, one connection for each command unless a test opens its own."""

    def __init__(self, guest: Guest, key: asyncssh.SSHKey) -> None:
        """Log in to *guest* with *key*."""
        self.guest, self.key = guest, key
        self.loop = asyncio.new_event_loop()

    def connect(self, **options: Any) -> Any:
        """Return a connection, to be used with ``async with``."""
        known: dict[str, Any] = {"username": "ec2-user", "client_keys": [self.key], "known_hosts": None, "config": None}
        return asyncssh.connect("127.0.0.1", self.guest.port, **known | {"agent_path": None} | options)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* to its end."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 300))

    def run(self, command: str, *, stdin: bytes = b"", **options: Any) -> Answer:
        """Run *command* and return what it left."""
        return self.run_all([command], stdin=stdin, **options)[0]

    def run_all(self, commands: list[str], *, stdin: bytes = b"", **options: Any) -> list[Answer]:
        """Run *commands* at the same time on one connection."""

        async def one(connection: Any, command: str) -> Answer:
            done = await connection.run(command, input=stdin, encoding=None, **options)
            return Answer(done.exit_status, done.stdout.decode(), done.stderr.decode())

        async def work() -> list[Answer]:
            async with self.connect() as connection:
                return list(await asyncio.gather(*(one(connection, command) for command in commands)))

        return self.do(work())


@dataclass
class World:
    """A started guest and the instances that can be logged in to."""

    guest: Guest
    home: Path
    builders: list[Builder]
    clients: list[Client]

    def add(self, user_data: bytes = b"", parent: str = "", base: str = "", gpus: Gpus | None = None) -> Client:
        """Add an instance, of an AMI with the name *base*, with a key of its own; return a client that has the key."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        number = f"i-{len(self.builders):017x}"
        self.builders.insert(0, Builder(number, key.export_public_key().decode(), user_data, parent, base, gpus))
        self.clients.append(Client(self.guest, key))
        return self.clients[-1]

    def root(self, client: Client) -> Path:
        """Return the root of the instance that *client* logs in to."""
        requested = client.key.export_public_key().decode()
        return self.guest.root_of(next(b.instance_id for b in self.builders if b.public_key == requested))


@contextlib.contextmanager
def running_guest(home: Path, endpoint_port: int) -> Iterator[World]:
    """Start a guest for the block."""
    builders: list[Builder] = []
    guest = Guest(home=home, endpoint_port=endpoint_port, region=REGION, builders=lambda: list(builders))
    guest.start()
    world = World(guest, home, builders, [])
    try:
        yield world
    finally:
        guest.stop()
        for client in world.clients:
            client.loop.close()


@dataclass
class Inside:
    """An instance seen from inside, without SSH: what emulated programs print and leave."""

    system: System
    out: io.StringIO
    err: io.StringIO
    became: list[tuple[list[str], dict[str, str]]]

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out.getvalue() + self.err.getvalue()


class Watched(System):
    """A system whose emulated programs neither become other programs nor end anything."""

    became: list[tuple[list[str], dict[str, str]]]

    def become(self, command: Any, env: Any) -> int:
        """Note what was requested; the links in /usr/bin say whether there is such a program."""
        self.became.append((list(command), dict(env)))
        return 0 if self.path(f"/usr/bin/{command[0]}").is_symlink() else 127
