"""The fast path, compiled and plain: one contract for both."""

import asyncio
import collections.abc
import contextlib
import functools
import gc
import inspect
import os
import socket
import types
import warnings
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from tests.frames import BINARY, PING, TEXT, frame
from wsgate.server.backpressure import Gate
from wsgate.server.connection import Connection
from wsgate.server.fast_path import (
    FIRST_WRITE,
    MAX_DELAYED,
    NONE,
    RECENT,
    SEVERAL,
    UNKNOWN,
    PlainMessagePath,
    PlainStream,
    PlainWriteBatch,
)
from wsgate.server.message_reader import MessageReader
from wsgate.server.receive_queue import ReceiveQueue
from wsgate.server.write_batch import WriteBatch
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session

PLAIN = (PlainStream, PlainWriteBatch, PlainMessagePath)
# The base classes that the server uses: compiled if there was a compiler.
USED = (Connection.__mro__[1], WriteBatch.__mro__[1], MessageReader.__mro__[1])
TWINS = {bases[0].__module__: bases for bases in (PLAIN, USED)}


class Transport(asyncio.Transport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_broken = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_broken

    def get_write_buffer_size(self) -> int:
        return self.unsent


def stream_on(base: Any) -> Any:
    """Return a stream class that notes what the base leaves to it."""

    class Stream(base):  # type: ignore[misc]  # one of the twins
        def __init__(self, batch: Any) -> None:
            self.batch = batch
            self.transport = Transport()
            self.failures = 0
            self.aborts = 0
            self.descriptor = NONE

        def write_failed(self) -> None:
            self.failures += 1

        def abort(self) -> None:
            self.aborts += 1

        def find_descriptor(self) -> int:
            return self.descriptor

    return Stream


def batch_on(base: Any) -> Any:
    """Return a write batch class with the rest of the server's."""

    class Batch(base):  # type: ignore[misc]  # one of the twins
        put_other = WriteBatch.put_other
        schedule = WriteBatch.schedule
        flush_stream = WriteBatch.flush_stream

        def __init__(self) -> None:
            self._call_soon = asyncio.get_running_loop().call_soon
            self._run_outside_app = lambda write, data: write(data)

    return Batch


def path_on(base: Any) -> Any:
    """Return a message path class that notes what the base leaves to it."""

    class Path(base):  # type: ignore[misc]  # one of the twins
        def __init__(self, batch: Any, wire: Any) -> None:
            self.others: list[bytes] = []
            self.sent_otherwise: list[Any] = []
            self.given_back: list[Any] = []
            self.others_to_receive: list[Any] = []
            self.batch, self.wire = batch, wire
            self.gate = Gate()
            self.max_size = 100
            self.create_future = asyncio.get_running_loop().create_future
            self.is_open = True
            self.session = Session(FastCodec(MessageLimits(), None, Compressors(6)))
            self.codec = self.session.codec

        def feed_other(self, data: bytes) -> None:
            self.others.append(data)

        def give_back(self, arrival: Any) -> None:
            self.given_back.append(arrival)

        async def send_other(self, message: Any) -> None:
            await asyncio.sleep(0)
            self.sent_otherwise.append(message)

        async def receive_other(self) -> Any:
            await asyncio.sleep(0)
            return self.others_to_receive.pop(0)

        async def wait_for_reader(self) -> None:
            await self.gate.wait_until_open()

    return Path


class Twin:
    """One of the twins, with everything that it leaves to its subclasses noted."""

    def __init__(self, bases: tuple[Any, Any, Any]) -> None:
        self.stream_type = stream_on(bases[0])
        self.batch = batch_on(bases[1])()
        self.stream = self.stream_type(self.batch)
        self.path = path_on(bases[2])(self.batch, self.stream)

    @property
    def written(self) -> list[bytes]:
        """What the stream's transport was given."""
        written: list[bytes] = self.stream.transport.written
        return written


@pytest_asyncio.fixture(params=list(TWINS.values()), ids=list(TWINS))
async def twin(request: pytest.FixtureRequest) -> Twin:
    return Twin(request.param)


@pytest.fixture
def path(twin: Twin) -> Any:
    return twin.path


@pytest.fixture
def batch(twin: Twin) -> Any:
    return twin.batch


@pytest.fixture
def stream(twin: Twin) -> Any:
    return twin.stream


def text(payload: Any) -> dict[str, Any]:
    return {"type": "websocket.send", "text": payload}


# -- incoming messages -----------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["gr\u00fc\u00df", "", b"\0\xff", b""])
async def test_a_whole_message_reaches_the_waiting_receiver(
    path: Any, message: str | bytes
) -> None:
    arrival = path.expect()
    data = frame(TEXT if isinstance(message, str) else BINARY, message)
    path.data(data)
    assert await arrival == message
    assert (path.received_messages, path.received_bytes, path.receiver) == (1, len(data), None)
    assert path.others == []


async def test_a_message_without_a_receiver_is_left(path: Any) -> None:
    data = frame(TEXT, "a")
    path.data(data)
    assert (path.others, path.received_messages) == ([data], 0)


async def test_a_message_for_a_cancelled_receiver_is_left(path: Any) -> None:
    path.expect().cancel()
    data = frame(TEXT, "a")
    path.data(data)
    assert (path.others, path.received_messages) == ([data], 0)


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, "a")[:-1],
        frame(TEXT, "a") * 2,
        frame(TEXT, "a" * 101),
        frame(TEXT, b"\xff"),
        frame(PING, b""),
        bytearray(frame(TEXT, "a")),
        b"",
    ],
)
async def test_anything_but_one_whole_message_is_left(path: Any, data: bytes) -> None:
    arrival = path.expect()
    path.data(data)
    assert (path.others, path.received_messages) == ([data], 0)
    assert path.receiver is arrival
    assert not arrival.done()


async def test_a_session_with_work_gets_everything(path: Any) -> None:
    path.expect()
    path.session.feed(frame(TEXT, "a")[:1])
    path.data(frame(TEXT, "a")[1:])
    assert len(path.others) == 1


async def test_each_message_that_must_be_counted_is_left(path: Any) -> None:
    path.counts_each = True
    path.expect()
    path.data(frame(TEXT, "a"))
    assert len(path.others) == 1


async def test_a_second_receiver_is_not_expected(path: Any) -> None:
    first = path.expect()
    assert path.expect() is None
    assert path.receiver is first


async def test_nothing_is_expected_while_messages_are_queued(path: Any) -> None:
    path.queue = ReceiveQueue(1, 1)
    assert path.expect() is None


async def test_nothing_is_expected_of_a_session_with_work(path: Any) -> None:
    path.session.feed(b"\x81")
    assert path.expect() is None


async def test_nothing_passes_before_the_app_accepts(path: Any) -> None:
    path.is_open = False
    assert path.expect() is None
    assert path.put(text("a")) is False


async def test_several_receivers_are_not_common(path: Any) -> None:
    path.receiver = SEVERAL
    assert path.expect() is None
    path.data(frame(TEXT, "a"))
    assert len(path.others) == 1


async def test_an_exception_of_the_codec_is_raised(path: Any) -> None:
    def failing(data: bytes, max_size: int) -> None:
        raise MemoryError

    path.expect()
    path.codec = SimpleNamespace(read_message=failing)
    with pytest.raises(MemoryError):
        path.data(frame(TEXT, "a"))


async def test_a_missing_session_raises(path: Any) -> None:
    path.receiver = asyncio.get_running_loop().create_future()
    path.session = None
    with pytest.raises(AttributeError):
        path.data(b"x")
    with pytest.raises(AttributeError):
        path.put({})
    path.receiver = None
    with pytest.raises(AttributeError):
        path.expect()


# -- outgoing messages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "frame_out"),
    [
        ({"text": "a"}, b"\x81\x01a"),
        ({"bytes": b"a"}, b"\x82\x01a"),
        ({"text": "", "bytes": None}, b"\x81\x00"),
        ({"text": None, "bytes": b""}, b"\x82\x00"),
    ],
)
async def test_a_common_message_is_sent(
    twin: Twin, message: dict[str, Any], frame_out: bytes
) -> None:
    kind = str(b"websocket.send", "ascii")  # equal to the interned name, and another object
    assert twin.path.put({"type": kind, **message}) is True
    assert twin.written == []
    await asyncio.sleep(0)
    assert twin.written == [frame_out]
    assert (twin.path.sent_messages, twin.path.sent_bytes) == (1, len(frame_out))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": None},
        {"type": "websocket.close"},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": "a", "bytes": b"a"},
        {"type": "websocket.send", "text": b"a"},
        {"type": "websocket.send", "bytes": "a"},
        {"type": "websocket.send", "bytes": bytearray(b"a")},
        {"type": "websocket.send", "text": "\ud800"},
        None,
    ],
)
async def test_another_message_is_left(twin: Twin, message: Any) -> None:
    assert twin.path.put(message) is False
    await asyncio.sleep(0)
    assert (twin.written, twin.path.sent_messages, twin.path.sent_bytes) == ([], 0, 0)


async def test_a_message_in_another_mapping_is_left(twin: Twin) -> None:
    class Other(dict[str, Any]):
        pass

    assert twin.path.put(Other(text("a"))) is False


async def test_nothing_is_sent_while_the_gate_is_shut(path: Any) -> None:
    path.gate.shut(1.0)
    assert path.put(text("a")) is False


async def test_nothing_is_sent_to_a_client_that_has_left(path: Any) -> None:
    path.session.feed_eof()
    assert path.put(text("a")) is False


async def test_a_frame_is_bytes(twin: Twin) -> None:
    if isinstance(twin.path, PlainMessagePath):
        pytest.skip("mypy holds the plain twin to it")
    twin.path.codec = SimpleNamespace(message=str, encoding=None)
    with pytest.raises(TypeError, match="a frame is bytes"):
        twin.path.put(text("a"))


async def test_an_exception_of_the_wire_is_raised(twin: Twin) -> None:
    twin.path.wire = None
    with pytest.raises(AttributeError):
        twin.path.put(text("a"))


# -- frames are made once in an iteration ----------------------------------------------------------


class CountingCodec:
    """A codec that counts the frames that it makes."""

    def __init__(self, encoding: object | None) -> None:
        self.encoding = encoding
        self.count = 0

    def message(self, payload: str | bytes) -> bytes:
        self.count += 1
        return b"%d" % self.count


async def test_an_object_that_is_sent_to_many_is_framed_once(batch: Any) -> None:
    shared = object()
    codecs = [CountingCodec(shared) for _ in range(5)]
    payload = "hello".upper()
    assert {batch.frame(codec, payload) for codec in codecs} == {b"1"}
    assert [codec.count for codec in codecs] == [1, 0, 0, 0, 0]


async def test_equal_objects_are_not_the_same(batch: Any) -> None:
    codec = CountingCodec(object())
    one, other = bytes([1, 2]), bytes([1, 2])
    assert [batch.frame(codec, one), batch.frame(codec, other)] == [b"1", b"2"]


async def test_each_encoding_has_a_frame(batch: Any) -> None:
    one, other, payload = CountingCodec("one"), CountingCodec("other"), b"x" * 9
    for _ in range(3):
        assert (batch.frame(one, payload), batch.frame(other, payload)) == (b"1", b"1")
    assert (one.count, other.count) == (1, 1)


async def test_frames_of_one_connection_alone_are_not_kept(batch: Any) -> None:
    codec = CountingCodec(None)
    assert [batch.frame(codec, "a"), batch.frame(codec, "a")] == [b"1", b"2"]
    assert not batch.is_scheduled


async def test_frames_are_forgotten_at_the_end_of_the_iteration(batch: Any) -> None:
    codec, payload = CountingCodec("plain"), b"payload of this test"
    before = [batch.frame(codec, payload) for _ in range(2)]
    assert batch.is_scheduled
    await asyncio.sleep(0)
    assert not batch.is_scheduled
    assert [*before, batch.frame(codec, payload)] == [b"1", b"1", b"2"]


async def test_the_last_few_payloads_are_kept(batch: Any) -> None:
    codec = CountingCodec("plain")
    payloads = [bytes([n]) * 10 for n in range(RECENT + 1)]
    for _ in range(3):
        for payload in payloads[:RECENT]:
            batch.frame(codec, payload)
    assert codec.count == RECENT
    batch.frame(codec, payloads[RECENT])
    batch.frame(codec, payloads[0])
    assert codec.count == RECENT + 2


async def test_an_object_that_cannot_be_sent_is_not_kept(batch: Any) -> None:
    codec = FastCodec(MessageLimits(), None, Compressors(6))
    for _ in range(2):
        with pytest.raises(UnicodeEncodeError):
            batch.frame(codec, "\ud800")


# -- the write batch -------------------------------------------------------------------------------


async def test_writes_of_an_iteration_are_one_write(twin: Twin) -> None:
    other = twin.stream_type(twin.batch)
    for letter in (b"a", b"b", b"c"):
        twin.stream.write(letter)
        other.write(letter * 2)
    assert (twin.written, other.transport.written) == ([], [])
    await asyncio.sleep(0)
    assert (twin.written, other.transport.written) == ([b"abc"], [b"aabbcc"])
    twin.stream.write(b"d")
    await asyncio.sleep(0)
    assert twin.written == [b"abc", b"d"]


async def test_the_same_bytes_twice_are_sent_twice(twin: Twin) -> None:
    same = b"same"
    twin.stream.write(same)
    twin.stream.write(same)
    await asyncio.sleep(0)
    assert twin.written == [b"samesame"]


async def test_no_bytes_are_no_write(twin: Twin) -> None:
    twin.stream.write(b"")
    assert not twin.batch.is_scheduled
    assert twin.batch.streams == []


async def test_many_bytes_leave_at_once_after_those_pending(twin: Twin) -> None:
    twin.stream.write(b"a")
    twin.stream.write(b"b" * MAX_DELAYED)
    assert twin.written == [b"a" + b"b" * MAX_DELAYED]
    twin.stream.write(b"c" * MAX_DELAYED)
    assert twin.written[1:] == [b"c" * MAX_DELAYED]
    await asyncio.sleep(0)
    assert len(twin.written) == 2


async def test_bytes_leave_at_once_if_the_transport_has_unsent_ones(twin: Twin) -> None:
    twin.stream.write(b"a")
    twin.stream.transport.unsent = 1
    twin.stream.write(b"b")
    assert twin.written == [b"ab"]


@pytest.mark.parametrize("size", [1, MAX_DELAYED])
async def test_a_broken_transport_is_reported(twin: Twin, size: int) -> None:
    twin.stream.transport.is_broken = True
    twin.stream.write(b"x" * size)
    assert (twin.stream.failures, twin.written) == (1, [])
    await asyncio.sleep(0)
    assert twin.written == []


async def test_a_transport_is_asked_again_after_it_had_to_take_bytes(
    twin: Twin, ends: "Ends"
) -> None:
    twin.stream.descriptor = ends[0].fileno()
    twin.stream.fd = UNKNOWN
    twin.stream.write(b"a")
    await asyncio.sleep(0)
    assert twin.stream.is_transport_empty
    twin.stream.transport.unsent = 9  # must not be read
    twin.stream.write(b"b")
    await asyncio.sleep(0)
    assert (ends[1].recv(9), twin.written) == (b"ab", [])
    twin.stream.write(b"c" * MAX_DELAYED)
    assert not twin.stream.is_transport_empty
    twin.stream.write(b"d")
    assert twin.written == [b"c" * MAX_DELAYED, b"d"]


async def test_a_lost_stream_takes_nothing(twin: Twin) -> None:
    twin.stream.is_lost = True
    twin.stream.write(b"a")
    assert (twin.stream.failures, twin.batch.streams) == (0, [])


async def test_a_transport_that_is_closed_before_the_flush_gets_nothing(twin: Twin) -> None:
    other = twin.stream_type(twin.batch)
    twin.stream.write(b"a")
    other.write(b"b")
    twin.stream.transport.is_broken = True
    await asyncio.sleep(0)
    assert (twin.written, other.transport.written) == ([], [b"b"])


async def test_dropped_bytes_are_not_sent(twin: Twin) -> None:
    twin.stream.write(b"a")
    twin.stream.pending = None
    await asyncio.sleep(0)
    assert twin.written == []


async def test_an_exception_of_the_transport_is_raised(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(data: bytes) -> None:
        raise OSError("gone")

    monkeypatch.setattr(twin.stream.transport, "write", failing)
    with pytest.raises(OSError, match="gone"):
        twin.stream.write(b"x" * MAX_DELAYED)
    twin.batch.put(twin.stream, b"a")
    with pytest.raises(OSError, match="gone"):
        twin.batch.flush()


async def test_one_failing_transport_does_not_keep_the_others_waiting(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(data: bytes) -> None:
        raise OSError("gone")

    others = [twin.stream_type(twin.batch) for _ in range(2)]
    for stream in (others[0], twin.stream, others[1]):
        stream.write(b"a")
    monkeypatch.setattr(twin.stream.transport, "write", failing)
    with pytest.raises(OSError, match="gone"):
        twin.batch.flush()
    assert [other.transport.written for other in others] == [[b"a"], [b"a"]]
    assert (twin.stream.aborts, others[0].aborts) == (1, 0), "some of its bytes may be lost"
    for other in others:
        other.write(b"b")
    await asyncio.sleep(0)
    assert [other.transport.written for other in others] == [[b"a", b"b"], [b"a", b"b"]]


async def test_an_abort_that_fails_does_not_keep_the_others_waiting(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: bytes) -> None:
        raise OSError("gone")

    other = twin.stream_type(twin.batch)
    twin.stream.write(b"a")
    other.write(b"a")
    monkeypatch.setattr(twin.stream.transport, "write", failing)
    monkeypatch.setattr(twin.stream_type, "abort", failing)
    with pytest.raises(OSError, match="gone"):
        twin.batch.flush()
    assert other.transport.written == [b"a"]


# -- an app at its recursion limit makes any call raise --------------------------------------------


@pytest.fixture
def unschedulable(twin: Twin) -> Iterator[Twin]:
    """Return a twin whose loop raises when a callback is scheduled, until the fixture is undone."""

    def failing(callback: Any) -> None:
        raise RecursionError

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(twin.batch, "_call_soon", failing)
        yield twin


async def test_a_write_that_raises_leaves_no_bytes_and_the_next_is_flushed(
    unschedulable: Twin,
) -> None:
    twin = unschedulable
    with pytest.raises(RecursionError):
        twin.stream.write(b"lost")
    assert (twin.stream.pending, twin.batch.streams, twin.batch.is_scheduled) == (None, [], False)
    twin.batch._call_soon = asyncio.get_running_loop().call_soon
    twin.stream.write(b"sent")
    await asyncio.sleep(0)
    assert twin.written == [b"sent"]


async def test_a_large_write_that_raises_can_be_repeated(twin: Twin) -> None:
    def failing(write: Any, data: bytes) -> None:
        raise RecursionError

    usual = twin.batch._run_outside_app
    twin.stream.write(b"first ")
    twin.batch._run_outside_app = failing
    with pytest.raises(RecursionError):
        twin.stream.write(b"x" * MAX_DELAYED)
    with pytest.raises(RecursionError):
        twin.batch.flush_stream(twin.stream)
    twin.batch._run_outside_app = usual
    twin.stream.write(b"last")
    await asyncio.sleep(0)
    assert twin.written == [b"first last"]


async def test_a_send_that_raises_has_not_changed_the_compressor(unschedulable: Twin) -> None:
    twin = unschedulable
    codec = CountingCodec(None)
    twin.path.codec = codec
    with pytest.raises(RecursionError):
        await twin.path.send(text("a"))
    assert (codec.count, twin.path.sent_messages, twin.path.sent_bytes) == (0, 0, 0)


async def test_a_frame_is_not_remembered_if_it_cannot_be_forgotten(unschedulable: Twin) -> None:
    batch, codec = unschedulable.batch, CountingCodec("shared")
    with pytest.raises(RecursionError):
        batch.frame(codec, "a")
    batch._call_soon = asyncio.get_running_loop().call_soon
    assert batch.frame(codec, "a") == b"2"


# -- writing to the descriptor ---------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


Ends = tuple[socket.socket, socket.socket]


async def test_the_first_write_is_the_transport_s_and_later_ones_go_directly(
    twin: Twin, ends: Ends
) -> None:
    twin.stream.descriptor = ends[0].fileno()
    assert twin.stream.fd == FIRST_WRITE
    for data in (b"one", b"two", b"three"):
        twin.stream.write(data)
        await asyncio.sleep(0)
    assert twin.written == [b"one"]
    assert ends[1].recv(99) == b"twothree"
    assert twin.stream.fd == ends[0].fileno()


async def test_a_transport_without_a_descriptor_gets_everything(twin: Twin) -> None:
    for data in (b"one", b"two"):
        twin.stream.write(data)
        await asyncio.sleep(0)
    assert twin.written == [b"one", b"two"]
    assert twin.stream.fd == NONE


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes nothing more."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 50_000)


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(BlockingIOError):
        while True:
            received += sock.recv(1_000_000)
    return bytes(received)


async def test_what_the_kernel_does_not_take_goes_to_the_transport(twin: Twin, ends: Ends) -> None:
    ours, theirs = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    twin.stream.descriptor = ours.fileno()
    twin.stream.fd = UNKNOWN
    sent = os.urandom(MAX_DELAYED - 1)
    twin.stream.write(sent)
    await asyncio.sleep(0)
    (rest,) = twin.written
    assert 0 < len(rest) < len(sent)
    assert read_all(theirs) + rest == sent


async def test_a_full_kernel_buffer_leaves_everything_to_the_transport(
    twin: Twin, ends: Ends
) -> None:
    twin.stream.descriptor = ends[0].fileno()
    twin.stream.fd = UNKNOWN
    fill(ends[0])
    twin.stream.write(b"later")
    await asyncio.sleep(0)
    assert twin.written == [b"later"]


async def test_an_error_of_the_kernel_is_left_to_the_transport(twin: Twin, ends: Ends) -> None:
    twin.stream.descriptor = ends[0].fileno()
    twin.stream.fd = UNKNOWN
    ends[1].close()
    twin.stream.write(b"gone")
    await asyncio.sleep(0)
    assert twin.written == [b"gone"]


async def test_joined_bytes_go_directly_too(twin: Twin, ends: Ends) -> None:
    twin.stream.descriptor = ends[0].fileno()
    twin.stream.fd = UNKNOWN
    for data in (b"a", b"b", b"c"):
        twin.stream.write(data)
    await asyncio.sleep(0)
    assert ends[1].recv(9) == b"abc"


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


# -- bytes from the transport ----------------------------------------------------------------------


async def test_bytes_go_to_the_driver_of_the_moment(stream: Any) -> None:
    taken: list[bytes] = []
    held = stream.data_received

    def first(data: bytes) -> None:
        taken.append(b"first " + data)
        stream.driver = SimpleNamespace(data=taken.append)

    stream.driver = SimpleNamespace(data=first)
    held(b"a")
    held(b"b")
    assert taken == [b"first a", b"b"]


async def test_a_stream_without_a_driver_raises(stream: Any) -> None:
    with pytest.raises(AttributeError, match="driver"):
        stream.data_received(b"a")


async def test_an_exception_of_the_driver_is_raised(stream: Any) -> None:
    def failing(data: bytes) -> None:
        raise MemoryError

    stream.driver = SimpleNamespace(data=failing)
    with pytest.raises(MemoryError):
        stream.data_received(b"a")
