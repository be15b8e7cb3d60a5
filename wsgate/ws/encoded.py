"""One message for many connections: its frame is made once for each encoding."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A way to write messages, shared by connections and compared by identity.

    Codecs with the same encoding write the same bytes for the same payload.
    """

    name: str


PLAIN = Encoding("plain")


class MessageWriter(Protocol):
    """The part of a codec that writes messages."""

    @property
    def encoding(self) -> Encoding | None:
        """How messages are written; None if a frame depends on the messages sent before it."""

    def message(self, payload: str | bytes) -> bytes:
        """Return the frame of a message."""


def message_size(payload: str | bytes) -> int:
    """Return the bytes of a message, of a text in UTF-8, where a lone surrogate counts as 3."""
    if isinstance(payload, str) and not payload.isascii():
        return len(payload.encode(errors="surrogatepass"))
    return len(payload)


class Encoded:
    """A message for any number of connections, text if `payload` is a str.

    Each frame is made when the first connection with its encoding needs it.
    """

    __slots__ = ("_frames", "_size", "payload")

    def __init__(self, payload: str | bytes) -> None:
        self.payload = payload
        self._frames: dict[Encoding, bytes] = {}
        self._size: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the payload, of a text in UTF-8."""
        if self._size is None:
            self._size = message_size(self.payload)
        return self._size

    def frame_for(self, codec: MessageWriter) -> bytes:
        """Return the message as a frame of this codec.

        With server context takeover the frame depends on the connection and is made each time.
        Raises UnicodeEncodeError for text with a lone surrogate.
        """
        encoding = codec.encoding
        if encoding is None:
            return codec.message(self.payload)
        frame = self._frames.get(encoding)
        if frame is None:
            frame = self._frames[encoding] = codec.message(self.payload)
        return frame
