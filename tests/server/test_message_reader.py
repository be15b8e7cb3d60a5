"""Who gets which message where several wait for one, or one is cancelled as it comes."""

import asyncio

from tests.frames import TEXT, frame
from wsgate.config import Config
from wsgate.server.message_reader import Inbox
from wsgate.server.worker import Context
from wsgate.testing.memory import ManualClock, MemoryClient
from wsgate.types import Receive, Scope, Send
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Be there."""


def inbox() -> Inbox:
    connection = MemoryClient(Context(nothing, Config()), ManualClock()).connection
    return Inbox(connection, Session(FastCodec(MessageLimits(), None, Compressors(6))))


async def test_those_who_wait_are_served_in_turn() -> None:
    box = inbox()
    arrivals = [box.arrival() for _ in range(3)]
    box.data(frame(TEXT, "a"))
    box._put(["b"])
    assert [arrival.done() for arrival in arrivals] == [True, True, False]
    assert [arrival.result() for arrival in arrivals[:2]] == ["a", "b"]
    assert box.queue is None
    box.wake()
    assert arrivals[2].result() is None


async def test_those_who_wait_no_more_are_passed_over() -> None:
    box = inbox()
    first, second, third = (box.arrival() for _ in range(3))
    first.cancel()
    second.cancel()
    box._put(["a"])
    assert third.result() == "a"
    fourth = box.arrival()
    fourth.cancel()
    box._put(["b"])
    assert box.queue is not None
    assert box.pop() == "b"


async def test_a_message_given_back_goes_to_who_waits_next() -> None:
    box = inbox()
    first, second = box.arrival(), box.arrival()
    box._put(["a"])
    box.give_back(first)
    assert second.result() == "a"


async def test_a_message_given_back_is_the_next_to_come() -> None:
    box = inbox()
    first = box.arrival()
    box._put(["a", "b"])
    box.give_back(first)
    assert [box.pop(), box.pop()] == ["a", "b"]


async def test_only_messages_are_given_back() -> None:
    box = inbox()
    waiting, cancelled, woken = box.arrival(), box.arrival(), box.arrival()
    cancelled.cancel()
    box.give_back(waiting)
    box.give_back(cancelled)
    box.wake()
    assert woken.result() is None
    box.give_back(woken)
    assert box.queue is None


async def test_a_receiver_cancelled_in_the_turn_of_its_message_loses_nothing() -> None:
    box = inbox()

    async def receive() -> str | bytes | None:
        arrival = box.arrival()
        try:
            return await arrival
        except asyncio.CancelledError:
            box.give_back(arrival)
            raise

    task = asyncio.create_task(receive())
    await asyncio.sleep(0)
    box.data(frame(TEXT, "kept"))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert box.pop() == "kept"
