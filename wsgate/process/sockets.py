"""Opens the sockets that a server listens on, with one-line errors for the operator."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.observe.log_format import escape
from wsgate.process import activation, unix_socket

# TCP keepalive: the kernel detects a dead peer even if nothing is read or written. After 60 s of
# silence it sends a probe every 10 s; it gives up after six probes or the user timeout.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 6,
}
_USER_TIMEOUT = 60.0  # seconds, the minimum
_MAX_USER_TIMEOUT = 2_000_000.0  # seconds; in milliseconds it must fit into 31 bits
_USER_TIMEOUT_OPTION: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
_MARGIN = 30.0  # seconds by which the user timeout exceeds --ws-send-timeout

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104  # compared with, not bound

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
    """The listening sockets of a program, and the files of Unix sockets: owns both.

    files: none for an inherited socket, whose file belongs to another process. inherited: sockets
    that another process may listen on as well.
    """

    sockets: list[socket.socket] = field(default_factory=list)
    files: list[unix_socket.SocketFile] = field(default_factory=list)
    inherited: set[socket.socket] = field(default_factory=set)
    goes_on = False  # no other worker

    def withdraw(self) -> None:
        """Remove the files, so that new clients do not find the sockets."""
        while self.files:
            self.files.pop().remove()

    def close(self) -> None:
        """Close the sockets, and remove the files that are still there."""
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

    name: str = field(compare=False)
    family: socket.AddressFamily
    host: str
    rest: tuple[int, ...]

    def with_port(self, port: int) -> str:
        """Return host, port and name, for an error or the log."""
        where = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        return where if self.name in ("", self.host) else f"{where} ({self.name})"


def open_sockets(config: Config) -> OpenSockets:
    """Open and bind the sockets that the settings name. Unix sockets listen already.

    Raises:
        ConfigError: With one line that names the address. Nothing is left open or in a folder.
    """
    opened = OpenSockets()
    with contextlib.ExitStack() as undo:
        undo.callback(opened.close)
        _open_inherited(opened, config)
        hosts = config.host
        if not (opened.sockets or config.uds):
            hosts = hosts or (DEFAULT_HOST,)
        if hosts and config.fd is None:
            opened.sockets += _open_tcp(hosts, config)
        for path in _distinct_paths(config.uds or ()):
            _open_unix(opened, path, config)
        undo.pop_all()
    return opened


# -- inherited sockets -----------------------------------------------------------------------------


def _open_inherited(opened: OpenSockets, config: Config) -> None:
    if config.fd is not None:
        _adopt(opened, config.fd, f"--fd {config.fd}", config)
        return
    taken = _sockets_to_take(config)
    for passed in taken:
        _adopt(opened, passed.fd, f"the socket {passed.name} of systemd", config)
    if taken:
        activation.forget()
        names = ", ".join(passed.name for passed in taken)
        loggers.error.info("Using the sockets that systemd has passed: %s", escape(names))


def _sockets_to_take(config: Config) -> list[activation.PassedSocket]:
    """Return the sockets of systemd that the settings select.

    Raises:
        ConfigError: One that is selected has not been passed.
    """
    wanted = config.systemd_sockets
    if not wanted:
        return [] if _has_address(config) else activation.passed_sockets()
    passed = activation.passed_sockets()
    names = {one.name for one in passed}
    for name in wanted:
        if name not in names:
            found = f"only {', '.join(sorted(names))}" if names else "no sockets"
            raise ConfigError(
                f"--systemd-socket {name}: systemd has passed {found}", setting="systemd_sockets"
            )
    return [one for one in passed if one.name in wanted]


def _has_address(config: Config) -> bool:
    return bool(config.host or config.uds) or config.fd is not None or config.port is not None


def warn_of_unused(config: Config) -> None:
    """Log a warning if systemd has passed sockets and the settings name other addresses.

    Clients of such a socket would wait without an end: systemd listens, and nobody accepts.
    """
    if config.systemd_sockets or not _has_address(config):
        return
    with contextlib.suppress(ConfigError):  # malformed variables, which nobody needs
        unused = [one.name for one in activation.passed_sockets() if one.fd != config.fd]
        if unused:
            loggers.error.warning(
                "Sockets that systemd has passed are not used, because another address is given: "
                "%s (see --systemd-socket)",
                escape(", ".join(unused)),
            )


def _adopt(opened: OpenSockets, fd: int, title: str, config: Config) -> None:
    """Add an inherited descriptor to the open sockets.

    title: what an error calls it.
    """
    setting = "fd" if config.fd is not None else None
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"{title} is not a socket: {error.strerror}", setting=setting) from None
    opened.sockets.append(sock)
    opened.inherited.add(sock)
    if sock.type != socket.SOCK_STREAM:
        raise ConfigError(f"{title} is not a stream socket", setting=setting)
    sock.set_inheritable(False)  # the app's child processes must not hold it open
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # it works without them
            _complete_options(sock, config)


def _complete_options(sock: socket.socket, config: Config) -> None:
    """Set the TCP options that the opener of a socket has left at their defaults."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        _enable_keepalive(sock)
    if _USER_TIMEOUT_OPTION and not sock.getsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT_OPTION):
        _set_user_timeout(sock, config)


# -- Unix sockets ----------------------------------------------------------------------------------


def _distinct_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths, the first one of each file: a socket would find itself in use."""
    return list({os.path.abspath(path): path for path in reversed(paths)}.values())[::-1]  # noqa: PTH100  # plain paths are given


def _open_unix(opened: OpenSockets, path: str, config: Config) -> None:
    try:
        sock, file = unix_socket.listen_at(path, config.uds_perms, config.backlog)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = unix_socket.failure_text(path, error)
        raise ConfigError(f"--uds {path}: {reason}", setting="uds") from None
    opened.sockets.append(sock)
    opened.files.append(file)


# -- TCP -------------------------------------------------------------------------------------------


def _open_tcp(hosts: Sequence[str], config: Config) -> list[socket.socket]:
    port = DEFAULT_PORT if config.port is None else config.port
    resolved = {host: _resolve(host, port) for host in hosts}
    # With port 0 the first address gets a free port, which may be in use on another address.
    for _ in range(PORT_ATTEMPTS - 1 if port == 0 else 0):
        with contextlib.suppress(_AddressInUse):
            return _bind_all(resolved, port, config)
    return _bind_all(resolved, port, config)


def _resolve(host: str, port: int) -> list[_Address]:
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:  # ValueError: a label of the host name is too long
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}") from None
    return [_Address(host, family, str(at[0]), tuple(at[2:])) for family, _, _, _, at in found]


def _distinct(addresses: Iterable[_Address]) -> list[_Address]:
    """Return each address once, and of a family with a wildcard only the wildcard.

    A wildcard takes the connections of all addresses; the kernel lets no other socket listen there.
    """
    distinct = dict.fromkeys(addresses)
    covered = {address.family for address in distinct if address.host in _WILDCARDS}
    return [one for one in distinct if one.family not in covered or one.host in _WILDCARDS]


def _bind_all(
    resolved: dict[str, list[_Address]], port: int, config: Config
) -> list[socket.socket]:
    """Bind a socket to each address that this machine has, all to the same port.

    resolved: the addresses of each host.

    Raises:
        ConfigError: The machine has none of a host's addresses, or one cannot be bound.
    """
    bound: list[socket.socket] = []
    absent: dict[_Address, str] = {}
    with contextlib.ExitStack() as opened:
        for address in _distinct(chain.from_iterable(resolved.values())):
            try:
                sock = opened.enter_context(_bind(address, port, config))
            except OSError as error:
                refusal = f"{address.with_port(port)}: {error.strerror}"
                if error.errno not in _ABSENT:
                    kind = _AddressInUse if error.errno == errno.EADDRINUSE else ConfigError
                    raise kind(f"cannot listen on {refusal}") from None
                absent[address] = refusal
            else:
                bound.append(sock)
                port = sock.getsockname()[1]
        for addresses in resolved.values():
            if absent.keys() >= set(addresses):
                refusals = "; ".join(absent[address] for address in dict.fromkeys(addresses))
                raise ConfigError(f"cannot listen on {refusals}")
        opened.pop_all()
    for refusal in absent.values():
        loggers.error.warning("Not listening on %s", refusal)
    return bound


def _bind(address: _Address, port: int, config: Config) -> socket.socket:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(address.family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted connections inherit these from their listener, so they cost nothing for each.
        # asyncio's loop would not set TCP_NODELAY: the protocol of our sockets is 0, not TCP.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _enable_keepalive(sock)
        _set_user_timeout(sock, config)
        sock.bind((address.host, port, *address.rest))
        undo.pop_all()
    return sock


def _enable_keepalive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # other systems keep their own times
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _set_user_timeout(sock: socket.socket, config: Config) -> None:
    # The user timeout also applies to data that a slow client does not acknowledge. It must be
    # longer than --ws-send-timeout, which closes with a close code.
    if _USER_TIMEOUT_OPTION is not None:
        seconds = max(_USER_TIMEOUT, config.ws_send_timeout + _MARGIN)
        milliseconds = int(min(seconds, _MAX_USER_TIMEOUT) * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT_OPTION, milliseconds)
