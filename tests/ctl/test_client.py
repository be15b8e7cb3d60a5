"""The client of a control socket, and its errors."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgate.ctl import client
from wsgate.ctl.client import ControlError, parts

PATIENCE = 30.0


@contextlib.contextmanager
def answering(path: Path, answer: bytes, *, waits: bool = False) -> Iterator[list[Any]]:
    """Answer the first request with these bytes; yield the list of requests."""
    requests: list[Any] = []
    done = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as lines:
            requests.append(json.loads(lines.readline()))
            connection.sendall(answer)
            if waits:
                done.wait(PATIENCE)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            done.set()
            thread.join(PATIENCE)


def error_of(path: object, command: str = "status") -> str:
    with pytest.raises(ControlError) as raised:
        list(parts(str(path), command, {}))
    return str(raised.value)


def test_a_command_and_the_parts_of_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    answer = b'{"part": {"a": 1}}\n{"newer": 1}\n{"part": {"b": 2}}\n{"end": true}\n'
    with answering(path, answer) as requests:
        assert list(parts(str(path), "scale", {"target": 3, "none": None})) == [{"a": 1}, {"b": 2}]
    assert requests == [{"command": "scale", "arguments": {"target": 3}}]


def test_a_refusal_follows_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with answering(path, b'{"part": {"a": 1}}\n{"error": "not now"}\n'):
        answer = parts(str(path), "x", {})
        assert next(answer) == {"a": 1}
        with pytest.raises(ControlError, match=r"^not now$"):
            next(answer)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the server has ended the connection"),
        (b'{"part": {}}\n', "the server has ended the connection"),
        (b'{"end": tr', "the server has ended the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n", "the answer is not from wsgate"),
        (b"[]\n", "the answer is not from wsgate"),
        (b"\xff\n", "the answer is not from wsgate"),
    ],
)
def test_another_answer_is_one_line(tmp_path: Path, answer: bytes, reason: str) -> None:
    path = tmp_path / "s"
    with answering(path, answer):
        assert error_of(path) == f"control socket {path}: {reason}"


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 0.05)
    path = tmp_path / "s"
    with answering(path, b"", waits=True):
        assert error_of(path) == f"control socket {path}: no answer within 0.05 s"


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LONGEST_LINE", 100)
    path = tmp_path / "s"
    with answering(path, b'{"part": "' + b"x" * 200 + b'"}\n'):
        assert "has ended the connection" in error_of(path)


def test_a_socket_that_cannot_be_used_names_its_path(tmp_path: Path) -> None:
    path = tmp_path / "s"
    missing = "no such file: is the server running, with --control-socket?"
    assert error_of(path) == f"control socket {path}: {missing}"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    refused = "connection refused: no server listens there"
    assert error_of(path) == f"control socket {path}: {refused}"
    file = tmp_path / "file"
    file.touch()
    assert error_of(file) == f"control socket {file}: {refused}"
    assert "too long" in error_of("x" * 200)


def test_a_socket_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who may connect to every socket.
    def connect(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert error_of("s") == "control socket s: permission denied: only its owner may connect"
