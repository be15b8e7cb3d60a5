"""Which close codes a frame may carry: one table, which every codec goes by."""

import pytest
from wsproto.frame_protocol import CloseReason

from tests.frames import CLOSE, ServerFrame, close, frame, parsed
from tests.ws.codecs import AGREEMENTS, CODECS, MakeCodec
from wsgate.asgi.websocket import Close, Conversation, State
from wsgate.errors import InvalidMessage
from wsgate.ws import codes
from wsgate.ws.codes import (
    NAMES,
    close_payload,
    is_valid_reason,
    may_be_in_frame,
    read_close,
)
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import Fail, FrameCodec, Item, PeerClose
from wsgate.ws.handshake import Handshake

# RFC 6455 section 7.4 and IANA's registry, without those that no frame carries.
REGISTERED = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
IN_FRAMES = REGISTERED | set(range(3000, 5000))


def items(codec: FrameCodec, data: bytes, *, whole: bool) -> list[Item]:
    for piece in [data] if whole else [data[:5], data[5:]]:
        codec.feed(piece)
    found: list[Item] = []
    while codec.pending:
        found += codec.take(1)
    return found


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
def test_every_codec_accepts_the_same_close_codes(make: MakeCodec) -> None:
    for code in range(65_536):
        is_good = code in IN_FRAMES
        expected = PeerClose(code, "") if is_good else Fail(1002, "protocol error")
        assert may_be_in_frame(code) is is_good
        assert read_close(code.to_bytes(2, "big")) == expected
        assert list(make().take(1, close(code))) == [expected]
        assert items(make(), close(code), whole=code % 2 == 0) == [expected]


@pytest.mark.parametrize("agreement", AGREEMENTS.values(), ids=AGREEMENTS)
@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
def test_a_close_code_is_checked_with_a_reason_and_between_fragments(
    make: MakeCodec, agreement: Agreement | None
) -> None:
    before = frame(0x1, "x", fin=False)
    for code in (*range(990, 1_030), 2_999, 3_000, 4_999, 5_000, 65_535):
        good = [PeerClose(code, "grüß")]
        expected = good if code in IN_FRAMES else [Fail(1002, "protocol error")]
        assert items(make(agreement), close(code, "grüß"), whole=True) == expected
        assert items(make(agreement), before + close(code, "grüß"), whole=False) == expected
        if code in IN_FRAMES:
            bad = [Fail(1007, "invalid payload")]
            assert items(make(agreement), close(code, b"\xff"), whole=True) == bad


@pytest.mark.parametrize("make", CODECS.values(), ids=CODECS)
def test_every_valid_code_can_be_echoed(make: MakeCodec) -> None:
    for code in IN_FRAMES:
        sent = parsed(make().close(code, "why"))
        assert sent == [ServerFrame(CLOSE, code.to_bytes(2, "big") + b"why")]
    assert parsed(make().close(1005, "")) == [ServerFrame(CLOSE, b"")]


def test_an_app_may_send_the_same_codes() -> None:
    for code in range(-1, 65_537):
        conversation = Conversation(Handshake(b"", [], None))
        conversation.state = State.OPEN
        message = {"type": "websocket.close", "code": code}
        if code in IN_FRAMES:
            assert conversation.handle(message) == Close(code, "")
        else:
            with pytest.raises(InvalidMessage):
                conversation.handle(message)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", PeerClose(1005, "")),
        (b"\x03", Fail(1002, "protocol error")),
        (b"\x03\xf6", PeerClose(1014, "")),
        (b"\x03\xf6\xff", Fail(1007, "invalid payload")),
        (b"\x03\xed\xff", Fail(1002, "protocol error")),  # 1005
        (b"\x13\x87" + b"r" * 123, PeerClose(4999, "r" * 123)),
        (b"\x03\xe8\xed\xa0\x80", Fail(1007, "invalid payload")),
    ],
)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_close_payload_is_read(payload: bytes, expected: Item, kind: type[bytes]) -> None:
    assert read_close(kind(payload)) == expected


def test_the_names_are_those_of_the_registry() -> None:
    assert list(NAMES) == list(range(1000, 1016))
    known = {reason.value for reason in CloseReason}
    assert {1004, 1014} | known == set(NAMES)


def test_the_constants_are_named_as_the_registry_names_them() -> None:
    constants = {name: code for name, code in vars(codes).items() if isinstance(code, int)}
    registered = {name: code for name, code in constants.items() if code in NAMES}
    for name, code in registered.items():
        words = {"NO_STATUS": "no status received", "ABNORMAL": "abnormal closure"}
        words |= {"NORMAL": "normal closure"}
        assert NAMES[code] == words.get(name, name.lower().replace("_", " "))
    assert len(registered) == 11


@pytest.mark.parametrize(
    ("reason", "is_valid"),
    [
        ("", True),
        ("r" * 123, True),
        ("r" * 124, False),
        ("é" * 61, True),
        ("é" * 62, False),
        ("\ud800", False),
    ],
)
def test_a_reason_has_at_most_123_bytes(reason: str, is_valid: bool) -> None:
    assert is_valid_reason(reason) is is_valid


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4999, "grüß"), (1011, "r" * 123)])
def test_a_close_is_read_as_it_was_written(code: int, reason: str) -> None:
    assert read_close(close_payload(code, reason)) == PeerClose(code, reason)


def test_a_close_without_a_code_is_empty() -> None:
    assert close_payload(1005, "") == b""
