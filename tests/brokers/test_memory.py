"""The broker of one process: order, ids, what was missed, and when it has something to do."""

import math
from collections.abc import Sequence

import pytest
import pytest_asyncio

from tests.harness.hubs import FakeWorker
from wsgate.brokers.memory import MemoryBroker
from wsgate.testing import ManualClock
from wsgate.topics.errors import LimitReached
from wsgate.topics.outlet import MIN_COUNTED
from wsgate.topics.presence import GRACE, Change
from wsgate.topics.publication import Publication
from wsgate.topics.rules import ID_LIFETIMES, PLAIN, Rules, make_rules

KEPT = make_rules(history=3, history_seconds=10.0)
ROOM = "room"


class Receiver(FakeWorker):
    """Notes what the broker calls."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str | bytes, object | None]] = []

    def deliver(self, publication: Publication, excluded: object | None) -> None:
        self.noted.append((publication.data, excluded))

    def subscribers(self, topic: str) -> int:
        return len(topic)

    def lost(self, topic: str) -> None:
        raise AssertionError("the histories are here")

    def count_dropped(self, cause: str) -> None:
        raise AssertionError("nothing is sent elsewhere")

    def rules_of(self, topic: str) -> Rules:
        raise AssertionError("each publication comes with its rules")

    def rule_entries(self) -> Sequence[tuple[str, Rules]]:
        raise AssertionError("nobody else needs them")


class Scheduler:
    """Notes when the broker wants to be checked first."""

    def __init__(self) -> None:
        self.at = math.inf

    def schedule(self, item: MemoryBroker, at: float) -> None:
        self.at = min(self.at, at)


class Setup:
    """A broker with all that it knows."""

    def __init__(self) -> None:
        self.clock, self.receiver, self.scheduler = ManualClock(), Receiver(), Scheduler()
        self.broker = MemoryBroker(self.clock, self.scheduler, 10 * MIN_COUNTED)

    async def publish(
        self, data: str, id_: str | None = None, *, topic: str = ROOM, is_kept: bool = True
    ) -> Publication:
        publication = Publication(topic, data, id_)
        await self.broker.publish(publication, KEPT, None, is_kept=is_kept)
        return publication

    async def missed(self, after: str | None = None, last: int = 0) -> tuple[list[object], bool]:
        found = await self.broker.missed(ROOM, after, last)
        return [one.data for one in found.publications], found.is_complete

    def wait(self, seconds: float) -> float:
        """Move the clock and have the broker checked; returns when it wants to be checked next."""
        self.clock.now += seconds
        return self.broker.check(self.clock.now) - self.clock.now


@pytest_asyncio.fixture
async def here() -> Setup:
    setup = Setup()
    await setup.broker.start(setup.receiver)
    return setup


async def test_a_plain_message_is_delivered_and_has_no_place(here: Setup) -> None:
    excluded = object()
    publication = Publication(ROOM, "x", "1")
    for _ in range(2):
        await here.broker.publish(publication, PLAIN, excluded, is_kept=True)
    assert here.receiver.noted == [("x", excluded)] * 2
    assert publication.place == 0
    assert await here.missed(after="1") == ([], False)
    assert here.scheduler.at == math.inf, "nothing is due"


async def test_messages_with_history_have_one_order(here: Setup) -> None:
    places = [(await here.publish(data, topic=topic)).place for data, topic in ("ab", "bb", "ab")]
    places.append((await here.publish("live", is_kept=False)).place)
    assert places == sorted(set(places))
    assert len(here.receiver.noted) == 4


async def test_an_id_that_is_held_is_not_delivered_again(here: Setup) -> None:
    for id_ in ("1", "1", "2"):
        await here.publish("m" + id_, id_)
    assert [data for data, _ in here.receiver.noted] == ["m1", "m2"]
    await here.publish("elsewhere", "1", topic="other")
    assert len(here.receiver.noted) == 3


async def test_ids_that_it_makes_differ_also_from_those_of_another_start(here: Setup) -> None:
    ids = {(await here.publish("x")).id for _ in range(3)}
    other = Setup()
    await other.broker.start(other.receiver)
    ids |= {(await other.publish("x")).id for _ in range(3)}
    assert len(ids) == 6
    assert None not in ids


async def test_what_was_missed(here: Setup) -> None:
    for number in "1234":
        await here.publish("m" + number, number)
    assert await here.missed("2") == (["m3", "m4"], True)
    assert await here.missed("1") == (["m2", "m3", "m4"], True)
    assert await here.missed("0", last=1) == (["m4"], False)
    assert await here.missed(None, last=2) == (["m3", "m4"], True)
    assert (await here.broker.missed(ROOM, None, 0)).place == 4


async def test_what_is_not_kept_is_not_missed(here: Setup) -> None:
    await here.publish("kept", "1")
    live = await here.publish("live", is_kept=False)
    assert live.id is None
    assert await here.missed("1") == ([], True)
    assert await here.missed(last=5) == (["kept"], True)


async def test_a_message_above_the_limit_is_refused_and_not_delivered(here: Setup) -> None:
    with pytest.raises(LimitReached, match=r"641 bytes is above --topics-history.* \(640\)"):
        await here.publish("x" * 641)
    assert here.receiver.noted == []
    assert await here.missed(last=5) == ([], True)
    await here.publish("x" * 640)


async def test_it_is_checked_when_something_is_due(here: Setup) -> None:
    await here.publish("x", "1")
    assert here.scheduler.at == here.clock.now + 10.0
    assert here.wait(10.0) == pytest.approx(10.0 * (ID_LIFETIMES - 1))
    assert await here.missed("1", last=1) == ([], True)
    assert here.wait(10.0 * (ID_LIFETIMES - 1)) == math.inf
    assert await here.missed("1") == ([], False)


async def test_a_member_joins_at_once_and_has_left_after_a_grace(here: Setup) -> None:
    here.broker.join(ROOM, "ada")
    assert here.receiver.changes == [Change(ROOM, "ada", has_joined=True)]
    here.broker.leave(ROOM, "ada")
    assert here.scheduler.at == here.clock.now + GRACE
    here.wait(GRACE - 0.1)
    assert len(here.receiver.changes) == 1
    assert here.wait(0.1) == math.inf
    assert here.receiver.changes[1:] == [Change(ROOM, "ada", has_joined=False)]


async def test_members_and_subscribers_are_counted(here: Setup) -> None:
    for member in ("ada", "ada", "bob"):
        here.broker.join(ROOM, member)
    assert await here.broker.members(ROOM) == {"ada": 2, "bob": 1}
    assert await here.broker.count(ROOM) == len(ROOM)
    await here.broker.attach(ROOM)
    here.broker.detach(ROOM)
    await here.broker.stop()
