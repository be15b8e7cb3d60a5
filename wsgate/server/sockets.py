"""The sockets that a server listens on, opened with errors an operator can read."""

import asyncio
import os
import socket
import sys
from dataclasses import dataclass, field

from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.server import unix

# A peer that has vanished without a word is noticed by the kernel even where nothing is read or
# written: 60 s of silence, then probes ten seconds apart, until six of them or the user timeout.
_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 6,
}
_USER_TIMEOUT = 60.0
_MOST = 2_000_000.0  # in milliseconds it has to fit into 31 bits
_BEHIND = 30.0  # seconds that the kernel waits for longer than we do


@dataclass(slots=True)
class Listening:
    """The sockets a server listens on, the loop's servers on them, and the file that they own.

    file: None where there is none, or where it belongs to whoever gave us the socket.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    file: unix.SocketFile | None = None
    servers: list[asyncio.Server] = field(default_factory=list)

    def close(self) -> None:
        """Stop listening, and remove the file."""
        if self.file is not None:
            self.file.remove()
            self.file = None
        for server in self.servers:
            server.close()
        self.servers.clear()
        for sock in self.sockets:
            sock.close()


def listen(config: Config) -> Listening:
    """Return the bound sockets that the settings name; of them, a Unix socket listens already.

    Raises ConfigError, one line that names the address.
    """
    if config.fd is not None:
        return Listening([_inherited(config.fd)])
    if config.uds is not None:
        return _unix(config.uds, config)
    return Listening(_tcp(config))


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"--fd {fd} is no socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"--fd {fd} is no stream socket")
    return sock


def _unix(path: str, config: Config) -> Listening:
    try:
        sock, file = unix.listen_at(path, config.uds_perms, config.backlog)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--uds {path}: {reason}") from None
    return Listening([sock], file)


def _tcp(config: Config) -> list[socket.socket]:
    host, port = config.host, config.port
    # A client that does not read lets unacknowledged data wait, too: the kernel must not cut it off
    # before --ws-send-timeout does, and says why.
    user_timeout = min(max(_USER_TIMEOUT, config.ws_send_timeout + _BEHIND), _MOST)
    sockets: list[socket.socket] = []
    try:
        for family, address in _resolved(host, port):
            sockets.append(_bound(family, address, user_timeout))  # those bound are closed below
    except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
        for sock in sockets:
            sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from None
    return sockets


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(
    family: socket.AddressFamily, address: tuple[object, ...], user_timeout: float
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _watch(sock, user_timeout)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _watch(sock: socket.socket, user_timeout: float) -> None:
    """Have the kernel watch over the connections, which inherit this from their listener."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for name, value in _KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))


def name_of(sock: socket.socket) -> str:
    """Return where clients find the socket, as in the line that says so."""
    address = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        if isinstance(address, bytes):  # abstract: its name begins with a zero byte
            address = "@" + os.fsdecode(address[1:])
        return f"unix socket {address or '(unnamed)'}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"
