"""A message that comes in pieces, and what a plain one in a single frame needs besides.

Source: RFC 6455 sections 5.3 (masking) and 8.1 (text that is no UTF-8).
"""

import codecs
from typing import Any

from wsgate.ws.deflate.wsproto_extension import ends_in_surrogate

_PIECES = 512


class Pieces:
    """The pieces of one message, which is text or binary throughout.

    It may come in a million of them: joined now and then, they cost what they hold.
    """

    __slots__ = ("_few", "_joined")

    def __init__(self) -> None:
        self._few: list[Any] = []
        self._joined: list[Any] = []

    def add(self, piece: str | bytes | bytearray) -> None:
        """Add the next piece."""
        self._few.append(piece)
        if len(self._few) >= _PIECES:
            self._joined.append(piece[:0].join(self._few))
            self._few = []

    def joined(self) -> str | bytes:
        """Return the whole message."""
        pieces = [*self._joined, *self._few]
        if isinstance(pieces[0], str):
            return "".join(pieces)
        return b"".join(pieces)


class Partial:
    """A message in one plain frame of which the end is still to come.

    left: bytes that are. mask: for the next of them.
    """

    __slots__ = ("_is_text", "_pieces", "_undecoded", "left", "mask")

    def __init__(self, is_text: bool, mask: bytes, length: int) -> None:
        self._is_text = is_text
        self._pieces = Pieces()
        self._undecoded = b""  # a character of which the end is still to come
        self.left = length
        self.mask = mask

    def add(self, piece: bytes) -> bool:
        """Add what has come; False where the message can be no text any more."""
        self.left -= len(piece)
        turn = len(piece) % 4
        self.mask = self.mask[turn:] + self.mask[:turn]
        if self._is_text:
            return self._decode(self._undecoded + piece)
        self._pieces.add(piece)
        return True

    def _decode(self, data: bytes) -> bool:
        # RFC 6455 section 8.1 has such a connection fail; Autobahn wants it at the first bad octet.
        try:
            text, used = codecs.utf_8_decode(data, "strict", not self.left)
        except UnicodeDecodeError:
            return False
        self._pieces.add(text)
        self._undecoded = data[used:]
        return not ends_in_surrogate(self._undecoded)

    def whole(self) -> str | bytes:
        """Return the message."""
        return self._pieces.joined()
