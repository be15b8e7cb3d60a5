"""The two HTTP/1.1 parsers compared: the same bytes in give the same events and bytes out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, strategies as st

from tests.drivers import PARSERS, send_body, send_end, send_start
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.http.events import (
    InformationalResponse,
    RequestBody,
    RequestEnd,
    UpgradeRequest,
    WholeResponse,
)
from wsgate.http.h1 import head_cache, head_lines
from wsgate.http.h1.builtin_parser import BuiltinHttp1Connection, _split_head
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits, Request
from wsgate.http.response import response_head
from wsgate.types import Header

LIMITS = HeadLimits()
TIGHT = HeadLimits(size=120, target=10, headers=4)


@dataclass(frozen=True)
class Answer:
    """What the server does with a request, in the order of the fields."""

    proceeds: bool = False
    closes: bool = False
    status: int = 200
    headers: list[Header] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    early: bool = False  # before the request's body has been taken
    hints: bool = False
    trailers: list[Header] = field(default_factory=list)


def transcript(
    http1: Http1Connection, pieces: Iterable[bytes], answers: list[Answer], *, eof: bool
) -> list[object]:
    """Return everything that a parser returns; each request gets the next of the answers."""
    seen: list[object] = []
    answers_left = list(answers)
    try:
        for piece in pieces:
            http1.feed(piece)
            serve(http1, answers_left, seen)
        if eof:
            http1.feed_eof()
            serve(http1, answers_left, seen)
    except RequestRefused as refused:
        answer = http1.refuse(refused, [(b"server", b"a")])
        seen += [refused.status, refused.detail, answer, http1.keeps_alive, http1.next_request()]
    return seen


def serve(http1: Http1Connection, answers_left: list[Answer], seen: list[object]) -> None:
    while (event := http1.take()) is not None:
        if isinstance(event, RequestBody) and seen and isinstance(seen[-1], RequestBody):
            seen[-1] = RequestBody(seen[-1].data + event.data)
        else:
            seen += [event]
        if answers_left and isinstance(
            event, RequestEnd if not answers_left[0].early else Request | UpgradeRequest
        ):
            give(http1, answers_left.pop(0), seen)
        if isinstance(event, RequestEnd):
            seen += [http1.next_request()]
        if not isinstance(event, Request | RequestBody | RequestEnd):
            break
    seen += [len(http1.buffer), http1.keeps_alive]


def give(http1: Http1Connection, answer: Answer, seen: list[object]) -> None:
    if answer.closes:
        http1.close_after_response()
    if http1._has_responded:
        return  # this request was answered before its end
    try:
        if answer.proceeds:
            seen += [http1.send_continue()]
        if answer.hints:
            seen += [http1.send(InformationalResponse(103, [(b"link", b"</a>")]), [])]
            seen += [http1.send_continue()] * answer.proceeds
        seen += [send_start(http1, answer.status, answer.headers)]
        seen += [send_body(http1, piece) for piece in answer.pieces]
        seen += [send_end(http1, *answer.trailers)]
    except InvalidMessage as error:
        seen += [str(error)]
        seen += [http1.refuse(RequestRefused(500, "no"), [])]
    seen += [http1.keeps_alive]


def same(
    pieces: list[bytes],
    answers: Iterable[Answer] = (),
    limits: HeadLimits = LIMITS,
    *,
    eof: bool = False,
) -> list[object]:
    """Return what both parsers return, which must be the same."""
    seen = [
        transcript(d(limits, b"websocket"), pieces, list(answers), eof=eof)
        for d in PARSERS.values()
    ]
    assert seen[1:] == seen[:-1]
    return seen[0]


# -- requests --------------------------------------------------------------------------------------

# Parts that a parser may read differently from h11, and valid ones.
METHODS = st.sampled_from(
    [b"GET"] * 5
    + [b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"SOURCE", b"SETUP", b"M-SEARCH", b"QUERY"]
    + [b"get", b"FOO", b"G@T", b"", b" GET", b"\r\nGET", b"GET ", b"HTTP/1.1"]
)
TARGETS = st.sampled_from(
    [b"/"] * 5
    + [
        b"/a?b=c",
        b"*",
        b"http://b/c",
        b"http://b:80?x",
        b"wss://b",
        b"//a",
        b"/\xe9",
        b"/\t",
        b"/a b",
    ]
    + [
        b"/#a",
        b"a:80",
        b"a",
        b"",
        b" /",
        b"/ ",
        b'/"<>\\^`{|}',
        b"/%zz",
        b"/" + b"a" * 12,
        b"http://",
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6
    + [b"HTTP/1.0"] * 2
    + [
        b"HTTP/1.2",
        b"HTTP/0.9",
        b"HTTP/2.0",
        b"http/1.1",
        b"HTTP/1",
        b"HTTP/11.1",
        b"HTTP/1.1 ",
        b"",
    ]
    + [b"RTSP/1.0", b"ICE/1.0", b"HTTP/1.10", b"HTTP/1,1"]
)
LINES = st.sampled_from(
    [
        b"Host: a",
        b"Host: b",
        b"Host: a,b",
        b"Host:",
        b"host : a",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: Upgrade",
        b"Connection: x , CLOSE",
        b"Connection:",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Upgrade: h2c, WebSocket",
        b"Expect: 100-continue",
        b"Expect: x, 100-Continue",
        b"Content-Length: 5",
        b"Content-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0",
        b"Content-Length: 0000000000000000000000005",
        b"Content-Length: 00000000000000000005",
        b"Content-Length: +5",
        b"Content-Length: 5 ",
        b"Content-Length:",
        b"Content-Length: \xc2\xb2",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding: chunked ",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding : chunked",
        b"Sec-WebSocket-Key: \xff",
        b"Proxy-Connection: close",
        b"X: a",
        b"X:\t a \t b\t ",
        b"X: caf\xc3\xa9\xff",
        b"X:",
        b"X",
        b": a",
        b"X(): a",
        b"X y: a",
        b"X\xe9: a",
        b" folded: a",
        b"\tfolded",
        b"x-LONG-name_!#$%&'*+.^`|~0: :",
    ]
)
TAILS = st.sampled_from(
    [
        b"",
        b"hello",
        b"hell",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0;x\r\nA: b\r\n\r\n",
        b"5\r\nhello!!0\r\n\r\n",
        b"5\r\nhello\r!",
        b"5 \r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nA b: c\r\n\r\n",
        b"\x81\x80abcd",
        b"\r\n",
    ]
)


PLAIN = st.sampled_from(
    [b"", b"GET / HTTP/1.1", b"HEAD /a HTTP/1.1", b"POST /?b HTTP/1.1", b"POST / HTTP/1.0"]
)
POST_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD_REQUESTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO http://b HTTP/1.2\r\nHost: a\r\nX: b\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        POST_CHUNKED + b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\x81\x80abcd",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a request, any part of which may be wrong."""
    lines = draw(st.lists(LINES, max_size=5))
    if draw(st.booleans()):
        lines.insert(0, b"Host: a")
    line = draw(PLAIN) or b" ".join([draw(METHODS), draw(TARGETS), draw(VERSIONS)])
    return b"\r\n".join([line, *lines, b"", draw(TAILS)])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw requests with a few bytes of them changed."""
    raw = bytearray(b"".join(draw(st.lists(GOOD_REQUESTS | requests(), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        byte = draw(
            st.sampled_from([b"\r", b"\n", b" ", b"\t", b":", b"\x00", b"\xff"]) | st.binary()
        )
        raw[at : at + draw(st.integers(0, 2))] = byte
    return bytes(raw)


STATUSES = st.sampled_from([200, 200, 200, 201, 204, 304, 299, 413, 426, 999, 101, 1000])
HEADERS = st.lists(
    st.sampled_from(
        [
            (b"content-length", b"5"),
            (b"content-length", b"5"),
            (b"content-length", b"6"),
            (b"content-length", b"05, 05"),
            (b"content-length", b"x"),
            (b"transfer-encoding", b"chunked"),
            (b"transfer-encoding", b"gzip"),
            (b"connection", b"close"),
            (b"connection", b"Keep-Alive, X"),
            (b"connection", b"upgrade"),
            (b"host", b"a"),
            (b"x-mine", b""),
            (b"x-mine", b"caf\xe9"),
            (b"a b", b"c"),
            (b"a:b", b"c"),
            (b"a", b"b\r\nc: d"),
            (b"a", b"b\nc"),
        ]
    ),
    max_size=4,
)
ANSWERS = st.builds(
    Answer,
    st.booleans(),
    st.booleans(),
    STATUSES,
    HEADERS,
    st.lists(st.sampled_from([b"hello", b"he", b"llo", b""]), max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([[], [], [(b"x-sum", b"1"), (b"x-sum", b"\xe9"), (b"etag", b"")]]),
)
GOOD = Answer(headers=[(b"content-length", b"5")], pieces=[b"hello"])


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(raw[:size])
        raw = raw[size:]
    return [*pieces, raw]


@given(
    raw=mutated(),
    sizes=st.lists(st.integers(1, 60), max_size=6),
    answers=st.lists(st.just(GOOD) | ANSWERS, max_size=3),
    limits=st.sampled_from([LIMITS, LIMITS, TIGHT]),
    eof=st.booleans(),
)
@example(
    raw=b"HEAD / HTTP/1.0\r\nHost: a\r\n\r\n",
    sizes=[],
    answers=[Answer()],
    limits=LIMITS,
    eof=False,
)
@example(raw=b"GET / HTTP/1.1\r\n\r\n", sizes=[], answers=[], limits=LIMITS, eof=False)
def test_the_parsers_agree(
    raw: bytes, sizes: list[int], answers: list[Answer], limits: HeadLimits, eof: bool
) -> None:
    same(cut(raw, sizes), answers, limits, eof=eof)


@given(raw=mutated())
def test_the_parsers_agree_byte_by_byte(raw: bytes) -> None:
    same([raw[i : i + 1] for i in range(len(raw))], [GOOD] * 3)


# -- cached heads ----------------------------------------------------------------------------------


@pytest.fixture
def cold() -> None:
    head_lines.FIELD_LINES.clear()
    head_lines.REQUEST_LINES.clear()
    head_cache.TEMPLATES.clear()


@given(
    raws=st.lists(mutated(), min_size=2, max_size=4),
    answers=st.lists(st.just(GOOD) | ANSWERS, max_size=2),
    tail=TAILS,
)
def test_the_parsers_agree_when_heads_are_cached(
    raws: list[bytes], answers: list[Answer], tail: bytes
) -> None:
    # The caches are shared by all connections, so each input is played twice.
    first = [same([raw], answers) for raw in raws]
    assert [same([raw], answers) for raw in raws] == first
    for raw in raws:
        same([raw + tail], answers)
        same([raw[i : i + 1] for i in range(len(raw))], answers)


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize(
    "bad",
    [
        b"Host: b",
        b"Host: a b",
        b"X y: a",
        b" folded",
        b"Upgrade: \xff",
        b"Cookie: a\x01",
        b"Cookie: \r",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Cookie: e=f",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5, 5",
        b"Expect: 100-continue",
        b"Connection: close",
    ],
    ids=repr,
)
def test_a_head_that_shares_lines_with_a_cached_one_is_checked_itself(bad: bytes) -> None:
    split = BROWSER.split(b"\r\n")
    for at in range(1, len(split) - 1):
        for rest in (split[at:], split[at + 1 :]):  # inserted, and in place of another line
            same([BROWSER])
            same([b"\r\n".join([*split[:at], bad, *rest])])
    (upgrade, *_) = same([BROWSER])
    assert isinstance(upgrade, UpgradeRequest)


@pytest.mark.usefixtures("cold")
def test_bytes_after_a_cached_head_are_not_part_of_it() -> None:
    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    seen = same([get * 3], [GOOD] * 3)
    assert sum(isinstance(event, Request) for event in seen) == 3
    (upgrade, *_) = same([BROWSER + b"\x81\x80abcd"])
    assert isinstance(upgrade, UpgradeRequest)
    assert upgrade.trailing == b"\x81\x80abcd"


@pytest.mark.usefixtures("cold")
@pytest.mark.parametrize(
    "limits", [HeadLimits(size=60), HeadLimits(target=3), HeadLimits(headers=2)]
)
def test_a_cached_head_is_held_to_the_limits_of_its_connection(limits: HeadLimits) -> None:
    head = b"GET /abc HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nPragma: no-cache\r\n\r\n"
    (request, *_) = same([head])
    assert isinstance(request, Request)
    (status, *_) = same([head], limits=limits)
    assert status in (414, 431)


PLACES = [
    b"GET%b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G%bT / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.%b\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1%b\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n%bX: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX%bY: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX:%ba\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a%bb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a%b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a%b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b2\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked%b\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("place", PLACES, ids=repr)
def test_the_parsers_agree_on_any_byte_in_any_place(place: bytes) -> None:
    for byte in range(256):
        for times in (1, 2):
            same([place.replace(b"%b", bytes([byte]) * times)], [GOOD])


# -- heads that the built-in parser reads without h11 ----------------------------------------------

BROWSER = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: example.org:8000\r\nConnection: keep-alive, Upgrade\r\n"
    b"Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11)\r\n"
    b"Upgrade: websocket\r\nOrigin: http://example.org:8000\r\nSec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nCookie: a=b; c=d\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"DELETE /a HTTP/1.1\r\nHost: a\r\nX-Mine: b\r\nX-Mine: c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        BROWSER,
    ],
)
def test_a_common_head_is_not_left_to_h11(head: bytes) -> None:
    assert _split_head(head) is not None
    (request, *_) = same([head])
    assert isinstance(request, Request | UpgradeRequest)


def test_the_names_in_a_head_are_shared_objects() -> None:
    found = []
    for parser in PARSERS.values():
        http1 = parser(LIMITS, b"websocket")
        http1.feed(BROWSER)
        upgrade = http1.take()
        assert isinstance(upgrade, UpgradeRequest)
        found.append([name for name, _ in upgrade.request.headers])
    assert all(a is b for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    "send",
    [
        lambda http1: send_start(http1, 200, []),
        lambda http1: http1.send(WholeResponse(response_head(200, []), b"a"), []),
        send_end,
    ],
    ids=["start", "whole", "end"],
)
def test_an_event_that_is_not_allowed_ends_the_connection(
    send: Callable[[Http1Connection], bytes],
) -> None:
    http1 = BuiltinHttp1Connection(LIMITS, b"websocket")
    http1.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(http1.take(), Request)
    assert send_start(http1, 200, [(b"content-length", b"0")])
    assert send_end(http1) == b""
    with pytest.raises(InvalidMessage, match="that is complete"):
        send(http1)
    assert not http1.keeps_alive
    assert http1.refuse(RequestRefused(500, "no"), []) == b""
