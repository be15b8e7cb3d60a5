"""Compressing and inflating, block by block."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings, strategies as st

from tests.frames import (
    BINARY,
    CONT,
    PING,
    RSV1,
    TEXT,
    Deflater,
    Inflater,
    ServerFrame,
    deflated,
    frame,
    inflated,
    parsed,
    ways,
)
from wsgate.ws.deflate import compression
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.deflate.wsproto_extension import MessageExtension
from wsgate.ws.frames.codec import Fail, Item, Ping
from wsgate.ws.frames.wsproto_codec import WsprotoCodec
from wsgate.ws.limits import MessageLimits

EAGER = DeflateSettings(threshold=0)
FRESH = Agreement(EAGER, server_no_context_takeover=True, client_no_context_takeover=True)
TAKEOVER = Agreement(DeflateSettings(threshold=0, context_takeover=True))
INVALID_PAYLOAD = Fail(1007, "invalid payload")
TOO_BIG = Fail(1009, "message too big")
DEFAULT = MessageLimits()


def codec(
    agreement: Agreement | None = FRESH,
    limits: MessageLimits = DEFAULT,
    compressors: Compressors | None = None,
) -> WsprotoCodec:
    deflate = MessageExtension(limits, agreement, compressors or Compressors(6))
    return WsprotoCodec(deflate, slice_size=1 << 30)


def read(data: bytes, agreement: Agreement = FRESH, limits: MessageLimits = DEFAULT) -> list[Item]:
    """Return what `data` is read as, which must not depend on how it is split."""
    results: list[list[Item]] = []
    for pieces in ways(data):
        one = codec(agreement, limits)
        results.append([])
        for piece in pieces:
            one.feed(piece)
            results[-1] += one.take(1_000)
    assert all(result == results[0] for result in results)
    return results[0]


def message(*payloads: bytes, opcode: int = TEXT) -> bytes:
    """Return a compressed message of these payloads, a frame each."""
    last = len(payloads) - 1
    frames = [
        frame(CONT if at else opcode, payload, fin=at == last, rsv=0 if at else RSV1)
        for at, payload in enumerate(payloads)
    ]
    return b"".join(frames)


both = pytest.mark.parametrize("agreement", [FRESH, TAKEOVER], ids=["fresh", "takeover"])


# -- as a wsproto extension --------------------------------------------------------------------


def test_the_extension_is_always_enabled() -> None:
    extension = MessageExtension(DEFAULT, None, Compressors(6))
    assert extension.enabled()
    assert extension.offer() is False
    assert extension.name == "permessage-deflate"


# -- the shared compressors --------------------------------------------------------------------


def test_messages_over_shared_compressors_do_not_refer_to_each_other() -> None:
    compressors = Compressors(6)
    small = Agreement(EAGER, True, True, server_max_window_bits=9)
    connections = [codec(small, compressors=compressors), codec(FRESH, compressors=compressors)] * 2
    connections += [codec(TAKEOVER, compressors=compressors)]
    kept = Inflater(keep=True)
    secret = random.Random(2).randbytes(150) * 3
    for at, connection in enumerate(connections * 3):
        (sent,) = parsed(connection.message(secret))
        assert sent.rsv == RSV1
        if at % 5 == 4:
            assert kept.whole(sent.payload) == secret
        else:
            assert inflated(sent.payload, bits=(9, 15)[at % 5 % 2]) == secret
            assert len(sent.payload) > 150  # nothing is referred to


def test_an_idle_connection_holds_no_window() -> None:
    compressors = Compressors(6)
    compressors.compress(b"x", 15)
    tracemalloc.start()
    try:
        connections = [codec(FRESH, compressors=compressors) for _ in range(20)]
        for connection in connections:
            connection.message(b"out " * 1_000)
            connection.feed(message(deflated(b"in " * 1_000)))
            assert connection.take(2) == ["in " * 1_000]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 20 * 10_000


# -- writing -----------------------------------------------------------------------------------


@both
def test_messages_from_the_threshold_on_are_compressed(agreement: Agreement) -> None:
    patient = DeflateSettings(100, context_takeover=not agreement.server_no_context_takeover)
    flag = not patient.context_takeover
    one = codec(Agreement(patient, flag, flag))
    assert parsed(one.message(b"x" * 99)) == [ServerFrame(BINARY, b"x" * 99)]
    (sent,) = parsed(one.message("x" * 100))
    assert (sent.opcode, sent.rsv) == (TEXT, RSV1)
    assert inflated(sent.payload) == b"x" * 100
    # The threshold counts octets.
    (sent,) = parsed(one.message("ü" * 50))
    assert sent.rsv == RSV1


def test_a_message_that_would_grow_is_sent_uncompressed() -> None:
    noise = random.Random(3).randbytes(2_000)
    one = codec(FRESH)
    for data in (b"", b"x", noise):
        assert parsed(one.message(data)) == [ServerFrame(BINARY, data)]
    (sent,) = parsed(one.message(noise * 2))
    assert inflated(sent.payload) == noise * 2


def test_without_an_agreement_nothing_is_compressed() -> None:
    one = codec(None)
    assert parsed(one.message(b"x" * 5_000)) == [ServerFrame(BINARY, b"x" * 5_000)]


def test_empty_messages_with_context_takeover() -> None:
    one, inflater = codec(TAKEOVER), Inflater(keep=True)
    for data in (b"", b"", b"abc", b"", b"", b"abc"):
        (sent,) = parsed(one.message(data))
        assert sent.payload, "RFC 7692 section 7.2.3.6: an empty message is one octet"
        assert inflater.whole(sent.payload) == data


def test_with_context_takeover_the_window_compresses_the_next_message() -> None:
    bits = 10
    agreement = Agreement(TAKEOVER.settings, server_max_window_bits=bits)
    one, inflater = codec(agreement), Inflater(keep=True, bits=bits)
    noise = random.Random(4).randbytes(600)
    sizes = []
    for _ in range(3):
        (sent,) = parsed(one.message(noise))
        sizes.append(len(sent.payload))
        assert inflater.whole(sent.payload) == noise
    assert sizes[0] > 600  # grew, and is sent nevertheless: the window has it
    assert max(sizes[1:]) < 60


# -- incoming: the examples of RFC 7692 section 7.2.3 -------------------------------------


@both
@pytest.mark.parametrize(
    "payload",
    [
        "f248cdc9c90700",  # one block
        "000500faff48656c6c6f00",  # no compression
        "f348cdc9c9070000",  # BFINAL
        "f248050000" + "00ffffcac9c90700",  # two blocks
    ],
)
def test_the_examples_of_the_rfc(agreement: Agreement, payload: str) -> None:
    data = message(bytes.fromhex(payload))
    assert read(data, agreement) == ["Hello"]
    assert read(data * 3, agreement) == ["Hello"] * 3


@both
def test_the_example_of_fragments(agreement: Agreement) -> None:
    first, second = bytes.fromhex("f248cd"), bytes.fromhex("c9c90700")
    assert message(first, second)[0] == 0x41
    assert read(message(first, second), agreement) == ["Hello"]


def test_the_example_of_a_shared_window() -> None:
    data = message(bytes.fromhex("f248cdc9c90700")) + message(bytes.fromhex("f200110000"))
    assert read(data, TAKEOVER) == ["Hello", "Hello"]
    assert read(data, FRESH) == ["Hello", INVALID_PAYLOAD]


@both
def test_the_example_of_an_empty_message(agreement: Agreement) -> None:
    assert read(message(b"\0") * 2 + message(b"\0", opcode=BINARY), agreement) == ["", "", b""]


# -- BFINAL (RFC 7692 section 7.2.3.4) ---------------------------------------------------------


def ended(data: bytes) -> bytes:
    """Return `data` as blocks of which the last one has BFINAL."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


@both
def test_a_message_that_ends_with_a_final_block(agreement: Agreement) -> None:
    # Also without the octet that the example of the RFC has after it.
    for end in (b"\0", b""):
        data = message(ended(b"Hello") + end)
        assert read(data * 2 + message(deflated(b"more")), agreement) == ["Hello", "Hello", "more"]


@both
def test_a_message_that_continues_after_a_final_block(agreement: Agreement) -> None:
    assert read(message(ended(b"Hello, ") + deflated(b"world")), agreement) == ["Hello, world"]
    payload = ended(b"a") * 3 + ended(b"") * 5 + ended(b"b") + deflated(b"c")
    assert read(message(payload), agreement) == ["aaabc"]


@both
def test_final_blocks_in_fragments(agreement: Agreement) -> None:
    data = message(ended(b"a"), ended(b""), b"", ended(b"b")[:2], ended(b"b")[2:] + b"\0")
    assert read(data, agreement) == ["ab"]
    with_a_ping = (
        data[: len(message(ended(b"a")))] + frame(PING) + data[len(message(ended(b"a"))) :]
    )
    assert read(with_a_ping, agreement) == [Ping(b""), "ab"]


@both
def test_final_blocks_do_not_exceed_the_limit(agreement: Agreement) -> None:
    limits = MessageLimits(size=1_000)
    assert read(message(ended(b"x" * 100) * 10 + b"\0"), agreement, limits) == ["x" * 1_000]
    assert read(message(ended(b"x" * 100) * 11 + b"\0"), agreement, limits) == [TOO_BIG]
    assert read(message(ended(b"x" * 1_000), ended(b"x")), agreement, limits) == [TOO_BIG]


def test_data_after_a_final_block_is_not_collected() -> None:
    one = codec(FRESH, MessageLimits(size=100_000))
    blocks = ended(b"") * 50_000
    head = frame(BINARY, declared=1 << 40, rsv=RSV1, mask=b"\0\0\0\0")
    tracemalloc.start()
    try:
        one.feed(head)
        for at in range(0, len(blocks), 2_000):
            one.feed(blocks[at : at + 2_000])
            assert one.take(10) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@both
def test_a_fault_after_a_final_block(agreement: Agreement) -> None:
    assert read(message(ended(b"a") + b"\x07"), agreement) == [INVALID_PAYLOAD]


# -- streams that stop, windows that do not reach ----------------------------------------------


@both
def test_a_message_that_ends_within_a_block_fails(agreement: Agreement) -> None:
    # With context takeover, too: the next message would be inflated with a wrong window.
    payload = deflated(b"some words, some words, and more")
    data = message(deflated(b"before")) + message(payload[:-4]) + message(payload)
    assert read(data, agreement) == ["before", INVALID_PAYLOAD]


def test_the_probe_for_a_blocks_end_keeps_the_window() -> None:
    deflater = Deflater(keep=True)
    noise = random.Random(5).randbytes(200).hex().encode()
    data = b"".join(message(deflater.whole(noise)) for _ in range(4))
    assert read(data, TAKEOVER) == [noise.decode()] * 4


def test_a_reference_beyond_the_window_fails() -> None:
    narrow = Agreement(EAGER, client_no_context_takeover=True, client_max_window_bits=9)
    data = random.Random(6).randbytes(5_000) * 2
    assert read(message(deflated(data, bits=9), opcode=BINARY), narrow) == [data]
    # zlib sees it where the window is all that it has left, not within one piece.
    first, second = Deflater(bits=15).pieces(data[:5_000], data[5_000:])
    one = codec(narrow)
    one.feed(frame(BINARY, first, fin=False, rsv=RSV1))
    assert one.take(2) == []
    one.feed(frame(CONT, second))
    assert one.take(2) == [INVALID_PAYLOAD]


# -- the limit ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("size", [0, 1, 1_000, 70_000])
def test_the_limit_is_exact_to_the_byte(agreement: Agreement, size: int) -> None:
    limits = MessageLimits(size=size)
    for level in (0, 1, 9):
        fits = message(deflated(b"x" * size, level=level), opcode=BINARY)
        over = message(deflated(b"x" * (size + 1), level=level), opcode=BINARY)
        assert read(fits, agreement, limits) == [b"x" * size]
        assert read(over, agreement, limits) == [TOO_BIG]


@both
def test_one_piece_is_not_inflated_beyond_the_limit(agreement: Agreement) -> None:
    bomb = message(deflated(b"\0" * 30_000_000, level=9), opcode=BINARY)
    one = codec(agreement, MessageLimits(size=100_000))
    tracemalloc.start()
    try:
        one.feed(bomb)
        assert one.take(2) == [TOO_BIG]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 100_000 + 3 * len(bomb) + 60_000


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(0, 200), st.integers(0, 9))
def test_sizes_of_fragments_add_up(pieces: list[bytes], size: int, level: int) -> None:
    for deflater in (Deflater(level=level), None):
        payloads = deflater.pieces(*pieces, b"") if deflater else [*pieces, b""]
        data = message(*payloads, opcode=BINARY)
        if deflater is None:
            data = bytes([data[0] & ~0x40]) + data[1:]
        whole = b"".join(pieces)
        expected: list[Item] = [whole if len(whole) <= size else TOO_BIG]
        assert read(data, FRESH, MessageLimits(size=size)) == expected


@both
@pytest.mark.parametrize("size", [3, 50])
def test_the_limit_applies_to_each_message(agreement: Agreement, size: int) -> None:
    deflater = Deflater(keep=not agreement.client_no_context_takeover)
    data = b""
    for _ in range(3):
        data += message(deflater.whole(b"x" * size)) + frame(TEXT, "y" * size)
    assert read(data, agreement, MessageLimits(size=size)) == ["x" * size, "y" * size] * 3


# -- inflating at once -------------------------------------------------------------------------

CONTENTS = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=6), st.integers(0, 400)),
)


@settings(deadline=None, max_examples=200)
@given(CONTENTS, st.integers(0, 9), st.integers(0, 1_000))
def test_a_message_that_ends_with_a_flush_is_inflated_at_once(
    data: bytes, level: int, most: int
) -> None:
    expected = data if len(data) <= most else None
    assert compression.inflate_message(deflated(data, level=level), -15, most) == expected


def strategies(data: bytes) -> list[int]:
    return [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY] if data else [zlib.Z_FIXED]


@settings(deadline=None, max_examples=150)
@given(CONTENTS, st.integers(0, 9), st.booleans(), st.data())
def test_a_message_cut_short_inflates_as_in_a_frame(
    data: bytes, level: int, final: bool, draw: st.DataObject
) -> None:
    strategy = draw.draw(st.sampled_from(strategies(data)))
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    packed = compressor.compress(data)
    packed += compressor.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
    for end in {len(packed), *draw.draw(st.lists(st.integers(0, len(packed)), max_size=8))}:
        out = compression.inflate_message(packed[:end], -15, 3_000)
        # None: the extension reads it.
        assert out is None or read(message(packed[:end], opcode=BINARY)) == [out]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40))
def test_garbage_inflates_as_in_a_frame(data: bytes) -> None:
    out = compression.inflate_message(data, -15, 100_000)
    assert out is None or read(message(data, opcode=BINARY)) == [out]


@pytest.mark.parametrize("lacks", range(9))
def test_a_stored_block_that_consumes_the_appended_octets_is_left_to_the_extension(
    lacks: int,
) -> None:
    # Four are as good as the block's own, and a final block could take the probe's, too.
    size = 3 + lacks
    stored = size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + b"abc"
    for final in (b"\0", b"\1"):
        assert compression.inflate_message(final + stored, -15, 1_000) is None
    expected = b"abc\0\0\xff\xff" if lacks == 4 else INVALID_PAYLOAD
    assert read(message(b"\0" + stored, opcode=BINARY)) == [expected]
