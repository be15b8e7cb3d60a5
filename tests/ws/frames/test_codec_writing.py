"""Every codec: frames for the client, and the windows of both sides."""

import random

import pytest

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    TEXT,
    Deflater,
    Inflater,
    ServerFrame,
    close,
    deflated,
    frame,
    parsed,
)
from tests.ws.codecs import (
    EAGER,
    FRESH,
    INVALID_PAYLOAD,
    PROTOCOL_ERROR,
    TAKEOVER,
    VALID_CODES,
    MakeCodec,
    items_of,
    read,
)
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import PeerClose, Ping

# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_of_every_length_form_are_written(make: MakeCodec, length: int) -> None:
    codec = make()
    text = "x" * length
    assert parsed(codec.message(text)) == [ServerFrame(TEXT, text.encode())]
    assert parsed(codec.message(text.encode())) == [ServerFrame(BINARY, text.encode())]


def test_a_message_is_bytes(make: MakeCodec, agreement: Agreement | None) -> None:
    codec = make(agreement)
    out = [codec.message("a"), codec.message(b"a"), codec.ping(b""), codec.pong(b"")]
    assert {type(frame) for frame in [*out, codec.close(1000, "")]} == {bytes}


def test_text_is_written_as_utf8(make: MakeCodec) -> None:
    assert parsed(make().message("κ\U0001f600")) == [ServerFrame(TEXT, "κ\U0001f600".encode())]


def test_a_lone_surrogate_raises_and_the_codec_still_works(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    codec = make(agreement)
    with pytest.raises(UnicodeEncodeError):
        codec.message("a\ud800b" * 1_000)
    assert [frame.opcode for frame in parsed(codec.message(b"a" * 100))] == [BINARY]


def test_compressed_messages(make: MakeCodec, deflate: Agreement) -> None:
    codec = make(deflate)
    inflater = Inflater(keep=not deflate.server_no_context_takeover)
    for message in ("Hello, hello, hello, hello", b"\0" * 100_000, "Hello, hello, hello, hello"):
        (sent,) = parsed(codec.message(message))
        data = message.encode() if isinstance(message, str) else message
        opcode = TEXT if isinstance(message, str) else BINARY
        assert sent == (opcode, sent.payload, True, RSV1)
        assert len(sent.payload) < len(data)
        assert inflater.whole(sent.payload) == data


@pytest.mark.parametrize("payload", [b"", b"\0" * 125])
def test_pings_and_pongs_are_not_compressed(
    make: MakeCodec, agreement: Agreement | None, payload: bytes
) -> None:
    codec = make(agreement)
    out = codec.ping(payload) + codec.pong(payload)
    assert parsed(out) == [ServerFrame(PING, payload), ServerFrame(PONG, payload)]


@pytest.mark.parametrize("code", VALID_CODES)
def test_a_close_is_written(make: MakeCodec, agreement: Agreement | None, code: int) -> None:
    payload = code.to_bytes(2, "big")
    assert parsed(make(agreement).close(code, "")) == [ServerFrame(CLOSE, payload)]
    reason = "ü" * 61
    sent = make(agreement).close(code, reason)
    assert parsed(sent) == [ServerFrame(CLOSE, payload + reason.encode())]


def test_a_close_without_a_code_is_written(make: MakeCodec) -> None:
    assert parsed(make().close(1005, "")) == [ServerFrame(CLOSE, b"")]


def test_the_peers_close_can_be_answered(make: MakeCodec) -> None:
    for sent, answer in ((close(), b""), (close(3000, "why"), b"\x0b\xb8")):
        codec = make()
        (closed,) = read(codec, [sent])
        assert isinstance(closed, PeerClose)
        assert parsed(codec.close(closed.code, "")) == [ServerFrame(CLOSE, answer)]


def test_messages_are_still_read_after_our_close(make: MakeCodec) -> None:
    codec = make()
    codec.close(1000, "")
    assert read(codec, [frame(TEXT, "late"), frame(PING), close(1001)]) == [
        "late",
        Ping(b""),
        PeerClose(1001, ""),
    ]
    assert read(codec, [frame(TEXT, "later")]) == []


def test_a_fault_is_found_after_our_close(make: MakeCodec) -> None:
    codec = make()
    codec.close(1000, "")
    assert read(codec, [frame(CONT, "x"), frame(TEXT)]) == [PROTOCOL_ERROR]


def test_messages_can_be_written_after_a_fault(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    codec = make(agreement)
    assert read(codec, [frame(3)]) == [PROTOCOL_ERROR]
    (answer,) = parsed(codec.message(b"answer"))
    assert answer.opcode == BINARY
    assert parsed(codec.close(1002, "")) == [ServerFrame(CLOSE, b"\x03\xea")]


# -- windows -----------------------------------------------------------------------------------


def test_the_clients_window_is_kept_only_with_takeover(make: MakeCodec) -> None:
    words = random.Random(1).randbytes(500)
    deflater = Deflater(keep=True)
    payloads = [deflater.whole(words) for _ in range(3)]
    assert len(payloads[1]) < 50  # it refers to the first
    data = b"".join(frame(BINARY, payload, rsv=RSV1) for payload in payloads)
    assert items_of(make, data, TAKEOVER) == [words] * 3
    assert items_of(make, data, FRESH) == [words, INVALID_PAYLOAD]


def test_the_servers_window_is_kept_with_takeover(make: MakeCodec) -> None:
    words = random.Random(1).randbytes(500)
    codec, inflater = make(TAKEOVER), Inflater(keep=True)
    for at in range(3):
        (sent,) = parsed(codec.message(words))
        assert (len(sent.payload) < 50) is (at > 0)
        assert inflater.whole(sent.payload) == words


@pytest.mark.parametrize(("server", "client"), [(True, False), (False, True)])
def test_one_side_may_keep_its_window_alone(make: MakeCodec, server: bool, client: bool) -> None:
    agreement = Agreement(
        EAGER, server_no_context_takeover=server, client_no_context_takeover=client
    )
    codec = make(agreement)
    words = b"the same words again, " * 10
    deflater, inflater = Deflater(keep=not client), Inflater(keep=not server)
    for _ in range(3):
        assert read(codec, [frame(BINARY, deflater.whole(words), rsv=RSV1)]) == [words]
        (sent,) = parsed(codec.message(words))
        assert inflater.whole(sent.payload) == words


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("bits", range(9, 16))
def test_windows_of_every_size_work(make: MakeCodec, bits: int, keep: bool) -> None:
    agreement = Agreement(EAGER, not keep, not keep, bits, bits)
    data = random.Random(bits).randbytes(700) * 60
    deflater, inflater = Deflater(keep=keep, bits=bits), Inflater(keep=keep, bits=bits)
    codec = make(agreement)
    for _ in range(2):
        assert read(codec, [frame(BINARY, deflater.whole(data), rsv=RSV1)]) == [data]
        (sent,) = parsed(codec.message(data))
        payload = inflater.whole(sent.payload) if sent.rsv else sent.payload
        assert payload == data


def test_a_client_may_use_nine_bits_where_eight_were_negotiated(make: MakeCodec) -> None:
    agreement = Agreement(EAGER, client_no_context_takeover=True, client_max_window_bits=8)
    data = random.Random(8).randbytes(400) * 3
    payload = deflated(data, bits=9)
    assert items_of(make, frame(BINARY, payload, rsv=RSV1), agreement) == [data]
