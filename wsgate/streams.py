"""The process's standard streams: /dev/null in place of missing ones, writes that never block."""

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
    """Open /dev/null for each of the descriptors 0 to 2 and streams of `sys` that is missing.

    Otherwise the next file or socket would get the number of a closed descriptor: a socket would
    receive what is printed, and uvloop aborts the process when it closes a descriptor below 3.
    """
    for descriptor, name in enumerate(_NAMES):
        is_missing = not _is_open(descriptor)
        if is_missing:
            os.set_inheritable(_open_null(), True)  # opens `descriptor`: it is the lowest free one
        if getattr(sys, name) is None:
            # The descriptor was closed when Python started. If it is open now, it is another file.
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
    """Return a text stream that does not close its descriptor, like Python's standard streams."""
    if name == "stdin":
        return open(descriptor, encoding="utf-8", closefd=False)
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def warn(text: str) -> None:
    """Write a line to the descriptor of stderr, unless that would block; never raises.

    For faults of the log itself, and for signal handlers.
    """
    if sys.__stderr__ is None:
        return  # it was closed when Python started, so its number may be another file's
    line = text.encode("ascii", "backslashreplace")[: select.PIPE_BUF - 1] + b"\n"
    with contextlib.suppress(OSError):
        if is_writable(_STDERR):
            os.write(_STDERR, line)


def flush(stream: TextIO) -> None:
    """Write what the app has printed and Python still buffers, unless that would block."""
    # The stream may be missing, closed or without a descriptor, and its reader may be gone.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        if can_flush(stream.fileno()):
            stream.flush()


def can_flush(descriptor: int) -> bool:
    """Return whether a descriptor takes a full buffer of Python's (some 16 KiB) without blocking.

    That a pipe is writable shows only that it takes PIPE_BUF bytes, 4 KiB. Its pages may be partly
    filled, but two neighbouring pages together hold more than one page of data: a pipe that holds a
    quarter of its capacity has at least half of its pages free.
    """
    if not is_writable(descriptor):
        return False
    if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return True
    queued = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, queued)
    return queued[0] <= fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) // 4


def is_writable(descriptor: int) -> bool:
    """Return whether a descriptor takes at least PIPE_BUF bytes without blocking."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
