"""HTTP/1.1 on the server's side: an h11 driver that takes bytes and yields requests.

The head is found and bounded here, byte-exact, before h11 sees it; h11 parses it, frames bodies
both ways and keeps the state of each request and response; `request.judged` refuses what h11 lets
through. Reading is lazy: `take` looks at as little as the next event needs.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

import h11

from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.protocol import handshake
from wsgate.protocol.framing import Framing, Length, framing_of
from wsgate.protocol.request import HeadLimits, Request, judged
from wsgate.types import Header

# What ends the search through a head: its end, or a byte that leaves its framing in doubt.
# RFC 9112 section 2.2: "A sender MUST NOT generate a bare CR"; a bare LF may be taken for a line
# break, which the proxy in front may have judged otherwise, so it is not.
_STOP = re.compile(rb"\r\n\r\n|(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FOLD = re.compile(rb"\r\n[ \t]")
_BODY_SLICE = 65_536
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of the request's body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The request is complete."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request to speak WebSocket from here on, not judged yet; `trailing` came behind it."""

    request: Request
    trailing: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The client ended its side; no further request comes, and a body under way is cut short."""


Event = Request | Body | End | Upgrade | Closed


class Http1:
    """One connection's requests, one after the other.

    `feed` bytes, `take` events until None (more bytes are needed, or the response is due first),
    and turn the response into bytes with `response`, `body` and `end`; `next_request` then goes on
    to what was pipelined behind it.
    """

    __slots__ = (
        "_buffer",
        "_closing",
        "_eof",
        "_framing",
        "_h11",
        "_is_head",
        "_limits",
        "_over",
        "_scanned",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.size)
        self._framing: Framing = Length(0)
        self._over = False
        self._buffer = bytearray()
        self._scanned = 0
        self._eof = False
        self._closing = False
        self._is_head = False

    def feed(self, data: bytes) -> None:
        """Add bytes that the client sent."""
        self._buffer += data

    def feed_eof(self) -> None:
        """Note that the client sends no more."""
        self._eof = True

    @property
    def buffered(self) -> int:
        """How many bytes wait to be parsed."""
        return len(self._buffer)

    def take(self) -> Event | None:
        """Return the next event, or None while there is none to be had.

        Raises RequestRefused for what must not be served; the connection is to be closed behind
        the answer.
        """
        if self._over:
            return None  # what follows a doubtful request, or an upgrade, is no HTTP to us
        try:
            return self._taken()
        except RequestRefused:
            self._over = True
            raise

    def _taken(self) -> Event | None:
        their_state = self._h11.their_state
        if their_state is h11.IDLE:
            return self._take_head()
        if their_state is h11.SEND_BODY:
            return self._take_body()
        return None

    # -- the request ---------------------------------------------------------------------------

    def _take_head(self) -> Event | None:
        # RFC 9112 section 2.2: "a server that is expecting to receive and parse a request-line
        # SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            self._scanned = 0
        end = self._head_end()
        if end is None:
            return Closed() if self._eof else None
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._scanned = 0
        request = self._parsed(head)
        if not handshake.is_asked_for(request):
            return request
        self._over = True
        trailing = bytes(self._buffer)
        self._buffer.clear()
        return Upgrade(request, trailing)

    def _head_end(self) -> int | None:
        stop = _STOP.search(self._buffer, self._scanned)
        seen = stop.end() if stop else len(self._buffer)
        if seen > self._limits.size:
            raise self._too_long()
        if stop is None:
            self._scanned = max(0, seen - 3)  # an end may be three quarters here
            return None
        if stop.group() != b"\r\n\r\n":
            raise RequestRefused(400, "a control character or a bare line break in the head")
        return seen

    def _too_long(self) -> RequestRefused:
        # No further than a head may go, so that the answer does not hang on what came with it.
        line = self._buffer.find(b"\r\n", 0, min(self._limits.target + 100, self._limits.size + 1))
        if line < 0:
            return RequestRefused(414, "the request target is too long")
        return RequestRefused(431, f"the request head is over {self._limits.size} bytes")

    def _parsed(self, head: bytes) -> Request:
        # RFC 9112 section 5.2: a server that receives an obs-fold "MUST either reject the message
        # by sending a 400 (Bad Request) [...] or replace each received obs-fold".
        if _FOLD.search(head):
            raise RequestRefused(400, "a header is folded over several lines")
        self._h11.receive_data(head)
        event = self._next_event()
        assert type(event) is h11.Request  # a whole head is a request or an error
        self._is_head = event.method == b"HEAD"
        if len(event.target) > self._limits.target:
            raise RequestRefused(414, "the request target is too long")
        if len(event.headers) > self._limits.headers:
            raise RequestRefused(431, f"more than {self._limits.headers} headers")
        request = judged(event.method, event.target, event.http_version, list(event.headers))
        self._framing = framing_of(request, self._limits)
        return request

    def _take_body(self) -> Event | None:
        while True:
            event = self._next_event()
            if type(event) is h11.Data:
                return Body(bytes(event.data))
            if type(event) is h11.EndOfMessage:
                return End()
            count = self._framing.passable(self._buffer, _BODY_SLICE)
            if not count:
                return Closed() if self._eof else None
            self._h11.receive_data(bytes(self._buffer[:count]))
            del self._buffer[:count]

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            # h11 puts the peer's bytes behind the colon: they are not said back.
            text = str(error).partition(":")[0]
            raise RequestRefused(error.error_status_hint, text) from None

    # -- the response --------------------------------------------------------------------------

    def proceed(self) -> bytes:
        """Return `100 Continue` where the client waits for it, else nothing (RFC 9110 10.1.1)."""
        if not self._h11.they_are_waiting_for_100_continue:
            return b""
        return self._send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def close_behind(self) -> None:
        """Let the response that is yet to start be the connection's last."""
        self._closing = True

    def response(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a response; the framing headers are put right by h11.

        Raises InvalidMessage for headers that h11 refuses, such as two lengths.
        """
        # A body announced with Expect and not asked for may come or not: what follows the
        # response could not be framed.
        if self._closing or self._h11.they_are_waiting_for_100_continue:
            headers = [*headers, (b"connection", b"close")]
        try:
            event = h11.Response(
                status_code=status, headers=headers, reason=_REASONS.get(status, b"")
            )
        except h11.LocalProtocolError as error:
            raise InvalidMessage(str(error)) from None
        return self._send(event)

    def refusal(self, refused: RequestRefused, defaults: list[Header]) -> bytes:
        """Return a whole response of the server's own, the connection's last.

        It is empty where the app's response is on its way already.
        """
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        text = b"%d %s: %s\n" % (
            refused.status,
            _REASONS.get(refused.status, b""),
            refused.detail.encode("ascii", "replace"),
        )
        headers = [
            *defaults,
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            *refused.headers,
        ]
        self.close_behind()
        head = self.response(refused.status, headers)
        return head + (b"" if self._is_head else self.body(text)) + self.end()

    def body(self, data: bytes) -> bytes:
        """Return a piece of the response's body, framed. Raises InvalidMessage when too long."""
        return self._send(h11.Data(data=data))

    def end(self) -> bytes:
        """Return the end of the response. Raises InvalidMessage when its body was too short."""
        return self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> bytes:
        try:
            return self._h11.send(event) or b""
        except h11.LocalProtocolError as error:
            raise InvalidMessage(str(error)) from None

    @property
    def keeps_alive(self) -> bool:
        """Whether the response sent lets another request follow."""
        return self._h11.our_state is h11.DONE

    def next_request(self) -> bool:
        """Go on to the next request; False while this one or its response is not complete."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._is_head = False
        return True
