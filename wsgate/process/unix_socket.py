"""The Unix socket at a path: create it, keep it apart from those of other servers, remove it."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from wsgate.errors import ConfigError

DEFAULT_MODE = 0o666  # a proxy that runs as another user connects to it; uvicorn's default too
LOCK_TIMEOUT = 1.0  # seconds to wait for another server that creates a socket in the same folder
LOCK_STEP = 0.005


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A socket file that this process has created.

    path: absolute, because an app may change its folder. identity: device and inode, which the file
    has to itself while its socket is open. process: the id of the process that created it.
    """

    path: str
    identity: tuple[int, int]
    process: int

    def remove(self) -> None:
        """Remove the file; do nothing if it is gone, replaced, or not this process's own.

        Call this before the socket is closed: after that another file may get the same inode.
        """
        if self.process != os.getpid():
            return  # a child that the app forked
        with contextlib.suppress(OSError):
            if _identity(os.lstat(self.path)) == self.identity:
                os.unlink(self.path)  # noqa: PTH108  # a plain path is given


def listen_at(path: str, mode: int | None, backlog: int) -> tuple[socket.socket, SocketFile]:
    """Create a socket at a path and listen on it; replace the file of a server that is gone.

    It listens at once, although the app has not started yet: a socket that does not listen looks
    like one that a server left when it crashed. Clients wait in the backlog until the server
    accepts.

    mode: the file's permissions; None keeps those of the file that is replaced, or takes 0o666.
    Raises ConfigError where something else is at the path, OSError, and ValueError for what cannot
    be a path.
    """
    absolute = os.path.abspath(path)  # noqa: PTH100  # a plain path is given
    with _locked(os.path.dirname(absolute)):  # noqa: PTH120  # a plain path is given
        stale_mode = _remove_stale(path)
        if mode is None:
            mode = DEFAULT_MODE if stale_mode is None else stale_mode
        return _create(path, absolute, mode, backlog)


def _create(path: str, absolute: str, mode: int, backlog: int) -> tuple[socket.socket, SocketFile]:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(path)  # as given: a relative path may be short enough where an absolute is not
        file = SocketFile(absolute, _identity(os.lstat(path)), os.getpid())
        undo.callback(file.remove)
        os.chmod(path, mode)  # noqa: PTH101  # before it listens: nobody can connect yet
        sock.listen(backlog)
        undo.pop_all()
    return sock, file


def _remove_stale(path: str) -> int | None:
    """Remove the socket file of a server that is gone; return its mode, None without a file."""
    with contextlib.suppress(FileNotFoundError):  # whoever owned it removes it just now
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            raise ConfigError(f"--uds {path} exists and is no socket", setting="uds")
        if _answers(path) or _identity(os.lstat(path)) != _identity(found):
            raise ConfigError(f"--uds {path} is in use by another server", setting="uds")
        os.unlink(path)  # noqa: PTH108  # a plain path is given
        return stat.S_IMODE(found.st_mode)
    return None


def _answers(path: str) -> bool:
    """Tell whether a server listens at a path, even one that is too busy to accept."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog would block
        error = probe.connect_ex(path)
    if error in (errno.EACCES, errno.EPERM):
        raise PermissionError(error, os.strerror(error))
    return error not in (errno.ECONNREFUSED, errno.ENOENT)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keep other servers from creating sockets in a folder meanwhile.

    Of two servers that start at once on a stale file, the second would otherwise remove what the
    first has just created. A folder that cannot be locked is used without a lock.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written, but not read
        yield
        return
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while not _try_lock(descriptor) and time.monotonic() < deadline:
        time.sleep(LOCK_STEP)


def _try_lock(descriptor: int) -> bool:
    """Lock a folder; return False while someone else has the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # its file system has no locks
    return True
