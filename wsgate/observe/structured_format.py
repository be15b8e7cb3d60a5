"""Log lines for programs: JSON and logfmt, one event in one line of ASCII.

No text of a client can break a line or add a field: whatever is not printable ASCII is escaped.
"""

import json
import logging
import re

from wsgate.observe.log_fields import Fields, fields_of

_encode = json.JSONEncoder(separators=(",", ":")).encode
_BARE = re.compile(r'[^\s"=\\\x00-\x20\x7f-\U0010ffff]+')  # needs no quotes in logfmt


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object (RFC 8259)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        return format_json(fields_of(record))


class LogfmtFormatter(logging.Formatter):
    """Formats a record as `name=value` pairs; a value that is not a plain word has quotes.

    Between quotes the escapes are those of JSON.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        return format_logfmt(fields_of(record))


def format_json(fields: Fields) -> str:
    """Return fields as a JSON object."""
    line = _encode(fields)
    if "\\ud" in line:  # it may be half of a pair, which strict parsers refuse
        line = _encode({name: _replace_surrogates(value) for name, value in fields.items()})
    return line.replace("\x7f", "\\u007f")  # the one control character that JSON need not escape


def format_logfmt(fields: Fields) -> str:
    """Return fields as logfmt."""
    return " ".join([f"{name}={_format_value(value)}" for name, value in fields.items()])


def _format_value(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)  # a number
    if _BARE.fullmatch(value):
        return value
    return _encode(_replace_surrogates(value)).replace("\x7f", "\\u007f")


def _replace_surrogates(value: object) -> object:
    r"""Return a text with each lone surrogate written out, such as \ud800; others as they are."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()
