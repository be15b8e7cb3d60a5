"""One message for many sessions: how often it is encoded, and for whom."""

from collections.abc import Callable

import pytest

from tests.frames import BINARY, RSV1, TEXT, Inflater, ServerFrame, inflated, parsed
from tests.plain import plain_codec
from wsgate.errors import ClientDisconnected
from wsgate.ws.codecs import fast_codec, wsproto_codec
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.encoded import PLAIN, Encoded
from wsgate.ws.frames.codec import FrameCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session

MakeCodec = Callable[[MessageLimits, Agreement | None, Compressors], FrameCodec]
CODECS: dict[str, MakeCodec] = {
    "wsproto": wsproto_codec,
    "fast": fast_codec,
    "plain": plain_codec,
}
LIMITS = MessageLimits()
SETTINGS = DeflateSettings(threshold=32)
TEXT_MESSAGE = "the same words for everyone, " * 20


def fresh(bits: int = 15, *, client_takeover: bool = False) -> Agreement:
    """Return an agreement without server context takeover."""
    return Agreement(SETTINGS, True, not client_takeover, bits)


class CountingCompressors(Compressors):
    """Counts the messages compressed for each window size."""

    def __init__(self) -> None:
        super().__init__(6)
        self.bits: list[int] = []

    def compress(self, data: bytes, bits: int) -> bytes:
        self.bits.append(bits)
        return super().compress(data, bits)


@pytest.fixture(params=CODECS)
def make(request: pytest.FixtureRequest) -> MakeCodec:
    return CODECS[request.param]


def test_a_plain_message_is_the_same_object_for_all_sessions(make: MakeCodec) -> None:
    encoded = Encoded(TEXT_MESSAGE)
    sessions = [Session(make(LIMITS, None, Compressors(6))) for _ in range(3)]
    frames = [session.write_encoded(encoded) for session in sessions]
    assert parsed(frames[0]) == [ServerFrame(TEXT, TEXT_MESSAGE.encode())]
    assert frames[0] is frames[1] is frames[2]
    assert {session.codec.encoding for session in sessions} == {PLAIN}


def test_a_message_is_compressed_once_for_each_window_size(make: MakeCodec) -> None:
    compressors, encoded = CountingCompressors(), Encoded(TEXT_MESSAGE)
    # Each session has an agreement object of its own.
    frames: dict[int, set[int]] = {}
    for bits in (9, 12, 15) * 3:
        for client_takeover in (False, True):
            agreement = fresh(bits, client_takeover=client_takeover)
            session = Session(make(LIMITS, agreement, compressors))
            frame = session.write_encoded(encoded)
            (sent,) = parsed(frame)
            assert (sent.opcode, sent.rsv) == (TEXT, RSV1)
            assert inflated(sent.payload, bits=bits).decode() == TEXT_MESSAGE
            frames.setdefault(bits, set()).add(id(frame))
    assert compressors.bits == [9, 12, 15]
    assert [len(ids) for ids in frames.values()] == [1, 1, 1]


def test_plain_and_compressed_sessions_share_a_message(make: MakeCodec) -> None:
    compressors, encoded = CountingCompressors(), Encoded(TEXT_MESSAGE)
    plain = make(LIMITS, None, compressors)
    packed = make(LIMITS, fresh(), compressors)
    for _ in range(2):
        assert encoded.frame_for(plain) == plain.message(TEXT_MESSAGE)
        assert encoded.frame_for(packed) != encoded.frame_for(plain)
    assert compressors.bits == [15]


def test_agreements_with_the_same_window_share_their_encoding(make: MakeCodec) -> None:
    compressors = Compressors(6)
    one, other = (make(LIMITS, fresh(12), compressors).encoding for _ in range(2))
    assert one is other
    assert one is not make(LIMITS, fresh(13), compressors).encoding
    assert one is not make(LIMITS, fresh(12), Compressors(6)).encoding, "of another worker"
    agreements = [fresh(12), fresh(12, client_takeover=True)]
    shared = {compressors.compression(agreement) for agreement in agreements}
    assert len(shared) == 1


def test_codecs_of_one_worker_share_their_encoding() -> None:
    compressors = Compressors(6)
    codecs = [make(LIMITS, fresh(), compressors) for make in CODECS.values()]
    assert len({codec.encoding for codec in codecs}) == 1
    assert len({codec.message(TEXT_MESSAGE) for codec in codecs}) == 1


def test_nothing_is_shared_with_server_context_takeover(make: MakeCodec) -> None:
    compressors, encoded = CountingCompressors(), Encoded(TEXT_MESSAGE)
    agreement = Agreement(DeflateSettings(threshold=32, context_takeover=True))
    codecs = [make(LIMITS, agreement, compressors) for _ in range(2)]
    inflaters = [Inflater(keep=True) for _ in codecs]
    assert [codec.encoding for codec in codecs] == [None, None]
    sizes = []
    for _ in range(2):
        for codec, inflater in zip(codecs, inflaters, strict=True):
            (sent,) = parsed(encoded.frame_for(codec))
            assert inflater.whole(sent.payload).decode() == TEXT_MESSAGE
            sizes.append(len(sent.payload))
    assert sizes[0] == sizes[1]
    assert sizes[2] == sizes[3] < sizes[0]  # each window has the message already
    assert compressors.bits == []


def test_text_and_bytes_are_different_messages(make: MakeCodec) -> None:
    codec = make(LIMITS, fresh(), Compressors(6))
    for payload in ("a", TEXT_MESSAGE):
        text, binary = Encoded(payload), Encoded(payload.encode())
        assert [frame.opcode for frame in parsed(text.frame_for(codec))] == [TEXT]
        assert [frame.opcode for frame in parsed(binary.frame_for(codec))] == [BINARY]


@pytest.mark.parametrize("agreement", [None, fresh(), Agreement(SETTINGS)])
def test_a_lone_surrogate_raises_for_each_session(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    compressors, encoded = Compressors(6), Encoded("a\ud800" * 50)
    for _ in range(2):
        session = Session(make(LIMITS, agreement, compressors))
        with pytest.raises(UnicodeEncodeError):
            session.write_encoded(encoded)


def test_a_message_below_the_threshold_is_not_compressed(make: MakeCodec) -> None:
    compressors = CountingCompressors()
    codec = make(LIMITS, fresh(), compressors)
    assert parsed(Encoded("x" * 31).frame_for(codec)) == [ServerFrame(TEXT, b"x" * 31)]
    assert compressors.bits == []
    (sent,) = parsed(Encoded("x" * 32).frame_for(codec))
    assert sent.rsv == RSV1
    assert compressors.bits == [15]


def test_a_message_that_would_grow_is_tried_once(make: MakeCodec) -> None:
    noise = bytes(range(256))
    compressors, encoded = CountingCompressors(), Encoded(noise)
    for _ in range(3):
        codec = make(LIMITS, fresh(), compressors)
        assert parsed(encoded.frame_for(codec)) == [ServerFrame(BINARY, noise)]
    assert compressors.bits == [15]


def test_a_session_writes_an_encoded_message_each_time(make: MakeCodec) -> None:
    session, encoded = Session(make(LIMITS, fresh(), Compressors(6))), Encoded(b"x" * 500)
    first, *others = [session.write_encoded(encoded) for _ in range(3)]
    assert first
    assert others == [first, first]


def test_a_closing_session_writes_no_encoded_message(make: MakeCodec) -> None:
    session = Session(make(LIMITS, None, Compressors(6)))
    session.close(1000, "")
    with pytest.raises(ClientDisconnected, match="closing"):
        session.write_encoded(Encoded("late"))
