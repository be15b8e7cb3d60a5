"""The codec that wsproto drives: bounded and lazy.

What wsproto's `Connection` and `FrameProtocol` are around its decoders costs more than these, so
they are driven themselves: `FrameDecoder` reads the frames, `MessageDecoder` puts messages
together that come in pieces, and `FrameProtocol` writes. What the others knew besides is known
here: what a Close says, and that nothing is read after one, or after a fault.
"""

from typing import Any

from wsproto.extensions import Extension
from wsproto.frame_protocol import (
    FIN_MASK,
    CloseReason,
    Frame,
    FrameDecoder,
    FrameProtocol,
    MessageDecoder,
    Opcode,
    ParseFailed,
    RsvBits,
)

from wsgate.ws.codes import NO_STATUS, failure, read_close
from wsgate.ws.deflate.wsproto_extension import NO_RSV, Deflate
from wsgate.ws.frames.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.fragments import Pieces

# Opcode.TEXT is a call in CPython 3.11.
_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY
_CLOSE, _PING = Opcode.CLOSE, Opcode.PING
_INVALID_PAYLOAD = CloseReason.INVALID_FRAME_PAYLOAD_DATA
_MASK = 4  # octets of a masking key
_NO_EXTENSIONS: list[Extension] = []
# Keeps nothing between control frames, so one writes those of all connections.
_CONTROLS = FrameProtocol(client=False, extensions=[])


class _Decoder(FrameDecoder):
    """wsproto's decoder of frames, which asks the extension only where that has something to say.

    Should wsproto come to call this method by another name, the extension would always be asked.
    """

    def __init__(self, deflate: Deflate) -> None:
        super().__init__(client=False, extensions=[deflate])
        self._deflate = deflate
        self._asked = self.extensions

    def extension_processing(self, opcode: Opcode, rsv: RsvBits, payload_len: int) -> None:
        """Have the extension judge a header and take the payload, unless it is a usual message's.

        That is one plain frame within the bound which has come whole: nothing of it is counted or
        inflated, and its text is decoded at once. wsproto is past the header but for the mask.
        """
        buffer, deflate = self.buffer, self._deflate
        data = buffer.buffer
        if (
            (opcode is _BINARY or opcode is _TEXT)
            and rsv == NO_RSV
            and payload_len <= deflate.most
            and deflate.within is None
            and data[0] & FIN_MASK
            and len(data) - buffer.bytes_used >= payload_len + _MASK
        ):
            self.extensions = _NO_EXTENSIONS
            return
        self.extensions = self._asked
        super().extension_processing(opcode, rsv, payload_len)


class WsprotoCodec:
    """A `FrameCodec` over wsproto.

    deflate: the extension that bounds messages and inflates them; every connection has one.
    slice_size: bytes that one `take` gives to wsproto at the most, which parses them all.
    """

    __slots__ = (
        "_decoder",
        "_deflate",
        "_input",
        "_is_drained",
        "_is_over",
        "_messages",
        "_pieces",
        "_slice",
        "_writer",
    )

    def __init__(self, deflate: Deflate, slice_size: int = SLICE) -> None:
        self._decoder = _Decoder(deflate)
        self._messages = MessageDecoder()  # of what comes in pieces
        self._writer: FrameProtocol | None = None  # there from the first message on
        self._deflate = deflate
        self._slice = slice_size
        self._input = bytearray()
        self._is_drained = True  # wsproto has no frame left
        self._is_over = False  # nothing more is read
        self._pieces: Pieces | None = None  # of a message of which the end is still to come

    encoding = None

    def read_message(self, data: bytes, most: int) -> None:  # the interface's
        """Read nothing: wsproto reads every frame, so that the codec is never at rest."""

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; what comes behind its Close or a fault is dropped."""
        # RFC 6455 section 5.5.1: after a Close, "any data received MUST be discarded".
        if not self._is_over:
            self._input += data

    @property
    def pending(self) -> bool:
        """Whether `take` has something left to look at; else it needs more bytes."""
        return bool(self._input) or not self._is_drained

    @property
    def is_at_rest(self) -> bool:
        """Say that wsproto reads every frame."""
        return False

    @property
    def buffered(self) -> int:
        """How many bytes wait to be looked at."""
        return len(self._input)

    def take(self, limit: int, data: bytes = b"") -> list[Item]:
        """Add bytes and return the items of one slice, at most `limit`."""
        if self._input or not self._is_drained or len(data) > self._slice:
            self.feed(data)
            self._parse_slice()
        elif data and not self._is_over:
            self._decoder.receive_bytes(data)
        items: list[Item] = []
        self._is_drained = True
        if not self._is_over:
            try:
                self._read(items, limit)
            except ParseFailed as error:
                # wsproto's own texts speak of positions within the chunk that it was fed.
                items.append(self._end(failure(int(error.code))))
        return items

    def _read(self, items: list[Item], limit: int) -> None:
        """Add what wsproto makes of its input. Raises ParseFailed."""
        decoder = self._decoder
        payload: Any  # bytes: what is text is decoded here, or by wsproto's decoder of messages
        while (frame := decoder.process_buffer()) is not None:
            opcode, payload, is_finished, is_last = frame
            if opcode is _BINARY and is_finished and is_last:
                items.append(bytes(payload))  # wsproto 1.2 has a bytearray
            elif opcode is _TEXT and is_finished and is_last:
                items.append(_decoded(payload))
            elif opcode >= _CLOSE:
                items.append(self._control(opcode, payload))
            else:
                self._add(items, frame)
            if self._is_over or not decoder.buffer.buffer:
                return
            if len(items) >= limit:
                self._is_drained = False
                return

    def _parse_slice(self) -> None:
        if self._is_drained:
            self._decoder.receive_bytes(bytes(self._input[: self._slice]))
            del self._input[: self._slice]

    def _add(self, items: list[Item], frame: Frame) -> None:
        """Add a piece of a message, and where it is the last, the message. Raises ParseFailed."""
        piece: Any  # text or bytes
        _, piece, _, is_last = self._messages.process_frame(frame)
        if self._pieces is None:
            self._pieces = Pieces()
        self._pieces.add(piece)
        if is_last:
            items.append(self._pieces.joined())
            self._pieces = None

    def _control(self, opcode: Opcode, payload: bytes) -> Item:
        """Return what a control frame says."""
        if opcode is _CLOSE:
            return self._end(read_close(payload))  # wsproto does not know all codes
        return Ping(bytes(payload)) if opcode is _PING else Pong(bytes(payload))

    def _end(self, item: Fail | PeerClose) -> Item:
        """Read nothing more."""
        self._is_over = True
        self.drop()
        return item

    def drop(self) -> None:
        """Forget what waits to be looked at."""
        self._input.clear()
        self._is_drained = True

    def message(self, payload: str | bytes) -> bytes:
        """Return a data message. Raises UnicodeEncodeError for text with a lone surrogate."""
        if self._writer is None:
            self._writer = FrameProtocol(client=False, extensions=self._deflate.writing)
        return bytes(self._writer.send_data(payload))

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return bytes(_CONTROLS.ping(payload))

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return bytes(_CONTROLS.pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close; 1005 for one without code, then nothing but Close can be sent."""
        known = None if code == NO_STATUS else code
        return bytes(_CONTROLS.close(known, reason or None))


def _decoded(text: bytes) -> str:
    """Return a whole text. Raises ParseFailed."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ParseFailed(str(error), _INVALID_PAYLOAD) from error
