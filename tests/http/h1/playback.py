"""Plays a client's bytes to an HTTP/1.1 connection and collects the events."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from tests.drivers import http1 as connection, send_end, send_start
from wsgate.errors import RequestRefused
from wsgate.http.events import ClientClosed, RequestBody, RequestEnd, RequestEvent, UpgradeRequest
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits, Request, head_limits
from wsgate.types import Header

LIMITS = HeadLimits()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"
EXPECT = POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
LARGE = head_limits(200_000)


@dataclass(frozen=True)
class Refused:
    """A RequestRefused, in a list of events."""

    status: int


Seen = RequestEvent | Refused


def request(
    method: str = "GET",
    target: bytes = b"/",
    *more: Header,
    version: str = "1.1",
    host: bytes | None = b"a",
) -> Request:
    path, _, query = target.partition(b"?")
    hosts = [] if host is None else [(b"host", host)]
    return Request(method, target, path, query, version, [*hosts, *more])


def is_over(seen: list[Seen]) -> bool:
    """Return whether nothing that follows is HTTP."""
    return bool(seen) and isinstance(seen[-1], (UpgradeRequest, Refused, ClientClosed))


def take_all(http1: Http1Connection, seen: list[Seen]) -> None:
    """Take what events there are, answer each request at its end, and join the parts of bodies."""
    while not is_over(seen):
        try:
            event = http1.take()
        except RequestRefused as refused:
            seen.append(Refused(refused.status))
            return
        if event is None:
            return
        if isinstance(event, RequestBody) and isinstance(seen[-1], RequestBody):
            seen[-1] = RequestBody(seen[-1].data + event.data)
        else:
            seen.append(event)
        if isinstance(event, RequestEnd):
            send_start(http1, 200, [(b"content-length", b"0")])
            send_end(http1)
            http1.next_request()


def play(pieces: Iterable[bytes], limits: HeadLimits = LIMITS, *, eof: bool = False) -> list[Seen]:
    """Return the events of a connection that is fed these pieces."""
    http1 = connection(limits)
    seen: list[Seen] = []
    for piece in pieces:
        if is_over(seen):
            last = seen[-1]
            if isinstance(last, UpgradeRequest):  # what follows goes to the WebSocket
                seen[-1] = UpgradeRequest(last.request, last.trailing + piece)
        else:
            http1.feed(piece)
            take_all(http1, seen)
    if eof:
        http1.feed_eof()
        take_all(http1, seen)
    return seen


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
NEXT_SEEN: list[Seen] = [request(target=b"/next", host=b"next"), RequestEnd()]


class Way(Enum):
    WHOLE = "whole"
    BYTEWISE = "byte by byte"
    FOLLOWED = "followed by another request"

    def play(self, raw: bytes, limits: HeadLimits = LIMITS) -> list[Seen]:
        """Return the events of complete requests, without those of what follows them."""
        if self is not Way.FOLLOWED:
            return play([raw] if self is Way.WHOLE else bytewise(raw), limits)
        seen = play([raw + NEXT], limits)
        if isinstance(seen[-1], UpgradeRequest):
            assert seen[-1].trailing.endswith(NEXT)
            return [
                *seen[:-1],
                UpgradeRequest(seen[-1].request, seen[-1].trailing.removesuffix(NEXT)),
            ]
        if not is_over(seen):
            assert seen[-2:] == NEXT_SEEN
            del seen[-2:]
        return seen


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    """Return the bytes in pieces of these sizes, and a last one."""
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    return [*pieces, raw]


def head(line: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"


def asked(raw: bytes = GET) -> Http1Connection:
    """Return a connection whose first request is complete."""
    http1 = connection(LIMITS)
    http1.feed(raw)
    while http1.take() != RequestEnd():
        pass
    return http1
