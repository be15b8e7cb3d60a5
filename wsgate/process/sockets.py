"""The sockets that a server listens on, opened with errors an operator can read."""

import contextlib
import errno
import socket
import sys
from dataclasses import dataclass, field

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import unix_socket

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

PORT_ATTEMPTS = 16  # how many free ports to try until one is free on all addresses
# What the kernel says of an address that this machine does not have.
_ABSENT = frozenset(
    {
        errno.EADDRNOTAVAIL,  # no interface has it
        errno.EAFNOSUPPORT,  # the kernel has no such family
        errno.ENODEV,  # it is link-local, and its zone names no interface
        errno.EINVAL,  # it is link-local and has no zone
    }
)


@dataclass(slots=True)
class OpenSockets:
    """The sockets that a program listens on, and the file that leads to them: it owns both.

    file: None where there is none, or where it belongs to whoever gave us the socket.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    file: unix_socket.SocketFile | None = None

    def withdraw(self) -> None:
        """Remove the file, so that no further client finds the socket."""
        if self.file is not None:
            self.file.remove()
            self.file = None

    def close(self) -> None:
        """Close the sockets, and remove the file if it is still there."""
        self.withdraw()
        for sock in self.sockets:
            sock.close()


class _InUse(ConfigError):
    """Another socket has the address."""


@dataclass(frozen=True, slots=True)
class _Address:
    """An address to bind. name: what it was resolved from; rest: of a sockaddr, after its port."""

    name: str
    family: socket.AddressFamily
    host: str
    rest: tuple[int, ...]

    def with_port(self, port: int) -> str:
        """Return the address with a port, and its name, for an error or the log."""
        where = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        return where if self.name in ("", self.host) else f"{where} ({self.name})"


def open_sockets(config: Config) -> OpenSockets:
    """Return the bound sockets that the settings name; of them, a Unix socket listens already.

    Raises ConfigError, one line that names the address.
    """
    if config.fd is not None:
        return OpenSockets([_inherited(config.fd)])
    if config.uds is not None:
        return _unix(config.uds, config)
    return OpenSockets(_tcp(config))


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"--fd {fd} is no socket: {error.strerror}", setting="fd") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"--fd {fd} is no stream socket", setting="fd")
    return sock


def _unix(path: str, config: Config) -> OpenSockets:
    try:
        sock, file = unix_socket.listen_at(path, config.uds_perms, config.backlog)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--uds {path}: {reason}", setting="uds") from None
    return OpenSockets([sock], file)


# -- TCP -------------------------------------------------------------------------------------------


def _tcp(config: Config) -> list[socket.socket]:
    addresses = _resolve(config.host, config.port)
    # With port 0 the first address takes a free port, which may be in use on another one.
    for _ in range(PORT_ATTEMPTS - 1 if config.port == 0 else 0):
        with contextlib.suppress(_InUse):
            return _bind_all(addresses, config)
    return _bind_all(addresses, config)


def _resolve(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:  # ValueError: a label of the name is too long
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from None
    addresses = [_Address(host, family, str(at[0]), tuple(at[2:])) for family, _, _, _, at in found]
    return list(dict.fromkeys(addresses))


def _bind_all(addresses: list[_Address], config: Config) -> list[socket.socket]:
    """Bind a socket to each address that this machine has, all of them to one port.

    Raises ConfigError where it has none of them, or where one cannot be bound.
    """
    port = config.port
    bound: list[socket.socket] = []
    absent: list[str] = []
    with contextlib.ExitStack() as opened:
        for address in addresses:
            try:
                sock = opened.enter_context(_bind(address, port, config))
            except OSError as error:
                refusal = f"{address.with_port(port)}: {error.strerror}"
                if error.errno not in _ABSENT:
                    kind = _InUse if error.errno == errno.EADDRINUSE else ConfigError
                    raise kind(f"cannot listen on {refusal}") from None
                absent.append(refusal)
            else:
                bound.append(sock)
                port = sock.getsockname()[1]
        if not bound:
            raise ConfigError(f"cannot listen on {'; '.join(absent)}")
        opened.pop_all()
    for refusal in absent:
        loggers.error.warning("Not listening on %s", refusal)
    return bound


def _bind(address: _Address, port: int, config: Config) -> socket.socket:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(address.family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _watch(sock, _user_timeout(config))
        sock.bind((address.host, port, *address.rest))
        undo.pop_all()
    return sock


def _user_timeout(config: Config) -> float:
    # A client that does not read lets unacknowledged data wait, too: the kernel must not cut it off
    # before --ws-send-timeout does, and says why.
    return min(max(_USER_TIMEOUT, config.ws_send_timeout + _BEHIND), _MOST)


def _watch(sock: socket.socket, user_timeout: float) -> None:
    """Have the kernel watch over the connections, which inherit this from their listener."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for name, value in _KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
