"""Which origins may connect."""

import pytest
from hypothesis import given, strategies as st

from wsgate.errors import ConfigError, RequestRefused
from wsgate.http.request import Request
from wsgate.ws.handshake import check_handshake
from wsgate.ws.origins import Origins

SITE = "https://example.com"


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        (SITE, "https://example.com"),
        ("HTTPS://Example.COM", "https://example.com"),
        (SITE, "HTTPS://EXAMPLE.com"),
        (SITE + "/", "https://example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("null", "null"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:8443", "https://a.example.com:8443"),
    ],
)
def test_an_allowed_origin_may_connect(allowed: str, origin: str) -> None:
    assert Origins([allowed]).allow([origin.encode()])
    assert Origins(["https://other.org", allowed, "none"]).allow([origin.encode()])


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        (SITE, "http://example.com"),
        (SITE, "https://example.com:444"),
        (SITE, "https://example.com/"),
        (SITE, "https://www.example.com"),
        (SITE, "https://example.com.evil.org"),
        (SITE, "https://evil.org/https://example.com"),
        (SITE, "example.com"),
        (SITE, ""),
        (SITE, "null"),
        (SITE, "*"),
        (SITE, "none"),
        ("none", "none"),
        ("none", "null"),
        ("null", "none"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "http://a.example.com"),
        ("https://*.example.com", "https://a.example.com:8443"),
        ("https://*.example.com", "https://evil.org/.example.com"),
        ("https://*.example.com", "https://evil.org?.example.com"),
        ("https://*.example.com", "https://evil.org#.example.com"),
        ("https://*.example.com", "https://evil.org:1.example.com"),
        ("https://*.example.com", "https://user@a.example.com"),
        ("https://*.example.com", "https://a.example.com.evil.org"),
        ("https://*.example.com", "https://*"),
        ("https://*.s", "https://.s"),
    ],
)
def test_any_other_origin_may_not_connect(allowed: str, origin: str) -> None:
    assert not Origins([allowed]).allow([origin.encode()])


def test_an_origin_that_is_not_ascii_may_not_connect() -> None:
    assert not Origins(["https://\xe9.org", "https://*.example.com"]).allow([b"https://\xe9.org"])
    assert not Origins(["https://*.example.com"]).allow([b"https://\xe9.example.com"])


def test_two_origins_may_not_connect() -> None:
    assert not Origins([SITE, "none"]).allow([SITE.encode(), SITE.encode()])


def test_clients_without_an_origin_need_none_in_the_list() -> None:
    assert Origins([SITE, "none"]).allow([])
    assert Origins(["None"]).allow([])
    assert not Origins([SITE, "null"]).allow([])


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "/",
        "*",
        "example.com",
        "https://",
        "https://*",
        "https://*.",
        "https://a.*.com",
        "https://*.*.com",
        "https://*a.com",
        "https://example.com/path",
        "https://user@example.com",
        "https://example.com?",
        "https://example.com#a",
        "https://exa mple.com",
        "https://example.com\n",
        "://example.com",
    ],
)
def test_an_invalid_setting_raises(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"^--ws-origins: .* is not an origin$"):
        Origins([SITE, origin])


def handshake(*origins: bytes) -> Request:
    """Return a good handshake (RFC 6455 section 1.2) from some origins."""
    headers = [
        (b"host", b"a"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
    ]
    headers += [(b"origin", origin) for origin in origins]
    return Request("GET", b"/", b"/", b"", "1.1", headers)


def test_a_handshake_from_another_origin_is_refused() -> None:
    origins = Origins([SITE])
    assert check_handshake(handshake(SITE.encode()), None, origins).subprotocols == []
    assert check_handshake(handshake(b"https://evil.org"), None).subprotocols == []
    for values in ([], [b"https://evil.org"], [SITE.encode()] * 2):
        with pytest.raises(RequestRefused) as raised:
            check_handshake(handshake(*values), None, origins)
        assert (raised.value.status, raised.value.detail) == (403, "this origin may not connect")


@given(st.binary(max_size=40) | st.text("htps:/*.exampl@#?", max_size=30).map(str.encode))
def test_a_wildcard_matches_subdomains_only(origin: bytes) -> None:
    for value in (origin, b"https://" + origin + b".example.com"):
        if Origins(["https://*.example.com"]).allow([value]):
            label = value.lower().removeprefix(b"https://").removesuffix(b".example.com")
            assert value.lower() == b"https://" + label + b".example.com"
            assert label
            assert not set(label) & set(b":/@?#")
