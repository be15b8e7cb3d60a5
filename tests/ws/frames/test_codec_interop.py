"""Every codec against the client of the `websockets` library."""

from hypothesis import given, settings, strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import Protocol as WebsocketsProtocol, Side, State

from tests.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
)
from tests.ws.codecs import PAYLOADS, PLACES, MakeCodec, cut, read
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings
from wsgate.ws.frames.codec import PeerClose, Ping


class Client:
    """The client of the `websockets` library, after its handshake."""

    def __init__(self, agreement: Agreement | None) -> None:
        self._protocol = WebsocketsProtocol(Side.CLIENT, state=State.OPEN, max_size=None)
        if agreement is not None:
            self._protocol.extensions = [
                PerMessageDeflate(
                    agreement.server_no_context_takeover,
                    agreement.client_no_context_takeover,
                    agreement.server_max_window_bits,
                    agreement.client_max_window_bits,
                )
            ]

    def send(self, payload: str | bytes, places: list[int]) -> bytes:
        first, *rest = cut(payload.encode() if isinstance(payload, str) else payload, places)
        send = self._protocol.send_text if isinstance(payload, str) else self._protocol.send_binary
        send(first, fin=not rest)
        for at, piece in enumerate(rest, 1):
            self._protocol.send_ping(b"between")
            self._protocol.send_continuation(piece, fin=at == len(rest))
        return b"".join(self._protocol.data_to_send())

    def close(self, code: int, reason: str) -> bytes:
        self._protocol.send_close(code, reason)
        return b"".join(self._protocol.data_to_send())

    def received(self, pieces: list[bytes]) -> list[tuple[int, bytes]]:
        for piece in pieces:
            self._protocol.receive_data(piece)
        assert self._protocol.parser_exc is None
        events = self._protocol.events_received()
        return [(one.opcode, bytes(one.data)) for one in events if isinstance(one, Frame)]


@st.composite
def agreements(draw: st.DrawFn) -> Agreement | None:
    bits = st.integers(9, 15)
    threshold = DeflateSettings(threshold=draw(st.sampled_from([0, 30])))
    flags = draw(st.booleans()), draw(st.booleans())
    return draw(
        st.none() | st.builds(Agreement, st.just(threshold), *map(st.just, flags), bits, bits)
    )


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_messages_of_the_websockets_client_are_read(make: MakeCodec, data: st.DataObject) -> None:
    agreement = data.draw(agreements())
    client, codec = Client(agreement), make(agreement)
    for payload in data.draw(st.lists(PAYLOADS, max_size=5)):
        places = data.draw(PLACES)
        sent = client.send(payload, places)
        items = read(codec, cut(sent, data.draw(PLACES)))
        assert items == [Ping(b"between")] * len(places) + [payload]
    assert read(codec, [client.close(4000, "grüß")]) == [PeerClose(4000, "grüß")]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_websockets_client_reads_our_messages(make: MakeCodec, data: st.DataObject) -> None:
    agreement = data.draw(agreements())
    client, codec = Client(agreement), make(agreement)
    for payload in data.draw(st.lists(PAYLOADS, max_size=5)):
        sent = codec.ping(b"1") + codec.message(payload) + codec.pong(b"2")
        octets = payload.encode() if isinstance(payload, str) else payload
        opcode = TEXT if isinstance(payload, str) else BINARY
        received = client.received(cut(sent, data.draw(PLACES)))
        assert received == [(PING, b"1"), (opcode, octets), (PONG, b"2")]
    (closed,) = client.received([codec.close(1001, "grüß")])
    assert closed == (CLOSE, b"\x03\xe9" + "grüß".encode())
