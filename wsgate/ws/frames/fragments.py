"""Messages that arrive in pieces: the buffer of their pieces, and a plain frame cut short.

Sources: RFC 6455 sections 5.3 (masking) and 8.1 (text that is not UTF-8).
"""

import codecs
from typing import Any

from wsgate.ws.frames.header import MASK_SIZE
from wsgate.ws.utf8 import ends_in_surrogate

_MAX_SEPARATE = 512


class MessageBuffer:
    """The pieces of one message, all text or all binary.

    A message may arrive in a million pieces. They are joined every 512 pieces, so that the buffer
    costs little more than what it holds.
    """

    __slots__ = ("_joined", "_separate")

    def __init__(self) -> None:
        self._separate: list[Any] = []
        self._joined: list[Any] = []

    def append(self, piece: str | bytes | bytearray) -> None:
        """Add the next piece."""
        self._separate.append(piece)
        if len(self._separate) >= _MAX_SEPARATE:
            self._joined.append(piece[:0].join(self._separate))
            self._separate = []

    def whole(self) -> str | bytes:
        """Return the whole message."""
        pieces = [*self._joined, *self._separate]
        if isinstance(pieces[0], str):
            return "".join(pieces)
        return b"".join(pieces)


class PartialFrame:
    """A message in one plain frame, of which the end is still to come.

    remaining: bytes of the payload still to come. mask: the masking key, rotated for the next of
    them.
    """

    __slots__ = ("_buffer", "_is_text", "_undecoded", "mask", "remaining")

    def __init__(self, is_text: bool, mask: bytes, length: int) -> None:
        self._is_text = is_text
        self._buffer = MessageBuffer()
        self._undecoded = b""  # the beginning of a character
        self.remaining = length
        self.mask = mask

    def append(self, piece: bytes) -> bool:
        """Add the next unmasked bytes; return False if the message is text and not UTF-8."""
        self.remaining -= len(piece)
        turn = len(piece) % MASK_SIZE
        self.mask = self.mask[turn:] + self.mask[:turn]
        if self._is_text:
            return self._decode(self._undecoded + piece)
        self._buffer.append(piece)
        return True

    def _decode(self, data: bytes) -> bool:
        # RFC 6455 section 8.1: invalid UTF-8 fails the connection; Autobahn wants that at the
        # first bad octet.
        try:
            text, used = codecs.utf_8_decode(data, "strict", not self.remaining)
        except UnicodeDecodeError:
            return False
        self._buffer.append(text)
        self._undecoded = data[used:]
        return not ends_in_surrogate(self._undecoded)

    def message(self) -> str | bytes:
        """Return the whole message."""
        return self._buffer.whole()
