"""Any bytes in any pieces: what must hold for a connection whatever a client sends."""

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.drivers import http1 as connection
from tests.http.h1.playback import (
    ASK,
    CHUNKED,
    GET,
    LIMITS,
    NEXT,
    POST,
    Seen,
    bytewise,
    cut,
    play,
    request,
)
from wsgate.errors import RequestRefused
from wsgate.http.events import RequestBody, RequestEnd
from wsgate.http.request import HeadLimits

pytestmark = pytest.mark.usefixtures("parser")

FRAGMENTS = st.sampled_from(
    [
        GET,
        ASK,
        POST,
        CHUNKED,
        NEXT,
        b"GET / HTTP/1.1\r\n",
        b"HEAD / HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.0\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        b" folded\r\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"a;ext=1\r\n0123456789\r\n",
        b"0\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"\x00",
    ]
)
STREAMS = st.lists(FRAGMENTS | st.binary(max_size=5), max_size=12).map(b"".join)
TIGHT = HeadLimits(size=60, target=6, headers=3)


@settings(max_examples=200, deadline=None)
@given(
    raw=STREAMS | st.binary(max_size=60),
    sizes=st.lists(st.integers(1, 30), max_size=10),
    limits=st.sampled_from([LIMITS, TIGHT]),
    eof=st.booleans(),
)
@example(
    raw=CHUNKED + b"0\r\n" + b"A: bcdefgh\r\n" * 7 + b"\r\n", sizes=[], limits=TIGHT, eof=False
)
@example(raw=b"GET /aaaaaaaa HTTP/1.1\r\n", sizes=[70], limits=TIGHT, eof=False)
def test_any_bytes_in_any_pieces_give_the_same_events(
    raw: bytes, sizes: list[int], limits: HeadLimits, eof: bool
) -> None:
    expected = play([raw], limits, eof=eof)
    assert play(cut(raw, sizes), limits, eof=eof) == expected
    assert play(bytewise(raw), limits, eof=eof) == expected


@settings(max_examples=100, deadline=None)
@given(
    bodies=st.lists(st.none() | st.lists(st.binary(min_size=1, max_size=40)), max_size=4),
    sizes=st.lists(st.integers(1, 60), max_size=20),
)
def test_any_requests_are_parsed_as_they_were_sent(
    bodies: list[list[bytes] | None], sizes: list[int]
) -> None:
    raw = b""
    expected: list[Seen] = []
    for chunks in bodies:
        if chunks is None:
            raw += GET
            expected.append(request())
        else:
            raw += CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
            expected.append(request("POST", b"/", (b"transfer-encoding", b"chunked")))
            expected += [RequestBody(b"".join(chunks))] * bool(chunks)
        expected.append(RequestEnd())
    assert play(cut(raw, sizes)) == expected


@settings(deadline=None)
@given(raw=STREAMS)
def test_any_request_can_be_refused(raw: bytes) -> None:
    http1 = connection(LIMITS)
    http1.feed(raw)
    refused = RequestRefused(400, "no")
    try:
        while http1.take() is not None:
            pass
    except RequestRefused as caught:
        refused = caught
    out = http1.refuse(refused, [])
    assert out.startswith(b"HTTP/1.1 %d " % refused.status)
    assert out.lower().count(b"\r\nconnection: close\r\n") == 1
    assert not http1.keeps_alive
