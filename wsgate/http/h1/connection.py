"""HTTP/1.1 on the server's side: one connection, and all that its two parsers have in common.

A parser takes bytes and yields request events, and turns response events into bytes. The head of a
request is found here, and its size limited, before a parser sees it. What a parser returns for it
is checked by `build_request`. So neither parser is less strict than the other. Parsing is lazy:
`take` reads no further than the next event needs.
"""

import re
from abc import ABC, abstractmethod

from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.fields import Fields, count_lines
from wsgate.http.body_framing import NO_BODY, BodyFraming, body_framing
from wsgate.http.events import (
    ClientClosed,
    InformationalResponse,
    RequestEvent,
    ResponseBody,
    ResponseEnd,
    ResponseEvent,
    ResponseStart,
    UpgradeRequest,
    WholeResponse,
)
from wsgate.http.request import HeadLimits, Request, asks_for_upgrade, build_request
from wsgate.http.response import STATUSES_WITHOUT_BODY, TEXT, format_head, refusal_text
from wsgate.types import Header

# The end of a head, or a byte that makes its framing ambiguous. RFC 9112 section 2.2: "A sender
# MUST NOT generate a bare CR"; a recipient may take a bare LF for a line break, but the proxy in
# front may not, so a bare LF is refused.
_HEAD_END = re.compile(rb"\r\n\r\n|(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
BODY_SLICE = 65_536  # bytes of a request's body in one event
CLOSE: Header = (b"connection", b"close")
ALREADY_FAILED = "the response has failed already"

ParsedHead = tuple[bytes, bytes, bytes, list[Header], Fields]
"""A parsed head: method, target, version such as `1.1`, headers, and the headers combined."""


class Http1Connection(ABC):
    """The requests of one connection, one after the other; it is the `HttpStream` of each.

    `feed` bytes, then `take` events until it returns None, which means that more bytes are needed
    or that the response has to be sent first. `send` returns the bytes of the response. When both
    are complete, `next_request` goes on to the next request, which may have been pipelined.

    limits: for the head of each request. upgrade_to: the protocol, in lower case, that the server
    supports besides HTTP. A request to upgrade to it becomes an `UpgradeRequest`; all others are
    ordinary requests.
    """

    __slots__ = (
        "_closing",
        "_eof",
        "_framing",
        "_has_body",
        "_is_chunked",
        "_is_head",
        "_is_http_1_0",
        "_limits",
        "_over",
        "_scanned",
        "_upgrade_to",
        "buffer",
    )

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        self._limits = limits
        self._upgrade_to = upgrade_to
        self._framing: BodyFraming = NO_BODY
        self._over = False  # nothing that follows is read as HTTP
        self.buffer = bytearray()
        self._scanned = 0  # bytes of the buffer that do not contain the head's end
        self._eof = False
        self._closing = False
        self._is_head = False  # the request's method is HEAD
        self._is_http_1_0 = True  # until the client is known to support HTTP/1.1
        self._has_body = self._is_chunked = False  # the response

    def feed(self, data: bytes) -> None:
        """Add bytes that the client sent."""
        self.buffer += data

    def feed_eof(self) -> None:
        """Record the client's EOF: it sends no more bytes."""
        self._eof = True

    def take(self) -> RequestEvent | None:
        """Return the next event; None while more bytes, or the response, have to come first.

        Raises RequestRefused for a request that must not be served. The caller answers it with
        `refuse` and closes the connection; `take` returns only None from then on.
        """
        if self._over:
            return None
        try:
            return self._next_event()
        except RequestRefused:
            self._over = True
            raise

    @abstractmethod
    def _next_event(self) -> RequestEvent | None:
        """Return the next event while what the client sends is HTTP."""

    # -- the request's head --------------------------------------------------------------------

    def _take_head(self) -> RequestEvent | None:
        # RFC 9112 section 2.2: "a server that is expecting to receive and parse a request-line
        # SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
        if self.buffer.startswith(b"\r\n"):
            self._skip_empty_lines()
        head = self._complete_head()
        if head is None:
            return ClientClosed() if self._eof else None
        del self.buffer[: len(head)]
        self._scanned = 0
        return self._start_request(*self._parse_head(self._uppercase_method(head)))

    def _uppercase_method(self, head: bytes) -> bytes:
        """Return a head with its method in uppercase, which is how ASGI passes it to an app.

        RFC 9110 section 9.1: "The method token is case-sensitive". A client that writes `head` may
        expect a body in the response to it. So the connection is closed after this response.
        """
        sent = head.partition(b" ")[0]
        method = sent.upper()
        if method != sent:
            self.close_after_response()
        return method + head[len(sent) :]

    def _skip_empty_lines(self) -> None:
        while self.buffer.startswith(b"\r\n"):
            del self.buffer[:2]
            self._scanned = 0

    def _complete_head(self) -> bytes | None:
        """Return the head once it is complete, None before; refuse an ambiguous or too long one."""
        end = self.buffer.find(b"\r\n\r\n", self._scanned) + 4
        if 4 <= end <= self._limits.size:  # noqa: PLR2004  # it was found
            head = bytes(self.buffer[:end])
            if count_lines(head):
                return head
        self._check_incomplete_head()
        return None

    def _check_incomplete_head(self) -> None:
        """Refuse a head that is not valid and complete if more bytes cannot make it so."""
        stop = _HEAD_END.search(self.buffer, self._scanned)
        seen = stop.end() if stop else len(self.buffer)
        if seen > self._limits.size:
            raise self._head_too_long()
        if stop is None:
            self._scanned = max(0, seen - 3)  # up to three bytes of the end may be here
            return
        raise RequestRefused(400, "a control character or a bare line break in the head")

    def _head_too_long(self) -> RequestRefused:
        # Search no further than a head may go: the answer must not depend on how the bytes were
        # split into pieces.
        line = self.buffer.find(b"\r\n", 0, min(self._limits.target + 100, self._limits.size + 1))
        if line < 0:
            return self._target_too_long()
        return RequestRefused(431, f"the request head is over {self._limits.size} bytes")

    def _target_too_long(self) -> RequestRefused:
        # Name the limit that has to be raised: that of the head may be below that of the target.
        max_size = min(self._limits.target, self._limits.size)
        return RequestRefused(414, f"the request target is too long: over {max_size} bytes")

    @abstractmethod
    def _parse_head(self, head: bytes) -> ParsedHead:
        """Parse a complete head. Raises RequestRefused, without the peer's bytes in its text."""

    def _start_request(
        self, method: bytes, target: bytes, version: bytes, headers: list[Header], fields: Fields
    ) -> RequestEvent:
        self._is_head = method == b"HEAD"
        self._is_http_1_0 = version < b"1.1"
        if len(target) > self._limits.target:
            raise self._target_too_long()
        if len(headers) > self._limits.headers:
            raise RequestRefused(431, f"more than {self._limits.headers} headers")
        request = build_request(method, target, version, headers, fields)
        self._framing = body_framing(fields, self._limits)
        protocol = self._upgrade_to
        if protocol is None or not asks_for_upgrade(request.version, fields, protocol):
            return request
        return self._upgrade_request(request)

    def _upgrade_request(self, request: Request) -> UpgradeRequest:
        """Return the request and all bytes after its head, which are not HTTP."""
        self._over = True
        trailing = b""
        if self.buffer:
            trailing = bytes(self.buffer)
            self.buffer.clear()
        return UpgradeRequest(request, trailing)

    # -- the response --------------------------------------------------------------------------

    @abstractmethod
    def send_continue(self) -> bytes:
        """Return `100 Continue` if the client waits for it, else b""."""

    def close_after_response(self) -> None:
        """Make the response that has not started yet the last one of the connection."""
        self._closing = True

    def send(self, event: ResponseEvent, default_headers: list[Header]) -> bytes:
        """Return the bytes of a part of the response.

        default_headers: set by the server; a header of the app replaces those of the same name.
        Raises InvalidMessage if the body is longer or shorter than its Content-Length, or if the
        event is not allowed at this point.
        """
        if type(event) is ResponseBody:
            return self._send_body(event.data)
        if type(event) is ResponseEnd:
            trailers = event.trailers if self._is_chunked else []
            return self._send_body(event.data) + self._write_end(trailers)
        if type(event) is ResponseStart:
            return self._send_start(event, default_headers)
        if type(event) is WholeResponse:
            return self._send_whole(event, default_headers)
        assert type(event) is InformationalResponse
        return self._send_informational(event)

    def _send_start(self, event: ResponseStart, default_headers: list[Header]) -> bytes:
        head = event.head
        headers = head.with_defaults(default_headers)
        start = self._start_response(head.status, headers, has_length=head.length is not None)
        return start + self._send_body(event.data)

    def _send_whole(self, event: WholeResponse, default_headers: list[Header]) -> bytes:
        head = event.head
        headers = head.with_defaults(default_headers)
        if head.length is None and self._may_have_body(head.status):
            headers.append((b"content-length", b"%d" % len(event.body)))
        start = self._start_response(head.status, headers, has_length=True)
        return start + self._send_body(event.body) + self._write_end([])

    def _start_response(self, status: int, headers: list[Header], *, has_length: bool) -> bytes:
        """Return the head; headers: all of them, the Content-Length included."""
        self._has_body = self._may_have_body(status)
        self._is_chunked = self._has_body and not has_length and not self._is_http_1_0
        return self._write_head(status, headers)

    def _may_have_body(self, status: int) -> bool:
        return not self._is_head and status not in STATUSES_WITHOUT_BODY

    def _send_body(self, data: bytes) -> bytes:
        return self._write_body(data) if data and self._has_body else b""

    def frame_file(self, size: int) -> tuple[bytes, bytes] | None:
        """Return the bytes before and after a part of the body that the caller sends itself.

        size: bytes of it, which the caller has to send. None: this response has no body, and the
        caller sends nothing. Raises InvalidMessage if the body gets longer than its Content-Length.
        """
        if not self._has_body:
            return None
        return self._frame_body(size) if size else (b"", b"")  # an empty chunk would be the last

    def _send_informational(self, event: InformationalResponse) -> bytes:
        # RFC 9110 section 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client."
        # Not by h11: it would take any 1xx for the 100 that a client waits for.
        if self._has_responded:
            raise InvalidMessage("an informational response comes before the final one")
        return b"" if self._is_http_1_0 else format_head(event.status, event.headers)

    @abstractmethod
    def _write_head(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a response, with the headers that frame its body.

        headers: with lower-case names, checked, with at most one Content-Length and no
        Transfer-Encoding. Raises InvalidMessage if a response was started already.
        """

    @abstractmethod
    def _write_body(self, data: bytes) -> bytes:
        """Return a part of the body, framed. Raises InvalidMessage if the body gets too long."""

    @abstractmethod
    def _frame_body(self, size: int) -> tuple[bytes, bytes]:
        """Return what is written before and after a part of the body with so many bytes.

        Raises InvalidMessage if the body gets too long.
        """

    @abstractmethod
    def _write_end(self, trailers: list[Header]) -> bytes:
        """Return the end of the response; trailers: only for a chunked body.

        Raises InvalidMessage if the body was too short.
        """

    def refuse(self, refused: RequestRefused, default_headers: list[Header]) -> bytes:
        """Return a complete response made by the server, the last one of the connection.

        Returns b"" if the app's response has started.
        """
        if self._has_responded:
            return b""
        text = refusal_text(refused)
        headers = [
            *default_headers,
            TEXT,
            (b"content-length", b"%d" % len(text)),
            *refused.headers,
        ]
        self.close_after_response()
        start = self._start_response(refused.status, headers, has_length=True)
        return start + self._send_body(text) + self._write_end([])

    @property
    @abstractmethod
    def _has_responded(self) -> bool:
        """Whether the response to this request has started, or failed."""

    @property
    @abstractmethod
    def keeps_alive(self) -> bool:
        """Whether the response is complete and another request may follow."""

    @abstractmethod
    def next_request(self) -> bool:
        """Go on to the next request; return False if this one or its response is incomplete."""
