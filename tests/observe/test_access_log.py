import logging
from collections.abc import Iterator
from typing import Any

import pytest

from wsgate.http.request import Request
from wsgate.observe import logs
from wsgate.observe.access_log import AccessLog
from wsgate.testing import connect

CLIENT = ("127.0.0.1", 50_000)


@pytest.fixture(autouse=True)
def _open_to_caplog(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    logger = logs.access.logger
    kept = logger.propagate, logger.disabled, logger.parent
    logger.propagate, logger.disabled, logger.parent = True, False, logging.getLogger()
    caplog.set_level(logging.INFO, "wsgate.access")
    yield
    logger.propagate, logger.disabled, logger.parent = kept


@pytest.fixture
def log() -> AccessLog:
    return AccessLog(is_wanted=True)


def request(target: bytes = b"/chat?x=1") -> Request:
    path, _, query = target.partition(b"?")
    return Request("GET", target, path, query, "1.1", [])


# -- the lines -------------------------------------------------------------------------------------


def test_a_request(log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    log.request_done(CLIENT, request(), 200)
    assert caplog.record_tuples == [
        ("wsgate.access", logging.INFO, '127.0.0.1:50000 - "GET /chat?x=1 HTTP/1.1" 200 OK')
    ]


def test_a_status_without_a_name(log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    log.request_done(None, request(), 799)
    assert caplog.messages == [' - "GET /chat?x=1 HTTP/1.1" 799 ']


def test_a_websocket_that_did_not_open(log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    log.websocket_refused(CLIENT, request(), 403)
    assert caplog.messages == ['127.0.0.1:50000 - "WebSocket /chat?x=1" 403 Forbidden']


def test_a_websocket_that_opened(log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    log.websocket_opened(CLIENT, b"/a\\b")
    assert caplog.messages == ['127.0.0.1:50000 - "WebSocket /a\\\\b" [accepted]']


@pytest.mark.parametrize(("reason", "text"), [("", ""), ("by\ne", " by\\ne")])
def test_the_end_of_a_websocket(
    log: AccessLog, caplog: pytest.LogCaptureFixture, reason: str, text: str
) -> None:
    log.websocket_closed(
        CLIENT,
        request().target,
        code=1001,
        reason=reason,
        seconds=2.25,
        received=(1, 20),
        sent=(3, 40),
    )
    line = (
        '127.0.0.1:50000 - "WebSocket /chat?x=1" [closed] 1001%s after 2.2 s, in 1/20 B, out 3/40 B'
    )
    assert caplog.messages == [line % text]


# -- whether it is wanted --------------------------------------------------------------------------


def say_everything(log: AccessLog) -> None:
    log.request_done(CLIENT, request(), 200)
    log.websocket_refused(CLIENT, request(), 403)
    log.websocket_opened(CLIENT, b"/")
    log.websocket_closed(
        CLIENT, b"/", code=1000, reason="", seconds=1.0, received=(0, 0), sent=(0, 0)
    )


def test_it_is_off(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(is_wanted=False)
    say_everything(log)
    assert not log.tells_websockets()
    assert caplog.records == []


def test_the_logger_s_level_counts_at_each_line(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "wsgate.access")
    say_everything(log)
    assert not log.tells_websockets()
    assert caplog.records == []
    caplog.set_level(logging.INFO, "wsgate.access")
    say_everything(log)
    assert log.tells_websockets()
    assert len(caplog.records) == 4


# -- within another program, whose logging it is ---------------------------------------------------


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(("is_wanted", "count"), [(True, 1), (False, 0)])
async def test_it_is_off_where_logging_is_the_host_s(
    caplog: pytest.LogCaptureFixture, is_wanted: bool, count: int
) -> None:
    async with connect(app, access_log=is_wanted) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert len(caplog.records) == count


class Failing(logging.Handler):
    """A handler of the host's that lets its error out."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(24, "Too many open files")


async def test_a_handler_that_fails_does_not_reach_the_app(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ends: list[str] = []

    async def counts(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        ends.append("well")

    monkeypatch.setattr(logs.access, "_is_reported", False)
    handler = Failing()
    logs.access.logger.addHandler(handler)
    try:
        async with connect(counts) as client:
            for _ in range(3):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    finally:
        logs.access.logger.removeHandler(handler)
    assert ends == ["well"] * 3
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "wsgate: a handler or filter of wsgate.access fails: OSError: [Errno 24]"
    )
