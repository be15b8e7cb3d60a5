"""The drivers of HTTP/1.1, each of which the tests run over."""

from wsgate.http.h1.builtin_parser import FastHttp1
from wsgate.http.h1.connection import Http1
from wsgate.http.h1.h11_parser import H11Http1
from wsgate.http.request import HeadLimits

DRIVERS: dict[str, type[Http1]] = {"h11": H11Http1, "fast": FastHttp1}


class Chosen:
    """The driver that a module's tests run over now."""

    driver: type[Http1] = H11Http1


def http1(limits: HeadLimits) -> Http1:
    """Return a connection of the chosen driver."""
    return Chosen.driver(limits, b"websocket")
