"""The built-in HTTP/1.1 parser: the common case, as strict as h11 and many times as fast.

A head is split into lines. Each line is parsed by `head_lines`, or found in its cache. Rules about
the whole head are checked here for a common head and by `build_request` for all others. h11 parses
each head that has an ambiguous line, so both parsers give the same answer. Bodies need no parser:
`body_framing` has checked each line of theirs. Responses are framed with the same bytes that h11
would write.
"""

import re
from enum import Enum

from wsgate.errors import InvalidMessage
from wsgate.fields import Fields, combine_headers, has_member, list_members
from wsgate.http.body_framing import FixedLengthBody
from wsgate.http.events import (
    ClientClosed,
    RequestBody,
    RequestEnd,
    RequestEvent,
    ResponseEvent,
    WholeResponse,
)
from wsgate.http.h1.connection import (
    ALREADY_FAILED,
    BODY_SLICE,
    CLOSE,
    Http1Connection,
    ParsedHead,
)
from wsgate.http.h1.h11_parser import parse_head
from wsgate.http.h1.head_cache import read_fields
from wsgate.http.h1.head_lines import RequestLine, parse_fields, parse_request_line
from wsgate.http.request import HeadLimits, HeadTemplate, Request
from wsgate.http.response import STATUSES_WITHOUT_BODY, format_head
from wsgate.types import Header


class _Progress(Enum):
    """How far the client is with a request, or the server with its response."""

    IDLE = "not started"
    BUSY = "in progress"
    COMPLETE = "complete, with a RequestEnd that is not taken yet"
    DONE = "complete"
    FAILED = "failed"


# Looking up a member of an Enum is slow in Python 3.11.
_IDLE, _BUSY, _COMPLETE, _DONE, _FAILED = _Progress


class BuiltinHttp1Connection(Http1Connection):
    """The requests of one connection, parsed without h11 in the common case."""

    __slots__ = ("_persists", "_remaining", "_request", "_response", "_waits_for_continue")

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        super().__init__(limits, upgrade_to)
        self._request = self._response = _IDLE
        self._persists = True
        self._waits_for_continue = False
        self._remaining: int | None = None  # bytes of the response's body, None without a length

    def _next_event(self) -> RequestEvent | None:
        if self._request is _IDLE:
            return self._take_head()
        if self._request is _BUSY:
            return self._take_body()
        if self._request is _COMPLETE:
            self._request = _DONE
            return RequestEnd()
        return None

    def _take_head(self) -> RequestEvent | None:
        buffer = self.buffer
        end = buffer.find(b"\r\n\r\n", self._scanned)
        if 0 <= end <= self._limits.size - 4:
            event = self._take_common_head(bytes(buffer[:end]))
            if event is not None:
                return event
        return super()._take_head()

    def _take_common_head(self, head: bytes) -> RequestEvent | None:
        """Take a head whose lines are all valid by themselves and together.

        Returns None for any other head, which stays in the buffer.
        """
        end = head.find(b"\r\n")
        line = parse_request_line(head[:end]) if end >= 0 else None
        read = read_fields(head[end:]) if line is not None else None
        if line is None or read is None:
            return None
        template, headers = read
        if end > self._limits.target or len(headers) > self._limits.headers:
            return None  # the target alone may still be short enough
        del self.buffer[: len(head) + 4]
        self._scanned = 0
        return self._start_common_request(line, template, headers)

    def _start_common_request(
        self, line: RequestLine, template: HeadTemplate, headers: list[Header]
    ) -> RequestEvent:
        method, target, path, query = line
        self._is_http_1_0 = False
        self._is_head = method == "HEAD"
        if template.closes:
            self._persists = False
        length = template.length
        if length is None:
            self._request = _COMPLETE
        else:
            self._request, self._framing = _BUSY, FixedLengthBody(length)
        request = Request(method, target, path, query, "1.1", headers, template)
        if template.upgrades and self._upgrade_to in template.upgrades:
            return self._upgrade_request(request)
        return request

    def _parse_head(self, head: bytes) -> ParsedHead:
        parsed = _split_head(head) or parse_head(head)
        _, _, version, _, fields = parsed
        self._request = _BUSY
        is_http_1_0 = version < b"1.1"
        # RFC 9112 section 9.3. As in h11, HTTP/1.0's keep-alive is not supported.
        if is_http_1_0 or has_member(fields, b"connection", b"close"):
            self._persists = False
        # RFC 9110 section 10.1.1: "A server that receives a 100-continue expectation in an
        # HTTP/1.0 request MUST ignore that expectation."
        self._waits_for_continue = not is_http_1_0 and has_member(
            fields, b"expect", b"100-continue"
        )
        return parsed

    def _take_body(self) -> RequestEvent | None:
        framing, buffer = self._framing, self.buffer
        while not framing.is_complete:
            count = framing.advance(buffer, BODY_SLICE)
            if not count:
                return ClientClosed() if self._eof else None
            data = bytes(buffer[:count])
            del buffer[:count]
            if framing.is_data:
                self._waits_for_continue = False
                return RequestBody(data)
        self._waits_for_continue = False
        self._request = _DONE
        return RequestEnd()

    # -- the response --------------------------------------------------------------------------

    def send_continue(self) -> bytes:
        """Return `100 Continue` if the client waits for it, else b""."""
        if not self._waits_for_continue:
            return b""
        self._waits_for_continue = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def send(self, event: ResponseEvent, default_headers: list[Header]) -> bytes:
        """Return the bytes of a part of the response; the common whole response in one step."""
        if type(event) is WholeResponse:
            head, body = event.head, event.body
            length = head.length
            if (
                self._response is _IDLE
                and (self._persists and head.is_simple)
                and not (self._closing or self._waits_for_continue or self._is_head)
                and (length is None or length == len(body))
            ):
                self._response = _DONE
                return head.to_bytes(default_headers, len(body)) + body
        return super().send(event, default_headers)

    def _write_head(self, status: int, headers: list[Header]) -> bytes:
        if self._response is not _IDLE:
            self._fail_as_misplaced()
        # The client may still send the body that it announced with Expect, or not: what follows
        # the response could be either.
        if self._closing or self._waits_for_continue:
            headers = [*headers, CLOSE]
        headers = self._add_framing(status, headers, combine_headers(headers))
        self._waits_for_continue = False
        self._response = _BUSY
        return format_head(status, headers)

    def _add_framing(self, status: int, headers: list[Header], fields: Fields) -> list[Header]:
        """Return the headers with those that frame the body and end the connection."""
        closes = not self._persists
        length = fields.get(b"content-length")
        self._remaining = None if length is None else int(length)
        if length is None and status not in STATUSES_WITHOUT_BODY:
            # RFC 9112 section 6.3: without a Content-Length, the body ends with its last chunk.
            # HTTP/1.0 has no chunks: the body ends with the connection.
            if self._is_http_1_0:
                closes = True
            else:
                headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        if closes:
            headers = _with_close(headers, fields.get(b"connection", b""))
        self._persists = not closes and not has_member(fields, b"connection", b"close")
        if b"host" in fields:  # first, as h11 writes it
            headers = sorted(headers, key=lambda header: header[0] != b"host")
        return headers

    def _write_body(self, data: bytes) -> bytes:
        self._count_body(len(data))
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _frame_body(self, size: int) -> tuple[bytes, bytes]:
        self._count_body(size)
        return (b"%x\r\n" % size, b"\r\n") if self._is_chunked else (b"", b"")

    def _count_body(self, size: int) -> None:
        if self._response is not _BUSY:
            self._fail_as_misplaced()
        if self._remaining is not None:
            self._remaining -= size
            if self._remaining < 0:
                self._fail("Too much data for declared Content-Length")

    def _write_end(self, trailers: list[Header]) -> bytes:
        if self._response is not _BUSY:
            self._fail_as_misplaced()
        if self._has_body and self._remaining:
            self._fail("Too little data for declared Content-Length")
        self._response = _DONE
        if not self._is_chunked:
            return b""
        return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % trailer for trailer in trailers])

    def _fail_as_misplaced(self) -> None:
        if self._response is _FAILED:
            raise InvalidMessage(ALREADY_FAILED)
        self._fail(f"this is not allowed in a response that is {self._response.value}")

    def _fail(self, text: str) -> None:
        self._response = _FAILED
        raise InvalidMessage(text)

    @property
    def _has_responded(self) -> bool:
        return self._response is not _IDLE

    @property
    def keeps_alive(self) -> bool:
        """Whether the response is complete and another request may follow."""
        return self._response is _DONE and self._persists and not self._over

    def next_request(self) -> bool:
        """Go on to the next request; return False if this one or its response is incomplete."""
        if not self.keeps_alive or self._request is not _DONE:
            return False
        self._request = self._response = _IDLE
        self._is_head = False
        return True


# -- a request's head ------------------------------------------------------------------------------


# RFC 9112 section 3, exactly: one space each, and no protocol but HTTP.
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")


def _split_head(head: bytes) -> ParsedHead | None:
    """Return a parsed head; None if h11 has to parse it."""
    line, *lines = head[:-4].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
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
    method, target, version = match.groups()
    return method, target, version, headers, fields


def _with_close(headers: list[Header], connection: bytes) -> list[Header]:
    """Return a response's headers with `Connection: close`; connection: the value without it."""
    options = {*list_members(connection.lower()), b"close"} - {b"keep-alive"}
    others = [header for header in headers if header[0] != b"connection"]
    return [*others, *((b"Connection", option) for option in sorted(options))]
