"""Finds the listening Unix sockets that the operator trusts, however their paths are spelled."""

import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.proxies.trusted import ANY_UNIX_SOCKET

if TYPE_CHECKING:
    from wsgate.proxies.trusted import TrustedPeers

_PATH_STARTS = ("/", "./", "../", ANY_UNIX_SOCKET)  # of an entry that can only be a socket


def trust_named_sockets(
    option: str, trusted: "TrustedPeers", sockets: Iterable[socket.socket]
) -> None:
    """Trust each listening socket that an entry names; log a warning for entries without one.

    Args:
        option: The option that has the entries, for the warning.
        trusted: The entries.
        sockets: The listening sockets of all families.
    """
    paths = _paths_of(sockets)
    for entry in trusted.names:
        named = [path for path in paths if _is_same_file(_path_in(entry), path)]
        for path in named:
            trusted.trust_socket(path)
        if not named:
            _warn_of_useless(option, entry)


def _paths_of(sockets: Iterable[socket.socket]) -> list[str]:
    """Return the paths of the Unix sockets that have one."""
    names = [sock.getsockname() for sock in sockets]
    return [name for name in names if name and isinstance(name, str)]


def _path_in(entry: str) -> str:
    """Return the path that an entry names; `unix://` and the path is the same as `unix:`."""
    path = entry.removeprefix(ANY_UNIX_SOCKET)
    # POSIX lets two slashes at the start mean something else than one, and Python keeps them.
    return "/" + path.lstrip("/") if path.startswith("//") else path


def _is_same_file(one: str, other: str) -> bool:
    """Return whether two paths lead to the same file.

    The file of an inherited socket may be gone, or in a folder that this process does not see. So
    the paths without their links are compared first.
    """
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)  # noqa: PTH121  # plain paths are given
    except (OSError, ValueError):  # ValueError: a null character
        return False


def _warn_of_useless(option: str, entry: str) -> None:
    if entry.startswith(_PATH_STARTS):
        text = "%s: %r is no Unix socket that this server listens on; it trusts nobody"
    else:
        text = "%s: %r is neither an address nor a network; it trusts nobody"
    loggers.error.warning(text, option, entry)
