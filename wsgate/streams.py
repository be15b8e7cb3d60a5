"""The process's standard streams: /dev/null for missing ones, and what must not block on them."""

import array
import contextlib
import fcntl
import os
import select
import stat
import sys
import termios
from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")  # in the order of their descriptors
_STDERR = 2


def open_missing() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 and each stream of `sys` that is missing.

    Whatever is opened next would take a closed one's number: a socket would get what is printed,
    and uvloop aborts the process when it closes one of them.
    """
    for descriptor, name in enumerate(_NAMES):
        is_missing = not _is_open(descriptor)
        if is_missing:
            os.set_inheritable(_open_null(), True)  # the lowest number that is free is this one
        if getattr(sys, name) is None:
            # Python found the descriptor closed; by now something else may be open there.
            setattr(sys, name, _null_stream(name, descriptor if is_missing else _open_null()))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_null() -> int:
    return os.open(os.devnull, os.O_RDWR)


def _null_stream(name: str, descriptor: int) -> TextIO:
    """Return a text stream that leaves its descriptor open, as Python's own ones do."""
    if name == "stdin":
        return open(descriptor, encoding="utf-8", closefd=False)
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def warn(text: str) -> None:
    """Write a line about a fault of the log to stderr's descriptor, unless that would block."""
    if sys.__stderr__ is None:
        return  # it was closed when Python started, so something else may have its number
    line = text.encode("ascii", "backslashreplace")[: select.PIPE_BUF - 1] + b"\n"
    with contextlib.suppress(OSError):
        if is_writable(_STDERR):
            os.write(_STDERR, line)


def flush(stream: TextIO) -> None:
    """Write what was printed and is still buffered, unless that would block."""
    # It may have no descriptor, be closed or missing, or its reader may be gone.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if has_room_for_prints(stream.fileno()):
            stream.flush()


def has_room_for_prints(descriptor: int) -> bool:
    """Return whether a descriptor takes all that Python buffers of what is printed, some 16 KiB.

    A pipe that is writable takes 4 KiB (PIPE_BUF), no more. Its pages may be partly filled, but no
    two neighbours hold less than one page: of a pipe with a quarter of its bytes, half is free.
    """
    if not is_writable(descriptor):
        return False
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return True
    waiting = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    return waiting[0] <= fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) // 4


def is_writable(descriptor: int) -> bool:
    """Return whether a pipe takes at least PIPE_BUF bytes without blocking."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
