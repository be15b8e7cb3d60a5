"""What `wsgate ctl` shows on a terminal."""

import pytest

from wsgate.ctl import tables

SERVER = {
    "version": "1.2",
    "pid": 10,
    "state": "ready",
    "uptime": 3_725.0,
    "target": 2,
    "listening": ["http://127.0.0.1:8000", "unix socket a\x1bb"],
}
WORKER = {
    "number": 1,
    "pid": 11,
    "state": "ready",
    "age": 61.5,
    "connections": 12,
    "lag": 0.00042,
    "version": "1.2",
}
STARTING = {**WORKER, "number": 2, "pid": None, "state": "starting", "age": 0.1, "version": None}
WEBSOCKET: dict[str, object] = {
    "id": "11-1",
    "worker": 11,
    "address": "10.0.0.1:5000",
    "type": "websocket",
    "path": "/chat",
    "age": 86_400.0,
    "received_messages": 5,
    "received_bytes": 320,
    "sent_messages": 2,
    "sent_bytes": 2_097_152,
}
IDLE: dict[str, object] = {
    **WEBSOCKET,
    **dict.fromkeys(("address", "path", "age", "received_messages", "received_bytes")),
    **dict.fromkeys(("sent_messages", "sent_bytes")),
    "id": "11-20",
    "type": "closing",
}


def test_the_status() -> None:
    part = {"server": SERVER, "workers": [WORKER, STARTING]}
    assert list(tables.status([part])) == [
        "wsgate 1.2, pid 10, ready, for 1 h 2 m, target: 2 workers",
        "listening on http://127.0.0.1:8000",
        "listening on unix socket a\\x1bb",
        "",
        "WORKER  PID  STATE     AGE      CONNECTIONS  LAG     VERSION",
        "1       11   ready     1 m 1 s  12           0.4 ms  1.2",
        "2       -    starting  0 s      12           0.4 ms  -",
    ]


def test_a_pause_after_failures() -> None:
    part = {"server": {**SERVER, "listening": [], "next_start": 7.96}, "workers": []}
    assert list(tables.status([part]))[1] == (
        "workers have failed: the next one is started in 7.96 s"
    )


def test_connections_over_several_pages() -> None:
    pages: list[tables.Part] = [
        {"connections": [WEBSOCKET]},
        {"connections": [IDLE]},
        {"total": 2, "listed": 2},
    ]
    assert list(tables.connections(pages)) == [
        "ID     TYPE       CLIENT         AGE      RECEIVED   SENT         PATH",
        "11-1   websocket  10.0.0.1:5000  1 d 0 h  5 / 320 B  2 / 2.0 MiB  /chat",
        "11-20  closing    -              -        -          -            -",
        "",
        "2 connections",
    ]


def test_more_connections_than_the_limit_and_none_at_all() -> None:
    pages: list[tables.Part] = [{"connections": [WEBSOCKET]}, {"total": 50_000, "listed": 1}]
    assert list(tables.connections(pages))[-1] == "1 of 50000 connections"
    assert list(tables.connections([{"total": 0}])) == ["0 connections"]
    assert list(tables.connections([{"total": 3}])) == ["0 of 3 connections"]


def test_a_path_cannot_forge_a_line() -> None:
    pages: list[tables.Part] = [
        {"connections": [{**WEBSOCKET, "path": "/\x1b[2J\n1 connection"}]},
        {"total": 1},
    ]
    assert "/\\x1b[2J\\n1 connection" in list(tables.connections(pages))[1]


TOPIC = {
    "topic": "room:\x1b1",
    "subscribers": 1200,
    "at_most": 1200,
    "publishes_rate": 2.25,
    "deliveries_rate": 2700.0,
}


def test_topics() -> None:
    small = {"subscribers": 1, "at_most": 3, "publishes_rate": None, "deliveries_rate": None}
    pages: list[tables.Part] = [
        {"topics": [TOPIC]},
        {"topics": [{**TOPIC, **small, "topic": "b"}]},
        {"total": 90, "listed": 2, "subscriptions": 1400, "unanswered": []},
    ]
    assert list(tables.topics(pages)) == [
        "SUBSCRIBERS  PUBLISHES/S  DELIVERIES/S  TOPIC",
        "1200         2.2          2700.0        room:\\x1b1",
        "1+           -            -             b",
        "",
        "2 of 90 topics, 1400 subscriptions",
    ]
    assert list(tables.topics([{"total": 0, "subscriptions": 0}])) == ["0 topics, 0 subscriptions"]


def test_the_other_commands() -> None:
    restart = [{"restarting": 2}, {"newer": 1}, {"restarted": 1}]
    assert list(tables.restart(restart)) == ["Restarting 2 workers", "Restarted 1 worker"]
    assert list(tables.scale([{"target": 3, "before": 1}])) == ["3 workers instead of 1"]
    assert list(tables.drain([{"draining": 7}])) == ["Worker 7 stops as soon as a new one is ready"]
    assert list(tables.close([{"closed": "7-1", "code": 1012}])) == ["7-1 closed with 1012"]
    assert list(tables.close([{"closed": "7-1", "code": None}])) == ["7-1 aborted"]
    assert list(tables.log_level([{"log_level": "info"}])) == ["The log level is info"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (59.9, "59 s"), (60, "1 m 0 s"), (3_599, "59 m 59 s"), (3_600, "1 h 0 m")),
        *((86_399, "23 h 59 m"), (86_400, "1 d 0 h"), (9_000_000, "104 d 4 h")),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        *((0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (1_572_864, "1.5 MiB")),
        *((2**30, "1.0 GiB"), (2**44, "16384.0 GiB")),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert tables.size(count) == text


def test_stacks_of_workers_and_tasks() -> None:
    parts: list[tables.Part] = [
        {"worker": 7, "blocked": False, "stack": ["a", "b\x1b"], "tasks": 1},
        {"worker": 7, "task": "app\x1b", "stack": []},
        {"worker": 8, "blocked": True, "stack": ["c"], "tasks": None},
        {"unanswered": []},
    ]
    assert list(tables.stack(parts)) == [
        *("worker 7 is here, with 1 task:", "  a", "  b\\x1b", ""),
        *("worker 7, task app\\x1b:", "  nothing of Python", ""),
        *("worker 8 is blocked here:", "  c", ""),
    ]
