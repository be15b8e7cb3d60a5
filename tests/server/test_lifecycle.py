"""The end of a worker: how its WebSockets are drained."""

from typing import Any, cast

import pytest

from wsgate.config import Config
from wsgate.server import lifecycle as module
from wsgate.server.lifecycle import Lifecycle
from wsgate.server.worker import Worker


class Clock:
    """A loop's time that moves when the drain sleeps, and never otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
        self.now = 0.0
        self.sleeps = 0
        worker.__dict__["loop"] = type("Loop", (), {"time": lambda _: self.now})()
        turned = type("Turned", (), {"sleep": lambda _, seconds: self.sleep(seconds)})
        monkeypatch.setattr(module, "asyncio", turned())

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.now += seconds


class Open:
    """A WebSocket, as far as a drain needs one: when it was closed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.drained: list[float] = []

    def drain(self) -> None:
        self.drained.append(self._clock.now)


async def app(*_: Any) -> None:
    raise AssertionError("the app is not called")


def new_worker(count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Lifecycle, list[Open], Clock]:
    """Return a worker with some WebSockets open."""
    worker = Worker(app, Config())
    clock = Clock(monkeypatch, worker)
    websockets = [Open(clock) for _ in range(count)]
    worker.websockets = cast("Any", dict(enumerate(websockets)))
    worker.connections = cast("Any", set(websockets))
    return Lifecycle(worker), websockets, clock


async def drained(
    monkeypatch: pytest.MonkeyPatch, count: int, seconds: float
) -> tuple[list[float], Clock]:
    life, websockets, clock = new_worker(count, monkeypatch)
    await life._drain(seconds)
    monkeypatch.undo()
    assert all(len(websocket.drained) == 1 for websocket in websockets)
    return sorted(websocket.drained[0] for websocket in websockets), clock


@pytest.mark.parametrize("count", [1, 7, 100, 5_000])
async def test_a_drain_is_even(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    times, _ = await drained(monkeypatch, count, 10)
    for at, time in enumerate(times):
        assert abs(time - 10 * at / count) <= module.DRAIN_STEP + 1e-9


@pytest.mark.parametrize("count", [0, 1, 1_000])
async def test_without_seconds_all_are_closed_at_once(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    times, clock = await drained(monkeypatch, count, 0)
    assert times == [0.0] * count
    assert clock.sleeps == 0


async def test_a_drain_ends_with_the_last_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    life, websockets, clock = new_worker(10, monkeypatch)

    async def leave(seconds: float) -> None:
        clock.sleeps += 1
        life.worker.connections.clear()

    monkeypatch.setattr(clock, "sleep", leave)
    await life._drain(1_000)
    monkeypatch.undo()
    assert clock.sleeps == 1
    assert sum(len(websocket.drained) for websocket in websockets) == 1
