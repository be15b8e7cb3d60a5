"""The side of systemd: a socket that receives notifications, and a start with passed sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness.processes import ServerProcess, program

# Runs `python -m wsgate` in its own process, with descriptors from 3 on and LISTEN_PID.
_LAUNCHER = """
import fcntl, os, sys
given, arguments = sys.argv[1].split(","), sys.argv[2:]
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in given if fd]
for fd in filter(None, given):
    os.close(int(fd))
for target, fd in enumerate(high, 3):
    os.dup2(fd, target)
    os.close(fd)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "wsgate", *arguments])
"""


class NotifySocket:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.setblocking(False)

    async def receive(self, seconds: float = 30.0) -> dict[str, str]:
        """Wait for a notification; return its lines by name."""
        async with asyncio.timeout(seconds):
            return _parse(await asyncio.get_running_loop().sock_recv(self._socket, 65_536))

    async def receive_until(self, line: str, seconds: float = 30.0) -> dict[str, str]:
        """Wait for a notification with this line, such as READY=1; skip others."""
        name, _, value = line.partition("=")
        async with asyncio.timeout(seconds):
            while (found := await self.receive(seconds)).get(name) != value:
                pass
        return found

    def waiting(self) -> list[dict[str, str]]:
        """Return the notifications that have arrived."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(_parse(self._socket.recv(65_536)))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _parse(datagram: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in datagram.decode().split("\n"))


@contextlib.contextmanager
def notify_socket(name: str) -> Iterator[NotifySocket]:
    """Receive notifications at a path, or at an abstract name that begins with `@`."""
    found = NotifySocket(name)
    try:
        yield found
    finally:
        found.close()


@contextlib.asynccontextmanager
async def service(
    *arguments: str,
    folder: Path,
    passed: Sequence[socket.socket] = (),
    names: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[ServerProcess]:
    """Run `wsgate arguments` in a folder as systemd would; kill it at the end.

    Args:
        arguments: Of the command line.
        folder: The working directory.
        passed: Sockets to pass, as descriptors from 3 on.
        names: The value of LISTEN_FDNAMES.
        variables: Further environment variables.
    """
    fds = [sock.fileno() for sock in passed]
    environment = {"LISTEN_FDS": str(len(fds)), **(variables or {})}
    if names is not None:
        environment["LISTEN_FDNAMES"] = names
    command = ("-c", _LAUNCHER, ",".join(map(str, fds)), *arguments)
    async with program(*command, cwd=folder, pass_fds=fds, variables=environment) as server:
        yield server
