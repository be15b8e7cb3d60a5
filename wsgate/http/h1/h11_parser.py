"""HTTP/1.1 by h11: the reference that other drivers are held to.

h11 parses heads, frames bodies both ways and keeps the state of each request and response.
"""

import re

import h11

from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.fields import combine_headers, lower_name
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
from wsgate.http.h1.head_lines import share_headers
from wsgate.http.request import HeadLimits
from wsgate.http.response import REASONS
from wsgate.types import Header

_FOLD = re.compile(rb"\r\n[ \t]")
# h11 formats a line that it refuses with "{!r}", most often after a colon; its own sentences have
# colons, too.
_REPR_OF_BYTES = re.compile(r"[\s:]*\b(?:bytearray\()?b['\"]")


class H11Http1(Http1):
    """One connection's requests, one after the other."""

    __slots__ = ("_h11",)

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        super().__init__(limits, upgrade_to)
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.size)

    def _taken(self) -> Event | None:
        their_state = self._h11.their_state
        if their_state is h11.IDLE:
            return self._take_head()
        if their_state is h11.SEND_BODY:
            return self._take_body()
        return None

    def _parsed(self, head: bytes) -> Head:
        return _parsed(self._h11, head)

    def _take_body(self) -> Event | None:
        while True:
            event = _next_event(self._h11)
            if type(event) is h11.Data:
                return Body(bytes(event.data))
            if type(event) is h11.EndOfMessage:
                return End()
            count = self._framing.advance(self._buffer, BODY_SLICE)
            if not count:
                return Closed() if self._eof else None
            self._h11.receive_data(bytes(self._buffer[:count]))
            del self._buffer[:count]

    # -- the response --------------------------------------------------------------------------

    def proceed(self) -> bytes:
        """Return `100 Continue` where the client waits for it, else nothing (RFC 9110 10.1.1)."""
        if not self._h11.they_are_waiting_for_100_continue:
            return b""
        return self._send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def response(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a response; the framing headers are put right by h11."""
        # A body announced with Expect and not asked for may come or not: what follows the
        # response could not be framed.
        if self._closing or self._h11.they_are_waiting_for_100_continue:
            headers = [*headers, CLOSE]
        return self._send(_response(status, headers))

    def body(self, data: bytes) -> bytes:
        """Return a piece of the response's body, framed. Raises InvalidMessage when too long."""
        return self._send(h11.Data(data=data))

    def end(self) -> bytes:
        """Return the end of the response. Raises InvalidMessage when its body was too short."""
        return self._send(h11.EndOfMessage())

    def _send(self, event: h11.Event) -> bytes:
        if self._h11.our_state is h11.ERROR:
            raise InvalidMessage(ALREADY_FAILED)
        try:
            return self._h11.send(event) or b""
        except h11.LocalProtocolError as error:
            raise InvalidMessage(str(error)) from None

    @property
    def _has_responded(self) -> bool:
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def keeps_alive(self) -> bool:
        """Whether the response sent lets another request follow."""
        return not self._over and self._h11.our_state is h11.DONE

    def next_request(self) -> bool:
        """Go on to the next request; False while this one or its response is not complete."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._is_head = False
        return True


# -- h11's verdict, for another driver that has none of its own ------------------------------------


def parsed(head: bytes) -> Head:
    """Return what a head says. Raises RequestRefused."""
    return _parsed(h11.Connection(h11.SERVER), head)


def normalized(status: int, headers: list[Header]) -> list[Header]:
    """Return a response's headers as they can be sent, Host first. Raises InvalidMessage."""
    return sorted(_response(status, headers).headers, key=lambda header: header[0] != b"host")


def _parsed(connection: h11.Connection, head: bytes) -> Head:
    # RFC 9112 section 5.2: a server that receives an obs-fold "MUST either reject the message
    # by sending a 400 (Bad Request) [...] or replace each received obs-fold".
    if _FOLD.search(head):
        raise RequestRefused(400, "a header is folded over several lines")
    connection.receive_data(head)
    event = _next_event(connection)
    assert type(event) is h11.Request  # a whole head is a request or an error
    headers = [(lower_name(name) or name, value) for name, value in event.headers]
    return (
        event.method,
        event.target,
        event.http_version,
        share_headers(headers),
        combine_headers(headers),
    )


def _next_event(
    connection: h11.Connection,
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestRefused(error.error_status_hint, _without_bytes(str(error))) from None


def _without_bytes(text: str) -> str:
    """Return what h11 says, up to where the peer's bytes begin: they are not said back."""
    return _REPR_OF_BYTES.split(text, 1)[0]


def _response(status: int, headers: list[Header]) -> h11.Response:
    try:
        return h11.Response(status_code=status, headers=headers, reason=REASONS.get(status, b""))
    except h11.LocalProtocolError as error:
        raise InvalidMessage(str(error)) from None
