"""The drivers of HTTP/1.1, each of which the tests run over."""

from wsgate.protocol.http1 import Http1
from wsgate.protocol.http1_fast import FastHttp1
from wsgate.protocol.http1_h11 import H11Http1
from wsgate.protocol.request import HeadLimits

DRIVERS: dict[str, type[Http1]] = {"h11": H11Http1, "fast": FastHttp1}


class Chosen:
    """The driver that a module's tests run over now."""

    driver: type[Http1] = H11Http1


def http1(limits: HeadLimits) -> Http1:
    """Return a connection of the chosen driver."""
    return Chosen.driver(limits, b"websocket")
