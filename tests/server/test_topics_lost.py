"""Topics whose messages were lost with their broker: who is closed, and when."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.harness.client import close_code
from tests.harness.memory import Peer, opened
from tests.harness.waiting import is_waiting, soon, start_task, turns, until
from wsgate.server import spread_closing
from wsgate.server.spread_closing import SpreadClosing
from wsgate.server.topic_service import TopicService
from wsgate.topics import Overrun, Topics, of

pytestmark = pytest.mark.usefixtures("no_task_left")
RULES = {"topics_rule": "room* history=10"}


@pytest.fixture
async def ws(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Peer]:
    """Return an open WebSocket whose worker has topics."""
    monkeypatch.setattr(spread_closing, "STEP", 0.0)
    async with opened(**RULES) as peer:
        await service_of(peer).start()
        try:
            yield peer
        finally:
            await service_of(peer).stop()


def service_of(ws: Peer) -> TopicService:
    return ws.client.worker.topics


def topics_of(ws: Peer) -> Topics:
    return of(ws.call.scope)


async def test_a_subscriber_is_closed_and_gets_nothing_more(ws: Peer) -> None:
    topics = topics_of(ws)
    await topics.subscribe("room")
    await topics.subscribe("room 2")
    service_of(ws).lost("room")
    await topics.publish("room", "after the gap")
    await topics.publish("room 2", "another topic")
    assert await ws.read_texts(1) == ["another topic"]
    assert close_code(await ws.read_frame()) == (1012, "service restart")
    assert ws.log.warnings == ["Messages of topics were lost: closing 1 WebSocket with 1012"]


async def test_nobody_else_is_closed(ws: Peer) -> None:
    topics = topics_of(ws)
    await topics.subscribe("room")
    await topics.subscribe("plain")
    for topic in ("room 2", "plain", "unknown"):
        service_of(ws).lost(topic)
    await topics.publish("room", "on")
    assert await ws.read_texts(1) == ["on"]
    assert not ws.log.warnings


async def test_a_listener_overruns_after_what_it_has(ws: Peer) -> None:
    topics = topics_of(ws)
    async with topics.listen("room") as messages:
        await topics.publish("room", "before")
        service_of(ws).lost("room")
        await topics.publish("room", "after the gap")
        iterator = aiter(messages)
        assert (await anext(iterator)).data == "before"
        with pytest.raises(Overrun):
            await anext(iterator)
    assert not topics.subscribers("room")


async def test_a_listener_that_waits_overruns_at_once(ws: Peer) -> None:
    topics = topics_of(ws)
    async with topics.listen("room") as messages:
        waiting = start_task(anext(aiter(messages)))
        assert await is_waiting(waiting)
        service_of(ws).lost("room")
        with pytest.raises(Overrun):
            await soon(waiting)


async def test_a_member_of_a_lost_topic_has_left_it(ws: Peer) -> None:
    topics = topics_of(ws)
    await topics.subscribe("room", member="ada")
    service_of(ws).lost("room")
    assert await topics.members("room") == {}


async def test_drops_of_a_broker_are_counted(ws: Peer) -> None:
    service_of(ws).count_dropped("hub")
    assert service_of(ws).counts.dropped == {"hub": 1}


async def test_the_rules_of_the_settings_come_before_those_of_the_app(ws: Peer) -> None:
    (first, *_) = service_of(ws).rule_entries()
    assert (first[0], first[1].history) == ("room*", 10)


# -- spread over some seconds ----------------------------------------------------------------------


class FakeSocket:
    """Notes that it was closed."""

    def __init__(self, closed: list["FakeSocket"]) -> None:
        self._closed = closed

    def close_to_recover(self) -> None:
        self._closed.append(self)


def sockets(count: int, closed: list[FakeSocket]) -> list[Any]:
    return [cast("Any", FakeSocket(closed)) for _ in range(count)]


async def test_many_are_closed_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_closing, "SECONDS", 0.04)
    monkeypatch.setattr(spread_closing, "STEP", 0.01)
    closed: list[FakeSocket] = []
    closing = SpreadClosing()
    waiting = sockets(10, closed)
    closing.add(waiting)
    await asyncio.sleep(0)
    assert len(closed) == 3  # a quarter, rounded up
    await until(lambda: len(closed) == 10)
    assert closed == waiting
    closing.add(sockets(1, closed))  # it may be used again
    await until(lambda: len(closed) == 11)
    closing.stop()


async def test_nobody_is_closed_after_the_stop() -> None:
    closed: list[FakeSocket] = []
    closing = SpreadClosing()
    closing.add([])
    closing.stop()
    closing.add(sockets(1000, closed))
    await turns()
    count = len(closed)
    closing.stop()
    await turns()
    assert 0 < len(closed) == count < 1000
