"""HTTP/1.1 parsed by h11: the reference that the built-in parser must agree with.

h11 parses heads, frames bodies both ways and keeps the state of each request and response.
"""

import re
from typing import Any

import h11

from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.fields import combine_headers, lower_name
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, RequestEvent
from wsgate.http.h1.connection import (
    ALREADY_FAILED,
    BODY_SLICE,
    CLOSE,
    Http1Connection,
    ParsedHead,
)
from wsgate.http.h1.head_lines import share_headers
from wsgate.http.request import HeadLimits
from wsgate.http.response import REASONS
from wsgate.types import Header

_FOLD = re.compile(rb"\r\n[ \t]")
# h11 formats a line that it refuses with "{!r}", in most cases after a colon. Its own sentences
# have colons, too.
_REPR_OF_BYTES = re.compile(r"[\s:]*\b(?:bytearray\()?b['\"]")


class _Elsewhere:
    """Data of a known length that h11 frames without having it, such as a file's."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class H11Http1Connection(Http1Connection):
    """The requests of one connection, parsed by h11."""

    __slots__ = ("_h11",)

    def __init__(self, limits: HeadLimits, upgrade_to: bytes | None = None) -> None:
        super().__init__(limits, upgrade_to)
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.size)

    def _next_event(self) -> RequestEvent | None:
        their_state = self._h11.their_state
        if their_state is h11.IDLE:
            return self._take_head()
        if their_state is h11.SEND_BODY:
            return self._take_body()
        return None

    def _parse_head(self, head: bytes) -> ParsedHead:
        return _parse_head(self._h11, head)

    def _take_body(self) -> RequestEvent | None:
        while True:
            event = _next_h11_event(self._h11)
            if type(event) is h11.Data:
                return RequestBody(bytes(event.data))
            if type(event) is h11.EndOfMessage:
                return RequestEnd()
            count = self._framing.advance(self.buffer, BODY_SLICE)
            if not count:
                return ClientClosed() if self._eof else None
            self._h11.receive_data(bytes(self.buffer[:count]))
            del self.buffer[:count]

    # -- the response --------------------------------------------------------------------------

    def send_continue(self) -> bytes:
        """Return `100 Continue` if the client waits for it, else b""."""
        if not self._h11.they_are_waiting_for_100_continue:
            return b""
        return self._send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))

    def _write_head(self, status: int, headers: list[Header]) -> bytes:
        # The client may still send the body that it announced with Expect, or not: what follows
        # the response could be either.
        if self._closing or self._h11.they_are_waiting_for_100_continue:
            headers = [*headers, CLOSE]
        # h11 adds the headers that frame the body and end the connection.
        reason = REASONS.get(status, b"")
        return self._send(h11.Response(status_code=status, headers=headers, reason=reason))

    def _write_body(self, data: bytes) -> bytes:
        return self._send(h11.Data(data=data))

    def _frame_body(self, size: int) -> tuple[bytes, bytes]:
        part = _Elsewhere(size)
        pieces = self._send_pieces(h11.Data(data=part))  # type: ignore[arg-type]  # it may be any object
        at = pieces.index(part)
        return b"".join(pieces[:at]), b"".join(pieces[at + 1 :])

    def _write_end(self, trailers: list[Header]) -> bytes:
        return self._send(h11.EndOfMessage(headers=trailers))

    def _send(self, event: h11.Event) -> bytes:
        return b"".join(self._send_pieces(event))

    def _send_pieces(self, event: h11.Event) -> list[Any]:
        """Return bytes, and between them the data of an event as it is."""
        if self._h11.our_state is h11.ERROR:
            raise InvalidMessage(ALREADY_FAILED)
        try:
            return self._h11.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError as error:
            raise InvalidMessage(str(error)) from None

    @property
    def _has_responded(self) -> bool:
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    @property
    def keeps_alive(self) -> bool:
        """Whether the response is complete and another request may follow."""
        return not self._over and self._h11.our_state is h11.DONE

    def next_request(self) -> bool:
        """Go on to the next request; return False if this one or its response is incomplete."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._is_head = False
        return True


# -- heads that the built-in parser leaves to h11 --------------------------------------------------


def parse_head(head: bytes) -> ParsedHead:
    """Parse a complete head with h11. Raises RequestRefused."""
    return _parse_head(h11.Connection(h11.SERVER), head)


def _parse_head(connection: h11.Connection, head: bytes) -> ParsedHead:
    # RFC 9112 section 5.2: a server that receives an obs-fold "MUST either reject the message
    # by sending a 400 (Bad Request) [...] or replace each received obs-fold".
    if _FOLD.search(head):
        raise RequestRefused(400, "a header is folded over several lines")
    connection.receive_data(head)
    event = _next_h11_event(connection)
    assert type(event) is h11.Request  # a complete head is a request or an error
    headers = [(lower_name(name) or name, value) for name, value in event.headers]
    fields = combine_headers(headers)
    return event.method, event.target, event.http_version, share_headers(headers), fields


def _next_h11_event(
    connection: h11.Connection,
) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        raise RequestRefused(error.error_status_hint, _remove_bytes(str(error))) from None


def _remove_bytes(text: str) -> str:
    """Return an error text of h11 up to the bytes that it quotes; they are not sent back."""
    return _REPR_OF_BYTES.split(text, 1)[0]
