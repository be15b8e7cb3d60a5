"""Topics over connections in memory: who gets what, in which order, and what is left afterwards."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from anyio import from_thread, to_thread

from tests.frames import BINARY
from tests.harness.app import ScriptedApp, close, text
from tests.harness.client import DEFLATE, handshake
from tests.harness.log import capture_log
from tests.harness.topics import Member, hall, hold, own_rules
from tests.harness.waiting import is_waiting, soon, start_task, turns, until
from wsgate import topics
from wsgate.errors import ClientDisconnected, ConfigError
from wsgate.server import topic_service
from wsgate.server.topic_service import MAX_DELIVERIES
from wsgate.server.websocket import WebSocket
from wsgate.testing import connect
from wsgate.topics.outlet import MIN_COUNTED

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

ROOM = "room"
LONG = "to be compressed " * 200


# -- subscribe, publish, unsubscribe ---------------------------------------------------------------


async def test_each_subscriber_has_what_is_published_from_now_on() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        assert await ada.topics.publish(ROOM, "to nobody") is None
        await ada.topics.subscribe(ROOM)
        await ada.topics.publish(ROOM, "to one")
        await bob.topics.subscribe(ROOM)
        await bob.topics.publish(ROOM, "to both")
        assert await ada.read_all() == ["to one", "to both"]
        assert await bob.read_all() == ["to both"]


async def test_bytes_are_a_binary_message() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.topics.publish(ROOM, b"\xff\0")
        frame = await ada.read_frame()
        assert (frame.opcode, frame.payload) == (BINARY, b"\xff\0")


@pytest.mark.parametrize("name", ["*", "a/b", "\0", " ", "\u00fc" * 127, "[a-z]", "x" * 255])
async def test_any_name_is_just_a_name(name: str) -> None:
    async with hall() as here:
        ada = await here.subscribed(name)
        await ada.topics.publish("other", "no")
        await ada.topics.publish(name, "yes")
        assert await ada.read_all() == ["yes"]
        await ada.topics.unsubscribe(name)
        here.assert_empty()


async def test_nothing_arrives_after_an_unsubscribe() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.topics.publish(ROOM, "before")
        await ada.topics.unsubscribe(ROOM)
        await ada.topics.publish(ROOM, "after")
        assert await ada.read_all() == ["before"]
        here.assert_empty()
        await ada.topics.unsubscribe(ROOM)
        await ada.topics.unsubscribe("never subscribed")


async def test_what_was_accepted_before_an_unsubscribe_is_still_delivered() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.stall()
        await ada.topics.publish(ROOM, "before")
        await ada.topics.unsubscribe(ROOM)
        await ada.topics.publish(ROOM, "after")
        assert await ada.read_on() == ["before"]


@pytest.mark.parametrize("way", ["drop", "eof", "app closes", "app returns"])
async def test_a_socket_that_closes_is_unsubscribed(way: str) -> None:
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        await ada.topics.subscribe("other", member="ada")
        assert bob.topics.subscribers(ROOM) == 2
        if way == "app closes":
            await ada.call.send(close(4001))
        elif way == "app returns":
            ada.call.finish()
        else:
            getattr(ada.client, way)()
        await until(lambda: bob.topics.subscribers(ROOM) == 1)
        assert await bob.topics.count(ROOM) == 1
        assert await bob.topics.members("other") == {}
        assert list(here.service._topics) == [ROOM]


async def test_a_topic_without_subscribers_and_history_leaves_nothing() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        for number in range(100):
            for one in (ada, bob):
                await one.topics.subscribe(f"topic {number}")
            await bob.topics.publish(f"topic {number}", "x")
            await bob.topics.unsubscribe(f"topic {number}")
        await ada.leave()
        here.assert_empty()
        assert len(here.broker._histories) == 0


async def test_subscribers_and_listeners_count() -> None:
    async with hall() as here:
        ada, request = await here.subscribed(ROOM), await here.request()
        async with request.topics.listen(ROOM):
            assert ada.topics.subscribers(ROOM) == await ada.topics.count(ROOM) == 2
        assert ada.topics.subscribers(ROOM) == 1
        assert ada.topics.subscribers("other") == await ada.topics.count("other") == 0


# -- exclude ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Topics", "scope", "object"])
async def test_an_excluded_socket_does_not_get_the_message(kind: str) -> None:
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        exclude = {"Topics": ada.topics, "scope": ada.call.scope, "object": ada.call}[kind]
        await bob.topics.publish(ROOM, "to bob", exclude=exclude)
        await bob.topics.publish(ROOM, "to both")
        assert await ada.read_all() == ["to both"]
        assert await bob.read_all() == ["to bob", "to both"]


async def test_a_socket_that_is_not_subscribed_may_be_excluded() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.subscribed(ROOM)
        await bob.topics.publish(ROOM, "x", exclude=ada.topics)
        assert await bob.read_all() == ["x"]


async def test_only_a_websocket_can_be_excluded() -> None:
    async with hall() as here:
        ada, request = await here.subscribed(ROOM), await here.request()
        for wrong in (request.call.scope, {"type": "websocket"}, {}):
            with pytest.raises(ValueError, match="exclude must be"):
                await ada.topics.publish(ROOM, "x", exclude=wrong)
        with pytest.raises(TypeError):
            await ada.topics.publish(ROOM, "x", exclude="ada")
        assert await ada.read_all() == []


async def test_an_excluded_socket_gets_its_own_message_when_it_recovers() -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.topics.publish(ROOM, "first", id="1")
        await ada.topics.publish(ROOM, "own", id="2", exclude=ada.topics)
        assert await ada.read_all() == ["first"]
        again = await here.open()
        back = await again.topics.subscribe(ROOM, after="1")
        assert (back.complete, back.count) == (True, 1)
        assert await again.read_all() == ["own"]


# -- subscribing again, and where it is not possible -----------------------------------------------


async def test_subscribing_again_changes_nothing() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        back = await ada.topics.subscribe(ROOM)
        assert (back.complete, back.count) == (True, 0)
        await ada.topics.publish(ROOM, "once")
        assert await ada.read_all() == ["once"]
        assert ada.topics.subscribers(ROOM) == 1


async def test_subscribing_again_with_after_is_an_error() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        with pytest.raises(topics.TopicsError, match="subscribed already"):
            await ada.topics.subscribe(ROOM, after="1")
        await ada.topics.publish(ROOM, "still there")
        assert await ada.read_all() == ["still there"]


async def test_a_new_member_replaces_the_former() -> None:
    async with hall() as here:
        ada = await here.open()
        for member in ("ada", "ada", None, "eve"):
            await ada.topics.subscribe(ROOM, member=member)
        assert await ada.topics.members(ROOM) == {"eve": 1}


async def test_a_member_has_as_many_connections_as_sockets() -> None:
    async with hall() as here:
        ada, again, bob = [await here.open() for _ in range(3)]
        for one, member in ((ada, "ada"), (again, "ada"), (bob, "bob")):
            await one.topics.subscribe(ROOM, member=member)
        assert await bob.topics.members(ROOM) == {"ada": 2, "bob": 1}
        await ada.leave()
        await bob.topics.unsubscribe(ROOM)
        assert await bob.topics.members(ROOM) == {"ada": 1}


async def test_before_the_accept_it_is_an_error_that_says_so() -> None:
    async with hall() as here:
        ada = here.arrive()
        await ada.request()
        with pytest.raises(topics.TopicsError, match="accept the WebSocket before"):
            await ada.topics.subscribe(ROOM)
        here.assert_empty()


async def test_after_the_end_it_is_an_error() -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await ada.leave()
        with pytest.raises(ClientDisconnected):
            await ada.topics.subscribe(ROOM)
        await bob.call.send(close())
        with pytest.raises(topics.TopicsError, match="the WebSocket was closed"):
            await bob.topics.subscribe(ROOM)


async def test_a_scope_without_a_socket_names_listen() -> None:
    async with hall() as here:
        request = (await here.request()).topics
        with pytest.raises(topics.TopicsError, match=r"use listen\(\)"):
            await request.subscribe(ROOM)
        with pytest.raises(topics.TopicsError, match="only a WebSocket"):
            await request.unsubscribe(ROOM)
        await request.publish(ROOM, "may publish")


# -- limits ----------------------------------------------------------------------------------------


async def enter(listener: topics.Listener) -> None:
    async with listener:
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.subscribe("other"),
        lambda t: t.unsubscribe(ROOM),
        lambda t: t.publish(ROOM, "x"),
        lambda t: enter(t.listen(ROOM)),
        lambda t: anext(aiter(t.listen(ROOM))),
        lambda t: t.count(ROOM),
        lambda t: t.members(ROOM),
    ],
)
async def test_another_thread_is_an_error_that_says_how_to_do_it(
    use: Callable[[topics.Topics], Coroutine[Any, Any, Any]],
) -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        before = topics.stats()

        async def use_topics() -> None:
            await use(ada.topics)

        with pytest.raises(topics.TopicsError, match=r"use anyio\.from_thread\.run\("):
            await asyncio.to_thread(asyncio.run, use_topics())
        assert topics.stats() == before
        assert ada.topics.subscribers("other") == 0
        await ada.topics.publish(ROOM, "still subscribed")
        assert await ada.read_all() == ["still subscribed"]


async def test_in_another_thread_subscribers_are_known() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        assert await asyncio.to_thread(ada.topics.subscribers, ROOM) == 1


async def test_anyio_calls_from_a_thread() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        publish = functools.partial(from_thread.run, ada.topics.publish, ROOM, "from a thread")
        await to_thread.run_sync(publish)
        assert await ada.read_all() == ["from a thread"]


async def test_a_connection_has_a_limited_number_of_topics() -> None:
    async with hall(topics_max_per_connection=2) as here:
        ada = await here.subscribed("1")
        await ada.topics.subscribe("2")
        with pytest.raises(topics.LimitReached, match="--topics-max-per-connection"):
            await ada.topics.subscribe("3")
        await ada.topics.subscribe("2")
        await ada.topics.unsubscribe("1")
        await ada.topics.subscribe("3")
        assert sorted(here.service._topics) == ["2", "3"]


async def test_a_worker_has_a_limited_number_of_topics() -> None:
    async with hall(topics_max=2) as here:
        ada, bob = await here.subscribed("1"), await here.subscribed("2")
        with pytest.raises(topics.LimitReached, match="--topics-max"):
            await ada.topics.subscribe("3")
        with pytest.raises(topics.LimitReached, match="--topics-max"):
            async with ada.topics.listen("3"):
                pass
        await ada.topics.subscribe("2")
        await ada.topics.publish("3", "without subscribers it takes no place")
        await ada.topics.unsubscribe("1")
        await bob.topics.subscribe("3")


async def test_a_message_that_is_larger_than_all_histories_is_refused() -> None:
    topics.configure(ROOM, history=5)
    async with hall(topics_history_max_bytes=100) as here:
        ada = await here.subscribed(ROOM)
        with pytest.raises(topics.LimitReached, match="--topics-history-max-bytes"):
            await ada.topics.publish(ROOM, "x" * 101)
        await ada.topics.publish(ROOM, "x" * 101, keep=False)
        await ada.topics.publish(ROOM, "x" * 100)
        assert [len(one) for one in await ada.read_all()] == [101, 100]


# -- history: ids, and what is live only -----------------------------------------------------------


async def test_an_id_that_is_held_is_one_message() -> None:
    topics.configure(ROOM, history=2)
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        for id_ in ("1", "1", "2", "1", "3", "1"):
            assert await ada.topics.publish(ROOM, f"m{id_}", id=id_) == id_
        assert await ada.read_all() == ["m1", "m2", "m3", "m1"], "1 was not held any more"


async def test_without_an_id_wsgate_makes_one_that_can_be_used() -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        ids = [await ada.topics.publish(ROOM, text_) for text_ in "abc"]
        assert len(set(ids)) == 3
        back = await bob.topics.subscribe(ROOM, after=ids[0])
        assert (back.complete, back.count) == (True, 2)
        assert await bob.read_all() == ["b", "c"]


async def test_a_message_that_is_not_kept_is_live_only() -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.open()
        await ada.topics.publish(ROOM, "kept", id="1")
        for _ in range(2):
            assert await ada.topics.publish(ROOM, "typing", id="2", keep=False) is None
        assert await ada.read_all() == ["kept", "typing", "typing"], "its id is not remembered"
        assert (await bob.topics.subscribe(ROOM, last=5)).count == 1
        assert await bob.read_all() == ["kept"]


async def test_a_plain_topic_remembers_no_ids() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        for _ in range(2):
            assert await ada.topics.publish(ROOM, "x", id="1") is None
        assert await ada.read_all() == ["x", "x"]


async def test_a_topic_that_becomes_plain_is_not_complete_any_more() -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        await ada.topics.publish(ROOM, "kept", id="1")
        topics.configure(ROOM)
        await ada.topics.publish(ROOM, "not kept")
        topics.configure(ROOM, history=5)
        back = await bob.topics.subscribe(ROOM, after="1")
        assert (back.complete, back.count) == (False, 0)


# -- rules -----------------------------------------------------------------------------------------


async def test_the_app_s_rules_come_before_those_of_the_settings() -> None:
    topics.configure("room:1", history=1)
    rules = ["room:* history=5 history_seconds=60", "*:2 slow=conflate"]
    async with hall(topics_rule=rules) as here:
        found = {name: here.service.rules_of(name) for name in ("room:1", "room:2", "room:3", "x")}
        assert [(one.history, one.slow.value) for one in found.values()] == [
            *((1, "close"), (0, "conflate"), (5, "close"), (0, "drop"))
        ]


async def test_a_rule_holds_from_its_configuration_on() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        assert await ada.topics.publish(ROOM, "plain") is None
        topics.configure("ro*", history=5)
        assert await ada.topics.publish(ROOM, "kept", id="1") == "1"
        assert await ada.read_all() == ["plain", "kept"]


@pytest.mark.parametrize("rule", ["room slow=never", "room history_seconds=60"])
async def test_a_malformed_rule_of_the_settings_names_the_option(rule: str) -> None:
    with pytest.raises(ConfigError, match=f"--topics-rule '{rule}'"):
        async with hall(topics_rule=[rule]):
            pass


# -- order and slow subscribers --------------------------------------------------------------------


async def test_a_send_after_an_awaited_publish_comes_after_it() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.topics.publish(ROOM, "1")
        await ada.call.send(text("2"))
        await ada.topics.publish(ROOM, "3")
        assert await ada.read_all() == ["1", "2", "3"]


async def test_the_order_is_that_of_the_calls_while_a_client_is_slow() -> None:
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        await ada.stall()
        await ada.topics.publish(ROOM, "1")
        ada.call.start_send(text("2"))
        await turns()
        await ada.topics.publish(ROOM, "3")
        assert await ada.read_on() == ["1", "2", "3"]


async def test_a_slow_subscriber_of_a_plain_topic_misses_messages() -> None:
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        await ada.stall()
        for number in "1234":
            await bob.topics.publish(ROOM, number)
        assert await bob.read_all() == ["1", "2", "3", "4"]
        assert here.counts["dropped"] == {"slow subscriber": 2}
        assert here.counts["delivered"] == 6
        assert await ada.read_on() == ["1", "2"]


async def test_a_slow_subscriber_may_have_the_latest_message_only() -> None:
    topics.configure(ROOM, slow="conflate")
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        ada = await here.subscribed(ROOM)
        await ada.stall()
        for number in "1234":
            await ada.topics.publish(ROOM, number)
        assert here.counts["dropped"] == {"slow subscriber": 2}
        assert await ada.read_on() == ["3", "4"]


async def test_a_slow_subscriber_of_a_history_is_closed_so_that_it_recovers() -> None:
    topics.configure(ROOM, history=9)
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        await ada.stall()
        for number in "1234":
            await bob.topics.publish(ROOM, number, id=number)
        assert await bob.read_all() == ["1", "2", "3", "4"]
        assert await ada.receive_disconnect() == (1013, "slow consumer")
        assert here.counts["closed_slow"] == 1
        assert here.counts["dropped"] == {}
        assert bob.topics.subscribers(ROOM) == 1


@pytest.mark.parametrize("slow", ["close", "drop", "conflate"])
async def test_readers_that_are_frozen_get_none_of_the_turns_of_the_others(slow: str) -> None:
    topics.configure(ROOM, slow=slow)
    async with hall(topics_max_outlet=20 * MIN_COUNTED) as here:
        readers = [await here.subscribed(ROOM) for _ in range(3)]
        frozen = [await here.subscribed(ROOM) for _ in range(2)]
        for one in frozen:
            await one.stall()
        written = [one.websocket.sent_messages for one in frozen]
        numbers = [str(number) for number in range(50)]
        for number in numbers:
            publishing = readers[0].topics.publish(ROOM, number)
            with pytest.raises(StopIteration):  # it ends without an iteration of the loop
                publishing.send(None)
        assert [one.websocket.sent_messages for one in frozen] == written
        for reader in readers:
            assert await reader.read_all() == numbers


async def test_an_empty_outlet_takes_a_message_of_any_size() -> None:
    topics.configure(ROOM, history=9)
    async with hall(topics_max_outlet=MIN_COUNTED) as here:
        ada = await here.subscribed(ROOM)
        await ada.stall()
        await ada.topics.publish(ROOM, "y" * 500)
        assert await ada.read_on() == ["y" * 500]


def break_one(monkeypatch: pytest.MonkeyPatch, broken: Member) -> None:
    """Have every write of one WebSocket fail."""
    publish = WebSocket.publish

    def failing(self: WebSocket, *args: Any) -> tuple[int, bool]:
        if self is broken.websocket:
            raise MemoryError
        return publish(self, *args)

    monkeypatch.setattr(WebSocket, "publish", failing)


async def test_a_publish_never_fails_because_of_a_subscriber(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        await ada.stall()
        break_one(monkeypatch, ada)
        await bob.topics.publish(ROOM, "x")
        assert await bob.read_all() == ["x"]
        assert here.counts["dropped"] == {"error": 1}
        assert here.log.errors == ["A publication could not be delivered to a WebSocket"]
        assert bob.topics.subscribers(ROOM) == 2


async def test_who_would_miss_a_message_of_a_history_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topics.configure(ROOM, history=9)
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.subscribed(ROOM)
        await ada.stall()
        break_one(monkeypatch, ada)
        await bob.topics.publish(ROOM, "x")
        await until(lambda: bob.topics.subscribers(ROOM) == 1)
        assert await bob.read_all() == ["x"]


async def test_a_loop_of_publications_to_many_lets_others_run() -> None:
    async with hall() as here:
        members = [await here.subscribed(ROOM) for _ in range(3)]
        others = 0

        async def count() -> None:
            nonlocal others
            while True:
                await asyncio.sleep(0)
                others += 1

        other = asyncio.create_task(count())
        await turns(1)
        before = others
        await members[0].topics.publish(ROOM, "few")
        assert others == before
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(topic_service, "MAX_DELIVERIES", 2)
            await members[0].topics.publish(ROOM, "many")
        assert others == before + 1
        other.cancel()
        assert MAX_DELIVERIES == 1000


@pytest.mark.parametrize(
    "options", [{}, {"ws_deflate_context_takeover": True}, {"ws_fast_path": False}]
)
async def test_compressed_and_plain_subscribers_get_the_same(options: dict[str, Any]) -> None:
    async with hall(ws_per_message_deflate=True, **options) as here:
        ada = await here.subscribed(ROOM)
        bob = await here.subscribed(ROOM, DEFLATE)
        for _ in range(2):
            await ada.topics.publish(ROOM, LONG)
        assert await ada.read_all() == [LONG] * 2
        first, second = await bob.read_frame(), await bob.read_frame()
        assert len(first.payload) < 100
        assert (len(second.payload) < len(first.payload)) is bool(
            options.get("ws_deflate_context_takeover")
        )
        assert bob.websocket.sent_messages == 2
        assert here.counts["delivered"] == 4


# -- a subscription that is interrupted ------------------------------------------------------------


@pytest.mark.parametrize("method", ["attach", "missed"])
async def test_a_cancelled_subscribe_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    topics.configure(ROOM, history=9)
    async with hall() as here:
        ada = await here.open()
        await ada.topics.publish(ROOM, "missed", id="1")
        await ada.topics.publish(ROOM, "missed", id="2")
        with monkeypatch.context() as patch:
            held = hold(patch, here, method)
            task = start_task(ada.topics.subscribe(ROOM, after="1", member="ada"))
            await held.called()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            here.assert_empty()
        back = await ada.topics.subscribe(ROOM, after="1", member="ada")
        assert (back.complete, back.count) == (True, 1)
        assert await ada.topics.members(ROOM) == {"ada": 1}


async def test_calling_again_at_once_after_a_cancellation_is_not_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        task = start_task(ada.topics.subscribe(ROOM))
        await held.called()
        task.cancel()  # it has not run yet
        again = start_task(ada.topics.subscribe(ROOM, after="1"))
        held.released.set()
        assert (await soon(again)).complete is False
        assert ada.topics.subscribers(ROOM) == 1


async def test_who_subscribes_twice_at_once_is_subscribed_when_either_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        first = start_task(ada.topics.subscribe(ROOM, member="first"))
        await held.called()
        second = start_task(ada.topics.subscribe(ROOM, member="second"))
        assert await is_waiting(second), "the broker does not deliver the topic yet"
        held.released.set()
        await asyncio.gather(first, second)
        assert await ada.topics.members(ROOM) == {"second": 1}
        await ada.topics.publish(ROOM, "once")
        assert await ada.read_all() == ["once"]


async def test_the_second_of_two_subscribes_itself_if_the_first_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        first = start_task(ada.topics.subscribe(ROOM))
        await held.called()
        second = start_task(ada.topics.subscribe(ROOM))
        await turns()
        first.cancel()
        held.released.set()
        await soon(second)
        await ada.topics.publish(ROOM, "x")
        assert await ada.read_all() == ["x"]


async def test_unsubscribing_meanwhile_cancels_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        task = start_task(ada.topics.subscribe(ROOM, member="ada"))
        await held.called()
        await ada.topics.unsubscribe(ROOM)
        await soon(task)
        here.assert_empty()
        assert await ada.topics.members(ROOM) == {}


async def test_a_client_that_leaves_meanwhile_is_not_subscribed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        task = start_task(ada.topics.subscribe(ROOM, member="ada"))
        await held.called()
        await ada.leave()
        with pytest.raises(ClientDisconnected):
            await soon(task)
        here.assert_empty()


async def test_a_broker_that_does_not_answer_is_asked_again_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada, bob = await here.open(), await here.open()
        with monkeypatch.context() as patch:
            held = hold(patch, here, "attach")
            tasks = [start_task(one.topics.subscribe(ROOM)) for one in (ada, bob)]
            await held.called()
            held.error = topics.Unavailable("no answer")
            held.released.set()
            for task in tasks:
                with pytest.raises(topics.Unavailable, match="no answer"):
                    await soon(task)
            assert held.calls == 1, "both wait for the same answer"
        here.assert_empty()
        await ada.topics.subscribe(ROOM)
        await ada.topics.publish(ROOM, "x")
        assert await ada.read_all() == ["x"]


async def test_a_broker_whose_call_is_cancelled_from_outside_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        ada = await here.open()
        held = hold(monkeypatch, here, "attach")
        task = start_task(ada.topics.subscribe(ROOM))
        await held.called()
        attaching = here.service._topics[ROOM].attaching
        assert attaching is not None
        attaching.cancel()
        with pytest.raises(topics.Unavailable):
            await soon(task)


async def test_a_cancelled_publish_may_be_repeated_with_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topics.configure(ROOM, history=9)
    async with hall() as here:
        ada = await here.subscribed(ROOM)
        monkeypatch.setattr(topic_service, "MAX_DELIVERIES", 0)
        task = start_task(ada.topics.publish(ROOM, "x", id="1"))
        await until(lambda: here.counts["published"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ada.topics.publish(ROOM, "x", id="1") == "1"
        assert await ada.read_all() == ["x"]


async def test_a_broker_attaches_outside_of_the_caller_s_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable = contextvars.ContextVar("variable", default="of nobody")
    found = list[str]()
    async with hall() as here:
        attach = here.broker.attach

        async def noting(topic: str) -> None:
            found.append(variable.get())
            await attach(topic)

        monkeypatch.setattr(here.broker, "attach", noting)
        ada = await here.open()
        variable.set("of the caller")
        await ada.topics.subscribe(ROOM)
    assert found == ["of nobody"]


# -- counters --------------------------------------------------------------------------------------


async def test_the_counters() -> None:
    topics.configure(ROOM, history=2)
    async with hall() as here:
        ada, bob = await here.subscribed(ROOM), await here.open()
        for number in "1234":
            await ada.topics.publish(ROOM, number, id=number)
        await bob.topics.subscribe(ROOM, after="2")
        await bob.topics.unsubscribe(ROOM)
        await bob.topics.subscribe(ROOM, after="1", last=1)
        expected = {
            "published": 4,
            "delivered": 4 + 2 + 1,
            "dropped": {},
            "closed_slow": 0,
            "recovered": 1,
            "incomplete": 1,
        }
        assert here.counts == expected
        assert topics.stats() == expected
    assert topics.stats()["published"] == 0, "the worker has stopped"


async def test_topics_work_over_a_connection_in_memory() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await topics.of(scope).subscribe(ROOM)
        await topics.of(scope).publish(ROOM, "hello")
        await receive()

    with capture_log() as log:
        async with connect(app) as client:
            client.send(handshake())
            await client.until(b"\r\n\r\n")
            assert await Member(client, ScriptedApp(), log).read_texts(1) == ["hello"]
