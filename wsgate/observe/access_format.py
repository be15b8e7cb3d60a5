"""Lines of the access log in a format of the operator's: `--access-log-format`.

The placeholders are those of gunicorn's `access_log_format`, those of uvicorn's formatter, and the
names of the fields of the formats `json` and `logfmt`.
"""

import base64
import binascii
import functools
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from wsgate.loggers import event_of
from wsgate.observe.access_log import Logged, split_line
from wsgate.observe.events import RequestDone, WebSocketClosed, WebSocketOpened
from wsgate.observe.log_fields import FIELDS, Fields, fields_of
from wsgate.observe.log_format import ConsoleFormatter, escape, format_address, level_prefix
from wsgate.types import Header

_PIECE = re.compile(r"%(?:(%)|\((\{[^}]*\}[ioe]|[^)]*)\)([-+ #0]*+\d*+(?:\.\d*+)?)[sd])?")
_NOTHING = "-"


class AccessLineFormatter(logging.Formatter):
    """Formats the lines of the access log; what is logged besides has the format of the console.

    Args:
        fmt: the format.
        use_colors: show levels in colour.

    Raises:
        ValueError: the format has an unknown placeholder.
    """

    def __init__(self, fmt: str, *, use_colors: bool = False) -> None:
        super().__init__()
        self._template, self._values = _compile(fmt)
        self._other = ConsoleFormatter(has_colours=use_colors)
        self._has_colours = use_colors

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        event = event_of(record)
        if not isinstance(event, Logged):
            return self._other.format(record)
        line = _Line(record, event, has_colours=self._has_colours)
        return self._template % tuple([_quote(value(line)) for value in self._values])


def _quote(value: str) -> str:
    """Return a value for between quotes, as gunicorn has it."""
    return value.replace('"', '\\"')


class _Line:
    """One line: what placeholders are replaced by. All texts are escaped but for their quotes."""

    def __init__(self, record: logging.LogRecord, event: Logged, *, has_colours: bool) -> None:
        self.record = record
        self.event = event
        self._has_colours = has_colours

    @functools.cached_property
    def fields(self) -> Fields:
        """The fields of the formats json and logfmt."""
        return fields_of(self.record)

    def field(self, name: str) -> str:
        """Return a field's value."""
        return escape(str(self.fields.get(name, _NOTHING)))

    # -- of gunicorn -------------------------------------------------------------------------------

    def host(self) -> str:
        """Return the client's address without its port."""
        client = self.event.client
        return _NOTHING if client is None else escape(client[0])

    def user(self) -> str:
        """Return the name that the client has sent for HTTP's basic authentication."""
        scheme, _, credentials = _join(self.event.headers, b"authorization").partition(b" ")
        if scheme.lower() != b"basic":
            return _NOTHING
        try:
            name = base64.b64decode(credentials.strip()).partition(b":")[0]
        except binascii.Error:
            return _NOTHING
        return escape(name.decode("utf-8", "backslashreplace")) or _NOTHING

    def date(self) -> str:
        """Return the local time in brackets."""
        return _format_date(int(self.record.created))

    def method(self) -> str:
        """Return the method, which is GET for a WebSocket."""
        return escape(self.event.method) if isinstance(self.event, RequestDone) else "GET"

    def protocol(self) -> str:
        """Return the version of HTTP."""
        version = self.event.http_version if isinstance(self.event, RequestDone) else "1.1"
        return f"HTTP/{version}"

    def target(self) -> str:
        """Return the request target."""
        return escape(self.event.target.decode("ascii"))

    def request_line(self) -> str:
        """Return the request line."""
        return f"{self.method()} {self.target()} {self.protocol()}"

    def path(self) -> str:
        """Return the request target without its query."""
        return self.target().partition("?")[0]

    def query(self) -> str:
        """Return the query, which may be empty."""
        return self.target().partition("?")[2]

    def status(self) -> str:
        """Return the status; of a WebSocket that has ended, its close code."""
        if isinstance(self.event, WebSocketOpened):
            return str(HTTPStatus.SWITCHING_PROTOCOLS.value)
        if isinstance(self.event, WebSocketClosed):
            return str(self.event.code)
        return str(self.event.status)

    def size(self) -> int:
        """Return the bytes that were sent."""
        return self.event.sent_bytes if isinstance(self.event, _Timed) else 0

    def time_in(self, format_: Callable[[float], str]) -> str:
        """Return the duration, if there is one."""
        return format_(self.event.duration) if isinstance(self.event, _Timed) else _NOTHING

    def request_header(self, name: bytes) -> str:
        """Return a header of the request; several are joined."""
        return _show(_join(self.event.headers, name))

    def response_header(self, name: bytes) -> str:
        """Return a header of the response."""
        event = self.event
        return _show(_join(event.response_headers if isinstance(event, RequestDone) else (), name))

    # -- of uvicorn --------------------------------------------------------------------------------

    def level_prefix(self) -> str:
        """Return the level as the text log shows it."""
        return level_prefix(self.record, has_colours=self._has_colours)


_Timed = RequestDone | WebSocketClosed


def _join(headers: Sequence[Header], name: bytes) -> bytes:
    return b", ".join([value for one, value in headers if one.lower() == name])


def _show(value: bytes) -> str:
    return escape(value.decode("latin-1")) or _NOTHING


@functools.lru_cache(maxsize=8)
def _format_date(second: int) -> str:
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(second))


# -- the format ------------------------------------------------------------------------------------

_Value = Callable[[_Line], str]

_standard = logging.Formatter()
_VALUES: dict[str, _Value] = {
    **{name: functools.partial(_Line.field, name=name) for name in FIELDS},
    # gunicorn
    "h": _Line.host,
    "l": lambda _: _NOTHING,
    "u": _Line.user,
    "t": _Line.date,
    "r": _Line.request_line,
    "m": _Line.method,
    "U": _Line.path,
    "q": _Line.query,
    "H": _Line.protocol,
    "s": _Line.status,
    "B": lambda line: str(line.size()),
    "b": lambda line: str(line.size() or _NOTHING),
    "f": lambda line: line.request_header(b"referer"),
    "a": lambda line: line.request_header(b"user-agent"),
    "T": lambda line: line.time_in(lambda seconds: str(int(seconds))),
    "M": lambda line: line.time_in(lambda seconds: str(int(seconds * 1e3))),
    "D": lambda line: line.time_in(lambda seconds: str(int(seconds * 1e6))),
    "L": lambda line: line.time_in("{:.6f}".format),
    "p": lambda line: f"<{line.record.process}>",
    # uvicorn
    "client_addr": lambda line: escape(format_address(line.event.client)),
    "request_line": lambda line: split_line(line.record)[1],
    "status_code": lambda line: split_line(line.record)[2],
    "levelprefix": _Line.level_prefix,
    # logging
    "asctime": lambda line: _standard.formatTime(line.record),
    "levelname": lambda line: line.record.levelname,
    "name": lambda line: line.record.name,
    "process": lambda line: str(line.record.process),
    "message": lambda line: line.record.getMessage(),
}


def _compile(text: str) -> tuple[str, list[_Value]]:
    """Return a template for the % operator, and the functions that return its values."""
    template, values, end = [], [], 0
    for found in _PIECE.finditer(text):
        template.append(text[end : found.start()])
        end = found.end()
        percent, name, flags = found.groups()
        if percent:
            template.append("%%")
        elif name is None:
            raise ValueError(f"{text[found.start() :][:20]!r} is no placeholder; a % sign is %%")
        else:
            template.append(f"%{flags}s")
            values.append(_value_of(name))
    return "".join([*template, text[end:]]), values


def _value_of(name: str) -> _Value:
    if name.startswith("{") and name.endswith(("}i", "}o", "}e")):
        return _value_of_header(name[1:-2], name[-1])
    if name not in _VALUES:
        raise ValueError(f"unknown placeholder %({escape(name)})s")
    return _VALUES[name]


def _value_of_header(name: str, kind: str) -> _Value:
    """Return the value of `{name}i`, `{name}o` or `{name}e`."""
    if kind == "e":
        variable = escape(os.environ.get(name, "")) or _NOTHING
        return lambda _: variable
    header = name.lower().encode("utf-8", "replace")
    if kind == "i":
        return lambda line: line.request_header(header)
    return lambda line: line.response_header(header)
