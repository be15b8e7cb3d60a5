"""What a worker process is told when it starts: what to serve, with which settings and files."""

import pickle
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TypeVar

from wsgate.errors import ConfigError
from wsgate.process.program import Program

_LENGTH = struct.Struct("!I")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one worker is told.

    Attributes:
        program: What it serves.
        path: Folders to search for modules.
        arguments: Of the command line.
        row: Its row of the scoreboard.
        count: How many workers the server has.
        scoreboard: Descriptor of the scoreboard's file.
        beat: Seconds between two signs that its event loop runs.
        stacks: Descriptor of the pipe for its stack, should its event loop be blocked.
        sockets: Descriptors of the listening sockets.
        inherited: Those of them that another program has as well, such as systemd.
    """

    program: Program
    path: list[str]
    arguments: list[str]
    row: int
    count: int
    scoreboard: int
    beat: float
    stacks: int
    sockets: list[int]
    inherited: list[int]


def send(sock: socket.socket, assignment: Assignment) -> None:
    """Send an assignment to a new worker.

    Raises:
        ConfigError: A value cannot be passed to another process.
    """
    _send(sock, assignment)


def receive(sock: socket.socket) -> Assignment | None:
    """Return the assignment of this worker; None if the supervisor has ended meanwhile."""
    return _receive(sock, Assignment)


def send_program(sock: socket.socket, program: Program) -> None:
    """Send a program to the process of --preload, and what its modules are found by.

    Raises:
        ConfigError: A value cannot be passed to another process.
    """
    _send(sock, (program, sys.path, sys.argv))


def receive_program(sock: socket.socket) -> Program | None:
    """Return the program, with `sys` set up for it; None if the supervisor has ended meanwhile."""
    received = _receive(sock, tuple)
    if received is None:
        return None
    program, sys.path[:], sys.argv[:] = received
    assert isinstance(program, Program)
    return program


def _send(sock: socket.socket, value: object) -> None:
    try:
        data = pickle.dumps(value)
    except Exception as error:  # noqa: BLE001  # whatever the user's classes raise
        raise ConfigError(f"--workers: a setting cannot be passed to a worker: {error}") from None
    sock.sendall(_LENGTH.pack(len(data)) + data)


def _receive(sock: socket.socket, kind: type[T]) -> T | None:
    head = _read(sock, _LENGTH.size)
    if head is None:
        return None
    data = _read(sock, *_LENGTH.unpack(head))
    if data is None:
        return None
    value = pickle.loads(data)  # noqa: S301  # from the process that started this one
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
