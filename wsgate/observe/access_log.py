"""The access log: an observer that writes one line for each request and two for each WebSocket.

The lines of HTTP requests are those of uvicorn.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from wsgate.loggers import access
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.log_format import escape, format_address

_INFO = logging.INFO
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


def log_event(event: Event) -> None:
    """Log an event if it has a line and the level of the logger `wsgate.access` allows INFO."""
    log = _LOG.get(type(event))
    if log is not None and access.logger.isEnabledFor(_INFO):
        log(event)


def _log_request(event: RequestDone) -> None:
    access.log_without_caller(
        _INFO,
        '%s - "%s %s HTTP/%s" %d %s',
        format_address(event.client),
        event.method,
        escape(event.target.decode("ascii")),
        event.http_version,
        event.status,
        _PHRASES.get(event.status, ""),
    )


def _log_refusal(event: HandshakeRefused) -> None:
    access.log_without_caller(
        _INFO,
        '%s - "WebSocket %s" %d %s',
        format_address(event.client),
        escape(event.target.decode("ascii")),
        event.status,
        _PHRASES.get(event.status, ""),
    )


def _log_opening(event: WebSocketOpened) -> None:
    access.log_without_caller(
        _INFO,
        '%s - "WebSocket %s" [accepted]',
        format_address(event.client),
        escape(event.target.decode("ascii")),
    )


def _log_closing(event: WebSocketClosed) -> None:
    access.log_without_caller(
        _INFO,
        '%s - "WebSocket %s" [closed] %d%s after %.1f s, in %d/%d B, out %d/%d B',
        format_address(event.client),
        escape(event.target.decode("ascii")),
        event.code,
        f" {escape(event.reason)}" if event.reason else "",
        event.duration,
        event.received_messages,
        event.received_bytes,
        event.sent_messages,
        event.sent_bytes,
    )


_LOG: dict[type[Event], Callable[[Any], None]] = {
    RequestDone: _log_request,
    HandshakeRefused: _log_refusal,
    WebSocketOpened: _log_opening,
    WebSocketClosed: _log_closing,
}
