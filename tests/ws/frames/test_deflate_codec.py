"""The fast codec with permessage-deflate: what it inflates, and what it leaves to wsproto."""

import tracemalloc

import pytest

from tests.frames import (
    BINARY,
    PING,
    RSV1,
    TEXT,
    Deflater,
    deflated,
    fragments,
    frame,
)
from tests.ws.fast_codecs import (
    FRESH,
    INVALID_PAYLOAD,
    MIB,
    PROTOCOL_ERROR,
    TAKEOVER,
    TOO_BIG,
    WsprotoUse,
    fast,
    finished,
    holds_nothing,
    read,
    take_all,
    wsproto,
)
from wsgate.ws.deflate import compression
from wsgate.ws.frames import (
    deflate_codec,
)
from wsgate.ws.frames.codec import Item, Ping
from wsgate.ws.limits import MessageLimits

# -- the client's window -----------------------------------------------------------------------


def test_the_clients_window_is_kept_between_messages(build: str, wsproto_use: WsprotoUse) -> None:
    codec, deflater = fast(build, TAKEOVER), Deflater(keep=True)
    words = bytes(range(256)) * 2
    sizes = []
    for _ in range(3):
        payload = deflater.whole(words)
        sizes.append(len(payload))
        data = frame(TEXT, "plain") + frame(BINARY, payload, rsv=RSV1) + frame(PING)
        assert read(codec, [data]) == ["plain", words, Ping(b"")]
        one, two = fragments(BINARY, deflater.pieces(words[:300], words[300:]), rsv=RSV1)
        assert read(codec, [one + frame(PING), two]) == [Ping(b""), words]
        assert codec._wsproto is not None
        assert holds_nothing(codec)
    assert sizes[1] < sizes[0] / 4
    assert wsproto_use.codecs == 1


def test_without_takeover_nothing_is_kept(build: str, wsproto_use: WsprotoUse) -> None:
    codec = fast(build, FRESH)
    for _ in range(3):
        for pieces in ([b"a" * 99, b"b"], [b"", b""]):
            data = b"".join(fragments(BINARY, Deflater().pieces(*pieces), rsv=RSV1))
            assert read(codec, [data]) == [b"".join(pieces)]
            assert codec._wsproto is None
    assert wsproto_use.codecs == 6


def test_plain_fragments_do_not_change_the_window(build: str) -> None:
    # A plain message between compressed ones takes nothing from the window.
    codec, deflater = fast(build, TAKEOVER), Deflater(keep=True)
    words = bytes(range(256))
    first, second = (frame(BINARY, deflater.whole(words), rsv=RSV1) for _ in range(2))
    between = b"".join(fragments(TEXT, [b"x", b"y"])) + frame(TEXT, "z")
    assert read(codec, [first, between, second]) == [words, "xy", "z", words]


# -- compressed messages -----------------------------------------------------------------------


def test_an_incomplete_compressed_message_is_read_by_wsproto(
    build: str, wsproto_use: WsprotoUse
) -> None:
    data = frame(TEXT, deflated(b"hello"), rsv=RSV1)
    for at in range(len(data)):
        codec = fast(build, FRESH)
        before = wsproto_use.octets
        assert read(codec, [data[:at], data[at:] + frame(TEXT, "z")]) == ["hello", "z"]
        assert wsproto_use.octets - before == (len(data) if at >= 6 else 0)
        assert holds_nothing(codec)
        assert codec._wsproto is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (deflated(b"\xff"), INVALID_PAYLOAD),
        (deflated("ü".encode()[:1]), INVALID_PAYLOAD),
        (b"\xff" * 9, INVALID_PAYLOAD),
        (b"", INVALID_PAYLOAD),
        (finished(b"one", b""), "one"),
        (finished(b"one", deflated(b"two")), "onetwo"),
        (finished(b"one", finished(b"two", b"")), "onetwo"),
    ],
)
def test_uncommon_deflate_data_is_read_by_wsproto(
    build: str, wsproto_use: WsprotoUse, payload: bytes, expected: Item
) -> None:
    data = frame(TEXT, payload, rsv=RSV1)
    assert read(fast(build, FRESH), [data]) == [expected] == read(wsproto(FRESH), [data])
    assert wsproto_use.codecs == 1


def stored(data: bytes, *, size: int, final: bool = False) -> bytes:
    """Return a stored block of `size` octets, of which only `data` is present."""
    octets = size.to_bytes(2, "little")
    return bytes([final]) + octets + bytes(octet ^ 0xFF for octet in octets) + data


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("lacks", range(9))
def test_a_stored_block_that_lacks_octets_is_read_as_by_wsproto(
    build: str, final: bool, lacks: int
) -> None:
    # It consumes the four octets that the receiver appends, and the probe for its end.
    data = frame(BINARY, stored(b"abc", size=3 + lacks, final=final), rsv=RSV1)
    assert read(fast(build, FRESH), [data]) == read(wsproto(FRESH), [data])


def test_rsv1_without_deflate_fails(build: str) -> None:
    assert read(fast(build), [frame(TEXT, deflated(b"x"), rsv=RSV1)]) == [PROTOCOL_ERROR]


@pytest.mark.parametrize("form", ["whole", "not minimal", "bit 63", "cut"])
def test_the_length_of_a_compressed_message_is_checked(
    build: str, wsproto_use: WsprotoUse, form: str
) -> None:
    payload = deflated(bytes(range(256)))
    data, expected = {
        "whole": (frame(BINARY, payload, rsv=RSV1), [bytes(range(256))]),
        "not minimal": (frame(BINARY, b"\0", rsv=RSV1, length_octets=2), [PROTOCOL_ERROR]),
        "bit 63": (frame(BINARY, b"\0", rsv=RSV1, declared=1 << 63), [PROTOCOL_ERROR]),
        "cut": (frame(BINARY, payload, rsv=RSV1)[:3], []),
    }[form]
    assert read(fast(build, FRESH), [data]) == expected
    assert bool(wsproto_use.codecs) is (expected == [PROTOCOL_ERROR])


@pytest.mark.parametrize("length", [65_536, 65_537])
def test_a_large_compressed_message_is_inflated_in_slices(
    build: str, wsproto_use: WsprotoUse, length: int
) -> None:
    text = b"x" * (length - 6)
    payload = stored(text, size=len(text)) + b"\0"  # the beginning of an empty block
    data = frame(BINARY, payload, rsv=RSV1)
    for pieces in ([data], [data[:14], data[14:]], [data[:13], data[13:]]):
        before = wsproto_use.octets
        assert read(fast(build, FRESH), pieces) == [text]
        # Within the header the codec waits; a payload that is cut goes to wsproto.
        is_own = length == 65_536 and len(pieces[0]) != 14
        assert wsproto_use.octets - before == (0 if is_own else len(data))


class Inflated:
    """What the fast codec has had inflated: how much at most, and whether that was enough."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, bool]] = []
        original = compression.inflate_message

        def counted(data: bytes, window: int, most: int) -> bytes | None:
            out = original(data, window, most)
            self.calls.append((most, out is not None))
            return out

        monkeypatch.setattr(deflate_codec, "inflate_message", counted)


def test_inflating_at_once_stops_after_a_mebibyte(
    build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = deflated(bytes(60 * MIB), level=9)
    assert 50_000 < len(payload) <= 65_536
    data = frame(BINARY, payload, rsv=RSV1)
    seen = Inflated(monkeypatch)
    codec = fast(build, FRESH, MessageLimits(size=4 * MIB))
    tracemalloc.start()
    try:
        assert not codec.take(1, data)
        first = tracemalloc.get_traced_memory()[1]
        assert take_all(codec) == [TOO_BIG]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.calls == [(MIB, False)]
    assert first < 2 * (MIB + 2_048 * 1_032) + 200_000  # one try, one slice of wsproto's
    assert peak < 10 * MIB


def test_a_large_message_within_the_limit_is_read_by_wsproto(
    build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Inflated(monkeypatch)
    for size, is_fast in ((MIB, True), (MIB + 1, False), (5 * MIB, False)):
        data = frame(BINARY, deflated(bytes(size)), rsv=RSV1)
        assert read(fast(build, FRESH), [data + frame(TEXT, "z")]) == [bytes(size), "z"]
        assert seen.calls.pop() == (MIB, is_fast)
    limits = MessageLimits(size=100)
    for size, expected in ((100, bytes(100)), (101, TOO_BIG)):
        data = frame(BINARY, deflated(bytes(size)), rsv=RSV1)
        assert read(fast(build, FRESH, limits), [data]) == [expected]
        assert seen.calls.pop() == (100, size == 100)
