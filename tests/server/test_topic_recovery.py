"""Recovery: a socket gets what it has missed at its own pace, then what is live, and no gap."""

import asyncio
from typing import Any

import pytest

from tests.harness.topics import LARGE, Member, hall, hold, own_rules
from tests.harness.waiting import is_waiting, soon, start_task, turns, until
from wsgate import topics
from wsgate.errors import ClientDisconnected
from wsgate.server.topic_recovery import Recovery
from wsgate.server.topic_service import MAX_RECOVERED
from wsgate.topics.outlet import MIN_COUNTED, OutletFull
from wsgate.topics.publication import Publication
from wsgate.topics.rules import make_rules

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

ROOM = "room"
SECONDS = 60.0


@pytest.fixture(autouse=True)
def history(own_rules: None) -> None:
    """Keep five messages of the room."""
    topics.configure(ROOM, history=5, history_seconds=SECONDS)


async def publish(member: Member, *numbers: int) -> None:
    """Publish messages whose ids are their numbers."""
    for number in numbers:
        await member.topics.publish(ROOM, str(number), id=str(number))


# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "last", "sent", "complete"),
    [
        ("7", None, [8], True),
        ("8", None, [], True),
        ("3", None, [4, 5, 6, 7, 8], True),  # exactly `history` newer messages
        ("2", None, [], False),
        ("2", 2, [7, 8], False),
        ("unknown", 9, [4, 5, 6, 7, 8], False),
        ("7", 5, [8], True),
        (None, None, [], True),
        ("", None, [], True),
        (None, 2, [7, 8], True),
        ("", 2, [7, 8], True),
        (None, 0, [], True),
        (None, 99, [4, 5, 6, 7, 8], True),
    ],
)
async def test_what_was_missed_is_sent(
    after: str | None, last: int | None, sent: list[int], *, complete: bool
) -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, *range(1, 9))
        back = await ada.topics.subscribe(ROOM, after=after, last=last)
        assert (back.complete, back.count) == (complete, len(sent))
        await publish(ada, 9)
        assert await ada.read_all() == [str(number) for number in [*sent, 9]]
        counted = (here.counts["recovered"], here.counts["incomplete"])
        assert counted == ((0, 0) if not after else (1, 0) if complete else (0, 1))


async def test_a_silent_room_is_complete() -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, 1)
        await here.advance(10 * SECONDS - 1)
        assert await ada.topics.subscribe(ROOM, after="1") == topics.Recovered(
            complete=True, count=0
        )
        await ada.topics.unsubscribe(ROOM)
        await here.advance(2)
        back = await ada.topics.subscribe(ROOM, after="1")
        assert back == topics.Recovered(complete=False, count=0)
        assert len(here.broker._histories) == 0


async def test_messages_are_kept_for_their_seconds() -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, 1)
        await here.advance(SECONDS - 5)
        await publish(ada, 2)
        await here.advance(6)
        back = await ada.topics.subscribe(ROOM, last=9)
        assert back.count == 1
        assert await ada.read_all() == ["2"]


async def test_a_plain_topic_is_never_complete_after_an_id() -> None:
    async with hall() as here:
        ada = await here.open()
        back = await ada.topics.subscribe("plain", after="1", last=5)
        assert back == topics.Recovered(complete=False, count=0)
        await ada.topics.publish("plain", "live")
        assert await ada.read_all() == ["live"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"after": 5}, TypeError),
        ({"after": b"5"}, TypeError),
        ({"after": "x" * 256}, ValueError),
        ({"after": "\ud800"}, ValueError),
        ({"last": -1}, ValueError),
        ({"last": "5"}, TypeError),
        ({"last": True}, TypeError),
        ({"member": ""}, ValueError),
        ({"member": 5}, TypeError),
    ],
)
async def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    async with hall() as here:
        ada = await here.open()
        with pytest.raises(error):
            await ada.topics.subscribe(ROOM, **arguments)
        here.assert_empty()


# -- at the reader's pace --------------------------------------------------------------------------


async def test_what_is_published_meanwhile_comes_after_what_was_missed() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await publish(bob, 1, 2, 3)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, after="1"))
        assert await is_waiting(task)
        await publish(bob, 4, 5)
        await bob.topics.publish(ROOM, "not for ada", exclude=ada.topics, keep=False)
        assert ada.topics.subscribers(ROOM) == 1
        assert await is_waiting(task)
        assert await ada.read_on() == ["2", "3", "4", "5"]
        assert (await soon(task)).count == 2
        await publish(bob, 6)
        assert await ada.read_all() == ["6"]


async def test_what_is_published_while_the_broker_looks_is_sent_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await publish(bob, 1, 2)
        held = hold(monkeypatch, here, "missed")
        task = start_task(ada.topics.subscribe(ROOM, after="1"))
        await held.called()
        await publish(bob, 3)
        held.released.set()
        await soon(task)
        await publish(bob, 4)
        assert await ada.read_all() == ["2", "3", "4"]


async def test_a_recovery_never_counts_as_slowness() -> None:
    topics.configure("long", history=1000)
    async with hall(topics_max_outlet=MIN_COUNTED) as here:
        ada, bob = await here.open(), await here.open()
        for number in range(50):
            await bob.topics.publish("long", str(number) * 1000)
        await ada.stall()
        task = start_task(ada.topics.subscribe("long", last=50))
        await turns()
        for number in range(50, 100):
            await bob.topics.publish("long", str(number) * 1000)
        ada.client.read_on()
        await ada.read_texts(1)
        await soon(task)
        assert await ada.read_all() == [str(number) * 1000 for number in range(100)]
        assert here.counts["closed_slow"] == 0


async def test_a_reader_that_history_has_left_behind_is_closed() -> None:
    async with hall(topics_max_outlet=3 * MIN_COUNTED) as here:
        ada, bob = await here.open(), await here.open()
        await publish(bob, 1)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, last=1))
        await turns()
        await publish(bob, *range(2, 7))
        assert here.counts["closed_slow"] == 0
        await publish(bob, 7)
        assert here.counts["closed_slow"] == 1
        assert await ada.receive_disconnect() == (1013, "slow consumer")
        with pytest.raises(ClientDisconnected):
            await soon(task)
        assert ada.topics.subscribers(ROOM) == 0


@pytest.mark.parametrize(
    ("slow", "kept", "dropped"), [("drop", ["1", "2"], 2), ("conflate", ["3", "4"], 2)]
)
async def test_a_plain_topic_keeps_its_own_rule_meanwhile(
    monkeypatch: pytest.MonkeyPatch, slow: str, kept: list[str], dropped: int
) -> None:
    topics.configure("plain", slow=slow)
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        ada, bob = await here.open(), await here.open()
        held = hold(monkeypatch, here, "attach")
        task = start_task(ada.topics.subscribe("plain"))
        await held.called()
        for number in "1234":
            await bob.topics.publish("plain", number)
        held.released.set()
        await soon(task)
        assert here.counts["dropped"] == {"slow subscriber": dropped}
        assert here.counts["closed_slow"] == 0
        assert ada.websocket.dropped_messages == dropped
        assert await ada.read_all() == kept


async def test_a_slow_client_subscribes_without_waiting() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await ada.stall()
        await soon(ada.topics.subscribe(ROOM))
        await publish(bob, 1)
        assert await ada.read_on() == ["1"]


async def test_a_long_recovery_lets_others_run() -> None:
    count = 10 * MAX_RECOVERED
    topics.configure("long", history=2 * count)
    async with hall() as here:
        ada = await here.open()
        for number in range(count):
            await ada.topics.publish("long", str(number))
        steps = 0
        task = start_task(ada.topics.subscribe("long", last=count))
        while not task.done():
            await asyncio.sleep(0)
            steps += 1
            if steps == 7:
                await ada.topics.publish("long", "live")
        assert steps >= 7
        assert await ada.read_all() == [*map(str, range(count)), "live"]


# -- interrupted -----------------------------------------------------------------------------------


async def test_a_client_that_leaves_ends_its_recovery() -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, 1, 2, 3)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, last=3, member="ada"))
        assert await is_waiting(task)
        await ada.leave()
        with pytest.raises(ClientDisconnected):
            await soon(task)
        here.assert_empty()
        assert await ada.topics.members(ROOM) == {}


async def test_a_cancelled_recovery_leaves_nothing() -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, 1, 2, 3)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, last=3, member="ada"))
        assert await is_waiting(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        here.assert_empty()
        assert await ada.read_on() == []
        back = await ada.topics.subscribe(ROOM, after="1", member="ada")
        assert back.count == 2
        assert await ada.read_all() == ["2", "3"]


async def test_unsubscribing_ends_a_recovery() -> None:
    async with hall() as here:
        ada = await here.open()
        await publish(ada, 1, 2, 3)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, last=3, member="ada"))
        assert await is_waiting(task)
        await ada.topics.unsubscribe(ROOM)
        assert await ada.read_on() == []
        await soon(task)
        here.assert_empty()
        assert await ada.topics.members(ROOM) == {}


@pytest.mark.parametrize("way", ["goes on", "is cancelled"])
async def test_a_recovery_that_was_ended_does_not_touch_the_next_one(way: str) -> None:
    async with hall() as here:
        ada, _ = await here.open(), await here.subscribed(ROOM)
        await publish(ada, 1, 2, 3)
        await ada.stall()
        former = start_task(ada.topics.subscribe(ROOM, last=3))
        assert await is_waiting(former)
        await ada.topics.unsubscribe(ROOM)
        next_one = start_task(ada.topics.subscribe(ROOM, last=1, member="ada"))
        assert await is_waiting(next_one)
        if way == "is cancelled":
            former.cancel()
            await turns()
        assert await ada.read_on() == ["3"]
        await soon(next_one)
        assert ada.topics.subscribers(ROOM) == 2
        await publish(ada, 4)
        assert await ada.read_all() == ["4"]
        assert await ada.topics.members(ROOM) == {"ada": 1}


async def test_an_error_of_the_history_ends_the_subscription(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "missed")
        held.error = topics.Unavailable("no answer")
        held.released.set()
        with pytest.raises(topics.Unavailable):
            await ada.topics.subscribe(ROOM, after="1")
        here.assert_empty()


async def test_many_recover_at_once() -> None:
    async with hall() as here:
        members = [await here.open() for _ in range(20)]
        await publish(members[0], 1, 2)
        for one in members[::2]:
            await one.stall()
        tasks = [start_task(one.topics.subscribe(ROOM, after="1")) for one in members]
        await turns()
        await publish(members[0], 3)
        for one in members[1::2]:
            assert await one.read_all() == ["2", "3"]
        for one in members[::2]:
            assert await one.read_on() == ["2", "3"]
        await asyncio.gather(*tasks)


# -- the queue alone -------------------------------------------------------------------------------


def test_the_queue_holds_as_many_messages_as_the_history() -> None:
    recovery = Recovery(None, MIN_COUNTED)  # type: ignore[arg-type]  # it is only kept
    rules = make_rules(history=3)
    for place in range(1, 4):
        assert recovery.put(Publication(ROOM, LARGE, str(place), place), rules) == 0
    with pytest.raises(OutletFull):
        recovery.put(Publication(ROOM, "x", "4", 4), rules)
    taken = recovery.pop_live(2)
    assert taken is not None
    assert taken.place == 3
    assert recovery.pop_live(2) is None
    assert recovery._size == 0


def test_a_live_message_without_a_place_is_never_skipped() -> None:
    recovery = Recovery(None, MIN_COUNTED)  # type: ignore[arg-type]  # it is only kept
    recovery.put(Publication("plain", "x"), make_rules())
    assert recovery.pop_live(99) is not None


async def test_a_recovery_holds_nothing_for_a_socket_that_has_left() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await publish(bob, 1)
        await ada.stall()
        task = start_task(ada.topics.subscribe(ROOM, last=1))
        await until(lambda: bob.topics.subscribers(ROOM) == 1)
        await ada.leave()
        assert bob.topics.subscribers(ROOM) == 0
        await publish(bob, 2)
        with pytest.raises(ClientDisconnected):
            await soon(task)
