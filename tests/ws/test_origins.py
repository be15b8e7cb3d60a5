"""Which origins may connect."""

import pytest
from hypothesis import given, strategies as st

from wsgate.errors import ConfigError, RequestRefused
from wsgate.http.request import Request
from wsgate.ws.handshake import check_handshake
from wsgate.ws.origins import Origins, Site, is_cross_site, is_same

SITE = "https://example.com"
HERE = Site("https", b"chat.example")


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
    assert Origins([allowed]).allow([origin.encode()], HERE)
    assert Origins(["https://other.org", allowed, "none"]).allow([origin.encode()], HERE)


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
    assert not Origins([allowed]).allow([origin.encode()], HERE)


def test_an_origin_that_is_not_ascii_may_not_connect() -> None:
    assert not Origins(["https://\xe9.org", "https://*.example.com"]).allow(
        [b"https://\xe9.org"], HERE
    )
    assert not Origins(["https://*.example.com"]).allow([b"https://\xe9.example.com"], HERE)


def test_two_origins_may_not_connect() -> None:
    assert not Origins([SITE, "none"]).allow([SITE.encode(), SITE.encode()], HERE)


def test_clients_without_an_origin_need_none_in_the_list() -> None:
    assert Origins([SITE, "none"]).allow([], HERE)
    assert Origins(["None"]).allow([], HERE)
    assert not Origins([SITE, "null"]).allow([], HERE)


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
    with pytest.raises(ConfigError, match=r"^--ws-origins: .* is not an origin\b"):
        Origins([SITE, origin])


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("*", "'*' is not an origin; without the option, all may connect"),
        ("example.com", "'example.com' is not an origin such as https://example.com"),
        ("a:80", "'a:80' is not an origin such as https://a:80"),
        ("https://a/b", "'https://a/b' is not an origin such as https://example.com"),
        ("\udcff", "'\\udcff' is not an origin such as https://example.com"),
    ],
)
def test_an_error_shows_the_form_of_an_origin(origin: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Origins([origin])
    assert str(raised.value) == f"--ws-origins: {reason}"


# -- same ------------------------------------------------------------------------------------------

SAME = [
    # the Origin, and the URL to which its page connected
    ("https://chat.example", "https", b"chat.example"),
    ("http://chat.example", "http", b"chat.example"),
    ("https://chat.example", "wss", b"chat.example"),
    ("http://chat.example", "ws", b"chat.example"),
    ("https://chat.example", "https", b"chat.example:443"),
    ("http://chat.example", "http", b"chat.example:80"),
    ("http://chat.example", "http", b"chat.example:"),
    ("https://chat.example:443", "https", b"chat.example"),
    ("https://chat.example:8443", "https", b"chat.example:8443"),
    ("http://localhost:8000", "http", b"localhost:8000"),
    ("HTTPS://Chat.Example", "https", b"chat.example"),
    ("https://chat.example", "https", b"CHAT.example"),
    ("https://chat.example.", "https", b"chat.example."),
    ("http://[::1]:8000", "http", b"[::1]:8000"),
    ("https://[2001:db8::1]", "https", b"[2001:DB8::1]"),
    ("https://[2001:db8::1]", "https", b"[2001:db8::1]:443"),
    ("http://192.0.2.1", "http", b"192.0.2.1"),
    ("https://xn--bcher-kva.example", "https", b"xn--bcher-kva.example"),
    ("http://under_score.example", "http", b"under_score.example"),
]
DIFFERENT = [
    ("http://chat.example", "https", b"chat.example"),
    ("https://chat.example", "http", b"chat.example"),
    ("https://chat.example", "http", b"chat.example:443"),
    ("http://chat.example", "https", b"chat.example:80"),
    ("https://chat.example:8443", "https", b"chat.example"),
    ("https://chat.example", "https", b"chat.example:8443"),
    ("https://chat.example:80", "https", b"chat.example"),
    ("https://evil.example", "https", b"chat.example"),
    ("https://a.chat.example", "https", b"chat.example"),
    ("https://chat.example.evil.example", "https", b"chat.example"),
    ("https://chat.example.", "https", b"chat.example"),
    ("https://chat.example", "https", b"chat.example."),
    ("https://user@chat.example", "https", b"chat.example"),
    ("https://chat.example@evil.example", "https", b"evil.example"),
    ("https://chat.example:pass@evil.example", "https", b"chat.example"),
    ("https://chat.example/", "https", b"chat.example"),
    ("https://chat.example/path", "https", b"chat.example"),
    ("https://chat.example?", "https", b"chat.example"),
    ("https://chat.example#", "https", b"chat.example"),
    ("https://chat.example\\", "https", b"chat.example"),
    ("https://chat.example https://evil.example", "https", b"chat.example"),
    ("https://chat.example, https://evil.example", "https", b"chat.example"),
    ("https://chat.example:443443", "https", b"chat.example"),
    ("https://chat.example:-443", "https", b"chat.example"),
    ("https://chat.example:0x1bb", "https", b"chat.example"),
    ("https://[::1", "https", b"[::1]"),
    ("https://::1", "https", b"[::1]"),
    ("https://[0:0:0:0:0:0:0:1]", "https", b"[::1]"),
    ("https:chat.example", "https", b"chat.example"),
    ("https//chat.example", "https", b"chat.example"),
    ("//chat.example", "https", b"chat.example"),
    ("chat.example", "https", b"chat.example"),
    ("ftp://chat.example", "https", b"chat.example"),
    ("wss://chat.example", "https", b"chat.example"),
    ("wss://chat.example", "wss", b"chat.example"),
    ("file://", "http", b""),
    ("https://", "https", b""),
    ("", "https", b""),
    ("null", "https", b"null"),
    ("none", "https", b"none"),
    ("same", "https", b"same"),
    ("https://chat.example", "https", b""),
]


@pytest.mark.parametrize(("origin", "scheme", "host"), SAME)
def test_the_own_origin_is_the_same(origin: str, scheme: str, host: bytes) -> None:
    for allowed in (["same"], ["SAME"], ["https://other.org", "same", "none"]):
        assert Origins(allowed).allow([origin.encode()], Site(scheme, host))
    assert not Origins([SITE, "none", "null"]).allow([origin.encode()], Site(scheme, host))


@pytest.mark.parametrize(("origin", "scheme", "host"), DIFFERENT)
def test_any_other_origin_is_not_the_same(origin: str, scheme: str, host: bytes) -> None:
    assert not Origins(["same", "none"]).allow([origin.encode()], Site(scheme, host))


def test_same_and_the_list_may_be_mixed() -> None:
    origins = Origins(["same", SITE, "https://*.example.org", "null"])
    for origin in (b"https://chat.example", b"https://example.com", b"https://a.example.org"):
        assert origins.allow([origin], HERE)
    assert origins.allow([b"null"], HERE)
    assert not origins.allow([b"https://evil.example"], HERE)
    assert not origins.allow([], HERE)


def test_several_origins_are_never_the_same() -> None:
    assert not Origins(["same", "none"]).allow([b"https://chat.example"] * 2, HERE)


def test_same_needs_none_for_clients_without_an_origin() -> None:
    assert not Origins(["same"]).allow([], HERE)
    assert Origins(["same", "none"]).allow([], HERE)


def test_a_name_that_is_not_ascii_is_not_the_same() -> None:
    # Browsers send the ASCII form of an internationalized name (RFC 6454 section 6.2).
    host = "bücher.example".encode()
    assert not Origins(["same"]).allow([b"https://" + host], Site("https", host))


HOSTS = st.sampled_from([b"a.example", b"b.example", b"[::1]", b"127.0.0.1", b"A.example", b"a."])
PORTS = st.sampled_from([None, 80, 443, 8000])
SCHEMES = st.sampled_from(["http", "https"])


def authority(host: bytes, port: int | None) -> bytes:
    return host if port is None else b"%b:%d" % (host, port)


def effective(scheme: str, host: bytes, port: int | None) -> tuple[str, bytes, int]:
    return scheme, host.lower(), port or {"http": 80, "https": 443}[scheme]


@given(st.tuples(SCHEMES, HOSTS, PORTS), st.tuples(SCHEMES, HOSTS, PORTS))
def test_two_origins_are_the_same_by_scheme_host_and_port(
    page: tuple[str, bytes, int | None], site: tuple[str, bytes, int | None]
) -> None:
    origin = f"{page[0]}://{authority(*page[1:]).decode()}".lower()
    expected = effective(*page) == effective(*site)
    assert is_same(origin, Site(site[0], authority(*site[1:]))) is expected


@given(st.binary(max_size=30) | st.text("htps:/[]@.:0189a%,", max_size=30).map(str.encode), SCHEMES)
def test_any_bytes_are_the_same_only_if_they_name_the_host(value: bytes, scheme: str) -> None:
    """Whatever an Origin is, its own origin in the list is one of two spellings."""
    for origin in (value, b"%b://%b" % (scheme.encode(), value)):
        site = Site(scheme, b"a.example")
        is_cross_site([origin], site)  # it raises nothing
        if Origins(["same"]).allow([origin], site):
            host, _, port = origin.decode().lower().removeprefix(f"{scheme}://").partition(":")
            assert host == "a.example"
            assert not port or int(port) == {"http": 80, "https": 443}[scheme]


# -- cross-site ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "host", "expected"),
    [
        ([b"https://evil.example"], b"chat.example", True),
        ([b"https://www.chat.example"], b"chat.example", True),
        ([b"null"], b"chat.example", True),
        ([b"file://"], b"chat.example", True),
        ([b"https://user@chat.example"], b"chat.example", True),
        ([b"\xff"], b"chat.example", True),
        ([b"https://chat.example"], b"", True),
        ([b"https://chat.example"], b"chat.example", False),
        ([b"https://Chat.example"], b"chat.Example", False),
        # Cookies know neither scheme nor port.
        ([b"https://chat.example"], b"chat.example:8000", False),
        ([b"http://localhost:3000"], b"localhost:8000", False),
        ([b"http://[::1]:3000"], b"[::1]", False),
        # Not from a browser.
        ([], b"chat.example", False),
        ([b"https://evil.example"] * 2, b"chat.example", False),
    ],
)
def test_a_page_on_another_host_is_cross_site(
    values: list[bytes], host: bytes, expected: bool
) -> None:
    for scheme in ("http", "https"):
        assert is_cross_site(values, Site(scheme, host)) is expected


# -- the handshake ---------------------------------------------------------------------------------


def handshake(*origins: bytes, cookie: bytes | None = None) -> Request:
    """Return a good handshake (RFC 6455 section 1.2) from some origins."""
    headers = [
        (b"host", b"a"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"sec-websocket-version", b"13"),
    ]
    headers += [(b"origin", origin) for origin in origins]
    headers += [] if cookie is None else [(b"cookie", cookie)]
    return Request("GET", b"/", b"/", b"", "1.1", headers)


def test_a_handshake_is_compared_with_its_own_host_or_that_outside_of_a_proxy() -> None:
    origins = Origins(["same"])
    check_handshake(handshake(b"http://a"), None, origins)
    check_handshake(handshake(b"https://a"), None, origins, "https")
    check_handshake(handshake(b"https://b"), None, origins, "https", b"b")
    for origin, scheme, host in (
        (b"https://a", "http", None),
        (b"https://a", "https", b"b"),
        (b"https://b", "http", b"b"),
        (b"https://a", "https", b""),
    ):
        with pytest.raises(RequestRefused, match="403: this origin may not connect"):
            check_handshake(handshake(origin), None, origins, scheme, host)


def test_a_cross_site_handshake_with_cookies_is_noted_if_any_origin_may_connect() -> None:
    evil, cookie = b"https://evil.example", b"session=1"
    assert check_handshake(handshake(evil, cookie=cookie), None).cross_site == (evil, b"a")
    outside = check_handshake(handshake(evil, cookie=cookie), None, None, "https", b"chat.example")
    assert outside.cross_site == (evil, b"chat.example")
    for request in (
        handshake(evil),
        handshake(b"https://a", cookie=cookie),
        handshake(cookie=cookie),
    ):
        assert check_handshake(request, None).cross_site is None
    listed = Origins([evil.decode()])
    assert check_handshake(handshake(evil, cookie=cookie), None, listed).cross_site is None


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
        if Origins(["https://*.example.com"]).allow([value], HERE):
            label = value.lower().removeprefix(b"https://").removesuffix(b".example.com")
            assert value.lower() == b"https://" + label + b".example.com"
            assert label
            assert not set(label) & set(b":/@?#")
