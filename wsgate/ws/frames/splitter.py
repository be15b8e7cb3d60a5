"""Where the frames and messages end that another codec reads (RFC 6455 sections 5.2 and 5.4)."""

from wsgate.ws.frames.messages import EXTENDED

_FIN = _MASKED = 0x80
_CONTROL = 0x08


class Boundaries:
    """Where the frames and messages end that another codec reads.

    is_between: at the end of a message, which is where it begins, too.
    """

    __slots__ = ("_header", "_is_within", "_left", "is_between")

    def __init__(self) -> None:
        self._header = b""  # of the frame under way, as far as it has come
        self._left = 0  # of its payload
        self._is_within = False  # a message goes on behind it
        self.is_between = False

    def passed(self, data: bytes, at: int, end: int) -> bytes:
        """Return what stands between `at` and `end` of one frame, and count it."""
        start = at
        if not self._left:
            at = self._pass_header(data, at, end)
        size = min(self._left, end - at)
        self._left -= size
        if not self._left and len(self._header) >= _header_size(self._header):
            self._header = b""
            self.is_between = not self._is_within
        return data[start : at + size]

    def _pass_header(self, data: bytes, at: int, end: int) -> int:
        while at < end and (missing := _header_size(self._header) - len(self._header)):
            piece = data[at : min(end, at + missing)]
            self._header += piece
            at += len(piece)
        header = self._header
        if len(header) == _header_size(header):
            octets = EXTENDED.get(header[1] & 0x7F, (0, 0))[0]
            self._left = (
                int.from_bytes(header[2 : 2 + octets], "big") if octets else header[1] & 0x7F
            )
            if not header[0] & _CONTROL:
                self._is_within = not header[0] & _FIN
        return at


def _header_size(header: bytes) -> int:
    """Return how long a header is, of which the beginning is there."""
    if len(header) < 2:  # noqa: PLR2004  # the second octet tells
        return 2
    mask = 4 if header[1] & _MASKED else 0
    return 2 + EXTENDED.get(header[1] & 0x7F, (0, 0))[0] + mask
