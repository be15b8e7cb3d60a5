"""The broker of one machine, over real sockets, with its hub in the same process."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.hubs import Machine, Own, ScriptedHub, machine, scripted
from tests.harness.log import capture_log
from tests.harness.loops import LOOPS
from tests.harness.waiting import is_waiting, nothing_left, soon, start_task, turns, until
from wsgate.brokers.local import broker as broker_module
from wsgate.brokers.local.attached_topics import MAX_BUFFERED
from wsgate.topics import messages
from wsgate.topics.errors import LimitReached, Unavailable
from wsgate.topics.history import Missed
from wsgate.topics.hub import PART_BYTES
from wsgate.topics.messages import Attach, Attached, Delivered, MissedPart, Mode, Placed, Sync
from wsgate.topics.presence import GRACE, Change
from wsgate.topics.rules import Rules
from wsgate.topics.wire_format import MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["LOOPS"]


# -- publications ----------------------------------------------------------------------------------


async def test_a_message_with_history_has_a_place_and_was_delivered(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room")
        socket = object()
        one = await first.publish("room", "1", excluded=socket)
        assert first.worker.delivered == [("room", "1", socket)]
        assert first.worker.publications == [one]  # the same object: it is encoded once
        two = await first.publish("room", "2", "mine", is_kept=True)
        three = await first.publish("room", "3", is_kept=False)
        assert 0 < one.place < two.place < three.place
        assert one.id is not None
        assert (two.id, three.id) == ("mine", None)
        await second.has("room", "1", "2", "3")
        assert [one.place for one in second.worker.publications] == [
            *(one.place for one in first.worker.publications)
        ]
        assert not first.broker._excluded


async def test_a_known_id_is_published_once(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room")
        one = await first.publish("room", "1", "a")
        again = await second.publish("room", "1", "a")
        assert again.place == one.place
        await second.publish("room", "2", "b")
        await first.has("room", "1", "2")


async def test_a_message_above_a_limit_is_refused(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        worker = await own.worker("room", max_bytes=100)
        with pytest.raises(LimitReached, match="101 bytes is above --topics-history-max-bytes"):
            await worker.publish("room", "x" * 101)
        await worker.publish("room", "x" * 101, is_kept=False)
        await worker.publish("plain", "x" * 101)
        with pytest.raises(LimitReached, match="above what the topics hub carries"):
            await worker.publish("plain", bytes(MAX_FRAME))


async def test_the_hub_may_refuse_a_message(tmp_path: Path) -> None:
    async with machine(tmp_path, has_hub=False) as own:
        await own.start_hub(max_bytes=100)
        worker = await own.worker()
        with pytest.raises(LimitReached, match="101 bytes"):
            await worker.publish("room", "x" * 101)


async def test_rules_that_the_app_adds_later_are_sent(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        worker = await own.worker("late")
        worker.worker.rules.add("late", Rules(history=5))
        await worker.publish("late", "x", "a")
        missed = await worker.broker.missed("late", None, 9)
        assert [one.id for one in missed.publications] == ["a"]


async def test_nothing_of_a_detached_topic_arrives(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room", "other")
        second.broker.detach("room")
        second.broker.detach("room")
        await soon(second.broker.count("room"))  # the hub has handled it
        await first.publish("room", "x")
        await first.publish("other", "y")
        await second.has("other", "y")
        assert not second.worker.texts("room")


# -- histories -------------------------------------------------------------------------------------


async def test_what_was_missed_comes_in_parts_and_with_its_place(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker(), await own.worker()
        large = "x" * PART_BYTES
        sent = [await first.publish("room", large + str(number)) for number in range(4)]
        missed = await second.broker.missed("room", sent[0].id, 0)
        assert isinstance(missed, Missed)
        assert [one.data for one in missed.publications] == [one.data for one in sent[1:]]
        assert [one.place for one in missed.publications] == [one.place for one in sent[1:]]
        assert (missed.is_complete, missed.place) == (True, sent[-1].place)
        newest = await second.broker.missed("room", "unknown", 1)
        assert (newest.is_complete, len(newest.publications)) == (False, 1)
        assert (await second.broker.missed("room", None, 2**40)).is_complete


async def test_recoveries_wait_for_each_other(tmp_path: Path) -> None:
    async with scripted(tmp_path, timeout=0.2) as (hub, own):
        fetches = [start_task(own.broker.missed("room", None, 1)) for _ in range(17)]
        await hub.hears(messages.GetMissed)
        await turns()
        assert len([one for one in hub.said if isinstance(one, messages.GetMissed)]) == 16
        for fetch in fetches:
            with pytest.raises(Unavailable):
                await soon(fetch)


async def test_a_recovery_that_is_cancelled_is_forgotten(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        fetch = start_task(own.broker.missed("room", None, 9))
        asked = await hub.hears(messages.GetMissed)
        hub.say(MissedPart(asked.request, True, 5, True, []))
        assert await hub.hears(messages.GetMore) == messages.GetMore(asked.request)
        fetch.cancel()
        assert await hub.hears(messages.Forget) == messages.Forget(asked.request)
        hub.say(MissedPart(asked.request, True, 5, False, []))
        await turns()
        assert not len(own.broker._requests)


# -- no hub ----------------------------------------------------------------------------------------


async def test_without_a_hub_history_is_unavailable_after_the_deadline(tmp_path: Path) -> None:
    with capture_log() as log:
        async with machine(tmp_path, has_hub=False) as own:
            worker = await own.worker(timeout=0.05)
            await worker.broker.attach("plain")  # it is attached as soon as there is a hub
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: worker.broker.attach("room"),
                lambda: worker.publish("room", "x"),
                lambda: worker.broker.missed("room", None, 1),
                lambda: worker.broker.count("room"),
                lambda: worker.broker.members("room"),
            ]
            for call in calls:
                with pytest.raises(Unavailable, match=r"did not answer .*: nothing listens at"):
                    await soon(call())
            await own.start_hub()
            other = await own.worker()
            await worker.connected()
            await soon(worker.broker.attach("room"))
            await other.publish("plain", "x")
            await worker.has("plain", "x")
    assert log.warnings[0] == f"The topics hub does not answer: nothing listens at {own.path}"


async def test_requests_wait_for_the_hub(tmp_path: Path) -> None:
    async with machine(tmp_path, has_hub=False) as own:
        worker = await own.worker()
        attaching = start_task(worker.broker.attach("room"))
        publishing = start_task(worker.publish("room", "x"))
        assert await is_waiting(publishing)
        await own.start_hub()
        await soon(attaching)
        assert (await soon(publishing)).place


async def test_what_waits_for_an_answer_fails_when_the_worker_stops(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        publishing = start_task(own.publish("room", "x"))
        await hub.hears(messages.Publish)
        await own.broker.stop()
        with pytest.raises(Unavailable, match="the server stops"):
            await soon(publishing)


async def test_a_worker_that_never_started_may_stop(tmp_path: Path) -> None:
    broker = broker_module.LocalBroker(lambda: None, 1.0, 1)
    await broker.stop()


# -- how it is -------------------------------------------------------------------------------------


async def test_it_is_away_until_there_is_a_hub(tmp_path: Path) -> None:
    own, time = Machine(tmp_path / "hub.sock"), asyncio.get_running_loop().time
    before = time()
    worker = await own.worker()
    away_since, lag, reconnects = worker.broker.state()
    assert away_since is not None
    assert before <= away_since <= time()
    assert (lag, reconnects) == (None, 0)
    await own.start_hub()
    await worker.connected()
    assert worker.broker.state() == (None, None, 0)
    await own.stop()


async def test_it_is_away_while_the_hub_is_replaced(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        worker, time = await own.worker("room"), asyncio.get_running_loop().time
        before = time()
        await own.stop_hub()
        away_since = worker.broker.state().away_since
        assert away_since is not None
        assert before <= away_since <= time()
        await own.start_hub()
        await worker.connected()
        assert worker.broker.state()[::2] == (None, 1)


@pytest.mark.parametrize("is_publish", [False, True])
async def test_its_lag_is_the_time_to_an_answer(tmp_path: Path, is_publish: bool) -> None:
    async with scripted(tmp_path) as (hub, own):
        time, broker = asyncio.get_running_loop().time, own.broker
        asked_at = time()
        asking: asyncio.Task[Any]
        if is_publish:
            asking = start_task(own.publish("room", "x"))
            number = (await hub.hears(messages.Publish)).request
        else:
            asking = start_task(broker.count("room"))
            number = (await hub.hears(messages.GetCount)).request
        heard_at = time()
        assert broker.state().lag is None
        await until(lambda: time() > heard_at)  # uvloop counts milliseconds
        said_at = time()
        answer = Placed(number, "a", 2_000_001, False) if is_publish else messages.Count(number, 1)
        hub.say(answer)
        await soon(asking)
        lag = broker.state().lag
        assert lag is not None
        assert said_at - heard_at <= lag <= time() - asked_at


# -- a new connection to the same hub --------------------------------------------------------------


async def test_a_gap_is_closed_after_a_new_connection(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room", "room 2")
        await first.publish("room", "1")
        await second.has("room", "1")
        second.cut()
        for text in ("2", "3"):
            await first.publish("room", text)
        await second.connected()
        await first.publish("room", "4")
        await second.has("room", "1", "2", "3", "4")
        await first.publish("room 2", "5")
        await second.has("room 2", "5")
        assert not second.worker.losses


async def test_what_history_holds_no_more_is_lost(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("short"), await own.worker("short", "short 2", "plain")
        await first.publish("short", "1")
        await second.has("short", "1")
        second.cut()
        for text in ("2", "3"):
            await first.publish("short", text)
            await first.publish("plain", text)
        await until(lambda: second.worker.losses)
        await first.publish("short", "4")
        await second.has("short", "1", "4")
        assert second.worker.losses == ["short"]
        assert not first.worker.losses


async def test_a_live_message_that_was_missed_is_no_gap(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("short"), await own.worker("short")
        second.cut()
        await first.publish("short", "typing", is_kept=False)
        await second.connected()
        await soon(second.broker.count("short"))
        await first.publish("short", "1")
        await second.has("short", "1")
        assert not second.worker.losses


async def test_a_publish_is_repeated_to_the_same_hub(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        kept, live = (
            start_task(own.publish("room", "1")),
            start_task(own.publish("room", "2", is_kept=False)),
        )
        asked = await hub.hears(messages.Publish, lambda one: one.mode is Mode.LIVE)
        hub.said.clear()
        hub.connection.abort()
        again = await hub.hears(messages.Publish)
        assert (again.mode, again.data) == (Mode.KEPT, "1")
        assert asked.data == "2"
        hub.say(Placed(again.request, again.id, 2_000_001, False))
        assert (await soon(kept)).place == 2_000_001
        with pytest.raises(Unavailable, match="has ended before it answered"):
            await soon(live)


# -- a new hub -------------------------------------------------------------------------------------


async def test_a_new_hub_closes_nobody_who_lacks_nothing(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room", "room 2")
        await first.publish("room", "1")
        await second.has("room", "1")
        await own.replace_hub()
        for worker in (first, second):
            await worker.connected()
        await first.publish("room", "2")
        for worker in (first, second):
            await worker.has("room", "1", "2")
            assert not worker.worker.losses


async def test_a_new_hub_finds_exactly_who_lacks_a_message(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room", "room 2")
        third = await own.worker("room")
        await second.broker._link.stop()  # it does not read any more
        await first.publish("room", "1")
        await third.has("room", "1")
        await own.replace_hub()
        second.broker._link.start()
        await until(lambda: second.worker.losses)
        for worker in (first, third):
            await worker.connected()
            await soon(worker.broker.count("room"))
            assert not worker.worker.losses
        assert second.worker.losses == ["room"]


async def test_who_has_published_knows_what_others_lack(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker(), await own.worker("room")
        await second.broker._link.stop()
        await first.publish("room", "1")
        await own.replace_hub()
        second.broker._link.start()
        await until(lambda: second.worker.losses == ["room"])


async def test_a_publish_without_an_answer_fails_with_a_new_hub(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        publishing = start_task(own.publish("room", "1", excluded=object()))
        await hub.hears(messages.Publish)
        hub.said.clear()
        hub.start += 1_000_000
        hub.connection.abort()
        with pytest.raises(Unavailable, match="has ended before it answered"):
            await soon(publishing)
        await own.connected()
        assert not [one for one in hub.said if isinstance(one, messages.Publish)]


async def test_a_publish_that_was_delivered_here_has_succeeded(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        publishing = start_task(own.publish("room", "1", "a"))
        asked = await hub.hears(messages.Publish)
        hub.say(Delivered(asked.request, "room", "a", 0, 2_000_001, "1"))
        await soon(own.broker._link.connection.drain())  # type: ignore[union-attr]  # there is one
        await until(lambda: own.broker._seen)
        hub.start += 1_000_000
        hub.connection.abort()
        assert (await soon(publishing)).place == 2_000_001


# -- gaps that take a while ------------------------------------------------------------------------


async def attach(hub: ScriptedHub, own: Own, sync: Sync) -> None:
    """Have the worker attach "room" at the place 2,000,000."""
    attaching = start_task(own.broker.attach("room"))
    asked = await hub.hears(Attach)
    assert asked == Attach(asked.request, "room", 0, 0, 0)
    hub.say(Attached(asked.request, "room", sync, 2_000_000))
    await soon(attaching)


async def test_what_is_live_waits_until_the_gap_is_closed(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        await attach(hub, own, Sync.CURRENT)
        hub.say(Delivered(0, "room", "a", 0, 2_000_001, "1"))
        await own.has("room", "1")
        hub.say(messages.Seen(2_000_002))
        await until(lambda: own.broker._seen == 2_000_002)
        hub.said.clear()
        hub.connection.abort()
        again = await hub.hears(Attach)
        assert again == Attach(again.request, "room", 2_000_002, 2_000_001, 0)
        hub.say(Attached(again.request, "room", Sync.BEHIND, 2_000_004))
        since = await hub.hears(messages.GetSince)
        assert since == messages.GetSince(since.request, "room", 2_000_002)
        # Live ones arrive before the answer, and the worker publishes as well.
        publishing = start_task(own.publish("room", "5", "e"))
        request = (await hub.hears(messages.Publish)).request
        hub.say(
            Delivered(request, "room", "e", 2_000_004, 2_000_005, "5"),
            Placed(request, "e", 2_000_005, False),
        )
        assert await is_waiting(publishing)
        kept = [
            messages.Kept(id_, place, id_) for id_, place in (("c", 2_000_003), ("d", 2_000_004))
        ]
        hub.say(MissedPart(since.request, True, 2_000_005, False, kept))
        await soon(publishing)
        assert own.worker.texts("room") == ["1", "c", "d", "5"]


async def test_a_publish_returns_although_its_gap_is_never_closed(tmp_path: Path) -> None:
    async with scripted(tmp_path, timeout=0.3) as (hub, own):
        await attach(hub, own, Sync.BEHIND)
        publishing = start_task(own.publish("room", "x"))
        request = (await hub.hears(messages.Publish)).request
        hub.say(Placed(request, "a", 2_000_001, False))
        assert (await soon(publishing)).place == 2_000_001
        first = await hub.hears(messages.GetSince)
        await hub.hears(messages.GetSince, lambda one: one.request != first.request)  # again


async def test_a_gap_that_is_too_long_is_lost(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        await attach(hub, own, Sync.BEHIND)
        since = await hub.hears(messages.GetSince)
        data = bytes(MAX_BUFFERED // 2)
        for number in (1, 2, 3):
            hub.say(Delivered(0, "room", str(number), 0, 2_000_000 + number, data))
        hub.say(Delivered(0, "room", "4", 2_000_003, 2_000_004, "4"))
        await own.has("room", "4")
        assert own.worker.losses == ["room"]
        hub.say(MissedPart(since.request, True, 2_000_004, False, [messages.Kept("1", 1, "1")]))
        await turns()
        assert own.worker.texts("room") == ["4"]
        assert own.broker._topics._buffered == 0


async def test_a_jump_in_the_order_is_a_gap(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        await attach(hub, own, Sync.CURRENT)
        hub.say(Delivered(0, "room", "b", 2_000_001, 2_000_002, "2"))
        since = await hub.hears(messages.GetSince)
        assert since.place == 2_000_000
        kept = [messages.Kept("a", 2_000_001, "1"), messages.Kept("b", 2_000_002, "2")]
        hub.say(MissedPart(since.request, True, 2_000_002, False, kept))
        await own.has("room", "1", "2")


async def test_what_comes_twice_is_delivered_once(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        await attach(hub, own, Sync.CURRENT)
        for _ in range(2):
            hub.say(Delivered(0, "room", "a", 0, 2_000_001, "1"))
        hub.say(Delivered(0, "room", "b", 2_000_001, 2_000_002, "2"))
        await own.has("room", "1", "2")


async def test_a_topic_may_be_detached_while_its_gap_is_closed(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        await attach(hub, own, Sync.BEHIND)
        since = await hub.hears(messages.GetSince)
        own.broker.detach("room")
        asked = await hub.hears(Attach)
        hub.say(Attached(asked.request, "room", Sync.CURRENT, 2_000_000))
        hub.say(messages.Lost("room"))
        hub.say(MissedPart(since.request, False, 2_000_004, False, []))
        await hub.hears(messages.Detach)
        await turns()
        assert not own.worker.losses


# -- who is there ----------------------------------------------------------------------------------


async def test_members_and_subscribers_are_those_of_all_workers(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room")
        first.worker.counts["room"], second.worker.counts["room"] = 20, 300
        assert await first.broker.count("room") == 320
        for worker in (first, first, second):
            worker.broker.join("room", "ada")
        await soon(second.broker.count("room"))
        assert await first.broker.members("room") == {"ada": 3}
        first.broker.leave("room", "ada")
        assert await first.broker.members("room") == {"ada": 2}
        first.broker.leave("room", "ada")
        assert await first.broker.members("room") == {"ada": 1}
        assert first.worker.changes == [Change("room", "ada", has_joined=True)]
        assert not second.worker.changes


async def test_a_new_hub_hears_of_all_members(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        for member in ("ada", "bob", "cleo"):
            own.broker.join("room", member)
        await hub.hears(messages.SetMember, lambda one: one.member == "cleo")
        hub.said.clear()
        hub.start += 1_000_000
        hub.connection.abort()
        await until(lambda: own.broker._link.connection is None)
        own.broker.leave("room", "ada")
        own.broker.join("room", "bob")
        own.broker.join("room", "dora")
        own.broker.leave("room", "cleo")
        own.broker.join("room", "cleo")
        await hub.hears(messages.SetMember, lambda one: one.member == "dora")
        said = [one for one in hub.said if isinstance(one, messages.SetMember)]
        assert sorted(said, key=lambda one: one.member) == [
            messages.SetMember("room", "ada", 1, True),  # so that somebody announces that she left
            messages.SetMember("room", "ada", 0, False),
            messages.SetMember("room", "bob", 2, True),
            messages.SetMember("room", "cleo", 1, True),
            messages.SetMember("room", "dora", 1, False),
        ]


async def test_the_same_hub_knows_who_has_left_meanwhile(tmp_path: Path) -> None:
    async with scripted(tmp_path) as (hub, own):
        for member in ("ada", "bob"):
            own.broker.join("room", member)
        await hub.hears(messages.SetMember, lambda one: one.member == "bob")
        hub.said.clear()
        hub.connection.abort()
        await until(lambda: own.broker._link.connection is None)
        own.broker.leave("room", "ada")
        await hub.hears(messages.SetMember)
        said = [one for one in hub.said if isinstance(one, messages.SetMember)]
        assert said == [messages.SetMember("room", "bob", 1, False)]


async def test_a_member_of_a_worker_that_ends_is_announced_by_another(tmp_path: Path) -> None:
    async with machine(tmp_path) as own:
        first, second = await own.worker("room"), await own.worker("room")
        second.broker.join("room", "ada")
        await until(lambda: second.worker.changes)
        await second.broker.stop()
        await until(lambda: first.worker.changes, GRACE + 10)
        assert first.worker.changes == [Change("room", "ada", has_joined=False)]


# -- the connection --------------------------------------------------------------------------------


async def test_a_hub_that_says_something_else_first_is_left(tmp_path: Path) -> None:
    with capture_log() as log:
        async with scripted(tmp_path) as (hub, own):
            hub.answers_hello = False
            hub.connection.abort()
            await until(lambda: len(hub.connections) == 2)
            hub.say(messages.Lost("room"))
            await until(lambda: len(hub.connections) == 3)
            hub.connection.close()
            await until(lambda: len(hub.connections) == 4)
            hub.say(messages.Refused(0, messages.Refusal.VERSION, "it is of another version"))
            await until(lambda: len(hub.connections) == 5)
            assert own.broker._link.connection is None
    assert log.errors == ["A connection of topics is closed: Lost is out of place"]
    assert log.warnings[0] == "The topics hub does not answer: it has closed the connection"


async def test_a_cancelled_publish_leaves_nothing(tmp_path: Path) -> None:
    async with nothing_left(), scripted(tmp_path) as (hub, own):
        publishing = start_task(own.publish("room", "x"))
        asked = await hub.hears(messages.Publish)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        hub.say(Placed(asked.request, "a", 2_000_001, False))
        await until(lambda: own.broker._seen)
        assert not len(own.broker._requests)
