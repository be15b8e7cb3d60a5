"""The access log: an observer that writes one line for each request and two for each WebSocket.

The lines of HTTP requests are those of uvicorn.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from wsgate.loggers import access, event_of, set_event
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.log_format import escape, format_address

Logged = RequestDone | HandshakeRefused | WebSocketOpened | WebSocketClosed  # those with a line

_INFO = logging.INFO
_ARGUMENTS = 5  # of each line
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def log_event(event: Event) -> None:
    """Log an event if it has a line and the level of the logger `wsgate.access` allows INFO."""
    log = _LOG.get(type(event))
    if log is not None and access.logger.isEnabledFor(_INFO):
        log(event)


def _log_request(event: RequestDone) -> None:
    access.log_without_caller(
        _INFO,
        _REQUESTS.get(event.status, _REQUEST),
        format_address(event.client),
        event.method,
        escape(event.target.decode("ascii")),
        event.http_version,
        event.status,
        event=event,
    )


# The arguments are the five that uvicorn's records have: client, method, target, HTTP version and
# status. Filters and formatters that were written for uvicorn take them by their place.
_REQUEST = '%s - "%s %s HTTP/%s" %d '

_REQUESTS = {status: _REQUEST + phrase for status, phrase in _PHRASES.items()}

# `%.0s` shows nothing: the argument is there, but not in the line.
_REFUSAL = '%s - "%s %s%.0s" %d '
_OPENING = '%s - "%s %s%.0s%.0s" [accepted]'
_CLOSING = '%s - "%s %s%.0s" [closed] %d'


def _log_refusal(event: HandshakeRefused) -> None:
    reason = f" ({_literal(event.reason)})" if event.reason else ""
    _log_websocket(_REFUSAL + _PHRASES.get(event.status, "") + reason, event, event.status)


def _log_opening(event: WebSocketOpened) -> None:
    again = "" if event.reconnect is None else f" again, after {_literal(event.reconnect)}"
    _log_websocket(_OPENING + again, event, HTTPStatus.SWITCHING_PROTOCOLS.value)


def _log_closing(event: WebSocketClosed) -> None:
    reason = f" {_literal(event.reason)}" if event.reason else ""
    received = f"in {event.received_messages}/{event.received_bytes} B"
    sent = f"out {event.sent_messages}/{event.sent_bytes} B"
    traffic = f"after {event.duration:.1f} s, {received}, {sent}"
    line = f"{_CLOSING}{reason} {traffic}: {_literal(event.sentence)}"
    _log_websocket(line, event, event.code)


def _literal(text: str) -> str:
    """Return a text for a format string, from which it comes out as it is."""
    return escape(text).replace("%", "%%")


def _log_websocket(
    line: str, event: HandshakeRefused | WebSocketOpened | WebSocketClosed, status: int
) -> None:
    target = escape(event.target.decode("ascii"))
    address = format_address(event.client)
    access.log_without_caller(_INFO, line, address, "WebSocket", target, "1.1", status, event=event)


_LOG: dict[type[Event], Callable[[Any], None]] = {
    RequestDone: _log_request,
    HandshakeRefused: _log_refusal,
    WebSocketOpened: _log_opening,
    WebSocketClosed: _log_closing,
}


def split_line(record: logging.LogRecord) -> tuple[str, str, str]:
    """Return the client, the request and the status of a line as uvicorn's formatter has them.

    Those of another record are empty, but for the second, which is the whole line.
    """
    before, quote, _ = str(record.msg).partition('" ')
    if record.name != "wsgate.access" or not quote or not isinstance(record.args, tuple):
        return "", record.getMessage(), ""
    head = before % record.args[: before.count("%")]
    client, _, request = head.partition(' - "')
    return client, request, record.getMessage()[len(head) + len(quote) :]


def leave_out_query(record: logging.LogRecord) -> bool:
    """Remove the query from a line, which may hold secrets: a filter for `wsgate.access`."""
    event = event_of(record)
    if isinstance(event, Logged):
        set_event(record, event._replace(target=event.target.partition(b"?")[0]))
    if isinstance(record.args, tuple) and len(record.args) == _ARGUMENTS:
        client, method, target, *rest = record.args
        record.args = (client, method, str(target).partition("?")[0], *rest)
    return True
