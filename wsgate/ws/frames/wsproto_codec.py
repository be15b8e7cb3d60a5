"""The codec that reads and writes every frame with wsproto.

It uses wsproto's `FrameDecoder` to read frames, `MessageDecoder` to decode fragments and
`FrameProtocol` to write. wsproto's `Connection` around them would cost more than they do, so its
rules are implemented here: how a Close is read, and that nothing is read after it or after a fault.
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

from wsgate.ws import rules
from wsgate.ws.codes import INVALID_PAYLOAD, NO_STATUS, failure, read_close
from wsgate.ws.deflate.wsproto_extension import NO_RSV, MessageExtension
from wsgate.ws.encoded import Encoding
from wsgate.ws.frames.codec import SLICE, Fail, Item, PeerClose, Ping, Pong
from wsgate.ws.frames.fragments import MessageBuffer
from wsgate.ws.frames.header import MASK_SIZE

# Opcode.TEXT is a call in CPython 3.11.
_TEXT, _BINARY = Opcode.TEXT, Opcode.BINARY
_CLOSE, _PING = Opcode.CLOSE, Opcode.PING
_INVALID_PAYLOAD = CloseReason(INVALID_PAYLOAD)
_NO_EXTENSIONS: list[Extension] = []
# It keeps no state between control frames, so all connections share one.
_CONTROLS = FrameProtocol(client=False, extensions=[])


class _Decoder(FrameDecoder):
    """wsproto's frame decoder, which calls the extension only for frames that need it.

    If a later wsproto renames this hook, the extension is called for every frame.
    """

    def __init__(self, extension: MessageExtension) -> None:
        super().__init__(client=False, extensions=[extension])
        self._extension = extension
        self._with_extension = self.extensions

    def extension_processing(self, opcode: Opcode, rsv: RsvBits, payload_len: int) -> None:
        """Let the extension check the header and read the payload, unless the frame is common.

        A common frame is a whole plain message within the limit that has arrived completely: there
        is nothing to count or to inflate. At this point wsproto has read the header up to the mask.
        """
        buffer, extension = self.buffer, self._extension
        data = buffer.buffer
        if (
            (opcode is _BINARY or opcode is _TEXT)
            and rsv == NO_RSV
            and payload_len <= extension.max_size
            and extension.message_opcode is None
            and data[0] & FIN_MASK
            and len(data) - buffer.bytes_used >= payload_len + MASK_SIZE
        ):
            self.extensions = _NO_EXTENSIONS
            return
        self.extensions = self._with_extension
        super().extension_processing(opcode, rsv, payload_len)


class WsprotoCodec:
    """A `FrameCodec` over wsproto.

    extension: limits and inflates messages; every connection has one. slice_size: bytes that one
    `take` passes to wsproto at most, which parses them all.
    """

    __slots__ = (
        "_buffer",
        "_decoder",
        "_extension",
        "_input",
        "_is_drained",
        "_is_over",
        "_messages",
        "_slice",
        "_writer",
    )

    def __init__(self, extension: MessageExtension, slice_size: int = SLICE) -> None:
        self._decoder = _Decoder(extension)
        self._messages = MessageDecoder()  # of fragments, and of messages that arrive in pieces
        self._writer: FrameProtocol | None = None  # made for the first message
        self._extension = extension
        self._slice = slice_size
        self._input = bytearray()
        self._is_drained = True  # wsproto has no complete frame left
        self._is_over = False  # nothing more is read
        self._buffer: MessageBuffer | None = None  # of a message that is incomplete

    @property
    def encoding(self) -> Encoding | None:
        """How messages are written; None if a frame depends on the messages sent before it."""
        return self._extension.encoding

    def read_message(self, data: bytes, max_size: int) -> None:  # the interface's
        """Return None: wsproto reads every frame."""

    def is_pong(self, data: bytes) -> bool:  # noqa: ARG002  # the interface's
        """Return False: wsproto reads every frame."""
        return False

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; they are dropped after its Close or a fault."""
        # RFC 6455 section 5.5.1: after a Close, "any data received MUST be discarded".
        if not self._is_over:
            self._input += data

    @property
    def pending(self) -> bool:
        """Whether `take` has anything left to parse; if not, it needs more bytes."""
        return bool(self._input) or not self._is_drained

    @property
    def is_idle(self) -> bool:
        """Always False, so that no message is read by `read_message`."""
        return False

    @property
    def buffered(self) -> int:
        """Number of bytes that are not parsed yet."""
        return len(self._input)

    def take(self, limit: int, data: bytes = b"") -> list[Item]:
        """Add bytes and return the items of one slice, at most `limit`."""
        if self._input or not self._is_drained or len(data) > self._slice:
            self.feed(data)
            self._feed_slice()
        elif data and not self._is_over:
            self._decoder.receive_bytes(data)
        items: list[Item] = []
        self._is_drained = True
        if not self._is_over:
            try:
                self._read(items, limit)
            except ParseFailed as error:
                # Not wsproto's own texts: they name positions within the chunk that it was fed.
                rule = self._extension.broken_rule or rules.rule_of(str(error))
                items.append(self._end(failure(int(error.code), rule)))
        return items

    def _feed_slice(self) -> None:
        if self._is_drained:
            self._decoder.receive_bytes(bytes(self._input[: self._slice]))
            del self._input[: self._slice]

    def _read(self, items: list[Item], limit: int) -> None:
        """Append the items that wsproto finds in its input. Raises ParseFailed."""
        decoder = self._decoder
        payload: Any  # bytes: text is decoded here, or by wsproto's MessageDecoder
        while (frame := decoder.process_buffer()) is not None:
            opcode, payload, is_frame_finished, is_final = frame
            if opcode is _BINARY and is_frame_finished and is_final:
                items.append(bytes(payload))  # wsproto 1.2 returns a bytearray
            elif opcode is _TEXT and is_frame_finished and is_final:
                items.append(_decode(payload))
            elif opcode >= _CLOSE:
                items.append(self._control_item(opcode, payload))
            else:
                self._add_piece(items, frame)
            if self._is_over or not decoder.buffer.buffer:
                return
            if len(items) >= limit:
                self._is_drained = False
                return

    def _add_piece(self, items: list[Item], frame: Frame) -> None:
        """Buffer a piece of a message, and append the message if it is the last.

        Raises ParseFailed.
        """
        piece: Any  # text or bytes
        _, piece, _, is_last = self._messages.process_frame(frame)
        if self._buffer is None:
            self._buffer = MessageBuffer()
        self._buffer.append(piece)
        if is_last:
            items.append(self._buffer.whole())
            self._buffer = None

    def _control_item(self, opcode: Opcode, payload: bytes) -> Item:
        """Return the item for a control frame."""
        if opcode is _CLOSE:
            return self._end(read_close(payload))  # wsproto does not know all codes
        return Ping(bytes(payload)) if opcode is _PING else Pong(bytes(payload))

    def _end(self, item: Fail | PeerClose) -> Item:
        """Read nothing more."""
        self._is_over = True
        self.drop()
        return item

    def drop(self) -> None:
        """Discard the bytes that are not parsed yet."""
        self._input.clear()
        self._is_drained = True

    def message(self, payload: str | bytes) -> bytes:
        """Return a message as a frame. Raises UnicodeEncodeError for text with a lone surrogate."""
        if self._writer is None:
            self._writer = FrameProtocol(client=False, extensions=self._extension.outgoing)
        return bytes(self._writer.send_data(payload))

    def ping(self, payload: bytes) -> bytes:
        """Return a Ping of at most 125 bytes."""
        return bytes(_CONTROLS.ping(payload))

    def pong(self, payload: bytes) -> bytes:
        """Return a Pong of at most 125 bytes."""
        return bytes(_CONTROLS.pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """Return a Close, without a code for 1005. Only another Close may be sent after it."""
        sent_code = None if code == NO_STATUS else code
        return bytes(_CONTROLS.close(sent_code, reason or None))


def _decode(text: bytes) -> str:
    """Return a whole text message. Raises ParseFailed."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ParseFailed(str(error), _INVALID_PAYLOAD) from error
