"""The lifecycle of a worker: its events, the drain of its WebSockets, the log during a stop."""

import asyncio
import logging
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.harness.log import capture_log
from tests.harness.waiting import until
from wsgate.config import Config
from wsgate.observe.events import ServerStarted, ServerStopped, ServerStopping
from wsgate.observe.observers import Observers
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

    def __init__(self, clock: Clock, *, is_open: bool = True) -> None:
        self._clock = clock
        self.is_open = is_open
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


class Item:
    """Something with a deadline that never returns."""

    bucket: int | None = None

    def check(self, now: float) -> float:
        raise AssertionError(now)


async def test_an_earlier_deadline_hastens_the_tick_until_the_stop() -> None:
    worker = Worker(app, Config(lifespan="off"))
    life = Lifecycle(worker)
    await life.start([])
    first = life._timer
    worker.deadlines.schedule(Item(), worker.clock() + 60)
    assert life._timer is first
    worker.deadlines.schedule(Item(), worker.clock() + 0.3)
    second = life._timer
    assert first is not None
    assert second is not None
    assert first.cancelled()
    assert second.when() < first.when()
    await life.stop(Owner(socket.socket()))
    assert second.cancelled()
    worker.deadlines.schedule(Item(), worker.clock())
    assert life._timer is second


async def test_a_timer_that_cannot_be_set_leaves_the_one_before() -> None:
    def failing(*_: object, **__: object) -> None:
        raise RecursionError

    worker = Worker(app, Config(lifespan="off"))
    life = Lifecycle(worker)
    await life.start([])
    worker.__dict__["loop"] = SimpleNamespace(call_later=failing)
    with pytest.raises(RecursionError):
        worker.deadlines.schedule(Item(), worker.clock())
    del worker.__dict__["loop"]
    assert life._timer is not None
    assert not life._timer.cancelled()
    await life.stop(Owner(socket.socket()))


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


async def test_a_handshake_takes_no_share_of_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    life, websockets, clock = new_worker(2, monkeypatch)
    pending = [Open(clock, is_open=False) for _ in range(8)]
    life.worker.websockets = cast("Any", dict(enumerate([*pending, *websockets])))
    await life._drain(10)
    monkeypatch.undo()
    assert not any(one.drained for one in pending)
    assert websockets[0].drained == [0.0]
    assert websockets[1].drained == pytest.approx([5.0], abs=module.DRAIN_STEP)


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


# -- events, and the log of a stop -----------------------------------------------------------------


class Owner:
    """Owns the socket of a test."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inherited: set[socket.socket] = set()
        self.goes_on = False
        self.calls: list[str] = []

    def withdraw(self) -> None:
        self.calls.append("withdraw")

    def close(self) -> None:
        self.calls.append("close")
        self.sock.close()


async def test_observers_see_the_start_and_the_stop() -> None:
    events: list[Any] = []
    worker = Worker(app, Config(lifespan="off"))
    worker.observers = Observers([events.append])
    sock = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    life, owner = Lifecycle(worker), Owner(sock)
    await life.start([sock])
    assert events == [ServerStarted((address,))]
    await life.stop(owner)
    assert events[1:] == [ServerStopping((address,)), ServerStopped((address,))]
    assert owner.calls == ["withdraw", "close"]


async def test_a_stop_that_takes_long_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_REPORT", 0.0)
    monkeypatch.setattr(module, "REPORT_INTERVAL", 1_000.0)
    worker = Worker(app, Config())
    worker.connections = cast("Any", {object(), object()})
    life = Lifecycle(worker)
    with capture_log() as log:
        ending = asyncio.create_task(life._wait_until_idle(100.0))
        await until(lambda: log.messages(logging.INFO))
        worker.connections.clear()
        worker.ended.wake()
        assert await ending is True
    assert log.messages(logging.INFO) == ["Waiting for 2 connections, at most 100 s"]


async def test_a_stop_does_not_wait_longer_than_it_may() -> None:
    worker = Worker(app, Config())
    worker.connections = cast("Any", {object()})
    assert await Lifecycle(worker)._wait_until_idle(0.01) is False
