"""The first program in the guest: opens the way to the local AWS, then becomes the command.

Usage: enter.py PORT SOCKET COMMAND [ARGUMENT]...

The guest's network is its own, empty loopback. A child of this program listens there on 127.0.0.1:PORT and
carries each connection to the unix socket SOCKET. It listens before the command starts: no race.
"""

import contextlib
import os
import signal
import socket
import sys
import threading

_CHUNK = 256 * 1024


def main(argv: list[str]) -> int:
    """Listen, leave a child to forward, and turn into the command."""
    port, path, command = int(argv[0]), argv[1], argv[2:]
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    if os.fork() == 0:
        _leave_terminal()
        _forward(listener, path)
        return 0
    listener.close()
    # Python ignores these two, and what is ignored stays so in the command: `yes | head` would complain.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - that is its job
    except FileNotFoundError:
        print(f"bash: {command[0]}: No such file or directory", file=sys.stderr)  # noqa: T201
        return 127


def _leave_terminal() -> None:
    """Let go of the command's streams: whoever reads them waits until all holders are gone."""
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


def _forward(listener: socket.socket, path: str) -> None:
    while True:
        here, _ = listener.accept()
        there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            there.connect(path)
        except OSError:
            here.close()
            continue
        for source, target in ((here, there), (there, here)):
            threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy up to the end of *source*, then tell *target* that there is no more."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
