"""The client of a control socket: sends one command and yields the parts of the answer."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

Part = dict[str, Any]

ANSWER_TIMEOUT = 30.0  # seconds to wait for each line of an answer
LONGEST_LINE = 2**22  # bytes of a line of an answer
# The first one with a value names the socket. The second one is the server's as well: a server that
# is started with it opens a socket there, so it is right in a container, and wrong in a shell.
VARIABLES = ("WSGATE_CTL_SOCKET", "WSGATE_CONTROL_SOCKET")


class ControlError(Exception):
    """The command has failed. The text is one line for the operator."""


def parts(path: str, command: str, arguments: Mapping[str, Any]) -> Iterator[Part]:
    """Send a command and yield the parts of the answer.

    Args:
        path: Of the control socket.
        command: Its name.
        arguments: Those that are None are left out.

    Raises:
        ControlError: The socket cannot be used, or the server refuses.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    request = json.dumps({"command": command, "arguments": given}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_TIMEOUT)
        try:
            sock.connect(path)
            sock.sendall(request)
            with sock.makefile("rb") as lines:
                yield from _answer(lines)
        except OSError as error:
            raise ControlError(f"control socket {path}: {_reason(error)}") from None


def _answer(lines: BinaryIO) -> Iterator[Part]:
    while True:
        line = _read(lines)
        if "error" in line:
            raise ControlError(str(line["error"]))
        if "end" in line:
            return
        if "part" in line:  # other keys are of a newer server
            yield line["part"]


def _read(lines: BinaryIO) -> dict[str, Any]:
    data = lines.readline(LONGEST_LINE)
    if not data.endswith(b"\n"):
        raise ConnectionError("the server has ended the connection")
    try:
        line = json.loads(data)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise ConnectionError("the answer is not from wsgate")
    return line


def _reason(error: OSError) -> str:
    """Return why a control socket cannot be used, with what to do about it."""
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_TIMEOUT:g} s"
    if isinstance(error, FileNotFoundError):
        return "no such file: is the server running, with --control-socket?"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: no server listens there"
    if isinstance(error, PermissionError):
        return "permission denied: only its owner may connect"
    return error.strerror or str(error)


def default_path() -> str | None:
    """Return the path that the environment names, None without one."""
    return next(filter(None, map(os.environ.get, VARIABLES)), None)
