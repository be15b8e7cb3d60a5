"""The sockets that a server listens on, opened with errors an operator can read."""

import contextlib
import errno
import os
import socket
import stat
import sys

from wsgate.config import Config
from wsgate.errors import ConfigError

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


def listen(config: Config) -> list[socket.socket]:
    """Return the bound sockets that the settings name; they do not listen yet.

    Raises ConfigError, one line that names the address.
    """
    if config.fd is not None:
        return [_inherited(config.fd)]
    if config.uds is not None:
        return [_unix(config.uds)]
    return _tcp(config)


def _inherited(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"--fd {fd} is no socket: {error.strerror}", setting="fd") from None
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ConfigError(f"--fd {fd} is no stream socket", setting="fd")
    return sock


def _unix(path: str) -> socket.socket:
    try:
        _remove_stale(path)
        return _bound_unix(path)
    except OSError as error:
        raise ConfigError(f"--uds {path}: {error.strerror or error}") from None


def _bound_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # A proxy that runs as another user has to reach it.
        os.chmod(path, 0o666)  # noqa: S103, PTH101  # uvicorn's default too
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that did not end well, and nothing that is in use."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116  # a plain path is given
            raise ConfigError(f"--uds {path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # one whose backlog is full would keep us
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise ConfigError(f"--uds {path} is in use by another server")
    os.unlink(path)  # noqa: PTH108  # a plain path is given


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
        return f"unix socket {address or '(unnamed)'}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"


def remove(path: str) -> None:
    """Remove a Unix socket's path behind its server."""
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108  # a plain path is given
