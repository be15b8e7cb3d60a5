"""The message that a worker process gets at its start: the program, its settings, descriptors."""

import contextlib
import dataclasses
import io
import pickle
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from wsgate.errors import ConfigError
from wsgate.process.program import Program

_LENGTH = struct.Struct("!I")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a worker needs to serve.

    Attributes:
        program: What it serves.
        row: Its row of the scoreboard.
        count: How many workers the server has.
        scoreboard: Descriptor of the scoreboard's file.
        beat: Seconds between two signs that its event loop runs.
        stacks: Descriptor of the pipe for its stack, should its event loop be blocked.
        sockets: Descriptors of the listening sockets.
        inherited: Those of them that another program has as well, such as systemd.
        hub: The path of the topics hub's socket; None without a hub.
    """

    program: Program
    row: int
    count: int
    scoreboard: int
    beat: float
    stacks: int
    sockets: list[int]
    inherited: list[int]
    hub: str | None


def pack(assignment: Assignment) -> bytes:
    """Return an assignment as bytes for `receive`.

    Raises:
        ConfigError: A value cannot be passed to another process; the text names its setting.
    """
    return _pack(assignment.program, assignment)


def receive(sock: socket.socket) -> Assignment | None:
    """Return the assignment of this worker, and set the path of modules.

    Returns:
        None if the supervisor has ended meanwhile.

    Raises:
        ConfigError: A value cannot be made in this process.
    """
    return _receive(sock, Assignment)


def pack_program(program: Program) -> bytes:
    """Return a program as bytes for `receive_program`. Raises ConfigError as `pack`."""
    return _pack(program, program)


def receive_program(sock: socket.socket) -> Program | None:
    """Return the program to import, and set the path of modules; otherwise as `receive`."""
    return _receive(sock, Program)


def _pack(program: Program, value: Program | Assignment) -> bytes:
    try:
        values = _pickled(value)
    except Exception as error:  # noqa: BLE001  # whatever the user's classes raise
        name, reason = _culprit(program) or (None, error)
        text = f"{name or 'a setting'} cannot be passed to a worker process: {reason}"
        raise ConfigError(text, setting=name) from None
    # The path comes first: a value may be of a module that is found by it.
    data = pickle.dumps((sys.path, sys.argv, values))
    return _LENGTH.pack(len(data)) + data


def _receive(sock: socket.socket, kind: type[T]) -> T | None:
    data = None
    with contextlib.suppress(ConnectionError):
        head = _read(sock, _LENGTH.size)
        data = head and _read(sock, *_LENGTH.unpack(head))
    if data is None:
        return None
    # From the process that started this one.
    sys.path[:], sys.argv[:], values = pickle.loads(data)  # noqa: S301
    try:
        value = pickle.loads(values)  # noqa: S301
    except Exception as error:  # noqa: BLE001  # whatever the user's classes raise
        text = f"a setting cannot be passed to a worker process: {type(error).__name__}: {error}"
        raise ConfigError(text) from None
    assert isinstance(value, kind)
    return value


def _read(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data


class _Pickler(pickle.Pickler):
    """Refuses what only this process can find by its name."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (FunctionType, type)) and value.__module__ == "__main__":
            raise pickle.PicklingError(
                f"{value.__qualname__} is defined in the program that was started, which workers "
                "do not import: move it to a module"
            )
        return NotImplemented


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def _culprit(program: Program) -> tuple[str, Exception] | None:
    """Return the name of the first setting that cannot be passed on, and why."""
    for name, value in _settings(program):
        try:
            _pickled(value)
        except Exception as error:  # noqa: BLE001  # whatever the user's classes raise
            return name, error
    return None


def _settings(program: Program) -> Iterator[tuple[str, object]]:
    for part in (program, program.config):
        for field in dataclasses.fields(part):
            if field.name != "config":
                yield field.name, getattr(part, field.name)
