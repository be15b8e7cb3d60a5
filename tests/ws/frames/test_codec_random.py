"""Every codec on random input, against a model of RFC 6455."""

from hypothesis import given, settings, strategies as st

from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    Deflater,
    close,
    deflated,
    fragments,
    frame,
)
from tests.ws.codecs import (
    FRESH,
    INVALID_PAYLOAD,
    PAYLOADS,
    PLACES,
    PROTOCOL_ERROR,
    SMALL,
    TAKEOVER,
    VALID_CODES,
    MakeCodec,
    cut,
    read,
)
from wsgate.ws.deflate.negotiation import Agreement
from wsgate.ws.frames.codec import Fail, Item, PeerClose, Ping, Pong

CONTROLS = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)


@st.composite
def conversations(draw: st.DrawFn, agreement: Agreement | None) -> tuple[bytes, list[Item]]:
    """Draw what a client may send, and what it is to be read as."""
    keep = agreement is not None and not agreement.client_no_context_takeover
    deflater = Deflater(keep=keep)
    frames: list[bytes] = []
    items: list[Item] = []
    for payload in draw(st.lists(PAYLOADS, max_size=5)):
        opcode = TEXT if isinstance(payload, str) else BINARY
        pieces = cut(payload.encode() if isinstance(payload, str) else payload, draw(PLACES))
        rsv = RSV1 if agreement is not None and draw(st.booleans()) else 0
        for one in fragments(opcode, deflater.pieces(*pieces) if rsv else pieces, rsv=rsv):
            for control, content in draw(CONTROLS):
                frames.append(frame(control, content))
                items.append(Ping(content) if control == PING else Pong(content))
            frames.append(one)
        items.append(payload)
    if draw(st.booleans()):
        code, reason = draw(st.sampled_from(VALID_CODES)), draw(st.text(max_size=30))
        frames.append(close(code, reason))
        items.append(PeerClose(code, reason))
    return b"".join(frames), items


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_valid_stream_in_any_pieces(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent, items = data.draw(conversations(agreement))
    pieces, limit = cut(sent, data.draw(PLACES)), data.draw(st.integers(1, 4))
    assert read(make(agreement), pieces, limit) == items


HEADERS = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=8),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, RSV1, RSV2]),
    mask=st.sampled_from([b"\0\0\0\0", b"\1\2\3\4", None]),
    declared=st.sampled_from([None, None, 3, 90, 200]),
)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_bytes_in_any_pieces(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent = b"".join(data.draw(st.lists(st.one_of(st.binary(max_size=20), HEADERS), max_size=12)))
    places = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    whole = read(make(agreement, SMALL), [sent])
    codec = make(agreement, SMALL)
    items = read(codec, cut(sent, places))
    assert not any(isinstance(item, (Fail, PeerClose)) for item in items[:-1])
    if items and isinstance(items[-1], (Fail, PeerClose)):
        assert read(codec, [sent, frame(TEXT, "after")]) == []
    # Where more than one thing is wrong, the pieces may decide which is seen first.
    assert items[:-1] == whole[:-1]
    assert [type(item) for item in items] == [type(item) for item in whole]


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_read_message_returns_the_same_as_take(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    one = st.one_of(
        HEADERS,
        st.binary(max_size=200),
        st.builds(frame, st.sampled_from([TEXT, BINARY]), st.binary(max_size=150)),
        st.builds(frame, st.sampled_from([TEXT, BINARY]), st.text(max_size=150).map(str.encode)),
        st.builds(
            lambda opcode, text, cut: frame(opcode, deflated(text.encode())[cut:], rsv=RSV1),
            st.sampled_from([TEXT, BINARY]),
            st.text(max_size=150),
            st.sampled_from([0, 0, 1]),
        ),
    )
    sent = data.draw(one) + data.draw(st.sampled_from([b"", b"", b"\x81"]))
    codec = make(agreement, SMALL)
    if not codec.is_idle:
        return
    message = codec.read_message(sent, SMALL.size)
    if message is not None:
        assert read(make(agreement, SMALL), [sent]) == [message]
    assert codec.is_idle
    assert read(codec, [sent]) == read(make(agreement, SMALL), [sent])


def test_read_message_reads_whole_messages_while_the_codec_is_idle(make: MakeCodec) -> None:
    codec = make(FRESH)
    if codec.is_idle:
        for sent in (frame(TEXT, "grüß"), frame(TEXT, deflated("grüß".encode()), rsv=RSV1)):
            assert codec.read_message(sent, 100) == "grüß"
            assert codec.read_message(sent + b"\x81", 100) is None
            assert codec.read_message(sent[:-1], 100) is None
            assert make().read_message(sent, 100) == ("grüß" if sent[0] == 0x81 else None)
        assert codec.read_message(b"", 100) is None
        assert codec.read_message(b"\xc1", 100) is None
        assert make(TAKEOVER).read_message(frame(TEXT, deflated(b"a"), rsv=RSV1), 100) is None
    else:
        assert codec.read_message(frame(TEXT, "a"), 100) is None


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_stream_with_flipped_bits(
    make: MakeCodec, agreement: Agreement | None, data: st.DataObject
) -> None:
    sent, _ = data.draw(conversations(agreement))
    spoilt = bytearray(sent)
    for place in data.draw(st.lists(st.integers(0, 1 << 16), min_size=1, max_size=3)):
        if spoilt:
            spoilt[place % len(spoilt)] ^= 1 << data.draw(st.integers(0, 7))
    items = read(make(agreement), cut(bytes(spoilt), data.draw(PLACES)))
    whole = read(make(agreement), [bytes(spoilt)])
    assert items[:-1] == whole[:-1]
    assert not any(isinstance(item, (Fail, PeerClose)) for item in items[:-1])
    assert [type(item) for item in items] == [type(item) for item in whole]


class Model:
    """What RFC 6455 section 5 makes of single frames, one after the other, right or wrong."""

    def __init__(self, agreement: Agreement | None) -> None:
        self.agreement = agreement
        keep = agreement is not None and not agreement.client_no_context_takeover
        self.deflater = Deflater(keep=keep)
        self.items: list[Item] = []
        self.sent = b""
        self.within: int | None = None
        self.pieces: list[bytes] = []
        self.is_compressed = False

    def add(self, opcode: int, piece: bytes, fin: bool, rsv: int) -> bool:
        """Send a frame; say whether the next one will be read."""
        if opcode == GO_ON:
            opcode, rsv = (CONT, 0) if self.within is not None else (TEXT, rsv)
            rsv = rsv if self.agreement is not None else 0
        if fault := self.fault(opcode, fin, rsv):
            self.sent += frame(opcode, piece, fin=fin, rsv=rsv)
        elif opcode >= CLOSE:
            self.sent += frame(opcode, piece)
            self.items.append(Ping(piece) if opcode == PING else Pong(piece))
        else:
            fault = self.add_data(opcode, piece, fin, rsv)
        if fault:
            self.items.append(fault)
        return fault is None

    def fault(self, opcode: int, fin: bool, rsv: int) -> Fail | None:
        is_first = opcode != CONT
        unknown = opcode in (0x3, 0xB)
        if opcode >= CLOSE:
            wrong = not fin or rsv != 0
        else:
            wrong = is_first is (self.within is not None)
            may_be_compressed = is_first and self.agreement is not None
            wrong |= rsv not in ((0, RSV1) if may_be_compressed else (0,))
        return PROTOCOL_ERROR if unknown or wrong else None

    def add_data(self, opcode: int, piece: bytes, fin: bool, rsv: int) -> Fail | None:
        if opcode != CONT:
            self.within, self.pieces, self.is_compressed = opcode, [], bool(rsv)
        self.pieces.append(piece)
        payload = piece
        if self.is_compressed:
            payload = self.compressed(piece, fin)
        self.sent += frame(opcode, payload, fin=fin, rsv=rsv)
        data = b"".join(self.pieces)
        if self.within == TEXT and not is_text(data, fin):
            return INVALID_PAYLOAD
        if not fin:
            return None
        self.items.append(data.decode() if self.within == TEXT else data)
        self.within = None
        return None

    def compressed(self, piece: bytes, fin: bool) -> bytes:
        if len(self.pieces) == 1:
            self.deflater.begin()
        return self.deflater.add(piece, fin=fin)


def is_text(data: bytes, is_whole: bool) -> bool:
    """Return whether `data` is valid UTF-8, or the beginning of it."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not is_whole and error.reason == "unexpected end of data"
    return True


PIECES = st.sampled_from(
    [b"", b"a", b"b" * 20, "é".encode(), "é".encode(), b"\xc3", b"\xa9", b"\xed", b"\xa0"]
)
GO_ON = -1  # a frame that is right at its place
MOVES = st.one_of(
    st.tuples(st.just(GO_ON), PIECES, st.booleans(), st.sampled_from([0, RSV1])),
    st.tuples(st.sampled_from([GO_ON, TEXT, BINARY]), PIECES, st.booleans(), st.just(0)),
    st.tuples(st.sampled_from([PING, PONG]), PIECES, st.just(True), st.just(0)),
    st.tuples(
        st.sampled_from([CONT, TEXT, BINARY, PING, PONG, 0x3, 0xB]),
        PIECES,
        st.booleans(),
        st.sampled_from([0, RSV1, RSV2]),
    ),
)


@settings(deadline=None, max_examples=80)
@given(st.lists(MOVES, max_size=12), st.lists(st.integers(0, 200), max_size=5))
def test_any_frames_are_read_as_the_model_predicts(
    make: MakeCodec,
    agreement: Agreement | None,
    moves: list[tuple[int, bytes, bool, int]],
    places: list[int],
) -> None:
    model = Model(agreement)
    for move in moves:
        if not model.add(*move):
            break
    assert read(make(agreement), cut(model.sent, places)) == model.items
