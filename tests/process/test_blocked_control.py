"""The control socket while the event loop is blocked: a thread answers."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from wsgate.process import blocked_control
from wsgate.process.blocked_control import BlockedControl
from wsgate.process.commands import Arguments, CommandRefused, Part

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_control, "ANSWER_TIMEOUT", 0.08)


def answer(name: str, arguments: Arguments) -> list[Part]:
    if name == "refuse":
        raise CommandRefused("not now")
    return [{"name": name, **arguments}]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Yield a socket whose clients nobody accepts but the thread."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        control = BlockedControl(sock, answer)
        control.start()
        yield sock
        control.close()
        assert not control._thread.is_alive()


def ask(sock: socket.socket, request: bytes) -> list[Any]:
    """Return the lines of an answer, which ends the connection."""
    with socket.create_connection(sock.getsockname(), timeout=PATIENCE) as client:
        client.sendall(request)
        with client.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


def test_answers_one_after_the_other(listening: socket.socket) -> None:
    request = b'{"command": "stack", "arguments": {"worker": 1}}\n'
    for _ in range(2):
        assert ask(listening, request) == [{"part": {"name": "stack", "worker": 1}}, {"end": True}]
    assert ask(listening, b'{"command": "refuse"}\n') == [{"error": "not now"}]
    assert ask(listening, b"garbage\n") == [
        {"error": 'a request is an object of JSON with a "command"'}
    ]


def test_a_client_that_says_nothing_or_leaves(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_control, "_CLIENT_TIMEOUT", 0.05)
    with socket.create_connection(listening.getsockname(), timeout=PATIENCE) as silent:
        assert silent.recv(1) == b""
    assert ask(listening, b'{"command": "a"}\n')[-1] == {"end": True}


def test_it_leaves_clients_to_an_event_loop_that_accepts(listening: socket.socket) -> None:
    with socket.create_connection(listening.getsockname()):
        listening.accept()[0].close()
    assert ask(listening, b'{"command": "a"}\n')[-1] == {"end": True}


def test_the_end_while_a_client_waits() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        control = BlockedControl(sock, answer)
        control.start()
        with socket.create_connection(sock.getsockname()):
            control.close()
        assert not control._thread.is_alive()
