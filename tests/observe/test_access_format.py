import base64
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.errors import Refusal
from wsgate.loggers import EVENT
from wsgate.observe.access_format import _VALUES, AccessLineFormatter
from wsgate.observe.access_log import log_event
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    Event,
    HandshakeRefused,
    RequestDone,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.log_fields import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"
CLIENT = ("2001:db8::1", 5)
HEADERS = (
    (b"user-agent", b'a "b" \\ \xe9\n'),
    (b"referer", b"http://a.example/"),
    (b"authorization", b"Basic " + base64.b64encode(b'an"na:secret')),
    (b"x-a", b"1"),
    (b"x-a", b"2"),
)
REQUEST = RequestDone(
    *(CLIENT, "GET", b'/a"b?c=d%20', "1.1", 200, "7-1", HEADERS, 1.2345678, 12),
    ((b"Content-Type", b"text/plain"),),
)
OPENED = WebSocketOpened(CLIENT, b"/ws?a", "7-1", HEADERS)
REFUSED = HandshakeRefused(CLIENT, b"/ws?a", 403, "no", Refusal.ORIGIN, "7-1")
CLOSED = WebSocketClosed(
    CLIENT, b"/ws?a", 1002, "", Cause.PROTOCOL_ERROR, "a rule", 2.5, 1, 2, 3, 4, 5, None, "7-1"
)


def line_of(text: str, event: Event, **options: Any) -> str:
    """Return the line of an event, as it arrives at a handler."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.created, record.process = 1e9, 77
            lines.append(self.format(record))

    handler = Handler()
    handler.setFormatter(AccessLineFormatter(text, **options))
    logger = logging.getLogger("wsgate.access")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        log_event(event)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return lines[0]


# -- placeholders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("%(h)s %(l)s %(u)s", '2001:db8::1 - an\\"na'),
        (
            '"%(r)s" %(m)s %(U)s %(q)s %(H)s',
            r'"GET /a\"b?c=d%20 HTTP/1.1" GET /a\"b c=d%20 HTTP/1.1',
        ),
        ("%(s)s %(B)s %(b)s", "200 12 12"),
        ('%(f)s "%(a)s"', r'http://a.example/ "a \"b\" \\ \xe9\n"'),
        ("%(T)s %(M)s %(D)s %(L)s %(p)s", "1 1234 1234567 1.234568 <77>"),
        ("%({X-A}i)s %({x-b}i)s", "1, 2 -"),
        ("%({content-type}o)s %({x}o)s", "text/plain -"),
        ("%({WSGATE_TEST}e)s %({WSGATE_NONE}e)s", "a\\tb -"),
        (
            "%(client_addr)s|%(request_line)s|%(status_code)s",
            r"[2001:db8::1]:5|GET /a\"b?c=d%20 HTTP/1.1|200 OK",
        ),
        ("%(levelprefix)s %(levelname)s %(name)s %(process)d", "INFO:     INFO wsgate.access 77"),
        ("%(message)s", r"[2001:db8::1]:5 - \"GET /a\"b?c=d%20 HTTP/1.1\" 200 OK"),
        ("%(event)s %(connection)s %(duration)s %(cause)s", "request 7-1 1.234568 -"),
        ("100%% %(s)5s|%(s)-5s|%(H).4s", "100%   200|200  |HTTP"),
        ("", ""),
    ],
)
def test_placeholders_of_a_request(text: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WSGATE_TEST", "a\tb")
    assert line_of(text, REQUEST, use_colors=False) == line


TRAFFIC = "after 2.5 s, in 1/2 B, out 3/4 B: the client broke the protocol: a rule"


@pytest.mark.parametrize(
    ("event", "gunicorn", "uvicorn", "own"),
    [
        (OPENED, "101 0 - -", "[accepted]", "- websocket_open 7-1"),
        (REFUSED, "403 0 - -", "403 Forbidden (no)", "- handshake_refused 7-1"),
        (
            *(CLOSED, "1002 4 4 2.500000", f"[closed] 1002 {TRAFFIC}"),
            "protocol_error websocket_close 7-1",
        ),
    ],
)
def test_placeholders_of_a_websocket(event: Event, gunicorn: str, uvicorn: str, own: str) -> None:
    for text, line in [
        ("%(r)s %(s)s %(B)s %(b)s %(L)s", f"GET /ws?a HTTP/1.1 {gunicorn}"),
        ("%(request_line)s|%(status_code)s", f"WebSocket /ws?a|{uvicorn}"),
        ("%(cause)s %(event)s %(connection)s", own),
        ("%({a}o)s %({a}i)s", "- -"),
    ]:
        assert line_of(text, event) == line


def test_the_date_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert line_of("%(t)s", REQUEST) == "[09/Sep/2001:10:46:40 +0900]"
        assert line_of("%(asctime)s", REQUEST).startswith("2001-09-09 10:46:40")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "value", [b"", b"Basic", b"Basic !", b"Basic YQ", b"Bearer YTpi", b"Basic OmI="]
)
def test_no_user_is_shown_without_a_name(value: bytes) -> None:
    headers = ((b"authorization", value),)
    assert line_of("%(u)s", REQUEST._replace(client=None, headers=headers)) == "-"


def test_a_client_without_an_address() -> None:
    assert line_of("%(h)s|%(client_addr)s|%(client)s", REQUEST._replace(client=None)) == "-||-"


@given(st.binary())
def test_no_header_breaks_a_line_or_ends_its_quotes(value: bytes) -> None:
    event = REQUEST._replace(headers=((b"user-agent", value),))
    line = line_of('"%(a)s"', event)
    assert line.isascii()
    assert line.isprintable()
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', line)


def test_colours_are_those_of_the_text_log() -> None:
    assert line_of("%(levelprefix)s", REQUEST, use_colors=True) == "\033[32mINFO\033[0m:    "


def test_what_is_no_line_of_the_access_log_has_the_format_of_the_console() -> None:
    record = logging.LogRecord("uvicorn.access", logging.WARNING, "", 0, "%s", ("text",), None)
    setattr(record, EVENT, None)
    assert AccessLineFormatter("%(h)s").format(record) == "WARNING:  text"


# -- the format ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("%(zz)s", r"unknown placeholder %(zz)s"),
        ("%({a}x)s", r"unknown placeholder %({a}x)s"),
        ("%(a\nb)s", r"unknown placeholder %(a\nb)s"),
        ("50% %(h)s", r"'% %(h)s' is no placeholder; a % sign is %%"),
        ("%(h)", r"'%(h)' is no placeholder; a % sign is %%"),
        ("%s", r"'%s' is no placeholder; a % sign is %%"),
    ],
)
def test_an_unknown_placeholder_is_an_error_in_one_line(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error) + "$"):
        AccessLineFormatter(text)


def test_the_page_has_all_placeholders() -> None:
    section = PAGE.read_text().partition("### A format of your own")[2].partition("\n## ")[0]
    named = set(re.findall(r"%\(([^)]+)\)s", section))
    assert set(_VALUES) - set(FIELDS) <= named
    assert {re.sub(r"\{.*\}", "{}", name) for name in named if "{" in name} == {"{}i", "{}o", "{}e"}
    for name in named:
        AccessLineFormatter(f"%({name})s")
