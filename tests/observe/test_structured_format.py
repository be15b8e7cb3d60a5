import json
import logging
import re
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.errors import Refusal
from wsgate.loggers import EVENT, TRACE
from wsgate.observe.causes import Cause
from wsgate.observe.events import (
    HandshakeRefused,
    RequestDone,
    ServerStarted,
    WebSocketClosed,
    WebSocketOpened,
)
from wsgate.observe.structured_format import JsonFormatter, LogfmtFormatter

CLIENT = ("127.0.0.1", 5)
NASTY = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from('"\\= \t\r\n\0\x07\x1b\x7f\x85\u2028\u2029\ud800\udfff\U0001f600'),
        st.sampled_from(["a", "u", "d", "8", "0"]),
    )
)
TARGETS = st.text(st.characters(min_codepoint=0, max_codepoint=127)).map(str.encode)


def make_record(event: object = None, text: str = "text", *args: Any) -> logging.LogRecord:
    name = "wsgate.error" if event is None else "wsgate.access"
    record = logging.LogRecord(name, logging.INFO, "", 0, text, args, None)
    setattr(record, EVENT, event)
    record.created, record.msecs, record.process = 1e9 + 0.25, 250.0, 77
    return record


def format_with(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return a line, of which everything is printable ASCII."""
    line = formatter.format(record)
    assert line.isascii()
    assert line.isprintable()
    return line


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(format_with(JsonFormatter(), record))
    return fields


def as_logfmt(record: logging.LogRecord) -> dict[str, str]:
    return parse_logfmt(format_with(LogfmtFormatter(), record))


def parse_logfmt(line: str) -> dict[str, str]:
    """Parse logfmt by its grammar, character by character, as go-logfmt does."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(line):
        end = line.index("=", at)
        name, at = line[at:end], end + 1
        assert re.fullmatch("[a-z_]+", name)
        assert name not in fields
        start = at
        if line[at : at + 1] == '"':
            at += 1
            while line[at] != '"':
                at += 2 if line[at] == "\\" else 1
            at += 1
            fields[name] = json.loads(line[start:at])
        else:
            while line[at : at + 1] not in {"", " "}:
                assert line[at] not in '"='
                at += 1
            fields[name] = line[start:at]
        assert line[at : at + 1] in {"", " "}
        at += 1
    return fields


def written_out(text: str) -> str:
    """Return a text without lone surrogates, which neither format can carry."""
    return text.encode("utf-8", "backslashreplace").decode()


# -- the lines -------------------------------------------------------------------------------------


def test_a_request_as_json() -> None:
    event = RequestDone(CLIENT, "GET", b"/a?b=1", "1.1", 200, "7-1", (), 0.01, 12)
    assert JsonFormatter().format(make_record(event)) == (
        '{"time":"2001-09-09T01:46:40.250Z","level":"info","event":"request","worker":77,'
        '"connection":"7-1","client":"127.0.0.1:5","method":"GET","path":"/a","query":"b=1",'
        '"http_version":"1.1","status":200,"duration":0.01,"sent_bytes":12}'
    )


def test_a_request_as_logfmt() -> None:
    event = RequestDone(CLIENT, "GET", b"/a?b=1", "1.1", 200, "7-1", (), 0.01, 12)
    assert LogfmtFormatter().format(make_record(event)) == (
        "time=2001-09-09T01:46:40.250Z level=info event=request worker=77 connection=7-1 "
        'client=127.0.0.1:5 method=GET path=/a query="b=1" http_version=1.1 status=200 '
        "duration=0.01 sent_bytes=12"
    )


@pytest.mark.parametrize("formatter", [JsonFormatter(), LogfmtFormatter()])
def test_an_exception_is_one_field(formatter: logging.Formatter) -> None:
    record = make_record(None, "it %s", "failed")
    try:
        "".encode("\x7f\u2028\n")
    except LookupError:
        record.exc_info = sys.exc_info()
    parse = as_json if isinstance(formatter, JsonFormatter) else as_logfmt
    fields = parse(record)
    assert fields["message"] == "it failed"
    assert fields["exception"].startswith("Traceback (most recent call last):\n  File ")
    assert fields["exception"].endswith("\nLookupError: unknown encoding: \x7f\u2028\n")


def test_a_level_without_a_name_of_its_own_has_a_name() -> None:
    record = make_record()
    record.levelno, record.levelname = TRACE, logging.getLevelName(3)
    assert as_json(record)["level"] == as_logfmt(record)["level"] == "level 3"


@pytest.mark.parametrize("kind", [JsonFormatter, LogfmtFormatter])
def test_arguments_of_a_log_configuration_are_accepted(kind: Any) -> None:
    assert "server_started" in kind(None, None, "%", True).format(make_record(ServerStarted(())))


# -- text of clients -------------------------------------------------------------------------------


@given(NASTY)
def test_no_text_breaks_a_line_or_adds_a_field(text: str) -> None:
    event = WebSocketClosed(
        (text, 5), b"/", 1000, text, Cause.PROTOCOL_ERROR, text, 1.5, 1, 2, 3, 4, 5, 0.0121
    )
    found, named = as_json(make_record(event)), as_logfmt(make_record(event))
    assert found["reason"] == named["reason"] == written_out(text) if text else True
    assert found.keys() == named.keys()
    assert {name: str(value) for name, value in found.items()} == named
    assert found["round_trip_ms"] == 12.1


@given(NASTY)
def test_no_message_breaks_a_line_or_adds_a_field(text: str) -> None:
    record = make_record(None, "%s", text)
    assert as_json(record)["message"] == as_logfmt(record)["message"] == written_out(text)


@given(TARGETS, NASTY, NASTY)
def test_no_target_method_or_name_breaks_a_line(target: bytes, method: str, text: str) -> None:
    for event in (
        RequestDone(CLIENT, method, target, text, 200),
        HandshakeRefused(None, target, 400, text, Refusal.MALFORMED, text),
        WebSocketOpened(None, target, text, (), text),
    ):
        found, named = as_json(make_record(event)), as_logfmt(make_record(event))
        assert {name: str(value) for name, value in found.items()} == named
        path, _, query = target.decode().partition("?")
        assert (found["path"], found.get("query", "")) == (path, query)
