"""The two HTTP/1.1 parsers, with which each test runs, and helpers to send a response."""

from typing import Any

from wsgate.http.events import ResponseBody, ResponseEnd, ResponseStart
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.h1.h11_parser import H11Http1Connection
from wsgate.http.request import HeadLimits
from wsgate.http.response import response_head
from wsgate.types import Header

PARSERS: dict[str, type[Http1Connection]] = {
    "h11": H11Http1Connection,
    "builtin": BuiltinHttp1Connection,
}


class Chosen:
    """The parser of the current test."""

    parser: type[Http1Connection] = H11Http1Connection


def http1(limits: HeadLimits) -> Http1Connection:
    """Return a connection with the chosen parser."""
    return Chosen.parser(limits, b"websocket")


def send_start(http1: Http1Connection, status: int, headers: Any) -> bytes:
    """Send the head of a response."""
    return http1.send(ResponseStart(response_head(status, headers), b""), [])


def send_body(http1: Http1Connection, data: bytes) -> bytes:
    """Send a part of the response's body."""
    return http1.send(ResponseBody(data), [])


def send_end(http1: Http1Connection, *trailers: Header) -> bytes:
    """End the response."""
    return http1.send(ResponseEnd(b"", list(trailers)), [])
