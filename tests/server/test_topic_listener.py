"""Listeners: the messages of a topic for the app itself, bounded, and ended by themselves."""

import asyncio
import gc
from typing import Any

import pytest

from tests.harness.topics import Hall, hall, hold, own_rules
from tests.harness.waiting import is_waiting, soon, start_task, turns, until
from wsgate import topics
from wsgate.topics import Topics
from wsgate.topics.outlet import MIN_COUNTED

__all__ = ["own_rules"]
pytestmark = pytest.mark.usefixtures("own_rules")

ROOM = "room"


async def collect(listener: Any) -> list[str | bytes]:
    """Return all messages of a listener until it ends."""
    return [message.data async for message in listener]


async def publish(here: Hall, *numbers: int) -> None:
    """Publish messages whose ids are their numbers, from the lifespan."""
    for number in numbers:
        await Topics(here.service.extension(None)).publish(ROOM, str(number), id=str(number))


# -- what is heard ---------------------------------------------------------------------------------


async def test_a_listener_hears_what_is_published_from_its_entry_on() -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        request = await here.request()
        await publish(here, 1)
        async with request.topics.listen(ROOM) as messages:
            assert messages.complete
            await publish(here, 2)
            message = await soon(anext(aiter(messages)))
            assert (message.topic, message.data, message.id) == (ROOM, "2", "2")
        here.assert_empty()


async def test_a_message_that_is_not_kept_has_no_id() -> None:
    async with hall() as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            await request.topics.publish(ROOM, b"data", id="5")
            message = await soon(anext(aiter(messages)))
            assert (message.data, message.id) == (b"data", None)


async def test_a_listener_can_be_iterated_over_directly() -> None:
    async with hall() as here:
        request = await here.request()
        task = start_task(collect(request.topics.listen(ROOM)))
        await until(lambda: request.topics.subscribers(ROOM) == 1)
        await publish(here, 1, 2)
        await request.leave()
        assert await soon(task) == ["1", "2"]
        here.assert_empty()


@pytest.mark.parametrize(
    ("after", "last", "heard", "complete"),
    [
        ("2", None, ["3", "4"], True),
        ("1", None, ["2", "3", "4"], True),
        ("unknown", None, [], False),
        ("unknown", 2, ["3", "4"], False),
        (None, 1, ["4"], True),
        ("", 1, ["4"], True),
    ],
)
async def test_what_was_missed_comes_first(
    after: str | None, last: int | None, heard: list[str], *, complete: bool
) -> None:
    topics.configure(ROOM, history=3)
    async with hall() as here:
        request = await here.request()
        await publish(here, 1, 2, 3, 4)
        async with request.topics.listen(ROOM, after=after, last=last) as messages:
            assert messages.complete is complete
            await publish(here, 5)
            iterator = aiter(messages)
            found = [await soon(anext(iterator)) for _ in [*heard, "5"]]
            assert [one.data for one in found] == [*heard, "5"]


@pytest.mark.parametrize("name", [ROOM, "plain"])
async def test_what_is_published_during_the_entry_is_heard_once(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    topics.configure(ROOM, history=5)
    async with hall() as here:
        request = await here.request()
        await request.topics.publish(ROOM, "0", id="0")
        held = hold(monkeypatch, here, "attach")
        listener = request.topics.listen(name, after="0")
        entering = start_task(listener.__aenter__())
        await held.called()
        await request.topics.publish(name, "during")
        held.released.set()
        await soon(entering)
        await request.topics.publish(name, "after")
        found = [(await soon(anext(aiter(listener)))).data for _ in range(2)]
        assert found == ["during", "after"]
        await listener.__aexit__(None, None, None)


# -- bounds ----------------------------------------------------------------------------------------


async def test_a_listener_of_a_plain_topic_that_falls_behind_misses_messages() -> None:
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            await publish(here, 1, 2, 3, 4)
            assert here.counts["dropped"] == {"slow listener": 2}
            iterator = aiter(messages)
            assert (await soon(anext(iterator))).data == "1"
            await publish(here, 5)
            found = [(await soon(anext(iterator))).data for _ in range(2)]
            assert found == ["2", "5"]
            assert here.counts["delivered"] == 3


async def test_a_listener_of_a_history_that_falls_behind_gets_overrun() -> None:
    topics.configure(ROOM, history=9)
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            await publish(here, 1, 2, 3)
            iterator = aiter(messages)
            assert (await soon(anext(iterator))).data == "1"
            await publish(here, 4)
            assert (await soon(anext(iterator))).data == "2", "nothing after the gap"
            for _ in range(2):
                with pytest.raises(topics.Overrun, match="has fallen behind"):
                    await soon(anext(iterator))
        async with request.topics.listen(ROOM, after="2") as messages:
            found = [(await soon(anext(aiter(messages)))).data for _ in range(2)]
            assert (messages.complete, found) == (True, ["3", "4"])


async def test_a_waiting_listener_is_overrun_only_by_what_waits() -> None:
    topics.configure(ROOM, history=9)
    async with hall(topics_max_outlet=MIN_COUNTED) as here:
        request = await here.request()
        task = start_task(collect(request.topics.listen(ROOM, last=9)))
        await until(lambda: request.topics.subscribers(ROOM) == 1)
        for number in range(5):
            await publish(here, number)
            await turns()
        await request.leave()
        assert await soon(task) == ["0", "1", "2", "3", "4"]


async def test_the_history_does_not_count_as_waiting() -> None:
    topics.configure(ROOM, history=9)
    async with hall(topics_max_outlet=2 * MIN_COUNTED) as here:
        request = await here.request()
        await publish(here, *range(9))
        async with request.topics.listen(ROOM, last=9) as messages:
            await publish(here, 9, 10)
            iterator = aiter(messages)
            found = [(await soon(anext(iterator))).data for _ in range(11)]
            assert found == [str(number) for number in range(11)]


async def test_an_app_that_never_reads_its_listener_holds_up_nobody() -> None:
    async with hall(topics_max_outlet=MIN_COUNTED) as here:
        ada, request = await here.subscribed(ROOM), await here.request()
        async with request.topics.listen(ROOM):
            await publish(here, *range(50))
            assert await ada.read_all() == [str(number) for number in range(50)]
            assert here.counts["dropped"] == {"slow listener": 49}


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["drop", "eof"])
async def test_a_listener_ends_when_the_client_of_its_request_has_left(way: str) -> None:
    async with hall() as here:
        request = await here.request()
        task = start_task(collect(request.topics.listen(ROOM)))
        assert await is_waiting(task)
        getattr(request.client, way)()  # the server sees the close of a socket as an eof
        assert await soon(task) == []
        here.assert_empty()
        assert await soon(collect(request.topics.listen(ROOM))) == []


async def test_a_listener_ends_when_the_call_of_the_app_has_ended() -> None:
    async with hall() as here:
        request = await here.request()
        task = start_task(collect(request.topics.listen(ROOM)))
        assert await is_waiting(task)
        await request.call.respond()
        assert not task.done(), "the app may go on after the response"
        request.call.finish()
        assert await soon(task) == []
        here.assert_empty()
        assert await soon(collect(request.topics.listen(ROOM))) == [], "it ends at once now"


@pytest.mark.parametrize("way", ["drop", "eof"])
async def test_a_listener_ends_when_its_websocket_has_left(way: str) -> None:
    async with hall() as here:
        ada = await here.open()
        task = start_task(collect(ada.topics.listen(ROOM)))
        assert await is_waiting(task)
        getattr(ada.client, way)()
        assert await soon(task) == []
        here.assert_empty()


@pytest.mark.parametrize("way", ["drop", "app refuses", "app returns"])
async def test_a_listener_ends_when_its_websocket_was_never_accepted(way: str) -> None:
    async with hall() as here:
        ada = here.arrive()
        await ada.request()
        task = start_task(collect(ada.topics.listen(ROOM)))
        assert await is_waiting(task)
        if way == "drop":
            ada.client.drop()
        elif way == "app refuses":
            await ada.call.receive()
            await ada.call.send({"type": "websocket.close"})
        else:
            ada.call.finish()
        assert await soon(task) == []
        assert await soon(collect(ada.topics.listen(ROOM))) == []
        here.assert_empty()


@pytest.mark.parametrize("kind", ["request", "WebSocket", "lifespan"])
async def test_who_listens_after_the_end_hears_nothing_and_does_not_wait(kind: str) -> None:
    async with hall() as here:
        if kind == "lifespan":
            here.service.end_listeners()
            own = Topics(here.service.extension(None))
        elif kind == "request":
            request = await here.request()
            await request.leave()
            own = request.topics
        else:
            ada = await here.open()
            await ada.leave()
            own = ada.topics
        assert await soon(collect(own.listen(ROOM))) == []
        here.assert_empty()


async def test_the_listeners_of_the_lifespan_end_at_the_stop() -> None:
    async with hall() as here:
        own = Topics(here.service.extension(None))
        task = start_task(collect(own.listen(ROOM)))
        await until(lambda: own.subscribers(ROOM) == 1)
        await publish(here, 1)
        here.service.end_listeners()
        assert await soon(task) == ["1"]


async def test_a_listener_that_is_left_by_a_break_is_removed() -> None:
    async with hall() as here:
        request = await here.request()
        heard: list[str | bytes] = []

        async def first() -> None:
            async for message in request.topics.listen(ROOM):
                heard.append(message.data)
                break

        task = start_task(first())
        await until(lambda: request.topics.subscribers(ROOM) == 1)
        await publish(here, 1)
        await soon(task)
        gc.collect()
        await turns()
        assert heard == ["1"]
        here.assert_empty()


@pytest.mark.parametrize("method", ["attach", "missed"])
async def test_a_cancelled_entry_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    async with hall() as here:
        request = await here.request()
        held = hold(monkeypatch, here, method)
        task = start_task(collect(request.topics.listen(ROOM, after="1")))
        await held.called()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        here.assert_empty()


async def test_a_client_that_leaves_during_the_entry_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        request = await here.request()
        held = hold(monkeypatch, here, "attach")
        task = start_task(collect(request.topics.listen(ROOM, last=1)))
        await held.called()
        await request.leave()
        assert await soon(task) == []
        here.assert_empty()


async def test_a_cancelled_wait_loses_no_message() -> None:
    async with hall() as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            waiting = start_task(anext(aiter(messages)))
            assert await is_waiting(waiting)
            await publish(here, 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await soon(anext(aiter(messages)))).data == "1"


async def test_a_broker_that_does_not_answer_is_an_error_of_the_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hall() as here:
        request = await here.request()
        held = hold(monkeypatch, here, "attach")
        held.error = topics.Unavailable("no answer")
        held.released.set()
        with pytest.raises(topics.Unavailable):
            async with request.topics.listen(ROOM):
                pass
        here.assert_empty()


async def test_a_listener_is_entered_once() -> None:
    async with hall() as here:
        request = await here.request()
        listener = request.topics.listen(ROOM)
        async with listener:
            with pytest.raises(RuntimeError, match="entered once"):
                await listener.__aenter__()


async def test_a_listener_that_was_left_has_ended() -> None:
    async with hall() as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            pass
        await publish(here, 1)
        assert await soon(collect(messages)) == []


async def test_two_tasks_may_share_a_listener() -> None:
    async with hall() as here:
        request = await here.request()
        async with request.topics.listen(ROOM) as messages:
            tasks = [start_task(collect(messages)) for _ in range(2)]
            assert await is_waiting(tasks[0])
            await publish(here, *range(10))
            await request.leave()
            heard = await soon(asyncio.gather(*tasks))
            assert sorted(heard[0] + heard[1]) == [str(number) for number in range(10)]
