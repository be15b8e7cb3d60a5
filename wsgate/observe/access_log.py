"""The access log: an observer that writes one line for each request and two for each WebSocket.

The lines of HTTP requests are those of uvicorn.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from wsgate import loggers
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

# A message with its arguments, as `logging` takes them.
_Line = tuple[Any, ...]


def log_event(event: Event) -> None:
    """Log an event if it has a line and the level of the logger `wsgate.access` allows INFO."""
    line = _LINES.get(type(event))
    if line is not None and loggers.access.logger.isEnabledFor(_INFO):
        loggers.access.log_without_caller(_INFO, *line(event))


def _request_line(event: RequestDone) -> _Line:
    return (
        '%s - "%s %s HTTP/%s" %d %s',
        format_address(event.client),
        event.method,
        _target(event.target),
        event.http_version,
        event.status,
        _PHRASES.get(event.status, ""),
    )


def _refusal_line(event: HandshakeRefused) -> _Line:
    return (
        '%s - "WebSocket %s" %d %s',
        format_address(event.client),
        _target(event.target),
        event.status,
        _PHRASES.get(event.status, ""),
    )


def _opening_line(event: WebSocketOpened) -> _Line:
    return (
        '%s - "WebSocket %s" [accepted]',
        format_address(event.client),
        _target(event.target),
    )


def _closing_line(event: WebSocketClosed) -> _Line:
    return (
        '%s - "WebSocket %s" [closed] %d%s after %.1f s, in %d/%d B, out %d/%d B',
        format_address(event.client),
        _target(event.target),
        event.code,
        f" {escape(event.reason)}" if event.reason else "",
        event.duration,
        event.received_messages,
        event.received_bytes,
        event.sent_messages,
        event.sent_bytes,
    )


def _target(target: bytes) -> str:
    return escape(target.decode("ascii"))


_LINES: dict[type[Event], Callable[[Any], _Line]] = {
    RequestDone: _request_line,
    HandshakeRefused: _refusal_line,
    WebSocketOpened: _opening_line,
    WebSocketClosed: _closing_line,
}
