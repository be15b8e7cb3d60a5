"""The lane of usual messages, compiled and plain: one contract for both."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from tests.frames import BINARY, PING, TEXT, frame
from wsgate.server.backpressure import Gate, ReceiveQueue
from wsgate.server.connection import Connection
from wsgate.server.fast_path import SEVERAL, PlainLane, PlainRelay, Target
from wsgate.server.message_reader import Inbox
from wsgate.server.write_batch import FULL, Outbox
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session

BASES = {base.__module__: base for base in (PlainLane, Inbox.__mro__[1])}


class Wire(asyncio.WriteTransport):
    """What a lane writes to, at the end of the loop's turn."""

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


def lane_on(base: type[PlainLane], wire: Wire) -> Any:
    """Return a lane that notes what it leaves to its subclass."""

    class Noting(base):  # type: ignore[misc, valid-type]  # one of the two, with one interface
        def __init__(self) -> None:
            super().__init__()
            self.others: list[bytes] = []
            self.breaks = 0

        def feed_other(self, data: bytes) -> None:
            self.others.append(data)

        def broken(self) -> None:
            self.breaks += 1

    lane = Noting()
    lane.session = Session(FastCodec(MessageLimits(), None, Compressors(6)))
    lane.gate = Gate()
    lane.most = 100
    lane.codec = lane.session.codec
    lane.transport = wire
    lane.outbox = Outbox(asyncio.get_running_loop().call_soon, lambda write, data: write(data))
    lane.waiting = lane.outbox.waiting
    lane.create_future = asyncio.get_running_loop().create_future
    return lane


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest_asyncio.fixture(params=list(BASES.values()), ids=list(BASES))
async def lane(request: pytest.FixtureRequest, wire: Wire) -> Any:
    return lane_on(request.param, wire)


# -- in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["gr\u00fc\u00df", "", b"\0\xff", b""])
async def test_a_whole_message_reaches_who_waits(lane: Any, message: str | bytes) -> None:
    arrival = lane.expect()
    data = frame(TEXT if isinstance(message, str) else BINARY, message)
    lane.data(data)
    assert await arrival == message
    assert (lane.messages_in, lane.octets_in, lane.receiver) == (1, len(data), None)
    assert lane.others == []


async def test_what_nobody_waits_for_is_left(lane: Any) -> None:
    data = frame(TEXT, "a")
    lane.data(data)
    assert (lane.others, lane.messages_in) == ([data], 0)


async def test_what_comes_for_a_receiver_that_was_cancelled_is_left(lane: Any) -> None:
    lane.expect().cancel()
    data = frame(TEXT, "a")
    lane.data(data)
    assert (lane.others, lane.messages_in) == ([data], 0)


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
async def test_what_is_not_one_whole_message_is_left(lane: Any, data: bytes) -> None:
    arrival = lane.expect()
    lane.data(data)
    assert (lane.others, lane.messages_in) == ([data], 0)
    assert lane.receiver is arrival
    assert not arrival.done()


async def test_a_session_that_is_not_calm_gets_all(lane: Any) -> None:
    lane.expect()
    lane.session.is_idle = False
    lane.data(frame(TEXT, "a"))
    assert len(lane.others) == 1


async def test_where_messages_are_counted_the_session_gets_all(lane: Any) -> None:
    lane.is_counted = True
    lane.expect()
    lane.data(frame(TEXT, "a"))
    assert len(lane.others) == 1


async def test_nothing_is_expected_where_another_waits(lane: Any) -> None:
    first = lane.expect()
    assert lane.expect() is None
    assert lane.receiver is first


async def test_nothing_is_expected_where_messages_are_there(lane: Any) -> None:
    lane.queue = ReceiveQueue(1, 1)
    assert lane.expect() is None


async def test_nothing_is_expected_of_a_session_that_is_not_calm(lane: Any) -> None:
    lane.session.is_idle = False
    assert lane.expect() is None


async def test_what_the_codec_raises_comes_out(lane: Any) -> None:
    def failing(data: bytes, most: int) -> None:
        raise MemoryError

    lane.expect()
    lane.codec = SimpleNamespace(read_message=failing)
    with pytest.raises(MemoryError):
        lane.data(frame(TEXT, "a"))


# -- out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "frame_out"),
    [
        ({"text": "a"}, b"\x81\x01a"),
        ({"bytes": b"a"}, b"\x82\x01a"),
        ({"text": "", "bytes": None}, b"\x81\x00"),
        ({"text": None, "bytes": b""}, b"\x82\x00"),
    ],
)
async def test_a_usual_message_is_sent(
    lane: Any, wire: Wire, message: dict[str, Any], frame_out: bytes
) -> None:
    kind = str(b"websocket.send", "ascii")  # equal to the interned name, and another object
    assert lane.put({"type": kind, **message}) is True
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [frame_out]
    assert (lane.messages_out, lane.octets_out) == (1, len(frame_out))


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
async def test_another_message_is_left(lane: Any, wire: Wire, message: Any) -> None:
    assert lane.put(message) is False
    assert (wire.written, lane.messages_out, lane.octets_out) == ([], 0, 0)


async def test_a_message_of_another_mapping_is_left(lane: Any, wire: Wire) -> None:
    class Other(dict[str, Any]):
        pass

    assert lane.put(Other(type="websocket.send", text="a")) is False
    assert wire.written == []


async def test_nothing_is_sent_behind_a_shut_gate(lane: Any, wire: Wire) -> None:
    lane.gate.shut(1.0)
    assert lane.put({"type": "websocket.send", "text": "a"}) is False
    assert wire.written == []


async def test_nothing_is_sent_where_nothing_reaches_the_peer(lane: Any, wire: Wire) -> None:
    lane.session.feed_eof()
    assert lane.put({"type": "websocket.send", "text": "a"}) is False
    assert wire.written == []


async def test_messages_of_a_turn_leave_as_one(lane: Any, wire: Wire) -> None:
    other = Wire()
    for text in ("a", "b", "c"):
        lane.put({"type": "websocket.send", "text": text})
        lane.outbox.put(other, text.encode())
    await asyncio.sleep(0)
    assert (wire.written, other.written) == ([b"\x81\x01a\x81\x01b\x81\x01c"], [b"abc"])
    lane.put({"type": "websocket.send", "text": "d"})
    await asyncio.sleep(0)
    assert wire.written[1:] == [b"\x81\x01d"]


async def test_the_same_frame_twice_is_sent_twice(lane: Any, wire: Wire) -> None:
    same = b"\x81\x01a"
    lane.codec = SimpleNamespace(message=lambda _: same)
    for _ in range(2):
        lane.put({"type": "websocket.send", "text": "a"})
    await asyncio.sleep(0)
    assert wire.written == [same * 2]


async def test_a_large_message_leaves_at_once(lane: Any, wire: Wire) -> None:
    lane.put({"type": "websocket.send", "text": "a"})
    assert lane.put({"type": "websocket.send", "bytes": b"x" * FULL}) is True
    (written,) = wire.written
    assert written[:3] == b"\x81\x01a"
    assert written.endswith(b"x" * FULL)
    assert not lane.waiting


async def test_what_a_transport_would_only_keep_it_gets_at_once(lane: Any, wire: Wire) -> None:
    wire.unsent = 1
    lane.put({"type": "websocket.send", "text": "a"})
    assert wire.written == [b"\x81\x01a"]


@pytest.mark.parametrize("size", [1, FULL])
async def test_a_transport_that_breaks_is_told_of(lane: Any, wire: Wire, size: int) -> None:
    wire.is_broken = True
    assert lane.put({"type": "websocket.send", "bytes": b"x" * size}) is True
    assert lane.breaks == 1


async def test_what_a_transport_raises_comes_out(lane: Any) -> None:
    lane.transport = None
    with pytest.raises(AttributeError):
        lane.put({"type": "websocket.send", "text": "a"})


async def test_what_writing_raises_comes_out(
    lane: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(data: bytes) -> None:
        raise OSError("gone")

    monkeypatch.setattr(wire, "write", failing)
    with pytest.raises(OSError, match="gone"):
        lane.put({"type": "websocket.send", "bytes": b"x" * FULL})


async def test_a_frame_is_bytes(lane: Any) -> None:
    if type(lane).__mro__[1] is PlainLane:
        pytest.skip("mypy holds the plain twin to it")
    lane.codec = SimpleNamespace(message=str)
    with pytest.raises(TypeError, match="a frame is bytes"):
        lane.put({"type": "websocket.send", "text": "a"})


async def test_a_session_that_is_missing_shows(lane: Any) -> None:
    lane.receiver = asyncio.get_running_loop().create_future()
    lane.session = None
    with pytest.raises(AttributeError):
        lane.data(b"x")
    with pytest.raises(AttributeError):
        lane.put({})
    lane.receiver = None
    with pytest.raises(AttributeError):
        lane.expect()


async def test_several_who_wait_are_not_usual(lane: Any) -> None:
    lane.receiver = SEVERAL
    assert lane.expect() is None
    lane.data(frame(TEXT, "a"))
    assert len(lane.others) == 1


# -- the relay -------------------------------------------------------------------------------------

RELAYS = {base.__module__: base for base in (PlainRelay, Connection.__mro__[1])}


@pytest.mark.parametrize("base", list(RELAYS.values()), ids=list(RELAYS))
def test_a_relay_hands_on_to_whoever_has_the_connection(base: type[PlainRelay]) -> None:
    taken: list[bytes] = []
    relay = base()
    held = relay.data_received

    def first(data: bytes) -> None:
        taken.append(b"first " + data)
        relay.target = cast("Target", SimpleNamespace(data=taken.append))

    relay.target = cast("Target", SimpleNamespace(data=first))
    held(b"a")
    held(b"b")
    assert taken == [b"first a", b"b"]


@pytest.mark.parametrize("base", list(RELAYS.values()), ids=list(RELAYS))
def test_a_relay_without_a_target_says_so(base: type[PlainRelay]) -> None:
    with pytest.raises(AttributeError, match="target"):
        base().data_received(b"a")


@pytest.mark.parametrize("base", list(RELAYS.values()), ids=list(RELAYS))
def test_what_a_target_raises_comes_out(base: type[PlainRelay]) -> None:
    def failing(data: bytes) -> None:
        raise MemoryError

    relay = base()
    relay.target = cast("Target", SimpleNamespace(data=failing))
    with pytest.raises(MemoryError):
        relay.data_received(b"a")
