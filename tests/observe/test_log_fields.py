import logging
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from tests.saved_loggers import bare_loggers
from wsgate import loggers
from wsgate.errors import Refusal
from wsgate.observe import log_fields
from wsgate.observe.access_log import log_event
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    ServerStarted,
    ServerStopped,
    ServerStopping,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.log_fields import fields_of

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"
CLIENT = ("::1", 5)
TRACE = (b"traceparent", b"00-%s-%s-01" % (b"1" * 32, b"2" * 16))
HEADERS = ((b"host", b"a"), TRACE)
ALL = {"time", "level", "event", "worker"}
MESSAGE = {"logger", "message"}
# Events of which everything is known.
FULL: list[tuple[str, Event]] = [
    ("request", RequestDone(CLIENT, "GET", b"/?a", "1.1", 200, "7-1", HEADERS, 1.0, 2)),
    ("websocket_open", WebSocketOpened(CLIENT, b"/?a", "7-1", HEADERS, "7-0")),
    (
        "handshake_refused",
        HandshakeRefused(CLIENT, b"/?a", 403, "no", Refusal.ORIGIN, "7-1", HEADERS),
    ),
    (
        "websocket_close",
        WebSocketClosed(
            *(CLIENT, b"/?a", 1002, "bad", Cause.PROTOCOL_ERROR, "a rule", 1.25, 1, 2, 3, 4, 5),
            *(0.0301, "7-1", HEADERS),
        ),
    ),
    ("server_started", ServerStarted(("http://a:1", "http://b:2"))),
    ("server_stopping", ServerStopping(("http://a:1",))),
    ("server_stopped", ServerStopped(("http://a:1",))),
]


def record_of(event: object = None, **attributes: Any) -> logging.LogRecord:
    record = logging.LogRecord("wsgate.error", logging.WARNING, "", 0, "%s", ("text",), None)
    setattr(record, loggers.EVENT, event)
    record.__dict__.update(attributes)
    return record


def full_record() -> logging.LogRecord:
    """Return a record of a message with everything that a message may have."""
    attributes = {"stack_info": "Stack:", "exc_text": "Traceback:", "wsgate_repeated": 3}
    return record_of(**attributes)


# -- the table of the page -------------------------------------------------------------------------


def table() -> dict[str, set[str]]:
    """Return the fields of the page's table, each with the events that have it."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| ([^|]*) \| [^|]* \|$", PAGE.read_text())
    assert rows
    every = set(log_fields.EVENTS)
    return {
        name: every if events == "all" else set(re.findall(r"`(\w+)`", events))
        for name, events in rows
    }


def test_the_table_of_the_page_has_each_field_in_its_order() -> None:
    assert tuple(table()) == log_fields.FIELDS


@pytest.mark.parametrize("kind", log_fields.EVENTS)
def test_an_event_has_the_fields_that_the_page_says(kind: str) -> None:
    known = dict(FULL)
    record = record_of(known[kind]) if kind in known else full_record()
    fields = fields_of(record)
    assert fields["event"] == kind
    possible = {name for name, events in table().items() if kind in events}
    if kind == log_fields.LOG or kind in log_fields.ACCESS:
        assert fields.keys() == possible
    else:  # none of these has an exception
        assert fields.keys() == possible - {"repeated", "exception", "stack"}


# -- the fields ------------------------------------------------------------------------------------


def test_the_fields_of_a_closed_websocket() -> None:
    fields = fields_of(record_of(dict(FULL)["websocket_close"]))
    assert {name: value for name, value in fields.items() if name not in ALL} == {
        "connection": "7-1",
        "client": "[::1]:5",
        "path": "/",
        "query": "a",
        "code": 1002,
        "reason": "bad",
        "initiator": "server",
        "cause": "protocol_error",
        "sentence": "the client broke the protocol: a rule",
        "detail": "a rule",
        "duration": 1.25,
        "received_messages": 1,
        "received_bytes": 2,
        "sent_messages": 3,
        "sent_bytes": 4,
        "dropped_messages": 5,
        "round_trip_ms": 30.1,
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
    }


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (
            RequestDone(None, "GET", b"/", "1.1", 200),
            {"method", "path", "http_version", "status", "duration", "sent_bytes"},
        ),
        (WebSocketOpened(None, b"/"), {"path"}),
        (HandshakeRefused(None, b"/", 403, "", Refusal.ORIGIN), {"path", "status"}),
        (ServerStopped(()), MESSAGE),
        (None, MESSAGE),
    ],
)
def test_what_is_not_known_is_left_out(event: object, names: set[str]) -> None:
    assert fields_of(record_of(event)).keys() == ALL | names


def test_an_empty_query_is_one() -> None:
    assert fields_of(record_of(WebSocketOpened(None, b"/a?")))["query"] == ""


@pytest.mark.parametrize(("created", "text"), [(0.0, "00.000"), (1.9996, "01.999")])
def test_the_time_is_in_utc(created: float, text: str) -> None:
    record = record_of(created=created, msecs=created % 1 * 1_000)
    assert fields_of(record)["time"] == f"1970-01-01T00:00:{text}Z"


def test_an_exception_is_not_what_another_formatter_made_of_it() -> None:
    error = ValueError("it")
    record = record_of(exc_info=(ValueError, error, None), exc_text="  indented")
    assert fields_of(record)["exception"] == "ValueError: it"
    record = record_of(exc_info=(None, None, None))
    assert "exception" not in fields_of(record)


# -- the event of a record -------------------------------------------------------------------------


class Own(logging.LogRecord):
    """A record of the host program."""


@pytest.mark.parametrize("factory", [logging.LogRecord, Own])
def test_headers_reach_the_fields_but_no_formatter_of_others(
    factory: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", factory)
    secret = (b"authorization", b"secret")
    event = WebSocketOpened(None, b"/", "7-1", (secret, TRACE))
    with bare_loggers():
        caplog.set_level(logging.INFO, "wsgate.access")
        log_event(event)
    (record,) = caplog.records
    assert fields_of(record)["trace_id"] == "1" * 32
    assert "secret" not in repr(vars(record))
    assert b"secret" not in pickle.dumps(vars(record))  # as a handler of sockets sends it
    assert loggers.event_of(logging.makeLogRecord(vars(record))) is event  # as structlog copies it
