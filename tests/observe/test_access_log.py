import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wsgate import loggers
from wsgate.errors import Refusal
from wsgate.observe import access_log
from wsgate.observe.access_log import leave_out_query, log_event
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
from wsgate.testing import connect

CLIENT = ("127.0.0.1", 50_000)
REQUEST = RequestDone(CLIENT, "GET", b"/chat?x=1", "1.1", 200)
REFUSED = HandshakeRefused(CLIENT, b"/chat?x=1", 403, "the origin is not allowed", Refusal.ORIGIN)
OPENED = WebSocketOpened(CLIENT, b"/a\\b")
CLOSED = WebSocketClosed(
    CLIENT, b"/chat?x=1", 1001, "", Cause.CLIENT_CLOSED, "", 2.25, 1, 20, 3, 40, 0
)
LOGGED: list[Event] = [REQUEST, REFUSED, OPENED, CLOSED]


class OwnRecord(logging.LogRecord):
    """A record of the host program."""


@pytest.fixture(autouse=True)
def _propagate_to_caplog(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    logger = loggers.access.logger
    saved = logger.propagate, logger.disabled, logger.parent
    logger.propagate, logger.disabled, logger.parent = True, False, logging.getLogger()
    caplog.set_level(logging.INFO, "wsgate.access")
    yield
    logger.propagate, logger.disabled, logger.parent = saved


# -- the lines -------------------------------------------------------------------------------------


def test_line_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    log_event(REQUEST)
    assert caplog.record_tuples == [
        ("wsgate.access", logging.INFO, '127.0.0.1:50000 - "GET /chat?x=1 HTTP/1.1" 200 OK')
    ]


def test_line_of_a_status_without_a_phrase_and_a_client_without_an_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_event(REQUEST._replace(client=None, status=799))
    assert caplog.messages == [' - "GET /chat?x=1 HTTP/1.1" 799 ']


def test_line_of_a_refused_handshake(caplog: pytest.LogCaptureFixture) -> None:
    log_event(REFUSED)
    reason = "403 Forbidden (the origin is not allowed)"
    assert caplog.messages == [f'127.0.0.1:50000 - "WebSocket /chat?x=1" {reason}']
    caplog.clear()
    log_event(REFUSED._replace(reason="100% s\n"))
    log_event(REFUSED._replace(reason=""))
    assert [line.partition(" 403 ")[2] for line in caplog.messages] == [
        "Forbidden (100% s\\n)",
        "Forbidden",
    ]


def test_line_of_an_opened_websocket(caplog: pytest.LogCaptureFixture) -> None:
    log_event(OPENED)
    assert caplog.messages == ['127.0.0.1:50000 - "WebSocket /a\\\\b" [accepted]']


@pytest.mark.parametrize(("reason", "text"), [("", ""), ("by\ne", " by\\ne"), ("%d 5%", " %d 5%")])
def test_line_of_a_closed_websocket(
    caplog: pytest.LogCaptureFixture, reason: str, text: str
) -> None:
    log_event(CLOSED._replace(reason=reason))
    line = (
        '127.0.0.1:50000 - "WebSocket /chat?x=1" [closed] 1001%s after 2.2 s, in 1/20 B, out 3/40 B'
        ": the client sent a Close frame"
    )
    assert caplog.messages == [line % text]


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        (REQUEST, ("127.0.0.1:50000", "GET", "/chat?x=1", "1.1", 200)),
        (REFUSED, ("127.0.0.1:50000", "WebSocket", "/chat?x=1", "1.1", 403)),
        (OPENED, ("127.0.0.1:50000", "WebSocket", "/a\\\\b", "1.1", 101)),
        (CLOSED, ("127.0.0.1:50000", "WebSocket", "/chat?x=1", "1.1", 1001)),
    ],
)
def test_each_record_has_the_arguments_of_uvicorns(
    caplog: pytest.LogCaptureFixture, event: Event, arguments: tuple[object, ...]
) -> None:
    log_event(event)
    assert caplog.records[0].args == arguments


def test_the_filter_of_the_page_keeps_health_checks_out(caplog: pytest.LogCaptureFixture) -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    (example,) = re.findall(r"(?s)### Leave out some lines.*?```python\n(.*?)```", page)
    names: dict[str, Any] = {}
    try:
        exec(example, names)  # our own page
        for target in (b"/healthz", b"/healthz?x", b"/"):
            log_event(REQUEST._replace(target=target))
        log_event(CLOSED)
    finally:
        loggers.access.logger.removeFilter(names["is_no_health_check"])
    assert [record.args[2] for record in caplog.records if isinstance(record.args, tuple)] == [
        *("/healthz?x", "/", "/chat?x=1")
    ]


@pytest.mark.parametrize("factory", [logging.LogRecord, OwnRecord])
@pytest.mark.parametrize("event", [REQUEST, REFUSED, CLOSED])
def test_queries_can_be_left_out(
    event: Event, factory: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", factory)
    loggers.access.logger.addFilter(leave_out_query)
    try:
        log_event(event)
    finally:
        loggers.access.logger.removeFilter(leave_out_query)
    (record,) = caplog.records
    assert fields_of(record)["path"] == "/chat"
    assert "x=1" not in record.getMessage() + repr((fields_of(record), vars(record)))
    assert leave_out_query(logging.makeLogRecord({"msg": "another %s", "args": ("line?",)}))


# -- events without a line -------------------------------------------------------------------------


@pytest.mark.parametrize("event", [ServerStarted, ServerStopping, ServerStopped])
def test_events_of_the_server_have_no_line(caplog: pytest.LogCaptureFixture, event: Any) -> None:
    log_event(event(("http://127.0.0.1:8000",)))
    assert caplog.records == []


def test_level_of_the_logger_is_checked_for_each_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "wsgate.access")
    for event in LOGGED:
        log_event(event)
    assert caplog.records == []
    caplog.set_level(logging.INFO, "wsgate.access")
    for event in LOGGED:
        log_event(event)
    assert len(caplog.records) == 4


def test_nothing_is_formatted_above_the_level_of_the_logger(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise AssertionError

    monkeypatch.setattr(access_log, "escape", fail)
    monkeypatch.setattr(access_log, "format_address", fail)
    caplog.set_level(logging.WARNING, "wsgate.access")
    for event in LOGGED:
        log_event(event)


# -- within another program, which sets up logging -------------------------------------------------


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(("is_on", "count"), [(True, 1), (False, 0)])
async def test_access_log_setting_holds_where_the_host_sets_up_logging(
    caplog: pytest.LogCaptureFixture, is_on: bool, count: int
) -> None:
    async with connect(app, access_log=is_on) as client:
        assert bool(client.worker.observers) == is_on
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert len(caplog.records) == count


class Failing(logging.Handler):
    """A handler of the host program that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(24, "Too many open files")


async def test_failing_handler_does_not_reach_the_app(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ends: list[str] = []

    async def record_end(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        ends.append("ok")

    monkeypatch.setattr(loggers.access, "_is_reported", False)
    handler = Failing()
    loggers.access.logger.addHandler(handler)
    try:
        async with connect(record_end) as client:
            for _ in range(3):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    finally:
        loggers.access.logger.removeHandler(handler)
    assert ends == ["ok"] * 3
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "wsgate: a handler or filter of wsgate.access fails: OSError: [Errno 24]"
    )
