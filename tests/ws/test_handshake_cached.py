"""A handshake has the same result with the caches cold and warm, and over each parser."""

from typing import NamedTuple

from hypothesis import example, given, strategies as st

from tests.drivers import PARSERS
from wsgate import fields
from wsgate.errors import RequestRefused
from wsgate.http.events import UpgradeRequest
from wsgate.http.h1 import head_cache, head_lines
from wsgate.http.h1.connection import Http1Connection
from wsgate.http.request import HeadLimits
from wsgate.ws import handshake
from wsgate.ws.deflate import negotiation
from wsgate.ws.deflate.negotiation import DeflateSettings
from wsgate.ws.handshake import PROTOCOL, check_handshake
from wsgate.ws.origins import Origins

KEYS = [b"dGhlIHNhbXBsZSBub25jZQ==", b"AAAAAAAAAAAAAAAAAAAAAA==", b"", b"dGhl", b"a b"]
# Of each name a good value first: what is drawn is often a handshake that may be accepted.
VALUES: dict[bytes, list[bytes]] = {
    b"Host": [b"a", b"b:80", b"", b"a,b"],
    b"Upgrade": [b"websocket", b"WebSocket", b"h2c, websocket", b"h2c"],
    b"Connection": [b"Upgrade", b"keep-alive, upgrade", b"close", b"close, upgrade"],
    b"Sec-WebSocket-Version": [b"13", b"8", b""],
    b"Sec-WebSocket-Key": KEYS,
    b"Origin": [b"https://a", b"http://a", b"https://b", b"null"],
    b"Cookie": [b"a=b", b"c=d", b""],
    b"X-Forwarded-For": [b"192.0.2.1", b"192.0.2.2, 192.0.2.3"],
    b"X-Mine": [b"a", b""],
    b"Sec-WebSocket-Protocol": [b"a, b", b"a", b"a, a", b"", b","],
    b"Sec-WebSocket-Extensions": [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b"foo",
        b"permessage-deflate; x",
        b"permessage-deflate;",
        b'foo; a="b',
        b"",
    ],
    b"Content-Length": [b"0", b"00", b"5"],
    b"Transfer-Encoding": [b"chunked"],
}
NEEDED = [
    b"Host",
    b"Upgrade",
    b"Connection",
    b"Sec-WebSocket-Version",
    b"Sec-WebSocket-Key",
]
SETTINGS = [None, DeflateSettings(), DeflateSettings(context_takeover=True)]
ORIGINS = [None, Origins(["https://a"]), Origins(["https://b", "none"]), Origins(["same", "none"])]


class Case(NamedTuple):
    """A head, and the settings it is checked with."""

    head: bytes
    settings: DeflateSettings | None = None
    origins: Origins | None = None
    scheme: str = "http"
    host: bytes | None = None


@st.composite
def heads_of_handshakes(draw: st.DrawFn) -> bytes:
    """Draw the head of a handshake, in most cases a valid one."""
    names = [name for name in NEEDED if draw(st.integers(0, 20))]
    names += draw(st.lists(st.sampled_from(list(VALUES)), max_size=3))
    made = []
    for name in names:
        values = VALUES[name]
        value = draw(st.sampled_from([values[0]] * 2 * len(values) + values))
        spelled = draw(st.sampled_from([name, name, name, name.lower(), name.upper()]))
        made.append(spelled + b": " + value)
    if draw(st.booleans()):
        made = draw(st.permutations(made))
    method = draw(st.sampled_from([b"GET"] * 8 + [b"get", b"POST"]))
    return b"\r\n".join([method + b" /ws HTTP/1.1", *made, b"", b""])


CASES = st.builds(
    Case,
    heads_of_handshakes(),
    st.sampled_from(SETTINGS),
    st.sampled_from(ORIGINS),
    st.sampled_from(["http", "https"]),
    st.sampled_from([None, b"a", b"b"]),
)


def forget() -> None:
    head_lines.FIELD_LINES.clear()
    head_lines.REQUEST_LINES.clear()
    head_cache.TEMPLATES.clear()
    handshake._cache.clear()
    negotiation._negotiate_cached.cache_clear()
    fields._short_list_members.cache_clear()
    head_lines._short_name.cache_clear()


def result_of(driver: type[Http1Connection], case: Case) -> object:
    """Return the result of a handshake: the handshake, or the refusal."""
    http1 = driver(HeadLimits(), PROTOCOL)
    http1.feed(case.head)
    try:
        event = http1.take()
        if not isinstance(event, UpgradeRequest):
            return event
        made = check_handshake(event.request, *case[1:])
    except RequestRefused as refused:
        return refused.status, refused.detail, refused.headers
    offered, made.subprotocols = made.subprotocols, ["changed by the app"]
    return event, made.key, offered, made.deflate, made.cross_site


GOOD = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nCookie: a=b\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
EXTENSIONS = b"Sec-WebSocket-Extensions: permessage-deflate%b\r\n"


@given(CASES, st.lists(CASES, max_size=4))
@example(Case(GOOD % b""), [])
@example(Case(GOOD % (EXTENSIONS % b";")), [Case(GOOD % (EXTENSIONS % b""))])
@example(Case(GOOD % (EXTENSIONS % b""), DeflateSettings()), [Case(GOOD % (EXTENSIONS % b""))])
@example(Case(GOOD % b"", None, ORIGINS[1]), [Case(GOOD % b"")])
@example(Case(GOOD.replace(b"GET", b"POST") % b""), [Case(GOOD % b"")])
@example(
    Case(GOOD % b"Origin: https://a\r\n", None, ORIGINS[3], "http"),
    [Case(GOOD % b"Origin: https://a\r\n", None, ORIGINS[3], "https")],
)
@example(
    Case(GOOD % b"Origin: http://a\r\n", None, ORIGINS[3], "http", b"b"),
    [Case(GOOD % b"Origin: http://a\r\n", None, ORIGINS[3], "http")],
)
@example(
    Case(GOOD % b"Origin: http://a\r\n", None, None, "http", b"b"),
    [Case(GOOD % b"Origin: http://a\r\n")],
)
def test_earlier_requests_do_not_change_the_result(case: Case, others: list[Case]) -> None:
    forget()
    cold = result_of(PARSERS["builtin"], case)
    for _ in range(2):  # with what this one itself has left
        assert result_of(PARSERS["builtin"], case) == cold
    for other in others:
        result_of(PARSERS["builtin"], other)
        result_of(PARSERS["builtin"], other._replace(head=case.head))
    for key in KEYS[:2]:
        result_of(PARSERS["builtin"], case._replace(head=case.head.replace(KEYS[0], key)))
    assert result_of(PARSERS["builtin"], case) == cold
    assert result_of(PARSERS["h11"], case) == cold
