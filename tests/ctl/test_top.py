"""`wsgate ctl top`: rates, their order, and what is printed."""

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from click.testing import CliRunner, Result

from wsgate import cli
from wsgate.ctl import client
from wsgate.ctl.client import ControlError, Part
from wsgate.ctl.top import Query, Sample, lines, order, report, with_rates

WORKERS: list[Part] = [
    {"number": 1, "pid": 7, "connections": 2},
    {"number": 2, "pid": None, "connections": 0},
]


def websocket(name: str, count: int, age: float = 10, trip: float | None = None) -> Part:
    """Return a WebSocket with so many messages, of ten bytes each, in each direction."""
    traffic = {"received_messages": count, "received_bytes": 10 * count}
    traffic |= {"sent_messages": count, "sent_bytes": 10 * count}
    place = {"id": name, "type": "websocket", "address": "10.0.0.1:5", "path": "/chat"}
    return {**place, **traffic, "age": age, "round_trip": trip}


IDLE = websocket("7-9", 0) | dict.fromkeys(
    ("received_messages", "received_bytes", "sent_messages", "sent_bytes", "path", "age")
)


def sample(at: float, *connections: Part, unanswered: tuple[int, ...] = ()) -> Sample:
    return Sample(at, WORKERS, {one["id"]: one for one in connections}, list(unanswered))


def rates(*samples: Sample) -> dict[str, tuple[Any, Any]]:
    before, now = samples if len(samples) > 1 else (None, samples[0])
    return {one["id"]: (one["bytes_rate"], one["messages_rate"]) for one in with_rates(now, before)}


def test_rates_since_the_sample_before_or_since_the_opening() -> None:
    assert rates(sample(0, websocket("a", 50))) == {"a": (100, 10)}
    now = sample(2, websocket("a", 53), websocket("b", 4, age=1), {**IDLE, "id": "c"})
    before = sample(0, websocket("a", 50), {**IDLE, "id": "c"})
    assert rates(before, now) == {"a": (30, 3), "b": (80, 8), "c": (None, None)}


def test_a_connection_that_has_become_a_websocket_and_one_that_is_new() -> None:
    before = sample(0, {**IDLE, "id": "a"})
    assert rates(before, sample(2, websocket("a", 5, age=1))) == {"a": (100, 10)}
    assert rates(sample(0, websocket("a", 0, age=0))) == {"a": (0, 0)}


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("bytes", ["b", "a", "idle"]),
        ("messages", ["b", "a", "idle"]),
        ("round-trip", ["a", "idle", "b"]),
        ("age", ["b", "a", "idle"]),
    ],
)
def test_the_order(sort: str, names: list[str]) -> None:
    one, two = websocket("a", 1, trip=0.0), websocket("b", 90, age=20)
    now = sample(0, {**IDLE, "id": "idle"}, one, two)
    assert [found["id"] for found in order(with_rates(now, None), sort)] == names


def test_the_table() -> None:
    now = sample(0, websocket("7-1", 500, trip=0.0123), IDLE, unanswered=(8,))
    assert list(lines(report(now, None, Query({})))) == [
        "2 connections, 100.0 messages/s, 1000 B/s",
        "workers: 1 (pid 7) 2, 2 (pid -) 0",
        "no answer from worker 8",
        "",
        "ID   TYPE       CLIENT      AGE   BYTES/S   MESSAGES/S  BYTES    ROUND TRIP  PATH",
        "7-1  websocket  10.0.0.1:5  10 s  1000 B/s  100.0       9.8 KiB  12.3 ms     /chat",
        "7-9  websocket  10.0.0.1:5  -     -         -           -        -           -",
    ]


def test_the_limit_is_of_what_is_shown() -> None:
    now = sample(3, websocket("a", 1), websocket("b", 2))
    shown = report(now, sample(1), Query({}, limit=1))
    assert ([one["id"] for one in shown["connections"]], shown["total"]) == (["b"], 2)
    assert (shown["seconds"], shown["messages_rate"]) == (2, 0.6)


# -- the command -----------------------------------------------------------------------------------


class Server:
    """Stands in for the client: one WebSocket, ten messages more each time. fails: later."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.fails = 10
        self._counts = itertools.count(100, 10)

    def __call__(self, _: str, command: str, arguments: Mapping[str, Any]) -> Iterator[Part]:
        if command == "status":
            yield {"server": {}, "workers": WORKERS}
            return
        self.requests.append({key: one for key, one in arguments.items() if one is not None})
        if len(self.requests) > self.fails:
            raise ControlError("gone")
        yield {"connections": [websocket("7-1", next(self._counts))]}
        yield {"total": 1, "listed": 1, "unanswered": []}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(client, "parts", server)
    return server


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.main, ("ctl", "top", "--socket", "s", *args), prog_name="wsgate")


def test_one_sample_with_filters(server: Server) -> None:
    result = invoke("--once", "--path", "/c*", "--address", "10.0.0.0/8", "--worker", "2")
    shown = json.loads(result.output)
    assert [one["id"] for one in shown["connections"]] == ["7-1"]
    assert server.requests == [{"path": "/c*", "address": "10.0.0.0/8", "worker": 2, "limit": 0}]
    table = invoke("--once", "--table").output.splitlines()
    assert table[0].startswith("1 connection, ")
    assert table[-1].startswith("7-1  websocket")


def test_a_line_for_each_sample_until_the_server_has_ended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 2.0 * len(server.requests))
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.fails = 3
    result = invoke("--interval", "0.5")
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [part["messages_rate"] for part in shown] == [20, 10, 10]
    assert pauses == [0.5] * 3
    assert (result.stderr, result.exit_code) == ("Error: gone\n", 1)


def test_ctrl_c_ends_it_quietly(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    result = invoke()
    assert (len(server.requests), result.stderr, result.exit_code) == (1, "", 0)


@pytest.mark.parametrize("args", [("--interval", "0"), ("--sort", "name"), ("--limit", "-1")])
def test_wrong_use(server: Server, args: tuple[str, ...]) -> None:
    assert invoke(*args).exit_code == 2
    assert not server.requests
