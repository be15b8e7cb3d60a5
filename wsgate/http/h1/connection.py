"""HTTP/1.1 on the server's side: what goes on at one connection, and what all its drivers share.

A driver takes bytes and yields requests, and turns responses into bytes. The head is found and
bounded here, byte-exact, before any parser sees it, and what a parser makes of it passes
`request.judged`: so no driver is laxer than another. Reading is lazy: `take` looks at as little as
the next event needs.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from wsgate.errors import RequestRefused
from wsgate.fields import Fields, count_lines
from wsgate.http.body_framing import NO_BODY, BodyFraming, body_framing
from wsgate.http.request import HeadLimits, Request, asks_for_upgrade, build_request
from wsgate.http.response import REASONS, ResponseHead
from wsgate.types import Header

# What ends the search through a head: its end, or a byte that leaves its framing in doubt.
# RFC 9112 section 2.2: "A sender MUST NOT generate a bare CR"; a bare LF may be taken for a line
# break, which the proxy in front may have judged otherwise, so it is not.
_STOP = re.compile(rb"\r\n\r\n|(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
BODY_SLICE = 65_536
CLOSE: Header = (b"connection", b"close")
ALREADY_FAILED = "the response has failed already"


@dataclass(slots=True)
class Body:
    """A piece of the request's body."""

    data: bytes


@dataclass(slots=True)
class End:
    """The request is complete."""


@dataclass(slots=True)
class Upgrade:
    """A request to go on with another protocol, not checked yet; `trailing` came after it."""

    request: Request
    trailing: bytes


@dataclass(slots=True)
class Closed:
    """The client ended its side; no further request comes, and a body under way is cut short."""


Event = Request | Body | End | Upgrade | Closed

Head = tuple[bytes, bytes, bytes, list[Header], Fields]
"""A parsed head: method, target, version without its name, headers, and the headers combined."""


class Http1(ABC):
    """One connection's requests, one after the other.

    `feed` bytes, `take` events until None (more bytes are needed, or the response is due first),
    and turn the response into bytes with `response`, `body` and `end`; `next_request` then goes on
    to what was pipelined behind it.

    limits: on the head of each request. upgrade_to: the protocol, in lower case, that this side
    speaks besides HTTP; a request to upgrade to it becomes an `Upgrade`, every other one is
    answered over HTTP.
    """

    __slots__ = (
        "_buffer",
        "_closing",
        "_eof",
        "_framing",
        "_is_head",
        "_limits",
        "_over",
        "_scanned",
        "_upgrade_to",
    )

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        self._limits = limits
        self._upgrade_to = upgrade_to
        self._framing: BodyFraming = NO_BODY
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

    @abstractmethod
    def _taken(self) -> Event | None:
        """Return the next event of a connection that is still HTTP."""

    # -- the request's head --------------------------------------------------------------------

    def _take_head(self) -> Event | None:
        # RFC 9112 section 2.2: "a server that is expecting to receive and parse a request-line
        # SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
        if self._buffer.startswith(b"\r\n"):
            self._skip_empty_lines()
        head = self._whole_head()
        if head is None:
            return Closed() if self._eof else None
        del self._buffer[: len(head)]
        self._scanned = 0
        return self._begun(*self._parsed(self._with_uppercase_method(head)))

    def _with_uppercase_method(self, head: bytes) -> bytes:
        """Return a head with its method in uppercase, which is how ASGI gives it to an app.

        RFC 9110 section 9.1: "The method token is case-sensitive". So a client that writes `head`
        may wait for the body of an answer to HEAD: it is the connection's last.
        """
        spelled = head.partition(b" ")[0]
        method = spelled.upper()
        if method != spelled:
            self.close_behind()
        return method + head[len(spelled) :]

    def _skip_empty_lines(self) -> None:
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            self._scanned = 0

    def _whole_head(self) -> bytes | None:
        """Return a head once it is complete; refuse it as soon as it is in doubt or too long."""
        end = self._buffer.find(b"\r\n\r\n", self._scanned) + 4
        if 4 <= end <= self._limits.size:  # noqa: PLR2004  # it was found
            head = bytes(self._buffer[:end])
            if count_lines(head):
                return head
        return self._searched()

    def _searched(self) -> bytes | None:
        """Do the same byte for byte: how much of it has come, or what is wrong with it."""
        stop = _STOP.search(self._buffer, self._scanned)
        seen = stop.end() if stop else len(self._buffer)
        if seen > self._limits.size:
            raise self._too_long()
        if stop is None:
            self._scanned = max(0, seen - 3)  # an end may be three quarters here
            return None
        if stop.group() != b"\r\n\r\n":
            raise RequestRefused(400, "a control character or a bare line break in the head")
        return bytes(self._buffer[:seen])

    def _too_long(self) -> RequestRefused:
        # No further than a head may go, so that the answer does not hang on what came with it.
        line = self._buffer.find(b"\r\n", 0, min(self._limits.target + 100, self._limits.size + 1))
        if line < 0:
            return self._long_target()
        return RequestRefused(431, f"the request head is over {self._limits.size} bytes")

    def _long_target(self) -> RequestRefused:
        # The limit that is named is the one to raise: a head may be bounded below its target.
        most = min(self._limits.target, self._limits.size)
        return RequestRefused(414, f"the request target is too long: over {most} bytes")

    @abstractmethod
    def _parsed(self, head: bytes) -> Head:
        """Parse a whole head. Raises RequestRefused, without the peer's bytes in it."""

    def _begun(
        self, method: bytes, target: bytes, version: bytes, headers: list[Header], fields: Fields
    ) -> Event:
        self._is_head = method == b"HEAD"
        if len(target) > self._limits.target:
            raise self._long_target()
        if len(headers) > self._limits.headers:
            raise RequestRefused(431, f"more than {self._limits.headers} headers")
        request = build_request(method, target, version, headers, fields)
        self._framing = body_framing(fields, self._limits)
        protocol = self._upgrade_to
        if protocol is None or not asks_for_upgrade(request.version, fields, protocol):
            return request
        return self._upgraded(request)

    def _upgraded(self, request: Request) -> Upgrade:
        self._over = True
        trailing = b""
        if self._buffer:
            trailing = bytes(self._buffer)
            self._buffer.clear()
        return Upgrade(request, trailing)

    # -- the response --------------------------------------------------------------------------

    @abstractmethod
    def proceed(self) -> bytes:
        """Return `100 Continue` where the client waits for it, else nothing (RFC 9110 10.1.1)."""

    def close_behind(self) -> None:
        """Let the response that is yet to start be the connection's last."""
        self._closing = True

    def whole(self, head: ResponseHead, defaults: list[Header], body: bytes) -> bytes:  # noqa: ARG002  # for a driver that has a way of its own
        """Return a whole response where that is quick; nothing where it is to be made piecewise."""
        return b""

    @abstractmethod
    def response(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a response, with what frames its body.

        headers: lower-case names, as `headers.checked` returns them. Raises InvalidMessage for
        those that cannot be sent, such as two lengths.
        """

    @abstractmethod
    def body(self, data: bytes) -> bytes:
        """Return a piece of the response's body, framed. Raises InvalidMessage when too long."""

    @abstractmethod
    def end(self) -> bytes:
        """Return the end of the response. Raises InvalidMessage when its body was too short."""

    def refusal(self, refused: RequestRefused, defaults: list[Header]) -> bytes:
        """Return a whole response of the server's own, the connection's last.

        It is empty where the app's response is on its way already.
        """
        if self._has_responded:
            return b""
        text = b"%d %s: %s\n" % (
            refused.status,
            REASONS.get(refused.status, b""),
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

    @property
    @abstractmethod
    def _has_responded(self) -> bool:
        """Whether the response to this request has begun, well or badly."""

    @property
    @abstractmethod
    def keeps_alive(self) -> bool:
        """Whether the response sent lets another request follow."""

    @abstractmethod
    def next_request(self) -> bool:
        """Go on to the next request; False while this one or its response is not complete."""
