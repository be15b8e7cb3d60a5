"""One message to many WebSockets, by both twins: who gets it, and who is left to the caller."""

from typing import Any

import pytest

from tests import frames
from tests.harness.waiting import turns
from tests.server.twins import Twin
from wsgate.ws.encoded import Encoded, Encoding


class Codec:
    """Notes what it frames."""

    def __init__(self, encoding: Encoding | None, error: BaseException | None = None) -> None:
        self.encoding = encoding
        self.error = error
        self.framed: list[str | bytes] = []

    def message(self, payload: str | bytes) -> bytes:
        self.framed.append(payload)
        if self.error is not None:
            raise self.error
        name = self.encoding.name if self.encoding else "own"
        return f"{name}:{payload!r}".encode()


class Broken:
    """A wire whose writes fail."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def write(self, data: bytes) -> None:
        raise self.error


def paths(twin: Twin, count: int) -> list[Any]:
    """Return message paths, each over a stream of its own."""
    return [twin.path_type(twin.batch, twin.stream_type(twin.batch)) for _ in range(count)]


def deliver(
    twin: Twin, targets: list[Any], payload: str | bytes = "x", excluded: object = None
) -> tuple[int, list[Any]]:
    """Deliver; return the count and those who were left to the caller."""
    left: list[Any] = []
    return twin.deliver(targets, Encoded(payload), excluded, left.append), left


async def written(path: Any) -> list[bytes]:
    """Return what a path's transport was given."""
    await turns()
    found: list[bytes] = path.wire.transport.written
    return found


@pytest.mark.parametrize("payload", ["text", b"\xff", "", "\u00fc" * 200])
async def test_all_get_the_message_as_one_frame(twin: Twin, payload: str | bytes) -> None:
    targets = paths(twin, 20)
    assert deliver(twin, targets, payload) == (20, [])
    for path in targets:
        (data,) = await written(path)
        (frame,) = frames.parsed(data)
        expected = payload.encode() if isinstance(payload, str) else payload
        assert frame.payload == expected
        assert (path.sent_messages, path.sent_bytes) == (1, len(data))


async def test_nobody_is_no_error(twin: Twin) -> None:
    assert deliver(twin, []) == (0, [])


async def test_the_excluded_one_gets_nothing(twin: Twin) -> None:
    targets = paths(twin, 3)
    assert deliver(twin, targets, excluded=targets[1]) == (2, [])
    assert [len(await written(path)) for path in targets] == [1, 0, 1]
    assert targets[1].sent_messages == 0
    assert deliver(twin, targets, excluded=object()) == (3, [])


async def test_the_slow_are_left_to_the_caller(twin: Twin) -> None:
    targets = paths(twin, 3)
    targets[0].gate.shut(0.0)
    assert deliver(twin, targets) == (2, [targets[0]])
    assert [len(await written(path)) for path in targets] == [0, 1, 1]


async def test_those_that_are_not_open_are_left_to_the_caller(twin: Twin) -> None:
    targets = paths(twin, 3)
    targets[0].is_open = False
    targets[1].session.close(1000, "")
    assert deliver(twin, targets) == (1, targets[:2])
    assert [len(await written(path)) for path in targets] == [0, 0, 1]


async def test_those_with_an_encoding_of_their_own_are_left_to_the_caller(twin: Twin) -> None:
    targets = paths(twin, 3)
    targets[1].codec = own = Codec(None)
    assert deliver(twin, targets) == (2, [targets[1]])
    assert own.framed == [], "its frame would change its compressor"


async def test_a_message_is_framed_once_for_each_encoding(twin: Twin) -> None:
    targets = paths(twin, 6)
    encodings = [Encoding("a"), Encoding("b")]
    codecs = [Codec(encodings[number % 2]) for number in range(6)]
    for path, codec in zip(targets, codecs, strict=True):
        path.codec = codec
    assert deliver(twin, targets) == (6, [])
    assert [len(codec.framed) for codec in codecs] == [1, 1, 0, 0, 0, 0]
    texts = [(await written(path))[0] for path in targets]
    assert texts == [b"a:'x'", b"b:'x'"] * 3


@pytest.mark.parametrize("what", ["write", "frame", "no wire", "no path"])
async def test_a_failure_is_left_to_the_caller_and_the_others_go_on(twin: Twin, what: str) -> None:
    targets = paths(twin, 3)
    if what == "write":
        targets[1].wire = Broken(OSError())
    elif what == "frame":
        targets[1].codec = Codec(Encoding("a"), MemoryError())
    elif what == "no wire":
        targets[1].wire = None
    else:
        targets[1] = object()
    assert deliver(twin, targets) == (2, [targets[1]])
    for path in (targets[0], targets[2]):
        assert len(await written(path)) == 1
    assert getattr(targets[1], "sent_messages", 0) == 0


async def test_an_interrupt_is_no_failure_of_a_subscriber(twin: Twin) -> None:
    targets = paths(twin, 2)
    targets[0].wire = Broken(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        deliver(twin, targets)


async def test_what_the_caller_s_function_raises_ends_the_delivery(twin: Twin) -> None:
    def fail(path: Any) -> None:
        raise RuntimeError("of the caller")

    targets = paths(twin, 2)
    targets[0].gate.shut(0.0)
    with pytest.raises(RuntimeError, match="of the caller"):
        twin.deliver(targets, Encoded("x"), None, fail)
    assert await written(targets[1]) == []


async def test_the_order_of_send_and_deliver_is_that_of_the_calls(twin: Twin) -> None:
    (path,) = paths(twin, 1)
    deliver(twin, [path], "1")
    await path.send({"type": "websocket.send", "text": "2"})
    deliver(twin, [path], "3")
    assert path.wire.transport.written == []
    parsed = frames.parsed(b"".join(await written(path)))
    assert [frame.payload for frame in parsed] == [b"1", b"2", b"3"]
    assert len(path.wire.transport.written) == 1, "they leave in one write"
    assert path.sent_messages == 3


async def test_a_failing_session_still_gets_messages(twin: Twin) -> None:
    (path,) = paths(twin, 1)
    path.session.feed(frames.frame(0x3))  # a reserved opcode
    assert path.session.can_send
    assert deliver(twin, [path]) == (1, [])


async def test_a_socket_may_leave_while_others_get_the_message(twin: Twin) -> None:
    targets = paths(twin, 3)
    targets[0].gate.shut(0.0)

    def close_the_next(_: Any) -> None:
        if targets[1].session.can_send:
            targets[1].session.close(1000, "")

    assert twin.deliver(targets, Encoded("x"), None, close_the_next) == 1
    assert await written(targets[1]) == []
