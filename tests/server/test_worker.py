import asyncio
import functools
import math
import random
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import ANY

import pytest

from wsgate import __version__
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection
from wsgate.http.h1.h11_parser import H11Http1Connection
from wsgate.http.request import HeadLimits, head_limits
from wsgate.server import worker as module
from wsgate.server.deadlines import _MAX_CHECKS, MAX_PAUSE, TICK
from wsgate.server.other_workers import NoOtherWorkers
from wsgate.server.worker import Worker
from wsgate.ws.codes import MESSAGE_TOO_BIG
from wsgate.ws.deflate.negotiation import DeflateSettings
from wsgate.ws.frames.codec import Fail

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

SERVER = (b"server", b"wsgate/" + __version__.encode())


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Have the date of the day turned by hand."""
    clock = Clock()
    clock.now = 784_111_777.0  # RFC 9110 section 5.6.7's Sun, 06 Nov 1994 08:49:37 GMT
    turned = SimpleNamespace(time=clock, monotonic=time.monotonic)
    monkeypatch.setattr(module, "time", turned)
    return clock


def context(**options: Any) -> Worker:
    return Worker(app, Config(**options), Clock())


def headers(**options: Any) -> list[tuple[bytes, bytes]]:
    return context(date_header=False, **options).default_headers


# -- settings --------------------------------------------------------------------------------------


def turn(made: Worker, at: float) -> None:
    cast("Clock", made._time).now = at


def test_a_new_context_is_empty() -> None:
    made = Worker(app, Config())
    assert made.app is app
    assert abs(made.clock() - time.monotonic()) < 60
    assert (made.connections, made.tasks, made.state, made.stopping) == (set(), set(), {}, False)
    assert made.deflate == DeflateSettings()


def test_limits_are_passed_on() -> None:
    made = context(limit_request_head=1_000, ws_max_size=2_000, ws_per_message_deflate=False)
    assert made.head_limits == HeadLimits(size=1_000)
    assert made.make_codec(None).take(1, b"\x82\xfe" + (2_001).to_bytes(2) + bytes(4)) == (
        Fail(MESSAGE_TOO_BIG, ANY),
    )
    assert made.deflate is None


def test_a_larger_head_may_hold_a_longer_target_and_more_fields() -> None:
    assert context(limit_request_head=200_000).head_limits == head_limits(200_000)
    made = context(limit_request_head=200_000, limit_request_target=100_000, limit_request_fields=7)
    assert made.head_limits == HeadLimits(200_000, 100_000, 7)


# -- what parses HTTP ------------------------------------------------------------------------------


def test_which_driver_parses_http() -> None:
    assert context().http1 is context(http="fast").http1 is BuiltinHttp1Connection
    assert context(http="h11").http1 is H11Http1Connection


# -- headers ---------------------------------------------------------------------------------------


def test_the_headers_of_every_response(wall: Clock) -> None:
    made = context()
    assert made.default_headers == [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), SERVER]


def test_the_date_changes_every_second(wall: Clock) -> None:
    made = context()
    before = made.default_headers
    wall.now += 0.9
    made.refresh_date()
    assert made.default_headers is before
    wall.now += 0.1
    made.tick()
    assert made.default_headers[0] == (b"date", b"Sun, 06 Nov 1994 08:49:38 GMT")
    assert before[0] == (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")


def test_the_date_follows_a_clock_that_is_put_back(wall: Clock) -> None:
    made = context()
    wall.now -= 3_600
    made.tick()
    assert made.default_headers[0] == (b"date", b"Sun, 06 Nov 1994 07:49:37 GMT")
    wall.now += 1
    made.tick()
    assert made.default_headers[0] == (b"date", b"Sun, 06 Nov 1994 07:49:38 GMT")


def test_each_server_header_can_be_switched_off(wall: Clock) -> None:
    assert context(date_header=False).default_headers == [SERVER]
    assert context(server_header=False, date_header=False).default_headers == []


def test_configured_headers_are_sent() -> None:
    added = [("X-Name", "wert \xe9"), ("x-name", " two ")]
    assert headers(headers=added) == [SERVER, (b"x-name", b"wert \xe9"), (b"x-name", b"two")]


def test_a_configured_server_header_replaces_ours() -> None:
    assert headers(headers=[("Server", "mine")]) == [(b"server", b"mine")]


def test_a_configured_date_header_replaces_ours() -> None:
    date = ("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
    made = context(headers=[date]).default_headers
    assert made == [SERVER, (b"date", date[1].encode())]


def test_the_configured_server_header_stays_if_ours_is_off() -> None:
    only = [("server", "mine"), ("x", "y")]
    assert headers(headers=only, server_header=False) == [(b"server", b"mine"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (("a b", "c"), "--header: 'a b' is not the name of a header"),
        (("", "c"), "--header: '' is not the name of a header"),
        (("h\xe9", "c"), "--header: 'h\xe9' is not the name of a header"),
        (
            ("a", "b\r\nc: d"),
            "--header: the value of a has a control character",
        ),
        (("Content-Length", "5"), "--header: content-length is set by the server"),
        (("Transfer-Encoding", "chunked"), "--header: transfer-encoding is set by the server"),
        (("Connection", "close"), "--header: connection is set by the server"),
        (("Upgrade", "h2c"), "--header: upgrade is set by the server"),
    ],
)
def test_a_header_that_would_break_every_response(header: tuple[str, str], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        context(headers=[header])
    assert str(raised.value) == error


def test_a_header_that_cannot_be_encoded() -> None:
    with pytest.raises(ConfigError, match=r"^--header: .*latin-1"):
        context(headers=[("a", "\u65e5")])


# -- what is under way -----------------------------------------------------------------------------


class Item:
    """A connection, as far as the context needs one."""

    def __init__(self) -> None:
        self.bucket: int | None = None
        self.checked: list[float] = []

    def check(self, now: float) -> float:
        self.checked.append(now)
        return math.inf


def test_a_tick_checks_expired_deadlines() -> None:
    made, item = context(), Item()
    made.deadlines.schedule(item, 101.0)
    assert made.tick() == MAX_PAUSE
    assert item.checked == []
    turn(made, 101.0)
    assert made.tick() == MAX_PAUSE
    assert item.checked == [101.0]


def test_a_tick_is_planned_for_the_next_deadline() -> None:
    made, item = context(), Item()
    made.deadlines.schedule(item, 100.6)
    assert made.tick() == pytest.approx(0.75, abs=0.01)
    made.deadlines.schedule(item, 100.3)
    assert made.hasten_tick() == pytest.approx(0.5, abs=0.01)
    turn(made, 100.5)
    made.tick()
    assert item.checked == [100.5]


@pytest.mark.parametrize(("late", "excluded"), [(0.2, 0.0), (0.3, 1.05), (5.0, 5.75)])
def test_a_longer_pause_in_which_the_loop_may_have_been_blocked_postpones_the_deadlines(
    late: float, excluded: float
) -> None:
    made = context()
    assert made.tick() == MAX_PAUSE
    turn(made, 100.0 + MAX_PAUSE + late)
    made.tick()
    assert made.clock() == pytest.approx(100.0 + MAX_PAUSE + late - excluded)
    assert made.blocked == pytest.approx(excluded if late > 1 else 0.0)


def test_a_blocked_loop_postpones_the_deadlines() -> None:
    made, item = context(), Item()
    made.deadlines.schedule(item, 102.0)
    made.tick()
    turn(made, 100.0 + TICK + 5)
    made.tick()
    assert made.clock() == 100.0 + TICK
    assert item.checked == []
    assert made.blocked == 5.0
    turn(made, 100.0 + TICK + 5 + TICK)
    made.tick()
    assert made.clock() == 100.0 + 2 * TICK
    assert made.blocked == 0.0


def test_a_tick_that_leaves_deadlines_runs_again_immediately() -> None:
    made, items = context(), [Item() for _ in range(_MAX_CHECKS + 1)]
    for item in items:
        made.deadlines.schedule(item, 100.0)
    assert made.tick() == 0.0
    assert made.tick() == MAX_PAUSE
    assert all(item.checked for item in items)


async def test_an_ended_connection_is_removed_and_reported() -> None:
    made, item = context(), Item()
    connection = cast("Connection", item)
    made.connections.add(connection)
    made.deadlines.schedule(item, 200.0)
    waiter = asyncio.create_task(made.ended.wait())
    await asyncio.sleep(0)
    made.connection_ended(connection)
    async with asyncio.timeout(10):
        await waiter
    assert made.connections == set()
    assert item.bucket is None
    made.connection_ended(connection)


async def test_an_ended_call_is_removed_and_reported() -> None:
    made = context()
    task = asyncio.create_task(app({}, None, None))
    made.exchanges[task] = cast("Any", None)
    waiter = asyncio.create_task(made.ended.wait())
    await asyncio.sleep(0)
    made.task_ended(task)
    async with asyncio.timeout(10):
        await waiter
        await task
    assert made.tasks == set()


async def test_the_limit_applies_to_running_calls() -> None:
    made = context(limit_concurrency=2)
    tasks = [asyncio.create_task(app({}, None, None)) for _ in range(2)]
    seen: list[bool] = []
    for registry in (made.exchanges, made.websockets):
        cast("Any", registry)[tasks[len(seen)]] = None
        seen.append(made.is_full)
    made.task_ended(tasks[0])
    seen.append(made.is_full)
    assert seen == [False, True, False]
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)


async def test_the_calls_of_the_other_workers_count_towards_the_limit() -> None:
    class Others(NoOtherWorkers):
        elsewhere = 0

        def report_calls(self, running: int) -> None:
            reported.append(running)

        def calls(self) -> int:
            return self.elsewhere

    reported: list[int] = []
    others = Others()
    made = Worker(app, Config(limit_concurrency=3), other_workers=others)
    for others.elsewhere, is_full, counts in ((2, False, [1]), (3, True, [1, 0])):
        reported.clear()
        assert made.is_full == is_full
        assert reported == counts, "counted before it is checked, and no more if it is refused"
    task = asyncio.create_task(asyncio.sleep(0))
    made.task_ended(task)
    assert reported[-1] == 0
    await task


async def test_without_a_limit_there_is_always_room() -> None:
    made = context()
    tasks = [asyncio.create_task(app({}, None, None)) for _ in range(100)]
    made.exchanges.update(dict.fromkeys(tasks, cast("Any", None)))
    assert not made.is_full
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)


# -- the limit of requests -------------------------------------------------------------------------


async def test_the_server_is_asked_to_stop_after_the_last_call() -> None:
    worker = context(limit_max_requests=3)
    asked: list[int] = []
    for number in range(5):
        worker.ask_to_stop = functools.partial(asked.append, number)
        task = asyncio.create_task(asyncio.sleep(0))
        registry: Any = worker.websockets if number % 2 else worker.exchanges
        registry[task] = None
        await task
        worker.on_task_end(task)
        assert worker.is_idle
    assert asked == [2], "at the third call, and only once"


async def test_without_a_server_nobody_is_asked() -> None:
    worker = context(limit_max_requests=1)
    worker.on_task_end(asyncio.create_task(asyncio.sleep(0)))


def test_without_a_limit_nothing_is_counted() -> None:
    worker = context()
    assert worker.on_task_end == worker.task_ended


def test_the_limit_gets_a_random_number_more(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[int, int]] = []

    def randint(low: int, high: int) -> int:
        bounds.append((low, high))
        return high

    monkeypatch.setattr(random, "randint", randint)
    assert context(limit_max_requests=10, limit_max_requests_jitter=5)._calls_left == 15
    assert context(limit_max_requests=10)._calls_left == 10
    assert bounds == [(0, 5), (0, 0)]
    assert context(limit_max_requests_jitter=5)._calls_left is None


@pytest.mark.parametrize("ws", ["auto", "websockets", "websockets-sansio", "wsproto", "none"])
def test_what_a_connection_may_switch_to(ws: str) -> None:
    assert context(ws=ws).upgrade_to == (None if ws == "none" else b"websocket")
