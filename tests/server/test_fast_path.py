"""The message path of the fast path, compiled and plain: one contract for both."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.frames import BINARY, PING, PONG, TEXT, frame
from tests.harness.app import text
from tests.server.twins import Twin
from wsgate.server.fast_path import SEVERAL, PlainMessagePath
from wsgate.server.receive_queue import ReceiveQueue

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
        frame(PONG) * 2,
        frame(PONG, mask=None),
        frame(PONG)[:-1],
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


@pytest.mark.parametrize("state", ["receiving", "busy", "crowded", "limited"])
async def test_a_pong_is_counted_and_reported(path: Any, state: str) -> None:
    path.receiver = SEVERAL if state == "crowded" else None
    path.counts_each = state == "limited"
    arrival = path.expect() if state == "receiving" else path.receiver
    data = frame(PONG, b"payload")
    path.data(data)
    path.data(data)
    assert (path.others, path.received_messages, path.received_bytes) == ([], 0, 2 * len(data))
    assert (path.receiver, path.pongs) == (arrival, 2)


async def test_a_pong_within_a_message_is_left(path: Any) -> None:
    path.session.feed(frame(TEXT, "a")[:1])
    path.data(frame(PONG))
    assert len(path.others) == 1


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
    path.receiver = None
    path.codec = SimpleNamespace(is_pong=lambda data: failing(data, 0))
    with pytest.raises(MemoryError):
        path.data(frame(PONG))


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
