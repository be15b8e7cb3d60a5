"""The stream and the write batch of the fast path, compiled and plain: one contract for both."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.harness.app import text
from tests.server.twins import Twin
from wsgate.server.fast_path import FIRST_WRITE, MAX_DELAYED, NONE, RECENT, UNKNOWN
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits

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


async def test_bytes_of_a_subclass_are_joined_with_others(twin: Twin) -> None:
    class Octets(bytes):
        __slots__ = ()

    for letter in (Octets(b"a"), b"b", Octets(b"c")):
        twin.stream.write(letter)
    assert twin.written == []
    await asyncio.sleep(0)
    assert twin.written == [b"abc"]


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


@pytest.mark.parametrize(("size", "failures"), [(1, 1), (MAX_DELAYED, 2)])
async def test_a_broken_transport_is_reported(twin: Twin, size: int, failures: int) -> None:
    twin.stream.transport.is_broken = True
    twin.stream.write(b"x" * size)
    twin.stream.write(b"y" * size)  # an app that never returns to the loop must be made to wait
    assert (twin.stream.failures, twin.written) == (failures, [])
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


# -- writes at once --------------------------------------------------------------------------------


async def test_bytes_at_once_go_to_the_descriptor(twin: Twin, ends: "Ends") -> None:
    twin.stream.descriptor = ends[0].fileno()
    twin.stream.fd = UNKNOWN
    assert twin.stream.write_at_once(b"a") is True
    assert ends[1].recv(9) == b"a"
    assert (twin.written, twin.batch.streams, twin.batch.is_scheduled) == ([], [], False)
    assert twin.stream.write_at_once(b"b") is True
    assert ends[1].recv(9) == b"b"


async def test_bytes_at_once_go_to_a_transport_without_descriptor(twin: Twin) -> None:
    twin.stream.fd = NONE
    assert twin.stream.write_at_once(b"a") is True
    assert twin.written == [b"a"]


async def test_bytes_at_once_that_the_transport_keeps_are_not_sent(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = twin.stream.transport
    monkeypatch.setattr(transport, "write", lambda data: setattr(transport, "unsent", len(data)))
    assert twin.stream.write_at_once(b"a") is False


async def test_bytes_at_once_wait_after_those_pending(twin: Twin) -> None:
    twin.stream.write(b"a")
    assert twin.stream.write_at_once(b"b") is False
    assert twin.written == []
    await asyncio.sleep(0)
    assert twin.written == [b"ab"]


async def test_bytes_at_once_follow_those_of_the_transport(twin: Twin) -> None:
    twin.stream.transport.unsent = 1
    assert twin.stream.write_at_once(b"a") is False
    assert twin.written == [b"a"]


async def test_a_lost_or_closing_stream_sends_nothing_at_once(twin: Twin) -> None:
    twin.stream.transport.is_broken = True
    twin.stream.write_at_once(b"a")
    twin.stream.is_lost = True
    assert twin.stream.write_at_once(b"b") is False
    assert (twin.written, twin.stream.pending, twin.batch.streams) == ([], None, [])


async def test_a_stream_that_fails_at_once_is_aborted(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: bytes) -> None:
        raise OSError("gone")

    monkeypatch.setattr(twin.stream.transport, "write", failing)
    with pytest.raises(OSError, match="gone"):
        twin.stream.write_at_once(b"a")
    assert (twin.stream.aborts, twin.stream.pending) == (1, None)
    monkeypatch.setattr(twin.stream_type, "abort", failing)
    with pytest.raises(OSError, match="gone"):
        twin.stream.write_at_once(b"a")


async def test_other_objects_are_not_sent_at_once(twin: Twin) -> None:
    assert twin.stream.write_at_once(bytearray(b"a")) is False
    await asyncio.sleep(0)
    assert twin.written == [b"a"]


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
