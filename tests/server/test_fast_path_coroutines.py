"""`send` and `receive`, compiled and plain: they are coroutines, whatever looks at them."""

import asyncio
import collections.abc
import contextlib
import functools
import gc
import inspect
import types
import warnings
import weakref
from typing import Any

import pytest

from tests.frames import BINARY, TEXT, frame
from tests.harness.app import text
from tests.server.twins import Transport, Twin
from wsgate.server.fast_path import PlainMessagePath, PlainWriteBatch
from wsgate.server.receive_queue import ReceiveQueue

# -- send and receive, as the app awaits them ------------------------------------------------------


async def test_send_returns_after_a_common_message(twin: Twin) -> None:
    assert await twin.path.send(text("a")) is None
    await asyncio.sleep(0)
    assert twin.written == [b"\x81\x01a"]
    assert twin.path.sent_otherwise == []


async def test_nothing_is_sent_before_it_is_awaited(twin: Twin) -> None:
    first, second = twin.path.send(text("first")), twin.path.send(text("second"))
    await second
    await first
    await asyncio.sleep(0)
    assert twin.written == [b"\x81\x06second\x81\x05first"]


async def test_send_leaves_another_message_to_the_subclass(path: Any) -> None:
    message = {"type": "websocket.close"}
    await path.send(message)
    assert path.sent_otherwise == [message]


async def test_send_waits_while_the_gate_that_it_has_shut_is_shut(twin: Twin) -> None:
    path = twin.path

    class ShuttingWire:
        def write(self, data: bytes) -> None:
            path.gate.shut(1.0)

    path.wire = ShuttingWire()
    task = asyncio.create_task(path.send(text("a")))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    path.gate.open()
    await task


async def test_send_and_receive_are_coroutines(path: Any) -> None:
    for made in (path.send(text("a")), path.receive()):
        assert asyncio.iscoroutine(made)
        assert isinstance(made, collections.abc.Coroutine)
        made.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            made.send(None)


@pytest.mark.parametrize("name", ["send", "receive"])
async def test_they_are_coroutine_functions(path: Any, name: str) -> None:
    for function in (getattr(path, name), getattr(type(path), name)):
        assert inspect.iscoroutinefunction(function)
        assert asyncio.iscoroutinefunction(function)
        assert inspect.iscoroutinefunction(functools.partial(function, {}))
        assert function.__name__ == name
        assert function.__module__ == PlainMessagePath.__module__
    expected = inspect.signature(getattr(PlainMessagePath, name))
    assert inspect.signature(getattr(type(path), name)) == expected
    assert name in repr(getattr(path, name))


async def test_they_are_coroutines_for_inspection_too(path: Any) -> None:
    """Older versions of anyio's task groups accept nothing else."""
    for name, made in (("send", path.send(text("a"))), ("receive", path.receive())):
        assert inspect.iscoroutine(made)
        assert isinstance(made, types.CoroutineType)
        assert (made.__name__, made.cr_code.co_name) == (name, name)
        assert made.__qualname__.endswith(name)
        assert (made.cr_running, made.cr_await, made.cr_origin) == (False, None, None)
        assert weakref.ref(made)() is made
        made.close()
        assert inspect.getcoroutinestate(made) == inspect.CORO_CLOSED


async def test_a_suspended_coroutine_says_so(path: Any) -> None:
    made = path.receive()
    made.send(None)
    assert inspect.getcoroutinestate(made) == inspect.CORO_SUSPENDED
    assert made.cr_await is not None
    made.close()


async def test_a_message_may_be_given_by_its_name(twin: Twin) -> None:
    await twin.path.send(message=text("a"))
    await asyncio.sleep(0)
    assert twin.written == [b"\x81\x01a"]


@pytest.mark.parametrize(
    ("name", "arguments"), [("send", ()), ("send", (1, 2)), ("receive", (1,))], ids=str
)
async def test_wrong_arguments_are_reported_at_the_call(
    path: Any, name: str, arguments: tuple[int, ...]
) -> None:
    with pytest.raises(TypeError, match=rf"{name}\(\)"):
        getattr(path, name)(*arguments)


async def test_a_coroutine_runs_once(path: Any) -> None:
    made = path.receive()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
        made.send(5)
    made.send(None)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        await made
    made.close()
    made.close()
    for use, argument in ((made.send, None), (made.throw, KeyError())):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            use(argument)


@pytest.mark.parametrize("use", ["send", "throw", "close"])
async def test_a_running_coroutine_cannot_be_used(path: Any, use: str) -> None:
    """A key of the message runs code of the app while the message is looked at."""
    raised: list[BaseException] = []

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            arguments = {"send": (None,), "throw": (KeyError(),), "close": ()}[use]
            try:
                getattr(made, use)(*arguments)
            except ValueError as error:
                raised.append(error)
            return False

    made = path.send({Key("type"): "websocket.send", "text": "a"})
    await made
    assert raised
    assert {str(error) for error in raised} == {"coroutine already executing"}


class EvilKey(str):
    """A key that runs a function when it is compared."""

    __slots__ = ("act",)
    __hash__ = str.__hash__
    act: Any

    def __eq__(self, other: object) -> bool:
        self.act()
        return str.__eq__(self, other)


async def test_a_message_may_change_while_it_is_read(twin: Twin) -> None:
    """Its payload is the one that was there when it was read, and not freed memory."""
    key = EvilKey("bytes")
    message: dict[str, Any] = {**text("".join(["A"] * 40)), key: None}
    key.act = lambda: message.update(text="new")
    await twin.path.send(message)
    await asyncio.sleep(0)
    sent = b"".join(twin.written)
    assert sent in (b"", b"\x81\x28" + b"A" * 40, b"\x81\x03new")


async def test_an_exception_of_a_key_reaches_the_app(path: Any) -> None:
    def fail() -> None:
        raise ValueError("of the key")

    for name in ("type", "text", "bytes"):
        key = EvilKey(name)
        message = {key: "a"} if name == "type" else {key: "a", "type": "websocket.send"}
        key.act = fail
        with pytest.raises(ValueError, match="of the key"):
            await path.send(message)


async def test_they_run_in_tasks_and_in_gather(path: Any) -> None:
    await asyncio.gather(path.send(text("a")), asyncio.create_task(path.send(text("b"))))
    receiving = asyncio.ensure_future(path.receive())
    await asyncio.sleep(0)
    path.data(frame(TEXT, "c"))
    assert await receiving == {"type": "websocket.receive", "text": "c"}
    assert path.sent_messages == 2


async def test_one_that_is_never_awaited_warns(path: Any) -> None:
    for make in (lambda: path.send(text("a")), path.receive):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make()
            gc.collect()
        (warning,) = caught
        assert warning.category is RuntimeWarning
        assert "was never awaited" in str(warning.message)


async def test_receive_returns_text_and_bytes(path: Any) -> None:
    for opcode, message in ((TEXT, {"text": "a"}), (BINARY, {"bytes": b"a"})):
        receiving = asyncio.create_task(path.receive())
        await asyncio.sleep(0)
        path.data(frame(opcode, b"a"))
        assert await receiving == {"type": "websocket.receive", **message}


async def test_receive_leaves_the_rest_to_the_subclass(path: Any) -> None:
    path.queue = ReceiveQueue(1, 1)
    path.others_to_receive = [{"type": "other"}]
    assert await path.receive() == {"type": "other"}


async def test_receive_asks_the_subclass_when_only_the_state_has_changed(path: Any) -> None:
    path.others_to_receive = [{"type": "websocket.disconnect"}]
    receiving = asyncio.create_task(path.receive())
    await asyncio.sleep(0)
    path.receiver.set_result(None)
    assert await receiving == {"type": "websocket.disconnect"}
    assert path.given_back == []


async def test_a_cancelled_receive_gives_its_arrival_back(path: Any) -> None:
    receiving = asyncio.create_task(path.receive())
    await asyncio.sleep(0)
    arrival = path.receiver
    path.data(frame(TEXT, "a"))
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    assert path.given_back == [arrival]


@pytest.mark.parametrize("has_arrived", [False, True])
@pytest.mark.parametrize("way", ["close", "throw", "forget"])
async def test_a_receive_that_ends_in_another_way_gives_its_arrival_back(
    path: Any, way: str, has_arrived: bool
) -> None:
    receiving = path.receive()
    receiving.send(None)
    arrival = path.receiver
    if has_arrived:
        path.data(frame(TEXT, "a"))
    if way == "close":
        receiving.close()
    elif way == "throw":
        with pytest.raises(KeyError):
            receiving.throw(KeyError("thrown"))
    del receiving
    gc.collect()
    assert path.given_back == [arrival]


async def test_a_deleted_member_raises(path: Any) -> None:
    """What is not there is an AttributeError, never a crash."""
    for name in ("receiver", "codec", "session", "max_size", "create_future", "queue"):
        value = getattr(path, name)
        delattr(path, name)
        if name != "receiver":
            path.receiver = path.create_future() if name == "codec" else None
        with contextlib.suppress(AttributeError):
            path.data(frame(TEXT, "a"))
        with contextlib.suppress(AttributeError):
            path.expect()
        with contextlib.suppress(AttributeError):
            path.put(text("a"))
        setattr(path, name, value)
    for name in ("gate", "batch", "wire"):
        value = getattr(path, name)
        delattr(path, name)
        with pytest.raises(AttributeError, match=name):
            path.put(text("a"))
        setattr(path, name, value)


async def test_a_deleted_transport_raises(twin: Twin) -> None:
    del twin.stream.transport
    with pytest.raises(AttributeError, match="transport"):
        twin.stream.write(b"a")
    twin.stream.transport = Transport()
    twin.stream.write(b"a")
    del twin.stream.transport
    with pytest.raises(AttributeError, match="transport"):
        twin.batch.flush()
    del twin.stream.batch
    with pytest.raises(AttributeError, match="batch"):
        twin.stream.write(b"a")


async def test_only_streams_are_flushed(twin: Twin) -> None:
    if isinstance(twin.batch, PlainWriteBatch):
        pytest.skip("mypy holds the plain twin to it")
    twin.stream.write(b"a")
    twin.batch.streams.insert(0, object())
    with pytest.raises(TypeError, match="streams has only instances of Stream"):
        twin.batch.flush()
    assert twin.written == [b"a"]


async def test_a_cancelled_send_stops_waiting(path: Any) -> None:
    path.gate.shut(1.0)
    sending = asyncio.create_task(path.send(text("a")))
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert path.sent_otherwise == []


async def test_exceptions_of_the_subclass_are_raised(path: Any) -> None:
    async def failing(*_: Any) -> None:
        await asyncio.sleep(0)
        raise KeyError("failed")

    class Failing(type(path)):  # type: ignore[misc]  # the class of either twin
        send_other = failing
        receive_other = failing

    other = Failing(path.batch, path.wire)
    other.queue = ReceiveQueue(1, 1)
    for awaitable in (other.send({}), other.receive()):
        with pytest.raises(KeyError, match="failed"):
            await awaitable


async def test_an_exception_that_the_app_throws_in_is_raised(path: Any) -> None:
    receiving = path.receive()
    receiving.send(None)
    with pytest.raises(ValueError, match="thrown"):
        receiving.throw(ValueError("thrown"))
    fresh = path.send(text("a"))
    with pytest.raises(ValueError, match="thrown"):
        fresh.throw(ValueError("thrown"))
    assert path.sent_messages == 0
