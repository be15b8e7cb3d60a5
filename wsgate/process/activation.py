"""Socket activation: which listening sockets systemd has passed to this process.

Source: sd_listen_fds(3). LISTEN_PID names the process that the sockets are for, LISTEN_FDS their
number, and LISTEN_FDNAMES their names with colons between them. The descriptors begin with 3.
"""

import os
import re
from dataclasses import dataclass

from wsgate.errors import ConfigError

_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 2**20  # descriptors that a process may have, by Linux's default (fs.nr_open)
_UNNAMED = "unknown"  # systemd's name of a socket when it passes no names
_VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A descriptor that systemd has passed, and its name (`FileDescriptorName=`)."""

    fd: int
    name: str


def passed_sockets() -> list[PassedSocket]:
    """Return the sockets for this process, in order; none if they are for another process.

    Raises:
        ConfigError: The variables are malformed; the text names the variable.
    """
    if not _is_for_this_process(os.environ.get("LISTEN_PID", "")):
        return []
    count = os.environ.get("LISTEN_FDS", "")
    if not (re.fullmatch("[0-9]{1,7}", count) and int(count) <= _MOST):
        raise ConfigError(f"LISTEN_FDS={count!r} is not a number of sockets")
    fds = range(_FIRST, _FIRST + int(count))
    names = os.environ.get("LISTEN_FDNAMES")
    listed = [_UNNAMED] * len(fds) if names is None else names.split(":") if fds else []
    if len(listed) != len(fds):
        raise ConfigError(f"LISTEN_FDNAMES={names!r} has not the {count} names of LISTEN_FDS")
    return list(map(PassedSocket, fds, listed))


def _is_for_this_process(pid: str) -> bool:
    return pid.strip() == str(os.getpid())


def forget() -> None:
    """Remove the variables, so that child processes do not take the sockets for theirs."""
    for variable in _VARIABLES:
        os.environ.pop(variable, None)
