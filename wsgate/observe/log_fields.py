"""The fields of a log line, as data: what the formats `json` and `logfmt` write.

docs/logging.md has the table of them. Names and meanings stay: programs of others read them.
"""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from wsgate.loggers import event_of
from wsgate.observe.events import (
    HandshakeRefused,
    RequestDone,
    ServerStarted,
    ServerStopped,
    ServerStopping,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.log_format import format_address
from wsgate.observe.throttled_log import REPEATED
from wsgate.observe.trace_context import trace_ids
from wsgate.types import Address, Header

LOG = "log"  # the event of a line that is only a message

Fields = dict[str, Any]

_tracebacks = logging.Formatter()


def fields_of(record: logging.LogRecord) -> Fields:
    """Return the fields of a record: texts, and numbers as numbers. What is not known is left out.

    Texts are as they came: a format has to escape them.
    """
    event = event_of(record)
    name, describe = _EVENTS.get(type(event), (LOG, None))
    fields: Fields = {
        "time": format_time(record),
        "level": record.levelname.lower(),
        "event": name,
        "worker": record.process,
    }
    if describe is not None:
        fields.update(describe(event))
    if name not in ACCESS:
        _add_message(fields, record)
    return fields


def format_time(record: logging.LogRecord) -> str:
    """Return the time of a record in UTC (ISO 8601), with milliseconds."""
    return f"{_format_second(int(record.created))}.{int(record.msecs):03d}Z"


@functools.lru_cache(maxsize=8)
def _format_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _add_message(fields: Fields, record: logging.LogRecord) -> None:
    fields["logger"] = record.name
    fields["message"] = record.getMessage()
    if repeated := getattr(record, REPEATED, None):
        fields["repeated"] = repeated
    # `exc_text` is what another formatter has made of it, for its own format.
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = _tracebacks.formatException(record.exc_info)
    elif record.exc_text:
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info


# -- the events ------------------------------------------------------------------------------------


def _describe_request(event: RequestDone) -> Fields:
    return {
        **_describe_client(event.connection, event.client),
        "method": event.method,
        **_describe_target(event.target),
        "http_version": event.http_version,
        "status": event.status,
        "duration": round(event.duration, 6),
        "sent_bytes": event.sent_bytes,
        **_describe_trace(event.headers),
    }


def _describe_opening(event: WebSocketOpened) -> Fields:
    reconnect = event.reconnect
    return {
        **_describe_client(event.connection, event.client),
        **_describe_target(event.target),
        **({} if reconnect is None else {"reconnect": reconnect}),
        **_describe_trace(event.headers),
    }


def _describe_refusal(event: HandshakeRefused) -> Fields:
    return {
        **_describe_client(event.connection, event.client),
        **_describe_target(event.target),
        "status": event.status,
        **({"reason": event.reason} if event.reason else {}),
        **_describe_trace(event.headers),
    }


def _describe_closing(event: WebSocketClosed) -> Fields:
    trip = event.round_trip
    return {
        **_describe_client(event.connection, event.client),
        **_describe_target(event.target),
        "code": event.code,
        **({"reason": event.reason} if event.reason else {}),
        "initiator": event.initiator,
        "cause": event.cause.value,
        "sentence": event.sentence,
        **({"detail": event.detail} if event.detail else {}),
        "duration": round(event.duration, 6),
        "received_messages": event.received_messages,
        "received_bytes": event.received_bytes,
        "sent_messages": event.sent_messages,
        "sent_bytes": event.sent_bytes,
        "dropped_messages": event.dropped_messages,
        **({} if trip is None else {"round_trip_ms": round(trip * 1_000, 3)}),
        **_describe_trace(event.headers),
    }


def _describe_server(event: ServerStarted | ServerStopping | ServerStopped) -> Fields:
    return {"addresses": " ".join(event.addresses)} if event.addresses else {}


def _describe_client(connection: str, client: Address | None) -> Fields:
    """Return the id of a connection, and the client's address, which a Unix socket has not."""
    fields = {"connection": connection} if connection else {}
    if client is not None:
        fields["client"] = format_address(client)
    return fields


def _describe_target(target: bytes) -> Fields:
    path, mark, query = target.decode("ascii").partition("?")
    return {"path": path, "query": query} if mark else {"path": path}


def _describe_trace(headers: Sequence[Header]) -> Fields:
    ids = trace_ids(headers)
    return {} if ids is None else {"trace_id": ids[0], "span_id": ids[1]}


_EVENTS: dict[type, tuple[str, Callable[[Any], Fields] | None]] = {
    RequestDone: ("request", _describe_request),
    WebSocketOpened: ("websocket_open", _describe_opening),
    HandshakeRefused: ("handshake_refused", _describe_refusal),
    WebSocketClosed: ("websocket_close", _describe_closing),
    ServerStarted: ("server_started", _describe_server),
    ServerStopping: ("server_stopping", _describe_server),
    ServerStopped: ("server_stopped", _describe_server),
}
# The events of the access log: their fields say all that the text says.
ACCESS = frozenset({"request", "websocket_open", "handshake_refused", "websocket_close"})
EVENTS = (*(name for name, _ in _EVENTS.values()), LOG)
FIELDS = (
    *("time", "level", "event", "worker", "connection", "client", "method", "path", "query"),
    *("http_version", "status", "code", "reason", "initiator", "cause", "sentence", "detail"),
    *("duration", "received_messages", "received_bytes", "sent_messages", "sent_bytes"),
    *("dropped_messages", "round_trip_ms", "reconnect", "trace_id", "span_id", "addresses"),
    *("logger", "message", "repeated", "exception", "stack"),
)
