"""Checks of a request's head: framing, Host, target and version."""

import pytest
from hypothesis import given, settings, strategies as st

from wsgate.config import Config
from wsgate.errors import RequestRefused
from wsgate.fields import combine_headers
from wsgate.http.request import (
    HeadLimits,
    Request,
    build_request as build_from_fields,
    head_limits,
)
from wsgate.types import Header

HOST = (b"host", b"example.com")


def build_request(method: bytes, target: bytes, version: bytes, headers: list[Header]) -> Request:
    return build_from_fields(method, target, version, headers, combine_headers(headers))


def refused(
    *,
    method: bytes = b"GET",
    target: bytes = b"/",
    version: bytes = b"1.1",
    headers: list[Header] | None = None,
) -> int:
    """Return the status with which the head is refused."""
    with pytest.raises(RequestRefused) as caught:
        build_request(method, target, version, [HOST] if headers is None else headers)
    assert caught.value.detail.isprintable()
    assert caught.value.headers == ()
    return caught.value.status


def test_a_simple_request() -> None:
    headers = [HOST, (b"accept", b"*/*"), (b"accept", b"a")]
    assert build_request(b"GET", b"/a%20b?c=d?e", b"1.1", headers) == Request(
        method="GET",
        target=b"/a%20b?c=d?e",
        raw_path=b"/a%20b",
        query=b"c=d?e",
        version="1.1",
        headers=headers,
    )


def test_the_default_limits() -> None:
    assert HeadLimits() == HeadLimits(size=65_536, target=8_192, headers=100)
    assert head_limits(Config().limit_request_head) == HeadLimits()


@pytest.mark.parametrize("size", [1, 100, 8_192, 65_535, 65_536])
def test_a_head_of_the_default_size_or_smaller_has_the_default_limits(size: int) -> None:
    assert head_limits(size) == HeadLimits(size, target=8_192, headers=100)


@pytest.mark.parametrize(
    ("size", "headers"), [(65_537, 1_024), (65_600, 1_025), (200_000, 3_125), (2**62, 2**56)]
)
def test_a_larger_head_size_raises_the_other_limits(size: int, headers: int) -> None:
    assert head_limits(size) == HeadLimits(size, target=size, headers=headers)


@pytest.mark.parametrize("size", [100, 65_536, 65_537, 200_000])
def test_an_explicit_limit_applies_at_any_head_size(size: int) -> None:
    assert head_limits(size, 7, 8) == HeadLimits(size, 7, 8)
    assert head_limits(size, target=7).target == 7
    assert head_limits(size, target=7).headers == head_limits(size).headers
    assert head_limits(size, headers=8).headers == 8
    assert head_limits(size, headers=8).target == head_limits(size).target


# -- version -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "served_as"), [(b"1.0", "1.0"), (b"1.1", "1.1"), (b"1.2", "1.1"), (b"1.9", "1.1")]
)
def test_another_minor_version_is_served_as_http_1_1(version: bytes, served_as: str) -> None:
    # RFC 9110 section 6.2: "a recipient that receives a message with a major version number that
    # it implements and a minor version number higher than what it implements SHOULD process the
    # message as if it were in the highest minor version within that major version".
    assert build_request(b"GET", b"/", version, [HOST]).version == served_as


@pytest.mark.parametrize("version", [b"0.9", b"2.0", b"3.0", b"9.9"])
def test_another_major_version_is_505(version: bytes) -> None:
    assert refused(version=version) == 505
    assert refused(version=version, headers=[]) == 505


# -- framing -------------------------------------------------------------------------------------

CHUNKED = (b"transfer-encoding", b"chunked")


def test_chunked_alone_is_accepted() -> None:
    assert build_request(b"POST", b"/", b"1.1", [HOST, CHUNKED]).headers == [HOST, CHUNKED]


@pytest.mark.parametrize("length", [b"0", b"5"])
@pytest.mark.parametrize("backwards", [False, True], ids=["length first", "encoding first"])
def test_content_length_with_transfer_encoding_is_refused(length: bytes, backwards: bool) -> None:
    # RFC 9112 section 6.3: "Such a message might indicate an attempt to perform request smuggling".
    headers = [HOST, (b"content-length", length), CHUNKED]
    assert refused(method=b"POST", headers=headers[::-1] if backwards else headers) == 400


def test_a_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert refused(method=b"POST", version=b"1.0", headers=[HOST, CHUNKED]) == 400


# -- Host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [b"1.1", b"1.2"])
def test_http_1_1_needs_a_host(version: bytes) -> None:
    assert refused(version=version, headers=[(b"accept", b"*/*")]) == 400


def test_http_1_0_needs_no_host() -> None:
    assert build_request(b"GET", b"/", b"1.0", []).headers == []


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    "hosts",
    [[b"a", b"b"], [b"a", b"a"], [b""], [b"a b"], [b"a/b"], [b"u@a"], [b"a:99999"], [b"caf\xe9"]],
    ids=repr,
)
def test_two_hosts_and_an_invalid_one_are_refused(version: bytes, hosts: list[bytes]) -> None:
    assert refused(version=version, headers=[(b"host", host) for host in hosts]) == 400


# -- bytes above 0x7f ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    ],
)
@pytest.mark.parametrize("char", [b"\x80", b"\xe9", b"\xff", "é".encode()], ids=repr)
def test_a_byte_above_0x7f_is_refused_in_fields_of_tokens(name: bytes, char: bytes) -> None:
    headers = [h for h in (HOST,) if h[0] != name] + [(name, b"a" + char)]
    assert refused(headers=headers) == 400


@pytest.mark.parametrize(
    "name", [b"cookie", b"origin", b"user-agent", b"x-name", b"sec-websocket-other"]
)
def test_a_byte_above_0x7f_is_valid_in_other_fields(name: bytes) -> None:
    # RFC 9110 section 5.5: "A recipient SHOULD treat other allowed octets in field content (i.e.,
    # obs-text) as opaque data."
    headers = [HOST, (name, b"\x80\xff")]
    assert build_request(b"GET", b"/", b"1.1", headers).headers == headers


# -- target --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/?", b"/", b""),
        (b"/a/b", b"/a/b", b""),
        (b"//evil.example/a", b"//evil.example/a", b""),
        (b"/a?b", b"/a", b"b"),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/a%23b", b"/a%23b", b""),
        (b"/a%3Fb?%3f", b"/a%3Fb", b"%3f"),
        (b"/../a", b"/../a", b""),
        (b"/http://a", b"/http://a", b""),
        (b"/*", b"/*", b""),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_the_origin_form(method: bytes, target: bytes, path: bytes, query: bytes) -> None:
    request = build_request(method, target, b"1.1", [HOST])
    assert (request.target, request.raw_path, request.query) == (target, path, query)
    assert request.headers == [HOST]


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"http://a.example/b?c", b"a.example", b"/b", b"c"),
        (b"HTTP://A.example:80/", b"A.example:80", b"/", b""),
        (b"https://a.example", b"a.example", b"/", b""),
        (b"http://a.example?c", b"a.example", b"/", b"c"),
        (b"ws://a.example/b", b"a.example", b"/b", b""),
        (b"wss://[::1]:8000/b?", b"[::1]:8000", b"/b", b""),
        (b"http://a.example//b", b"a.example", b"//b", b""),
        (b"http://a.example/b@c:d", b"a.example", b"/b@c:d", b""),
    ],
    ids=repr,
)
def test_an_absolute_target_replaces_the_host(
    target: bytes, host: bytes, path: bytes, query: bytes
) -> None:
    # RFC 9112 section 3.2.2.
    headers = [(b"accept", b"*/*"), HOST, (b"x-host", b"kept")]
    request = build_request(b"GET", target, b"1.1", headers)
    assert request.headers == [(b"host", host), (b"accept", b"*/*"), (b"x-host", b"kept")]
    assert (request.target, request.raw_path, request.query) == (target, path, query)
    assert HOST in headers, "the caller's list is left alone"


def test_an_absolute_target_adds_a_host_in_http_1_0() -> None:
    assert build_request(b"GET", b"http://a/", b"1.0", []).headers == [(b"host", b"a")]


def test_an_absolute_target_still_needs_a_host_header() -> None:
    assert refused(target=b"http://a/", headers=[]) == 400
    assert refused(target=b"http://a/", headers=[(b"host", b"a b")]) == 400


def test_the_asterisk_form() -> None:
    request = build_request(b"OPTIONS", b"*", b"1.1", [HOST])
    assert (request.target, request.raw_path, request.query) == (b"*", b"*", b"")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        # RFC 9112 section 3.2.4: "The "asterisk-form" of request-target is only used for a
        # server-wide OPTIONS request".
        (b"GET", b"*"),
        (b"OPTIONS", b"**"),
        (b"OPTIONS", b"*?a"),
        # RFC 9112 section 3.2.3: "The "authority-form" of request-target is only used for CONNECT
        # requests", which are a proxy's.
        (b"GET", b"example.com:80"),
        (b"CONNECT", b"example.com:80"),
        (b"CONNECT", b"/"),
        (b"CONNECT", b"*"),
        (b"CONNECT", b"http://a/"),
        # RFC 9112 section 3.2.1: an absolute-path starts with a slash.
        (b"GET", b"a"),
        (b"GET", b"?a"),
        (b"GET", b""),
        (b"GET", b"\\a"),
        # RFC 9112 section 3.2: no form has a fragment.
        (b"GET", b"/a#b"),
        (b"GET", b"/#"),
        (b"GET", b"http://a/#b"),
        (b"GET", b"http://a#b"),
        # RFC 9110 section 4.2.4: "a recipient SHOULD parse for userinfo and treat its presence as
        # an error; it is likely being used to obscure the authority".
        (b"GET", b"http://user@a/"),
        (b"GET", b"http://user:pass@a/"),
        (b"GET", b"http://a@/"),
        # RFC 9110 section 4.2.1: "A recipient that processes such a URI reference [with an empty
        # host identifier] MUST reject it as invalid."
        (b"GET", b"http://"),
        (b"GET", b"http:///a"),
        (b"GET", b"http://:80/a"),
        (b"GET", b"http:/a"),
        (b"GET", b"http:a"),
        (b"GET", b"http://a b/"),
        (b"GET", b"http://a:99999/"),
        (b"GET", b"http://[::1/"),
        (b"GET", b"ftp://a/"),
        (b"GET", b"file:///etc/passwd"),
        (b"GET", b"javascript:alert(1)"),
    ],
    ids=repr,
)
def test_an_invalid_target_is_refused(method: bytes, target: bytes) -> None:
    assert refused(method=method, target=target) == 400


VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)


@settings(deadline=None)
@given(
    st.sampled_from([b"GET", b"OPTIONS", b"CONNECT", b"POST"]),
    VISIBLE | VISIBLE.map("/".__add__) | VISIBLE.map("http://".__add__),
    st.sampled_from([b"1.0", b"1.1", b"1.5", b"2.0"]),
    st.lists(
        st.tuples(
            st.sampled_from([b"host", b"transfer-encoding", b"content-length", b"x"]),
            st.binary(max_size=4) | st.just(b"a"),
        ),
        max_size=3,
    ),
)
def test_any_head_becomes_a_request_or_is_refused(
    method: bytes, target: str, version: bytes, headers: list[Header]
) -> None:
    try:
        request = build_request(method, target.encode(), version, headers)
    except RequestRefused:
        return
    assert request.raw_path.startswith(b"/") or target == "*"
    assert b"#" not in request.raw_path + request.query
    assert [name for name, _ in request.headers].count(b"host") <= 1


def test_the_host_is_replaced_at_its_place_or_added() -> None:
    headers = [(b"a", b"1"), (b"host", b"inner"), (b"b", b"2")]
    request = Request("GET", b"/", b"/", b"", "1.1", headers)
    assert request.host == b"inner"
    request.replace_host(b"example.com")
    assert request.host == b"example.com"
    assert request.headers == [(b"a", b"1"), (b"host", b"example.com"), (b"b", b"2")]
    bare = Request("GET", b"/", b"/", b"", "1.0", [(b"a", b"1")])
    assert bare.host is None
    bare.replace_host(b"example.com")
    assert bare.headers == [(b"host", b"example.com"), (b"a", b"1")]
