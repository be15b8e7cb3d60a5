"""From the path of a URL to an open file below a folder, and to nothing outside of it.

Each name is opened relative to the folder before it and without following links. So no file is
reached by a link that was put in place after a check. A link is resolved, and followed if it leads
to a place below the folder; then that place is opened in the same way.
"""

import errno
import os
import stat
from dataclasses import dataclass

from wsgate.observe.throttled_log import throttled

SMALL_FILE = 65_536  # bytes of a file that is read when it is opened

# O_PATH needs the permission to pass through a folder, not to list it; some systems lack it.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", 0)
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
_LINK = frozenset({errno.ELOOP, errno.ENOTDIR})  # a link was not followed
_MISSING = frozenset({errno.ENOENT, errno.ENAMETOOLONG, *_LINK})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


def names_of(path: str) -> list[str] | None:
    """Return the folders of a path and its file name; None for a path that is never served.

    path: percent-decoded, starting with a slash. The last name is empty if it ends with one. Names
    that start with a dot are those of hidden files, `.` and `..`; there are no empty names.
    """
    root, *names = path.split("/")
    if (
        root
        or not names
        or "\0" in path
        or any(name.startswith(".") for name in names)
        or not all(names[:-1])
    ):
        return None
    return names


@dataclass(slots=True)
class FoundFile:
    """A regular file, open. The descriptor is its own; -1 if `data` is the whole file."""

    name: str
    descriptor: int
    size: int
    modified: int
    data: bytes | None = None

    def read(self) -> None:
        """Read the file if it is small, and close it then."""
        if self.size <= SMALL_FILE:
            self.data = os.pread(self.descriptor, self.size, 0)
            self.size = len(self.data)
            self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FoundFolder:
    """A folder: the URL of its index needs a slash at its end."""


def open_file(folder: str, names: list[str]) -> FoundFile | FoundFolder | None:
    """Open what has this path below a folder; None if there is nothing that may be served.

    modified of the file: in nanoseconds since 1970. What the server may not read is not found, and
    logged. Raises OSError if the system fails.
    """
    try:
        descriptor = _open(folder, names)
    except ValueError:  # a name that the file system cannot encode
        return None
    except OSError as error:
        if error.errno in _FORBIDDEN:
            throttled.warning("Static files: permission denied below %s", folder)
        elif error.errno not in _MISSING:
            raise
        return None
    return None if descriptor is None else _describe(descriptor, names[-1])


def _describe(descriptor: int, name: str) -> FoundFile | FoundFolder | None:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return FoundFile(name, descriptor, status.st_size, status.st_mtime_ns)
    os.close(descriptor)
    return FoundFolder() if stat.S_ISDIR(status.st_mode) else None


def _open(folder: str, names: list[str]) -> int | None:
    try:
        return _walk(folder, names)
    except OSError as error:
        if error.errno not in _LINK:
            raise
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, *names), strict=True)  # noqa: PTH118  # as `names`
    if os.path.commonpath([root, place]) != root:
        return None
    return _walk(root, os.path.relpath(place, root).split("/"))


def _walk(folder: str, names: list[str]) -> int | None:
    """Open a file or a folder; names: without links. None if it is a device, FIFO or socket."""
    here = os.open(folder, _FOLDER)
    try:
        for name in names[:-1]:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        # To open a device or a FIFO may have an effect.
        mode = os.stat(names[-1], dir_fd=here, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            return None
        return os.open(names[-1], _FILE, dir_fd=here)
    finally:
        os.close(here)
