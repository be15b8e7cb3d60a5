"""HTTP/1.1 by ourselves where it is usual: as strict as h11, and many times as fast.

A head is split into its lines, which `lines` judges one by one, or knows already. What no line
alone can tell is told here for a usual head, by `request.judged` for others; and a head with a line
that is in any doubt is h11's to judge, so that both drivers give one answer. Bodies need no parser:
`framing` knows their every line already. What frames a response is a dozen lines below, with the
bytes that h11 would write.
"""

import re
from enum import Enum

from wsgate.errors import InvalidMessage
from wsgate.fields import (
    Fields,
    are_common_names,
    combine_headers,
    has_member,
    is_length,
    count_lines,
    lower_name,
    list_members,
)
from wsgate.http.body_framing import FixedLengthBody
from wsgate.http.h1.connection import (
    ALREADY_FAILED,
    BODY_SLICE,
    CLOSE,
    Body,
    Closed,
    End,
    Event,
    Head,
    Http1,
)
from wsgate.http.h1.h11_parser import normalized, parsed
from wsgate.http.h1.head_cache import read_fields
from wsgate.http.h1.head_lines import RequestLine, parse_fields, parse_request_line
from wsgate.http.request import HeadLimits, HeadTemplate, Request
from wsgate.http.response import BODILESS, ResponseHead, written
from wsgate.types import Header


class _Side(Enum):
    """How far the client is with a request, or the server with its response."""

    IDLE = "not begun"
    BUSY = "under way"
    COMPLETE = "complete, which is yet to be told"
    DONE = "complete"
    FAILED = "failed"


_IDLE, _BUSY, _COMPLETE, _DONE, _FAILED = (
    _Side  # a member is a slow thing to look up in Python 3.11
)


class FastHttp1(Http1):
    """One connection's requests, one after the other."""

    __slots__ = ("_expects", "_is_chunked", "_is_old", "_left", "_ours", "_persists", "_theirs")

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        super().__init__(limits, upgrade_to)
        self._theirs = self._ours = _IDLE
        self._is_old = True  # the client is not known to speak HTTP/1.1
        self._persists = True
        self._expects = False  # the client waits for a 100
        self._is_chunked = False
        self._left: int | None = None  # bytes of the response that are due, None for any number

    def _taken(self) -> Event | None:
        if self._theirs is _IDLE:
            return self._take_head()
        if self._theirs is _BUSY:
            return self._take_body()
        if self._theirs is _COMPLETE:
            self._theirs = _DONE
            return End()
        return None

    def _take_head(self) -> Event | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if 0 <= end <= self._limits.size - 4:
            event = self._take_common(bytes(buffer[:end]))
            if event is not None:
                return event
        return super()._take_head()

    def _take_common(self, head: bytes) -> Event | None:
        """Take a head in which each line is valid by itself, and they go together.

        Returns None for another head, which stays in the buffer.
        """
        end = head.find(b"\r\n")
        line = parse_request_line(head[:end]) if end >= 0 else None
        read = read_fields(head[end:]) if line is not None else None
        if line is None or read is None:
            return None
        template, headers = read
        if end > self._limits.target or len(headers) > self._limits.headers:
            return None  # or nearly so: the target may still be short enough
        del self._buffer[: len(head) + 4]
        self._scanned = 0
        return self._begin_common(line, template, headers)

    def _begin_common(
        self, line: RequestLine, template: HeadTemplate, headers: list[Header]
    ) -> Event:
        method, target, path, query = line
        self._is_old = False
        self._is_head = method == "HEAD"
        if template.closes:
            self._persists = False
        length = template.length
        if length is None:
            self._theirs = _COMPLETE
        else:
            self._theirs, self._framing = _BUSY, FixedLengthBody(length)
        request = Request(method, target, path, query, "1.1", headers, template)
        if template.upgrades and self._upgrade_to in template.upgrades:
            return self._upgraded(request)
        return request

    def _parsed(self, head: bytes) -> Head:
        whole = _split(head) or parsed(head)
        _, _, version, _, fields = whole
        self._theirs = _BUSY
        self._is_old = version < b"1.1"
        # RFC 9112 section 9.3; HTTP/1.0's keep-alive is not taken up, as in h11.
        if self._is_old or has_member(fields, b"connection", b"close"):
            self._persists = False
        # RFC 9110 section 10.1.1: "A server that receives a 100-continue expectation in an
        # HTTP/1.0 request MUST ignore that expectation."
        self._expects = not self._is_old and has_member(fields, b"expect", b"100-continue")
        return whole

    def _take_body(self) -> Event | None:
        framing, buffer = self._framing, self._buffer
        while not framing.is_complete:
            count = framing.advance(buffer, BODY_SLICE)
            if not count:
                return Closed() if self._eof else None
            piece = bytes(buffer[:count])
            del buffer[:count]
            if framing.is_data:
                self._expects = False
                return Body(piece)
        self._expects = False
        self._theirs = _DONE
        return End()

    # -- the response --------------------------------------------------------------------------

    def proceed(self) -> bytes:
        """Return `100 Continue` where the client waits for it, else nothing (RFC 9110 10.1.1)."""
        if not self._expects:
            return b""
        self._expects = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def whole(self, head: ResponseHead, defaults: list[Header], body: bytes) -> bytes:
        """Return a whole response, nothing where it is not a usual one."""
        length = head.length
        if (
            self._ours is not _IDLE
            or not (self._persists and head.is_usual)
            or (self._closing or self._expects or self._is_head)
            or (length is not None and length != len(body))
        ):
            return b""
        self._ours = _DONE
        return head.written(defaults, len(body)) + body

    def response(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a response, with what frames its body."""
        if self._ours is not _IDLE:
            self._fail_as_misplaced()
        # A body announced with Expect and not asked for may come or not: what follows the
        # response could not be framed.
        if self._closing or self._expects:
            headers = [*headers, CLOSE]
        fields = combine_headers(headers)
        head = written(status, headers)
        if not _is_plain(status, fields) or count_lines(head) != len(headers) + 2:
            headers, head = normalized(status, headers), b""
            fields = combine_headers(headers)
        framed = self._framed(status, headers, fields)
        self._expects = False
        self._ours = _BUSY
        return head if head and framed is headers else written(status, framed)

    def _framed(self, status: int, headers: list[Header], fields: Fields) -> list[Header]:
        """Settle how the response is framed; return its headers, the same where they say so."""
        closes = not self._persists
        length = None if b"transfer-encoding" in fields else fields.get(b"content-length")
        self._is_chunked, self._left = False, 0
        if status not in BODILESS and length is None:
            # RFC 9112 section 6.3: without a length, the end is that of the chunks or, for who
            # may not know them, that of the connection.
            headers = _unframed(headers) if self._is_old else _chunked(headers)
            closes = closes or self._is_old
            if not self._is_head:
                self._is_chunked, self._left = not self._is_old, None
        elif status not in BODILESS and not self._is_head:
            self._left = int(length or 0)
        if closes:
            headers = _closing(headers, fields.get(b"connection", b""))
        self._persists = not closes and not has_member(fields, b"connection", b"close")
        return headers

    def body(self, data: bytes) -> bytes:
        """Return a piece of the response's body, framed. Raises InvalidMessage when too long."""
        if self._ours is not _BUSY:
            self._fail_as_misplaced()
        if self._is_chunked:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._fail("Too much data for declared Content-Length")
        return data

    def end(self) -> bytes:
        """Return the end of the response. Raises InvalidMessage when its body was too short."""
        if self._ours is not _BUSY:
            self._fail_as_misplaced()
        if self._left:
            self._fail("Too little data for declared Content-Length")
        self._ours = _DONE
        return b"0\r\n\r\n" if self._is_chunked else b""

    def _fail_as_misplaced(self) -> None:
        if self._ours is _FAILED:
            raise InvalidMessage(ALREADY_FAILED)
        self._fail(f"it has no place in a response that is {self._ours.value}")

    def _fail(self, text: str) -> None:
        self._ours = _FAILED
        raise InvalidMessage(text)

    @property
    def _has_responded(self) -> bool:
        return self._ours is not _IDLE

    @property
    def keeps_alive(self) -> bool:
        """Whether the response sent lets another request follow."""
        return self._ours is _DONE and self._persists and not self._over

    def next_request(self) -> bool:
        """Go on to the next request; False while this one or its response is not complete."""
        if not self.keeps_alive or self._theirs is not _DONE:
            return False
        self._theirs = self._ours = _IDLE
        self._is_head = False
        return True


# -- a request's head ------------------------------------------------------------------------------


# RFC 9112 section 3, to the byte: one space each, and no protocol but this.
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")


def _split(head: bytes) -> Head | None:
    """Return what a head says, None where h11 is to judge it."""
    line, *lines = head[:-4].split(b"\r\n")
    said = _REQUEST_LINE.fullmatch(line)
    if said is None:
        return None
    headers = parse_fields(lines)
    if headers is None:
        return None
    fields = combine_headers(headers)
    if (
        b"," in fields.get(b"host", b",")  # none, or several
        or b"," in fields.get(b"content-length", b"")
        or b"," in fields.get(b"transfer-encoding", b"")
    ):
        return None
    method, target, version = said.groups()
    return method, target, version, headers, fields


# -- a response's head -----------------------------------------------------------------------------


def _is_plain(status: int, fields: Fields) -> bool:
    """Tell whether a response's status and headers are sent as they are, not as h11 sees fit."""
    length = fields.get(b"content-length", b"0")
    return (
        200 <= status <= 999  # noqa: PLR2004  # RFC 9110 section 15
        and is_length(length)
        and b"transfer-encoding" not in fields
        and b"host" not in fields
        and (are_common_names(fields.keys()) or all(map(lower_name, fields)))
    )


def _unframed(headers: list[Header]) -> list[Header]:
    return [h for h in headers if h[0] not in (b"content-length", b"transfer-encoding")]


def _chunked(headers: list[Header]) -> list[Header]:
    return [*_unframed(headers), (b"Transfer-Encoding", b"chunked")]


def _closing(headers: list[Header], connection: bytes) -> list[Header]:
    options = {*list_members(connection.lower()), b"close"} - {b"keep-alive"}
    others = [header for header in headers if header[0] != b"connection"]
    return [*others, *((b"Connection", option) for option in sorted(options))]
