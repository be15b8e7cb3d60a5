"""The sockets on which workers listen for each other: their names and files, beside the hub's."""

import contextlib
import errno
import os
import re
import secrets
import socket
from pathlib import Path

LONGEST_SUFFIX = 16  # bytes that the path has more than that of the hub's socket
_MODE = 0o600  # only the owner may connect
_BACKLOG = 128


def make_name() -> str:
    """Return a name that no other socket has; it contains the id of this process."""
    return f"{os.getpid():x}-{secrets.token_hex(4)}"


def path_of(hub: str, name: str) -> str:
    """Return the path of a worker's socket, from the path of the hub's socket."""
    return f"{hub}.{name}"


def listen(path: str) -> socket.socket:
    """Return a socket that listens at a new path. Raises OSError."""
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.bind(path)
        undo.callback(remove, path)
        Path(path).chmod(_MODE)  # before it listens: nobody can connect yet
        sock.listen(_BACKLOG)
        undo.pop_all()
    return sock


def remove(path: str) -> None:
    """Remove the file of a socket, if it is there."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def is_listening(path: str) -> bool:
    """Return whether a process listens at a path, even if it does not run at the moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog would block
        return probe.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)


def find_names(hub: str, process: int | None = None) -> list[str]:
    """Return the names of the sockets that have a file; one that was killed leaves it.

    Args:
        hub: The path of the hub's socket.
        process: The id of the process that has them; None for all that have used this hub.
    """
    owner = "[0-9a-f]+" if process is None else f"{process:x}"
    file = re.compile(rf"{re.escape(Path(hub).name)}\.({owner}-[0-9a-f]{{8}})")
    found = []
    with contextlib.suppress(OSError):  # a folder that may not be read
        for path in Path(hub).parent.iterdir():
            match = file.fullmatch(path.name)
            if match and path.is_socket():
                found.append(match[1])
    return found


def remove_files(hub: str, process: int | None = None) -> None:
    """Remove the files of a process that has ended, or of all. Arguments: as of `find_names`."""
    for name in find_names(hub, process):
        remove(path_of(hub, name))
