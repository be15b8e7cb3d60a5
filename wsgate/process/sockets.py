"""Opens the sockets that a server listens on, with one-line errors for the operator."""

import contextlib
import errno
import os
import socket
import sys
from dataclasses import dataclass, field

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import unix_socket

# TCP keepalive: the kernel detects a dead peer even if nothing is read or written. After 60 s of
# silence it sends a probe every 10 s; it gives up after six probes or the user timeout.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 6,
}
_USER_TIMEOUT = 60.0  # seconds, the minimum
_MAX_USER_TIMEOUT = 2_000_000.0  # seconds; in milliseconds it must fit into 31 bits
_MARGIN = 30.0  # seconds by which the user timeout exceeds --ws-send-timeout

PORT_ATTEMPTS = 16  # free ports to try until one is free on all addresses
# Errors of bind() for an address that this machine does not have.
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
    """The listening sockets of a program, and the file of a Unix socket: owns both.

    file: None for TCP, or for an inherited socket, whose file belongs to another process.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    file: unix_socket.SocketFile | None = None

    def withdraw(self) -> None:
        """Remove the file, so that new clients do not find the socket."""
        if self.file is not None:
            self.file.remove()
            self.file = None

    def close(self) -> None:
        """Close the sockets, and remove the file if it is still there."""
        self.withdraw()
        for sock in self.sockets:
            sock.close()


class _AddressInUse(ConfigError):
    """Another socket uses the address."""


@dataclass(frozen=True, slots=True)
class _Address:
    """An address to bind.

    name: what it was resolved from. rest: the items of its sockaddr after the port.
    """

    name: str
    family: socket.AddressFamily
    host: str
    rest: tuple[int, ...]

    def with_port(self, port: int) -> str:
        """Return host, port and name, for an error or the log."""
        where = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        return where if self.name in ("", self.host) else f"{where} ({self.name})"


def open_sockets(config: Config) -> OpenSockets:
    """Open and bind the sockets that the settings name. A Unix socket listens already.

    Raises:
        ConfigError: With one line that names the address.
    """
    if config.fd is not None:
        return OpenSockets([_open_inherited(config.fd)])
    if config.uds is not None:
        return _open_unix(os.fspath(config.uds), config)
    return OpenSockets(_open_tcp(config))


def _open_inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"--fd {fd} is not a socket: {error.strerror}", setting="fd") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"--fd {fd} is not a stream socket", setting="fd")
    return sock


def _open_unix(path: str, config: Config) -> OpenSockets:
    try:
        sock, file = unix_socket.listen_at(path, config.uds_perms, config.backlog)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--uds {path}: {reason}", setting="uds") from None
    return OpenSockets([sock], file)


# -- TCP -------------------------------------------------------------------------------------------


def _open_tcp(config: Config) -> list[socket.socket]:
    addresses = _resolve(config.host, config.port)
    # With port 0 the first address gets a free port, which may be in use on another address.
    for _ in range(PORT_ATTEMPTS - 1 if config.port == 0 else 0):
        with contextlib.suppress(_AddressInUse):
            return _bind_all(addresses, config)
    return _bind_all(addresses, config)


def _resolve(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:  # ValueError: a label of the host name is too long
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from None
    addresses = [_Address(host, family, str(at[0]), tuple(at[2:])) for family, _, _, _, at in found]
    return list(dict.fromkeys(addresses))


def _bind_all(addresses: list[_Address], config: Config) -> list[socket.socket]:
    """Bind a socket to each address that this machine has, all to the same port.

    Raises:
        ConfigError: The machine has none of the addresses, or one cannot be bound.
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
                    kind = _AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
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
        _enable_keepalive(sock, _user_timeout(config))
        sock.bind((address.host, port, *address.rest))
        undo.pop_all()
    return sock


def _user_timeout(config: Config) -> float:
    # The user timeout also applies to data that a slow client does not acknowledge. It must be
    # longer than --ws-send-timeout, which closes with a close code.
    return min(max(_USER_TIMEOUT, config.ws_send_timeout + _MARGIN), _MAX_USER_TIMEOUT)


def _enable_keepalive(sock: socket.socket, user_timeout: float) -> None:
    """Enable TCP keepalive; accepted connections inherit it from their listener."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for name, value in _KEEPALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
