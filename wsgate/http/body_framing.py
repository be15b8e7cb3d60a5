"""Where a request's body ends on the wire, and that its chunks are framed without doubt.

Parsers take a bare LF, control characters and stray blanks in chunk lines and trailers, where a
proxy in front may see another end of the message; so every line is judged here. h11 is given what
has passed, and never a byte of the next request.
Source: RFC 9112 sections 6.2 and 7.1.
"""

import re
from typing import Protocol

from wsgate.errors import RequestRefused
from wsgate.fields import Fields
from wsgate.http.request import HeadLimits

# Possessive, and a quoted string ends at its first quote (RFC 9110 section 5.6.4): a line that may
# be split in many ways is tried in all of them, which takes for ever.
_TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_BLANKS = rb"[ \t]*+"
_VALUE = rb"(?:%b=%b(?:%b|%b))?+" % (_BLANKS, _BLANKS, _QUOTED, _TOKEN)
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:%b;%b%b%b)*+" % (_BLANKS, _BLANKS, _TOKEN, _VALUE)
)
_TRAILER_LINE = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
# RFC 9110 section 6.5.1: "Many fields cannot be processed outside the header section because their
# evaluation is necessary prior to receiving the content, such as those that describe message
# framing". Whoever in front took one of these to heart would see another end of the message.
_NO_TRAILERS = frozenset({b"content-length", b"transfer-encoding"})


class Framing(Protocol):
    """The end of one body.

    is_over: all of it has passed. is_data: what passed last is data, not what frames it.
    """

    @property
    def is_over(self) -> bool: ...  # noqa: D102

    @property
    def is_data(self) -> bool: ...  # noqa: D102

    def passable(self, buffer: bytearray, most: int) -> int:
        """Return how many bytes at the buffer's start belong to the body and are well framed.

        Raises RequestRefused.
        """


class Length:
    """A body of known length, which may be none."""

    __slots__ = ("_left",)
    is_data = True

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_over(self) -> bool:
        """Whether all of it has passed."""
        return not self._left

    def passable(self, buffer: bytearray, most: int) -> int:
        """Return how many bytes at the buffer's start belong to the body, at most `most`."""
        count = min(self._left, len(buffer), most)
        self._left -= count
        return count


class Chunked:
    """A body in chunks, with trailers behind them, which are judged and then ignored."""

    __slots__ = (
        "_data_left",
        "_in_trailers",
        "_is_framed",
        "_limits",
        "_trailer_size",
        "_trailers",
        "is_data",
        "is_over",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._data_left = 0
        self._is_framed = True  # no CRLF is due that ends a chunk
        self._in_trailers = False
        self._trailers = self._trailer_size = 0
        self.is_over = self.is_data = False

    def passable(self, buffer: bytearray, most: int) -> int:
        """Return how many bytes at the buffer's start are a line, or data of a chunk."""
        if self.is_over:
            return 0
        self.is_data = self._data_left > 0
        if self.is_data:
            count = min(self._data_left, len(buffer), most)
            self._data_left -= count
            return count
        return self._line(buffer) if self._is_framed else self._chunk_end(buffer)

    def _chunk_end(self, buffer: bytearray) -> int:
        end = bytes(buffer[:2])
        if not b"\r\n".startswith(end):
            raise RequestRefused(400, "a chunk is longer than it says")
        self._is_framed = len(end) == 2  # noqa: PLR2004  # CR LF
        return 2 if self._is_framed else 0

    def _line(self, buffer: bytearray) -> int:
        end = buffer.find(b"\r\n", 0, self._limits.size)
        if end < 0:
            if len(buffer) >= self._limits.size:
                raise RequestRefused(431, f"a chunk's line is over {self._limits.size} bytes")
            return 0
        self._judge(bytes(buffer[:end]))
        return end + 2

    def _judge(self, line: bytes) -> None:
        if not self._in_trailers:
            self._judge_chunk_line(line)
            return
        self._trailer_size += len(line) + 2
        if self._trailer_size > self._limits.size:
            raise RequestRefused(431, f"the trailers are over {self._limits.size} bytes")
        if line:
            self._judge_trailer(line)
        else:
            self.is_over = True

    def _judge_chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "a chunk's line is malformed")
        size = int(match[1], 16)
        self._in_trailers = not size
        self._data_left = size
        self._is_framed = not size

    def _judge_trailer(self, line: bytes) -> None:
        match = _TRAILER_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "a trailer is malformed")
        name = match[1].lower()
        if name in _NO_TRAILERS:
            raise RequestRefused(400, f"{name.decode()} is no trailer")
        self._trailers += 1
        if self._trailers > self._limits.headers:
            raise RequestRefused(431, f"more than {self._limits.headers} trailers")


def framing_of(fields: Fields, limits: HeadLimits) -> Framing:
    """Return how the body of a request with these headers, judged, is framed (RFC 9112 6.3)."""
    if b"transfer-encoding" in fields:
        return Chunked(limits)
    length = fields.get(b"content-length")
    return NO_BODY if length is None else Length(int(length))


NO_BODY = Length(0)  # nothing passes, so it is never another
