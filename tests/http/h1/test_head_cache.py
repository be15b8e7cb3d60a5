import pytest
from hypothesis import given, strategies as st

from wsgate.fields import COMMON_NAMES
from wsgate.http.h1 import head_cache
from wsgate.http.h1.head_cache import TEMPLATES, VARYING, read_fields, template_of
from wsgate.http.h1.head_lines import FIELD_LINES
from wsgate.http.request import HeadTemplate
from wsgate.types import Header

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OTHER = b"AAAAAAAAAAAAAAAAAAAAAA=="
HANDSHAKE = (
    b"\r\nHost: a\r\nCookie: %b\r\nUpgrade: websocket\r\nConnection: Upgrade"
    b"\r\nSec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13"
)


@pytest.fixture(autouse=True)
def cold() -> None:
    forget()


def forget() -> None:
    TEMPLATES.clear()
    FIELD_LINES.clear()
    head_cache._recent.clear()


def read(lines: bytes) -> tuple[HeadTemplate, list[Header]]:
    """Read the lines of a head that is not ambiguous."""
    found = read_fields(lines)
    assert found is not None
    return found


def test_heads_that_differ_in_secrets_have_one_template() -> None:
    template, first = read(HANDSHAKE % (b"a=b", KEY))
    again, second = read(HANDSHAKE % (b"c=d; e", OTHER))
    assert again is template
    assert len(TEMPLATES) == 1
    assert [first[1], first[4]] == [(b"cookie", b"a=b"), (b"sec-websocket-key", KEY)]
    assert [second[1], second[4]] == [(b"cookie", b"c=d; e"), (b"sec-websocket-key", OTHER)]
    assert all(
        a is b for i, (a, b) in enumerate(zip(first, second, strict=True)) if i not in (1, 4)
    )
    assert template.upgrades == {b"websocket"}
    assert not template.closes


def test_no_secret_is_cached() -> None:
    read(HANDSHAKE % (b"tasty=1", KEY))
    read(b"\r\nHost: a\r\nAuthorization: Basic tasty")
    read(b"\r\nHost: a\r\nX-Token: tasty")
    read(b"\r\nHost: a\r\ncookie: tasty")
    read(b"\r\nHost: a\r\nCOOKIE: tasty")
    assert (
        len(TEMPLATES) == 3
    )  # the handshake, the authorization and the cookie, as they are spelled
    assert not any(word in repr(TEMPLATES) for word in ("tasty", KEY.decode()))
    assert "tasty" not in repr(FIELD_LINES)


PROXIED = (
    b"\r\nHost: a\r\nX-Forwarded-For: %b\r\nX-Real-IP: %b\r\nX-Forwarded-Proto: https"
    b"\r\nx-request-id: %b"
)


def test_headers_of_a_proxy_may_vary() -> None:
    template, first = read(PROXIED % (b"10.0.0.7, ::1", b"10.0.0.7", b"1f"))
    again, second = read(PROXIED % (b"10.0.0.8", b"10.0.0.8", b"2e"))
    assert again is template
    assert len(TEMPLATES) == 1
    assert first[1:] == [
        (b"x-forwarded-for", b"10.0.0.7, ::1"),
        (b"x-real-ip", b"10.0.0.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-request-id", b"1f"),
    ]
    assert [value for _, value in second[1:]] == [b"10.0.0.8", b"10.0.0.8", b"https", b"2e"]


@pytest.mark.parametrize("name", sorted(VARYING - {b"sec-websocket-key"}))
def test_each_varying_header_is_recognised_in_both_spellings(name: bytes) -> None:
    common = next(
        spelling for spelling in COMMON_NAMES if spelling != name and spelling.lower() == name
    )
    for spelling in (common, name):
        TEMPLATES.clear()
        for value in (b"1", b"2"):
            assert read(b"\r\nHost: a\r\n%b: %b" % (spelling, value))[1][1] == (name, value)
        assert len(TEMPLATES) == 1


def test_each_caller_gets_its_own_list_of_headers() -> None:
    for lines in (b"\r\nHost: a", HANDSHAKE % (b"a", KEY)):
        read(lines)[1].clear()
        assert read(lines)[1][0] == (b"host", b"a")


def test_a_varying_header_may_be_the_last_line() -> None:
    for value in (b"a", b"b"):
        assert read(b"\r\nHost: a\r\nCookie: " + value)[1][1] == (b"cookie", value)


@pytest.mark.parametrize(
    "lines",
    [
        b"x",
        b"\r\nX: a",
        b"\r\nHost: a\r\nHost: a",
        b"\r\nHost: a\r\nExpect: 100-continue",
        b"\r\nHost: a\r\nTransfer-Encoding: chunked",
        b"\r\nHost: a\r\nX y: b",
        HANDSHAKE % (b"", KEY) + b"\r\nCookie: a",
        HANDSHAKE % (b" a", KEY),
        HANDSHAKE % (b"a ", KEY),
        HANDSHAKE % (b"a\x00", KEY),
        HANDSHAKE % (b"a\rb", KEY),
        b"\r\nHost: a\r\nX-Real-IP: 1\r\nX-Real-IP: 2",
        b"\r\nHost: a\r\nX-Real-IP: 1\r\nx-real-ip: 2",
        b"\r\nHost: a\r\nX-Real-IP: \x7f",
        HANDSHAKE % (b"a\n", KEY),
        HANDSHAKE % (b"a", b""),
        HANDSHAKE % (b"a", KEY[1:] + b"\xff"),
        HANDSHAKE % (b"a", KEY + b" "),
        HANDSHAKE % (b"a", KEY) + b"\r\nSec-WebSocket-Key: " + KEY,
        HANDSHAKE % (b"a", KEY) + b"\r\nsec-websocket-key: " + KEY,
    ],
    ids=repr,
)
def test_an_ambiguous_or_special_head_has_no_template(lines: bytes) -> None:
    read(HANDSHAKE % (b"a", KEY))
    for _ in range(2):
        assert read_fields(lines) is None


def test_an_empty_varying_value_is_not_cached_with_another() -> None:
    read(HANDSHAKE % (b"a", KEY))
    template, headers = read(HANDSHAKE % (b"", b""))
    assert template.upgrades == {b"websocket"}
    assert [headers[1], headers[4]] == [(b"cookie", b""), (b"sec-websocket-key", b"")]


@pytest.mark.parametrize(
    ("value", "closes"), [(b"close", True), (b"x, Close", True), (b"x", False)]
)
def test_a_template_has_the_connection_upgrade_and_length(value: bytes, closes: bool) -> None:
    template, _ = read(b"\r\nHost: a\r\nContent-Length: 007\r\nConnection: " + value)
    assert (template.closes, template.length, template.upgrades) == (closes, 7, frozenset())


def test_the_cache_is_bounded_in_number_and_size() -> None:
    for i in range(1_500):
        template = template_of(b"\r\nHost: a\r\nUser-Agent: %d" % i)
        assert template is not None
        assert template.headers[1][1] == b"%d" % i
        assert len(TEMPLATES) <= 512
    TEMPLATES.clear()
    agent, accept = b"a" * 400, b"b" * 400
    assert template_of(b"\r\nHost: a\r\nUser-Agent: %b\r\nAccept: %b" % (agent, accept))
    assert len(TEMPLATES) == 1
    long = b"\r\nHost: a\r\nUser-Agent: %b\r\nAccept: %b\r\nOrigin: %b"
    assert template_of(long % (agent, accept, agent))
    assert len(TEMPLATES) == 1


def test_a_malformed_key_is_left_to_the_handshake() -> None:
    _, headers = read(HANDSHAKE % (b"a", KEY[1:]))
    assert headers[4] == (b"sec-websocket-key", KEY[1:])


LINES = (
    *(b"\r\nCookie: ", b"\r\ncookie: ", b"\r\nX-Forwarded-For: ", b"\r\nReferer: "),
    *(b"\r\nAccept: ", b"\r\nX-Other: ", b"\r\nSec-WebSocket-Key: ", b"\r\nAuthorization:"),
)
VALUES = (b"a", b"a b", b"", b" ", b"a\rb", b"Cookie: a", b"\xe9", b"a\x00", KEY, b"203.0.113.7")
HEADS = st.lists(
    st.tuples(st.sampled_from(LINES), st.sampled_from(VALUES)).map(b"".join), max_size=3
).map(lambda lines: b"\r\nHost: a" + b"".join(lines))


@given(st.lists(HEADS, min_size=2, max_size=8))
def test_a_head_is_read_the_same_whatever_came_before(heads: list[bytes]) -> None:
    alone = []
    for head in heads:
        forget()
        alone.append(repr(read_fields(head)))
    forget()
    assert [repr(read_fields(head)) for head in heads] == alone


def test_only_the_last_shapes_are_tried() -> None:
    for number in range(20):
        read(b"\r\nHost: %d\r\nCookie: a" % number)
    assert len(head_cache._recent) == 4
    before = list(head_cache._recent)
    _, headers = read(b"\r\nHost: 17\r\nCookie: b=c")
    assert headers == [(b"host", b"17"), (b"cookie", b"b=c")]
    assert head_cache._recent == before


def test_no_shape_has_a_secret() -> None:
    read(b"\r\nHost: a\r\nCookie: tasty\r\nAuthorization: Basic tasty")
    (shape,) = head_cache._recent
    assert "tasty" not in repr((shape._chunks, shape._last, shape.template))


def test_a_head_that_is_not_cached_leaves_no_shape() -> None:
    read(b"\r\nHost: a\r\nX-Token: secret\r\nCookie: a")
    assert head_cache._recent == []
