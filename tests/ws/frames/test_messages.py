"""The compiled functions and their plain twins: one contract, and the same on anything."""

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.frames import BINARY, CLOSE, CONT, PING, PONG, RSV1, RSV2, TEXT, frame, masked, ways
from wsgate.ws.frames import messages as plain

compiled: ModuleType | None
try:
    from wsgate.ws.frames import _messages as compiled
except ImportError:
    compiled = None

needs_compiled = pytest.mark.skipif(
    compiled is None, reason="_messages is not built: no compiler, or --compiled=plain"
)
TWINS = [
    pytest.param(compiled, id="compiled", marks=needs_compiled),
    pytest.param(plain, id="plain"),
]
MAX_SIZE = 1 << 30


@pytest.fixture(scope="module", params=TWINS)
def twin(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def other() -> Any:
    """Return the compiled functions, for comparison with the plain ones."""
    if compiled is None:
        pytest.skip("wsgate.ws.frames._messages is not built")
    return compiled


# -- read_messages -----------------------------------------------------------------------------

LENGTHS = [0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 1_023, 1_024, 1_025, 65_534, 65_535, 65_536, 70_001]


@pytest.mark.parametrize("length", LENGTHS)
def test_whole_messages_of_any_length_are_read(twin: Any, length: int) -> None:
    data = bytes(at * 7 % 251 for at in range(length))
    text = ("aü€\U0001f600" * (length // 10 + 1)).encode()[:length].decode(errors="ignore")
    stream = frame(BINARY, data) + frame(TEXT, text) + frame(TEXT, "x" * length)
    assert twin.read_messages(stream, 0, 9, MAX_SIZE) == ([data, text, "x" * length], len(stream))
    messages, _ = twin.read_messages(stream, 0, 9, MAX_SIZE)
    assert [type(message) for message in messages] == [bytes, str, str]


def test_a_message_may_have_any_octets(twin: Any) -> None:
    data = bytes(range(256)) * 3
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4", b"\x80\0\xff\x7f"):
        stream = frame(BINARY, data, mask=mask)
        assert twin.read_messages(stream, 0, 1, MAX_SIZE) == ([data], len(stream))


def test_reading_begins_at_the_start(twin: Any) -> None:
    one, two = frame(TEXT, "one"), frame(BINARY, b"two")
    stream = one + two
    assert twin.read_messages(stream, 0, 9, MAX_SIZE) == (["one", b"two"], len(stream))
    assert twin.read_messages(stream, len(one), 9, MAX_SIZE) == ([b"two"], len(stream))
    assert twin.read_messages(stream, len(stream), 9, MAX_SIZE) == ([], len(stream))
    assert twin.read_messages(b"?" * 5 + one, 5, 9, MAX_SIZE) == (["one"], 5 + len(one))
    assert twin.read_messages(b"", 0, 9, MAX_SIZE) == ([], 0)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 1 << 31, sys.maxsize, sys.maxsize + 1, 1 << 90])
def test_reading_stops_at_the_limit(twin: Any, limit: int) -> None:
    stream = frame(TEXT, "abc") * 3
    taken = min(limit, 3)
    assert twin.read_messages(stream, 0, limit, MAX_SIZE) == (["abc"] * taken, 9 * taken)


def test_a_negative_limit_reads_nothing(twin: Any) -> None:
    for limit in (-1, -(1 << 90)):
        assert twin.read_messages(frame(TEXT, "a"), 0, limit, MAX_SIZE) == ([], 0)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_reading_stops_before_a_message_that_is_too_long(twin: Any, length: int) -> None:
    data = frame(BINARY, b"x" * length)
    assert twin.read_messages(data, 0, 9, length) == ([b"x" * length], len(data))
    if length:
        assert twin.read_messages(frame(TEXT) + data, 0, 9, length - 1) == ([""], 6)


@pytest.mark.parametrize("max_size", [0, 1, sys.maxsize, sys.maxsize + 1, (1 << 64) - 1, 1 << 90])
def test_the_maximum_size_may_be_any_number(twin: Any, max_size: int) -> None:
    data = frame(BINARY, b"x")
    assert twin.read_messages(data, 0, 9, max_size) == (([b"x"], 7) if max_size else ([], 0))


# -- read_messages: where it stops -------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_incomplete_frame_is_not_read(twin: Any, opcode: int, length: int) -> None:
    before, whole = frame(TEXT, "before"), frame(opcode, b"x" * length)
    ends = {*range(min(16, len(whole))), *range(len(whole) - 3, len(whole))}
    for end in sorted(end for end in ends if 0 <= end < len(whole)):
        assert twin.read_messages(before + whole[:end], 0, 9, MAX_SIZE) == (["before"], len(before))
        # Nothing before the start or after the end is read.
        stream = before + whole[:end]
        assert twin.read_messages(stream, len(before), 9, MAX_SIZE) == ([], len(before))


LARGEST = [(1 << 31) - 1, (1 << 63) - 1, (1 << 63) + 1, (1 << 64) - 4, (1 << 64) - 1]
OTHER_FRAMES = {
    "unmasked": frame(TEXT, declared=9, mask=None) + b"\0" * 9,
    "unmasked, empty": frame(TEXT, mask=None) + b"\0" * 9,
    "not final": frame(TEXT, "x", fin=False),
    "a continuation": frame(CONT, "x"),
    "a Ping": frame(PING, b"x"),
    "a Close": frame(CLOSE),
    "RSV1": frame(TEXT, "x", rsv=RSV1),
    "RSV2": frame(BINARY, b"x", rsv=RSV2),
    "opcode 3": frame(3, b"x"),
    "bad text": frame(TEXT, b"\xff"),
    "a surrogate": frame(TEXT, b"\xed\xa0\x80"),
    "a cut text": frame(TEXT, b"x" * 2_000 + b"\xc3"),
    "0 in two octets": frame(TEXT, length_octets=2),
    "125 in two octets": frame(BINARY, b"x" * 125, length_octets=2),
    "0 in eight octets": frame(TEXT, length_octets=8),
    "65,535 in eight octets": frame(BINARY, b"x" * 65_535, length_octets=8),
    **{
        f"{declared:#x} declared": frame(BINARY, b"x" * 99, declared=declared)
        for declared in (200, *(1 << bits for bits in (31, 32, 62, 63)), *LARGEST)
    },
}


@pytest.mark.parametrize("other_frame", OTHER_FRAMES)
@pytest.mark.parametrize("max_size", [MAX_SIZE, sys.maxsize])
def test_reading_stops_before_any_other_frame(twin: Any, other_frame: str, max_size: int) -> None:
    data, before = OTHER_FRAMES[other_frame], frame(BINARY, b"before")
    assert twin.read_messages(data, 0, 9, max_size) == ([], 0)
    stream = before + data + frame(TEXT, "after")
    assert twin.read_messages(stream, 0, 9, max_size) == ([b"before"], len(before))


# -- read_message ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_one_whole_message_is_read(twin: Any, length: int) -> None:
    for opcode, payload in ((TEXT, "x" * length), (BINARY, b"\xff" * length)):
        data = frame(opcode, payload)
        for max_size in (length, MAX_SIZE, sys.maxsize + 1, 1 << 90):
            message = twin.read_message(data, max_size)
            assert message == payload
            assert type(message) is type(payload)
        if length:
            assert twin.read_message(data, length - 1) is None
        for end in (0, 1, 2, 5, len(data) // 2, len(data) - 1):
            assert twin.read_message(data[:end], MAX_SIZE) is None
        for after in (b"\0", frame(TEXT, "after")):
            assert twin.read_message(data + after, MAX_SIZE) is None


@pytest.mark.parametrize("other_frame", OTHER_FRAMES)
def test_any_other_frame_is_not_a_message(twin: Any, other_frame: str) -> None:
    for max_size in (MAX_SIZE, sys.maxsize, 1 << 90):
        assert twin.read_message(OTHER_FRAMES[other_frame], max_size) is None


# -- is_pong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4, 124, 125])
def test_a_lone_pong_is_recognized(twin: Any, size: int) -> None:
    data = frame(PONG, b"x" * size)
    assert twin.is_pong(data) is True
    for end in (0, 1, 2, 5, len(data) - 1):
        assert twin.is_pong(data[:end]) is False
    for after in (b"\0", data):
        assert twin.is_pong(data + after) is False


@pytest.mark.parametrize(
    "data",
    [
        *OTHER_FRAMES.values(),
        frame(TEXT, "x"),
        frame(PONG, mask=None),
        frame(PONG, declared=4, mask=None) + b"\0" * 4,
        frame(PONG, fin=False),
        frame(PONG, rsv=RSV1),
        frame(PONG, b"x" * 126),
        frame(PONG, length_octets=2),
        frame(PONG, b"x" * 65_536),
    ],
)
def test_nothing_else_is_a_pong(twin: Any, data: bytes) -> None:
    assert twin.is_pong(data) is False


# -- read_compressed ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_the_payload_of_a_compressed_message_is_read(twin: Any, length: int) -> None:
    payload = bytes(at * 7 % 251 for at in range(length))
    for opcode in (TEXT, BINARY):
        data = frame(opcode, payload, rsv=RSV1)
        for max_size in (length, MAX_SIZE, sys.maxsize + 1, 1 << 90):
            assert twin.read_compressed(data, max_size) == payload
        if length:
            assert twin.read_compressed(data, length - 1) is None
        for end in (0, 1, 2, 5, len(data) // 2, len(data) - 1):
            assert twin.read_compressed(data[:end], MAX_SIZE) is None
        for after in (b"\0", frame(TEXT, "after")):
            assert twin.read_compressed(data + after, MAX_SIZE) is None
        assert twin.read_compressed(frame(opcode, payload), MAX_SIZE) is None


NOT_COMPRESSED = {
    "unmasked": frame(TEXT, declared=9, mask=None, rsv=RSV1) + b"\0" * 9,
    "not final": frame(TEXT, "x", fin=False, rsv=RSV1),
    "a continuation": frame(CONT, "x", rsv=RSV1),
    "a Ping": frame(PING, b"x", rsv=RSV1),
    "RSV2": frame(BINARY, b"x", rsv=RSV2),
    "both": frame(BINARY, b"x", rsv=RSV1 | RSV2),
    "opcode 3": frame(3, b"x", rsv=RSV1),
    "0 in two octets": frame(TEXT, length_octets=2, rsv=RSV1),
    "65,535 in eight octets": frame(BINARY, b"x" * 65_535, length_octets=8, rsv=RSV1),
    **{
        f"{declared:#x} declared": frame(BINARY, b"x" * 99, declared=declared, rsv=RSV1)
        for declared in (200, *(1 << bits for bits in (31, 32, 62, 63)), *LARGEST)
    },
}


@pytest.mark.parametrize("other_frame", NOT_COMPRESSED)
def test_any_other_frame_is_not_a_compressed_message(twin: Any, other_frame: str) -> None:
    for max_size in (MAX_SIZE, sys.maxsize, 1 << 90):
        assert twin.read_compressed(NOT_COMPRESSED[other_frame], max_size) is None


# -- unmask ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [*range(34), 125, 126, 1_000, 65_537])
def test_unmasking_is_its_own_inverse(twin: Any, length: int) -> None:
    data = bytes(at * 31 % 256 for at in range(length))
    for mask in (b"\0\0\0\0", b"\1\2\3\4", b"\xff\0\xff\0", b"\x80\x81\x82\x83"):
        out = twin.unmask(data, mask)
        assert type(out) is bytes
        assert out == masked(data, mask)
        assert twin.unmask(out, mask) == data


def test_unmasking_does_not_change_its_arguments(twin: Any) -> None:
    data, mask = bytes(range(64)), b"\1\2\3\4"
    twin.unmask(data, mask)
    assert data == bytes(range(64))
    assert mask == b"\1\2\3\4"


# -- data_frame --------------------------------------------------------------------------------


def written(opcode: int, payload: str | bytes) -> bytes:
    """Return a server's frame: RFC 6455 section 5.1 has it unmasked."""
    data = payload.encode() if isinstance(payload, str) else payload
    return frame(opcode, declared=len(data), mask=None) + data


KINDS = {"ASCII": "a", "Latin-1": "ü", "BMP": "€", "astral": "\U0001f600", "mixed": "aü€\U0001f600"}


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_001])
def test_a_binary_frame_is_written(twin: Any, length: int) -> None:
    sent = twin.data_frame(b"\xff" * length)
    assert type(sent) is bytes
    assert sent == written(BINARY, b"\xff" * length)


@pytest.mark.parametrize("times", [0, 1, 31, 32, 62, 63, 125, 126, 16_383, 16_384, 65_535, 65_536])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_frame_is_written(twin: Any, kind: str, times: int) -> None:
    text = KINDS[kind] * times
    sent = twin.data_frame(text)
    assert type(sent) is bytes
    assert sent == written(TEXT, text)


class Text(str):
    __slots__ = ()


class Octets(bytes):
    __slots__ = ()


def test_a_subclass_is_written_as_its_base(twin: Any) -> None:
    for text in ("", "ascii", "grüß", "€", "\U0001f600"):
        assert twin.data_frame(Text(text)) == written(TEXT, text)
    assert twin.data_frame(Octets(b"x")) == written(BINARY, b"x")


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc00\ud800" * 100, "\U0001f600\ud83d"])
def test_a_lone_surrogate_raises(twin: Any, text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        twin.data_frame(text)


# -- wrong arguments ---------------------------------------------------------------------------

WRONG_READS = [
    (),
    (b"",),
    (b"", 0, 1),
    (b"", 0, 1, 1, 1),
    ("", 0, 1, 1),
    (bytearray(), 0, 1, 1),
    (memoryview(b""), 0, 1, 1),
    (None, 0, 1, 1),
    (b"", None, 1, 1),
    (b"", 0, 1.0, 1),
    (b"", 0, 1, "1"),
]


@pytest.mark.parametrize("arguments", WRONG_READS)
def test_wrong_types_raise_in_read_messages(other: Any, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="read_messages"):
        other.read_messages(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        other.read_messages(data=b"", start=0, limit=1, max_size=1)


@pytest.mark.parametrize(
    "arguments",
    [(), (b"",), (b"", 1, 1), ("", 1), (bytearray(), 1), (b"", None), (b"", 1.0)],
)
def test_wrong_types_raise_in_read_message(other: Any, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="read_message"):
        other.read_message(*arguments)
    with pytest.raises(TypeError, match="read_compressed"):
        other.read_compressed(*arguments)


@pytest.mark.parametrize("argument", ["", bytearray(), None])
def test_wrong_types_raise_in_is_pong(other: Any, argument: object) -> None:
    with pytest.raises(TypeError, match="is_pong"):
        other.is_pong(argument)


@pytest.mark.parametrize("max_size", [-1, -(1 << 90)])
def test_a_negative_maximum_size_raises(other: Any, max_size: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        other.read_message(b"", max_size)
    with pytest.raises(ValueError, match="out of range"):
        other.read_compressed(b"", max_size)


@pytest.mark.parametrize(
    ("start", "max_size"),
    [(-1, 1), (8, 1), (0, -1), (-(1 << 90), 1), (1 << 90, 1), (0, -(1 << 90))],
)
def test_numbers_out_of_range_raise(other: Any, start: int, max_size: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        other.read_messages(frame(TEXT, "a"), start, 1, max_size)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (b"",),
        (b"", b"abc"),
        (b"", b"abcde"),
        (b"", "abcd"),
        ("", b"abcd"),
        (bytearray(), b"abcd"),
        (b"", bytearray(4)),
        (None, None),
        (b"", b"abcd", 1),
    ],
)
def test_wrong_arguments_raise_in_unmask(other: Any, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="unmask"):
        other.unmask(*arguments)


@pytest.mark.parametrize("payload", [None, 1, 1.0, [], [b"x"], object()])
def test_a_payload_that_is_neither_text_nor_bytes_raises(twin: Any, payload: object) -> None:
    with pytest.raises(TypeError):
        twin.data_frame(payload)


@pytest.mark.parametrize("payload", [bytearray(b"x"), memoryview(b"x")])
def test_a_buffer_is_not_a_payload_of_the_compiled_functions(other: Any, payload: object) -> None:
    with pytest.raises(TypeError, match="data_frame"):
        other.data_frame(payload)


def test_the_compiled_module_has_the_same_functions(other: Any) -> None:
    assert other.__name__ == "wsgate.ws.frames._messages"
    assert other.__doc__
    wanted = {"data_frame", "is_pong", "unmask"}
    wanted |= {"read_compressed", "read_message", "read_messages"}
    assert {name for name in vars(other) if not name.startswith("__")} == wanted


# -- both twins on random input ----------------------------------------------------------------

PAYLOADS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(lambda one, times: one * times, st.binary(max_size=4), st.integers(0, 1_100)),
    st.sampled_from([b"x" * 125, b"y" * 126, "ü".encode() * 512, b"z" * 65_535, b"z" * 65_536]),
)
FRAMES = st.builds(
    frame,
    st.sampled_from([TEXT, BINARY] * 8 + [CONT, PING, PONG, PONG, 3]),
    PAYLOADS,
    fin=st.sampled_from([True] * 15 + [False]),
    rsv=st.sampled_from([0] * 12 + [RSV1] * 4),
    mask=st.one_of(*[st.binary(min_size=4, max_size=4)] * 15, st.none()),
    declared=st.one_of(*[st.none()] * 15, st.integers(0, 70_000), st.integers(0, (1 << 64) - 1)),
    length_octets=st.sampled_from([None] * 15 + [2, 8]),
)
NUMBERS = st.one_of(st.integers(0, 200), st.integers(0, 1 << 80))


@settings(max_examples=300)
@given(
    stream=st.lists(FRAMES | st.binary(max_size=10), max_size=5).map(b"".join),
    start=st.integers(0, 1 << 20),
    limit=NUMBERS,
    max_size=NUMBERS,
    data=st.data(),
)
def test_both_twins_read_the_same(
    other: Any, *, stream: bytes, start: int, limit: int, max_size: int, data: st.DataObject
) -> None:
    end = data.draw(st.just(len(stream)) | st.integers(0, len(stream)))
    octets = stream[:end]
    for at in (0, start % (end + 1)):
        for size in (max_size, MAX_SIZE):
            found = other.read_messages(octets, at, limit, size)
            expected = plain.read_messages(octets, at, limit, size)
            assert found == expected
            assert at <= found[1] <= end
            assert [*map(type, found[0])] == [*map(type, expected[0])]
            rest = octets[at:]
            assert other.read_message(rest, size) == plain.read_message(rest, size)
            assert other.read_compressed(rest, size) == plain.read_compressed(rest, size)
            assert other.is_pong(rest) is plain.is_pong(rest)


@settings(max_examples=200)
@given(data=PAYLOADS, skipped=st.integers(0, 9), mask=st.binary(min_size=4, max_size=4))
def test_both_twins_unmask_the_same(other: Any, data: bytes, skipped: int, mask: bytes) -> None:
    # A slice begins at any alignment within its frame, but a bytes object's octets never do; those
    # that `read_messages` unmasks do.
    assert other.unmask(data[skipped:], mask) == plain.unmask(data[skipped:], mask)
    stream = b"?" * skipped + frame(BINARY, data, mask=mask)
    assert other.read_messages(stream, skipped, 1, MAX_SIZE) == ([data], len(stream))


@settings(max_examples=200)
@given(payload=st.text(max_size=300) | st.text(st.characters(), max_size=20) | PAYLOADS)
@example(payload="\ud800")
def test_both_twins_write_the_same(other: Any, payload: str | bytes) -> None:
    def outcome(write: Callable[[str | bytes], bytes]) -> bytes | str:
        try:
            return write(payload)
        except UnicodeEncodeError as error:
            return str(error)

    assert outcome(other.data_frame) == outcome(plain.data_frame)


# -- memory ------------------------------------------------------------------------------------


def use(other: Any, data: bytes, mask: bytes, payloads: list[str | bytes]) -> None:
    """Call each function in each way that it may end, errors too."""
    other.read_messages(data, 0, 100, MAX_SIZE)
    other.read_messages(data, len(data) // 2, 100, MAX_SIZE)
    other.read_message(data, MAX_SIZE)
    other.read_message(frame(TEXT, "grüß" * 500), MAX_SIZE)
    other.read_message(frame(TEXT, b"bad\xff" * 400), MAX_SIZE)
    other.read_compressed(frame(BINARY, data, rsv=RSV1), MAX_SIZE)
    other.read_compressed(data, MAX_SIZE)
    other.unmask(data, mask)
    for payload in payloads:
        other.data_frame(payload)
    for call, arguments in [
        (other.read_messages, (data, -1, 1, 1)),
        (other.read_messages, (data, 0, "1", 1)),
        (other.read_messages, ()),
        (other.read_message, (data, -1)),
        (other.read_message, (data, "1")),
        (other.read_compressed, (data, -1)),
        (other.read_compressed, (data, "1")),
        (other.unmask, (data, data)),
        (other.data_frame, (None,)),
        (other.data_frame, ("\ud800",)),
    ]:
        with pytest.raises((TypeError, ValueError)):
            call(*arguments)


def test_the_compiled_functions_leak_nothing(other: Any) -> None:
    data = frame(TEXT, "grüß" * 500) + frame(BINARY, b"b" * 500) + frame(TEXT, "ascii")
    data += frame(TEXT, b"bad\xff" * 400)
    mask = bytes(range(1, 5))
    payloads: list[str | bytes] = ["ascii" * 99, "grüß" * 99, "\U0001f600" * 9, b"b" * 999]
    held = [data, mask, *payloads]
    use(other, data, mask, payloads)
    before = [sys.getrefcount(one) for one in held]
    tracemalloc.start()
    try:
        for _ in range(20):
            use(other, data, mask, payloads)
        gc.collect()
        settled = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            use(other, data, mask, payloads)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - settled
    finally:
        tracemalloc.stop()
    # Each of the 200 rounds makes objects of some 10,000 bytes.
    assert grown < 20_000
    assert [sys.getrefcount(one) for one in held] == before


def test_only_the_messages_are_referenced(other: Any) -> None:
    data = frame(BINARY, b"x" * 1_000) + frame(TEXT, "y" * 1_000)
    (binary, text), end = other.read_messages(data, 0, 9, MAX_SIZE)
    # As many as of an object that was made here just now.
    assert sys.getrefcount(binary) == sys.getrefcount(text) == 2
    assert end == len(data)


def test_a_stream_may_arrive_in_any_pieces(twin: Any) -> None:
    expected = ["a", b"b" * 200, "ü" * 300, ""]
    data = frame(TEXT, "a") + frame(BINARY, b"b" * 200) + frame(TEXT, "ü" * 300) + frame(TEXT)
    for way in ways(data):
        held, messages = b"", []
        for piece in way:
            held += piece
            found, at = twin.read_messages(held, 0, 9, MAX_SIZE)
            held = held[at:]
            messages += found
        assert (messages, held) == (expected, b"")
