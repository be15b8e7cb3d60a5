"""The Unix socket at a path: creates its file, protects it from other servers, removes it."""

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
from wsgate.settings import option_of

DEFAULT_MODE = 0o666  # a proxy that runs as another user connects to it; uvicorn's default too
LONGEST_PATH = 107  # bytes, on Linux
LOCK_TIMEOUT = 1.0  # seconds to wait for another server that creates a socket in the same folder
LOCK_STEP = 0.005  # seconds between two attempts to lock


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A socket file that this process created.

    Attributes:
        path: absolute, because an app may change the current folder.
        identity: device and inode. No other file has them while the socket is open.
        process: the id of the process that created the file.
    """

    path: str
    identity: tuple[int, int]
    process: int

    def remove(self) -> None:
        """Remove the file, unless it is gone, was replaced or belongs to another process.

        Call this before the socket is closed: after that another file may get the same inode.
        """
        if self.process != os.getpid():
            return  # a child that the app forked
        with contextlib.suppress(OSError):
            if _identity(os.lstat(self.path)) == self.identity:
                os.unlink(self.path)  # noqa: PTH108  # a plain path is given


def listen_at(
    path: str, mode: int | None, backlog: int, setting: str = "uds"
) -> tuple[socket.socket, SocketFile]:
    """Create a socket at a path and listen on it; replace the file of a server that crashed.

    It listens at once, although the app has not started yet: a socket file on which nobody listens
    looks like one of a crashed server. Clients wait in the backlog until the server accepts.

    Args:
        path: may be relative.
        mode: the file's permissions. None keeps those of a file that is replaced; for a new file
            it means 0o666.
        backlog: as for `socket.listen`.
        setting: the setting that names the path, for errors.

    Raises:
        ConfigError: another server's socket, or another kind of file, is at the path.
        OSError: the system refuses.
        ValueError: the path contains a null character.
    """
    absolute = os.path.abspath(path)  # noqa: PTH100  # a plain path is given
    with _locked(os.path.dirname(absolute)):  # noqa: PTH120  # a plain path is given
        stale_mode = _remove_stale_file(path, setting)
        if mode is None:
            mode = DEFAULT_MODE if stale_mode is None else stale_mode
        return _create(path, absolute, mode, backlog)


def failure_text(path: str, error: Exception) -> str:
    """Return why a socket cannot be created at a path, in a few words for the operator."""
    folder = os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120  # a plain path is given
    if isinstance(error, FileNotFoundError) and not os.path.exists(folder):  # noqa: PTH110  # as above
        return f"there is no folder {folder}"
    if (size := len(os.fsencode(path))) > LONGEST_PATH:
        return f"the path has {size} bytes, and a socket's may have {LONGEST_PATH}"
    return getattr(error, "strerror", None) or str(error)


def _create(path: str, absolute: str, mode: int, backlog: int) -> tuple[socket.socket, SocketFile]:
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(path)  # not the absolute path, which may be too long for a socket
        file = SocketFile(absolute, _identity(os.lstat(path)), os.getpid())
        undo.callback(file.remove)
        os.chmod(path, mode)  # noqa: PTH101  # before it listens: nobody can connect yet
        sock.listen(backlog)
        undo.pop_all()
    return sock, file


def _remove_stale_file(path: str, setting: str) -> int | None:
    """Remove the socket file of a server that crashed; return its mode, or None without a file."""
    with contextlib.suppress(FileNotFoundError):  # its owner may remove it at this moment
        status = os.lstat(path)
        if not stat.S_ISSOCK(status.st_mode):
            problem = "exists and is not a socket"
            raise ConfigError(f"{option_of(setting)} {path} {problem}", setting=setting)
        if _has_server(path) or _identity(os.lstat(path)) != _identity(status):
            problem = "is in use by another server"
            raise ConfigError(f"{option_of(setting)} {path} {problem}", setting=setting)
        os.unlink(path)  # noqa: PTH108  # a plain path is given
        return stat.S_IMODE(status.st_mode)
    return None


def _has_server(path: str) -> bool:
    """Return whether a server listens at a path, even if its backlog is full."""
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
    """Keep other servers from creating sockets in a folder while the context lasts.

    If two servers started at once on a stale file, the second would otherwise remove the file that
    the first has just created. If the folder cannot be locked, this does nothing.
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
    """Lock a folder; return False if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # the file system has no locks
    return True
