"""Where a request's body ends on the wire, and strict checks of its chunk lines and trailers.

Parsers accept a bare LF, control characters and stray whitespace in chunk lines and trailers, where
a proxy in front may see another end of the message. So each line is checked here. h11 gets only
bytes that passed, and never a byte of the next request.
Source: RFC 9112 sections 6.2 and 7.1.
"""

import re
from typing import Protocol

from wsgate.errors import RequestRefused
from wsgate.fields import Fields
from wsgate.http.request import HeadLimits

# Possessive quantifiers, and a quoted string ends at its first quote (RFC 9110 section 5.6.4).
# Without them a line with many possible splits takes exponential time.
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
# framing". A proxy that used one of these from a trailer would see another end of the message.
_FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding"})


class BodyFraming(Protocol):
    """The framing of one body.

    is_complete: the whole body was passed. is_data: the bytes passed last are data, not framing.
    """

    @property
    def is_complete(self) -> bool: ...  # noqa: D102

    @property
    def is_data(self) -> bool: ...  # noqa: D102

    def advance(self, buffer: bytearray, max_size: int) -> int:
        """Pass bytes of the body; return how many, for the caller to remove from the buffer.

        max_size: the largest number of data bytes to pass at once. Returns 0 if more bytes are
        needed. Raises RequestRefused if the framing is malformed or exceeds the limits.
        """


class FixedLengthBody:
    """A body of known length, which may be 0."""

    __slots__ = ("_remaining",)
    is_data = True

    def __init__(self, length: int) -> None:
        self._remaining = length

    @property
    def is_complete(self) -> bool:
        """Whether the whole body was passed."""
        return not self._remaining

    def advance(self, buffer: bytearray, max_size: int) -> int:
        """Pass bytes of the body, at most `max_size`; return how many."""
        count = min(self._remaining, len(buffer), max_size)
        self._remaining -= count
        return count


class ChunkedBody:
    """A body in chunks. Its trailers are checked and then ignored."""

    __slots__ = (
        "_chunk_remaining",
        "_expects_line",
        "_in_trailers",
        "_limits",
        "_trailer_count",
        "_trailer_size",
        "is_complete",
        "is_data",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._chunk_remaining = 0
        self._expects_line = True  # False: the CRLF that ends a chunk comes next
        self._in_trailers = False
        self._trailer_count = self._trailer_size = 0
        self.is_complete = self.is_data = False

    def advance(self, buffer: bytearray, max_size: int) -> int:
        """Pass one line, or bytes of a chunk's data; return how many bytes."""
        if self.is_complete:
            return 0
        self.is_data = self._chunk_remaining > 0
        if self.is_data:
            count = min(self._chunk_remaining, len(buffer), max_size)
            self._chunk_remaining -= count
            return count
        return self._pass_line(buffer) if self._expects_line else self._pass_chunk_end(buffer)

    def _pass_chunk_end(self, buffer: bytearray) -> int:
        end = bytes(buffer[:2])
        if not b"\r\n".startswith(end):
            raise RequestRefused(400, "a chunk is longer than its declared size")
        self._expects_line = len(end) == 2  # noqa: PLR2004  # CR LF
        return 2 if self._expects_line else 0

    def _pass_line(self, buffer: bytearray) -> int:
        end = buffer.find(b"\r\n", 0, self._limits.size)
        if end < 0:
            if len(buffer) >= self._limits.size:
                raise RequestRefused(431, f"a chunk's line is over {self._limits.size} bytes")
            return 0
        line = bytes(buffer[:end])
        if self._in_trailers:
            self._check_trailer_section_line(line)
        else:
            self._parse_chunk_line(line)
        return end + 2

    def _parse_chunk_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "a chunk's line is malformed")
        size = int(match[1], 16)
        self._in_trailers = not size
        self._chunk_remaining = size
        self._expects_line = not size

    def _check_trailer_section_line(self, line: bytes) -> None:
        self._trailer_size += len(line) + 2
        if self._trailer_size > self._limits.size:
            raise RequestRefused(431, f"the trailers are over {self._limits.size} bytes")
        if line:
            self._check_trailer(line)
        else:
            self.is_complete = True

    def _check_trailer(self, line: bytes) -> None:
        match = _TRAILER_LINE.fullmatch(line)
        if match is None:
            raise RequestRefused(400, "a trailer is malformed")
        name = match[1].lower()
        if name in _FRAMING_FIELDS:
            raise RequestRefused(400, f"{name.decode()} is not allowed as a trailer")
        self._trailer_count += 1
        if self._trailer_count > self._limits.headers:
            raise RequestRefused(431, f"more than {self._limits.headers} trailers")


def body_framing(fields: Fields, limits: HeadLimits) -> BodyFraming:
    """Return the framing of a request's body (RFC 9112 section 6.3).

    fields: checked by `build_request`. limits: for the trailers of a chunked body.
    """
    if b"transfer-encoding" in fields:
        return ChunkedBody(limits)
    length = fields.get(b"content-length")
    return NO_BODY if length is None else FixedLengthBody(int(length))


NO_BODY = FixedLengthBody(0)  # it has no state to change, so requests can share it
