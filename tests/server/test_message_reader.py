"""Which receiver gets which message if several wait, or one is cancelled as it arrives."""

import asyncio

import pytest

from tests.frames import TEXT, frame
from wsgate.config import Config
from wsgate.server.message_reader import MessageReader
from wsgate.server.worker import Worker
from wsgate.testing.memory import ManualClock, MemoryClient
from wsgate.types import Receive, Scope, Send
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Be there."""


class Reader(MessageReader):
    """A reader whose session never changes."""

    def session_changed(self) -> None:
        raise NotImplementedError


def new_reader() -> MessageReader:
    worker = Worker(nothing, Config())
    reader = Reader(worker, MemoryClient(worker, ManualClock()).connection)
    reader.open(Session(FastCodec(MessageLimits(), None, Compressors(6))))
    return reader


async def test_receivers_are_served_in_order() -> None:
    reader = new_reader()
    arrivals = [reader.add_receiver() for _ in range(3)]
    reader.data(frame(TEXT, "a"))
    reader._deliver(["b"])
    assert [arrival.done() for arrival in arrivals] == [True, True, False]
    assert [arrival.result() for arrival in arrivals[:2]] == ["a", "b"]
    assert reader.queue is None
    reader.wake_receivers()
    assert arrivals[2].result() is None


async def test_cancelled_receivers_are_skipped() -> None:
    reader = new_reader()
    first, second, third = (reader.add_receiver() for _ in range(3))
    first.cancel()
    second.cancel()
    reader._deliver(["a"])
    assert third.result() == "a"
    fourth = reader.add_receiver()
    fourth.cancel()
    reader._deliver(["b"])
    assert reader.queue is not None
    assert reader.pop_message() == "b"


async def test_a_message_given_back_goes_to_the_next_receiver() -> None:
    reader = new_reader()
    first, second = reader.add_receiver(), reader.add_receiver()
    reader._deliver(["a"])
    reader.give_back(first)
    assert second.result() == "a"


async def test_a_message_given_back_is_the_next_of_the_queue() -> None:
    reader = new_reader()
    first = reader.add_receiver()
    reader._deliver(["a", "b"])
    reader.give_back(first)
    assert [reader.pop_message(), reader.pop_message()] == ["a", "b"]


async def test_messages_of_several_receivers_are_given_back_in_order() -> None:
    reader = new_reader()
    arrivals = [reader.add_receiver() for _ in range(2)]
    reader._deliver(["a", "b", "c"])
    for arrival in arrivals:
        reader.give_back(arrival)
    assert [reader.pop_message() for _ in range(3)] == ["a", "b", "c"]


async def test_a_receiver_that_was_closed_is_skipped() -> None:
    reader = new_reader()
    closed = reader.add_receiver()
    reader.give_back(closed)
    reader.data(frame(TEXT, "a"))
    assert reader.pop_message() == "a"


async def test_an_app_at_its_recursion_limit_loses_no_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(callback: object) -> None:
        raise RecursionError

    reader = new_reader()
    reader.wire.paused_since = 0.0
    reader._deliver(["a"])
    with monkeypatch.context() as limited:
        limited.setattr(reader.worker, "call_soon", failing)
        with pytest.raises(RecursionError):
            reader.pop_message()
    assert reader.pop_message() == "a"
    assert reader._is_scheduled


async def test_only_messages_are_given_back() -> None:
    reader = new_reader()
    cancelled, woken = reader.add_receiver(), reader.add_receiver()
    cancelled.cancel()
    reader.give_back(cancelled)
    reader.wake_receivers()
    assert woken.result() is None
    reader.give_back(woken)
    assert reader.queue is None


async def test_a_receiver_cancelled_in_the_iteration_of_its_message_loses_nothing() -> None:
    reader = new_reader()

    async def receive() -> str | bytes | None:
        arrival = reader.add_receiver()
        try:
            return await arrival
        except asyncio.CancelledError:
            reader.give_back(arrival)
            raise

    task = asyncio.create_task(receive())
    await asyncio.sleep(0)
    reader.data(frame(TEXT, "kept"))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert reader.pop_message() == "kept"
