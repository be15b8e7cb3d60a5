"""What trusted proxies say about a request: X-Forwarded-* and Forwarded."""

import ipaddress
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

from wsgate.proxies.forwarded import NOTHING, ForwardedHeaders
from wsgate.proxies.trusted import TrustedPeers
from wsgate.types import Address, Header

PROXY = ("127.0.0.1", 123)
ALL = ("for", "proto", "host", "port", "prefix")


class Seen(NamedTuple):
    """A request as its client sent it. host: None if the request's own is right."""

    client: Address | None
    scheme: str
    host: bytes | None = None
    root_path: str | None = None


def read(
    *headers: tuple[str, str],
    trusted: str = "127.0.0.1",
    values: Any = ALL,
    scheme: str = "http",
    host: str | None = "inner",
) -> Seen:
    """Return a request from PROXY with some headers."""
    own = None if host is None else host.encode()
    lines: list[Header] = [] if own is None else [(b"host", own)]
    lines += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    reader = ForwardedHeaders(TrustedPeers(trusted.split(",")), values)
    said = reader.read(lines)
    assert reader.read(lines.copy()) == said  # perhaps remembered
    client = said.client if said.names_client else PROXY
    outside = said.outside_host(own, said.scheme or "http")
    outside = None if outside == own else outside
    return Seen(client, said.scheme or scheme, outside, said.root_path)


UNCHANGED = Seen(PROXY, "http")


def client_of(*values: str, trusted: str = "127.0.0.1", **options: Any) -> Address | None:
    found = read(*(("X-Forwarded-For", value) for value in values), trusted=trusted, **options)
    return found.client


def test_a_request_without_these_headers() -> None:
    assert ForwardedHeaders(TrustedPeers(["*"]), ALL).read([(b"host", b"inner")]) is NOTHING
    assert read() == UNCHANGED
    assert (
        read(("X-Forwarded", "x"), ("X-Real-IP", "192.0.2.1"), ("Forwarded-For", "x")) == UNCHANGED
    )


# -- X-Forwarded-For -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ("*", "1.2.3.4"),  # the leftmost, as in uvicorn
        ("127.0.0.1", "192.168.0.2"),
        ("127.0.0.1,192.168.0.2", "10.0.2.1"),
        ("127.0.0.1,192.168.0.2,10.0.0.0/8", "1.2.3.4"),
        ("127.0.0.1,10.0.2.1,192.168.0.2,1.2.3.4", "1.2.3.4"),  # all: the leftmost
    ],
)
def test_the_rightmost_untrusted_address_is_the_client(trusted: str, client: str) -> None:
    chain = "1.2.3.4, 10.0.2.1, 192.168.0.2"
    assert client_of(chain, trusted=trusted) == (client, 0)
    assert client_of(*chain.split(", "), trusted=trusted) == (client, 0)  # in lines of their own


def test_addresses_may_have_ports() -> None:
    chain = "1.2.3.4:1234, [2001:db8::1]:8080, 192.168.0.2:9000"
    assert client_of(chain, trusted="192.168.0.2") == ("2001:db8::1", 8080)
    assert client_of(chain, trusted="192.168.0.2,2001:db8::/32") == ("1.2.3.4", 1234)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("1.2.3.4", ("1.2.3.4", 0)),
        (" 1.2.3.4\t", ("1.2.3.4", 0)),
        ("1.2.3.4:0", ("1.2.3.4", 0)),
        ("1.2.3.4:65535", ("1.2.3.4", 65535)),
        ("1.2.3.4:_hidden", ("1.2.3.4", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:DB8:0::1]:443", ("2001:db8::1", 443)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("::", ("::", 0)),
        ("::ffff:1.2.3.4", ("1.2.3.4", 0)),
        ("[::ffff:102:304]:80", ("1.2.3.4", 80)),
        ("unknown", None),
        ("Unknown:123", None),
        ("_gazonk", None),
        ("_a.b-c:_d", None),
    ],
)
def test_forms_of_an_address(value: str, client: Address | None) -> None:
    assert client_of(value) == client


MALFORMED = [
    *("", ",", " , ", ",,,", "1.2.3.4,", "9.9.9.9, , 127.0.0.1", ", 127.0.0.1"),
    *("1.2.3.4:", "1.2.3.4:notaport", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:123456"),
    *("1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4.5", "1 2", "999.999.999.999"),
    *("[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x", "[2001:db8::1]:x", "[1.2.3.4]", "[]"),
    *("2001:db8:::1", "fe80::1%eth0", "[fe80::1%eth0]", "::1::", ":", "g::1"),
    *("localhost", "example.com", "unix:", "_", "\xf0\xfd", "\xb2.1.1.1", "1.2.3.4;", "unknown:x"),
]


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_address_changes_nothing(value: str) -> None:
    found = read(("X-Forwarded-For", value), ("X-Forwarded-Proto", "https"))
    assert found == Seen(PROXY, "https")


@pytest.mark.parametrize("value", MALFORMED)
def test_what_is_malformed_does_not_matter_if_it_is_not_reached(value: str) -> None:
    assert client_of(value, "192.0.2.7") == ("192.0.2.7", 0)


def test_a_trusted_name_in_the_list_is_passed_over() -> None:
    # nginx writes this for a client on a Unix socket.
    assert client_of("192.0.2.7, unix:", trusted="127.0.0.1,unix:") == ("192.0.2.7", 0)
    assert client_of("192.0.2.7, unix:", trusted="127.0.0.1") == PROXY


def test_a_proxy_hides_its_client() -> None:
    """The proxy's own address would be wrong: apps and limits would take it for the client."""
    assert client_of("192.0.2.1, unknown") is None


@pytest.mark.parametrize("count", [1_000, 20_000])
def test_many_addresses_take_linear_time(count: int) -> None:
    reader = ForwardedHeaders(TrustedPeers(["10.0.0.0/8"]), ALL)
    addresses = [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(count)]
    line = ", ".join(["1.2.3.4", *addresses]).encode()
    for headers in (
        [(b"x-forwarded-for", line)],
        [(b"x-forwarded-for", one.encode()) for one in ["1.2.3.4", *addresses]],
        [(b"forwarded", b"for=1.2.3.4, " + b", ".join(b"for=%b" % a.encode() for a in addresses))],
    ):
        start = time.process_time()
        said = reader.read(headers)
        assert time.process_time() - start < count * 100e-6  # about 3 µs each
        assert said.client == ("1.2.3.4", 0)


# -- X-Forwarded-Proto and the others --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("http", "http"), ("https", "https"), ("ws", "http"), ("wss", "https"), (" HTTPS ", "https")],
)
def test_a_scheme(value: str, scheme: str) -> None:
    assert read(("X-Forwarded-Proto", value), scheme="unset") == Seen(PROXY, scheme)


@pytest.mark.parametrize("value", ["", "asdf", "httpss", "https:", "https,", "\xe9", "on"])
def test_a_malformed_scheme_changes_nothing(value: str) -> None:
    assert read(("X-Forwarded-Proto", value), scheme="unset") == Seen(PROXY, "unset")


@pytest.mark.parametrize(
    ("addresses", "schemes", "scheme"),
    [
        (None, ["https", "http"], "http"),  # the last is the trusted proxy's
        (None, ["http", "https"], "https"),
        (None, ["https, http"], "http"),
        ("1.2.3.4", ["https, http"], "http"),
        # As many as addresses: the one of the proxy that saw the client.
        ("1.2.3.4, 10.0.0.1", ["https, http"], "https"),
        ("9.9.9.9, 1.2.3.4, 10.0.0.1", ["http", "https", "http"], "https"),
        ("9.9.9.9, 1.2.3.4, 10.0.0.1", ["https", "http"], "http"),
    ],
)
def test_a_list_of_schemes(addresses: str | None, schemes: list[str], scheme: str) -> None:
    headers = [("X-Forwarded-Proto", value) for value in schemes]
    if addresses is not None:
        headers.append(("X-Forwarded-For", addresses))
    found = read(*headers, trusted="127.0.0.1,10.0.0.1", scheme="unset")
    assert found.scheme == scheme


@pytest.mark.parametrize(
    ("host", "headers", "outside"),
    [
        ("inner", {"host": "example.com"}, "example.com"),
        ("inner", {"host": "example.com:8443"}, "example.com:8443"),
        ("inner:8000", {"host": "[2001:db8::1]:8443"}, "[2001:db8::1]:8443"),
        ("inner", {"host": "evil, example.com"}, "example.com"),
        # A port is added only to a host without one, unless it is the scheme's.
        ("inner", {"host": "example.com", "port": "8443"}, "example.com:8443"),
        ("inner", {"host": "example.com:1", "port": "8443"}, "example.com:1"),
        ("inner", {"host": "example.com", "port": "80"}, "example.com"),
        ("inner", {"host": "example.com", "port": "443", "proto": "https"}, "example.com"),
        ("inner", {"host": "example.com", "port": "80", "proto": "https"}, "example.com:80"),
        ("example.com", {"port": "8443"}, "example.com:8443"),
        ("[::1]", {"port": "8443"}, "[::1]:8443"),
        ("[::1]:80", {"port": "8443"}, None),
        ("example.com:80", {"port": "8443"}, None),
        ("example.com", {"port": "80"}, None),
        (None, {"port": "8443"}, None),
        (None, {"host": "example.com"}, "example.com"),
        # Malformed.
        ("inner", {"host": ""}, None),
        ("inner", {"host": "exa mple"}, None),
        ("inner", {"host": "user@example.com"}, None),
        ("inner", {"host": "example.com/path"}, None),
        ("inner", {"host": "example.com:99999"}, None),
        ("inner", {"host": "\xe9.example"}, None),
        ("inner", {"host": "bad host", "port": "8443"}, "inner:8443"),
        ("inner", {"port": ""}, None),
        ("inner", {"port": "0"}, None),
        ("inner", {"port": "65536"}, None),
        ("inner", {"port": "8443x"}, None),
        ("inner", {"port": "\xb2"}, None),
    ],
)
def test_the_host_of_the_client(
    host: str | None, headers: dict[str, str], outside: str | None
) -> None:
    lines = [(f"X-Forwarded-{name}", value) for name, value in headers.items()]
    found = read(*lines, host=host)
    assert found.host == (None if outside is None else outside.encode())
    assert found.root_path is None


@pytest.mark.parametrize(
    ("prefix", "root_path"),
    [
        ("/app", "/app"),
        ("/app/", "/app"),
        ("/a/b.c/~d", "/a/b.c/~d"),
        ("/.well-known", "/.well-known"),
        ("/..a", "/..a"),
        ("/", ""),
        ("", ""),
        ("app", None),
        ("//evil.example", None),
        ("/a//b", None),
        ("/a/../b", None),
        ("/..", None),
        ("/./a", None),
        ("/a/.", None),
        ("/a%2Fb", None),
        ("/a?b", None),
        ("/a b", None),
        ("/a\\b", None),
        ("/\xe9", None),
        ("https://evil.example", None),
    ],
)
def test_the_prefix_that_a_proxy_has_removed(prefix: str, root_path: str | None) -> None:
    found = read(("X-Forwarded-Prefix", prefix))
    assert found.root_path == root_path


def test_only_the_listed_values_are_read() -> None:
    headers = (
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
    )
    assert read(*headers, values=["for", "proto"]) == Seen(("1.2.3.4", 0), "https")
    assert read(*headers, values=["proto"]) == Seen(PROXY, "https")
    assert read(*headers, values=["host"]) == Seen(PROXY, "http", b"evil.example")
    assert read(*headers[:2], values=["port", "prefix"]) == UNCHANGED


# -- Forwarded -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "client", "scheme"),
    [
        # The examples of RFC 7239 section 4.
        (['for="_gazonk"'], None, "http"),
        (['For="[2001:db8:cafe::17]:4711"'], ("2001:db8:cafe::17", 4711), "http"),
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], ("192.0.2.60", 0), "http"),
        (["for=192.0.2.43, for=198.51.100.17"], ("198.51.100.17", 0), "http"),
        # Section 7.1.
        (["for=192.0.2.43", 'for="[2001:db8:cafe::17]"'], ("2001:db8:cafe::17", 0), "http"),
        (["for=192.0.2.43;proto=HTTPS"], ("192.0.2.43", 0), "https"),
        (['for="192.0.2.43:47011";proto="https"'], ("192.0.2.43", 47011), "https"),
        (['for="1\\92.0.2.43" ; proto=wss'], ("192.0.2.43", 0), "https"),
        ([";for=192.0.2.43;; proto=https;"], ("192.0.2.43", 0), "https"),
        ([" , for=192.0.2.43,, "], ("192.0.2.43", 0), "http"),
        (['secret="a, for=9.9.9.9;\\"x";for=192.0.2.43'], ("192.0.2.43", 0), "http"),
        (["for=unknown;proto=https"], None, "https"),
        (["proto=https"], PROXY, "https"),  # the address is not named
        (["for=192.0.2.43;proto=gopher"], ("192.0.2.43", 0), "http"),
        # The client's element is that of the rightmost untrusted address.
        (
            ["for=9.9.9.9;proto=http, for=1.2.3.4;proto=https, for=10.0.0.1;proto=http"],
            "1.2.3.4",
            1,
        ),
        (["for=10.0.0.2;proto=https, for=10.0.0.1"], ("10.0.0.2", 0), "https"),
        (["for=10.0.0.2", "for=10.0.0.1;proto=https"], ("10.0.0.2", 0), "http"),
        # A malformed line of the client is not reached.
        (['for="', "for=192.0.2.43"], ("192.0.2.43", 0), "http"),
    ],
)
def test_forwarded(lines: list[str], client: Any, scheme: Any) -> None:
    if isinstance(client, str):
        client, scheme = (client, 0), "https"
    found = read(*(("Forwarded", line) for line in lines), trusted="127.0.0.1,10.0.0.0/8")
    assert found == Seen(client, scheme)


@pytest.mark.parametrize(
    "lines",
    [
        ["for"],
        ["for="],
        ["for=192.0.2.43:80"],  # RFC 7239 section 4: a colon needs quotes
        ["for=[2001:db8::1]"],
        ['for="192.0.2.43'],
        ['for="192.0.2.43"x'],
        ['for="192.0.2.43\\"'],
        ["for=192.0.2.43;for=192.0.2.44"],
        ["for=192.0.2.43;FOR=192.0.2.43"],
        ["for = 192.0.2.43"],
        ["for=192.0.2.43 proto=https"],
        ["=192.0.2.43"],
        ['for="example.com"'],
        ['for=""'],
        ['for="192.0.2.43:99999"'],
        ["for=192.0.2.43", "for=\xe9"],
        ["for=192.0.2.43", "for=10.0.0.1, ("],
        [""],
        [", ;"],
    ],
)
def test_a_malformed_forwarded_changes_nothing(lines: list[str]) -> None:
    headers = [("Forwarded", line) for line in lines]
    assert read(*headers, trusted="127.0.0.1,10.0.0.0/8") == UNCHANGED


def test_all_elements_are_trusted() -> None:
    element = "for=10.0.0.2;proto=https;host=example.com"
    line = f"{element}, for=10.0.0.1;proto=http;host=inner"
    wanted = Seen(("10.0.0.2", 0), "https", b"example.com")
    assert read(("Forwarded", line), trusted="10.0.0.0/8") == wanted
    assert read(("Forwarded", line), trusted="*") == wanted


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("host=example.com", b"example.com"),
        ('host="example.com:8443"', b"example.com:8443"),
        ('host="[::1]:8443"', b"[::1]:8443"),
        ('host="exa mple"', None),
        ('host="a/b"', None),
        ("by=_x", None),
    ],
)
def test_the_host_of_forwarded(value: str, host: bytes | None) -> None:
    assert read(("Forwarded", value)) == Seen(PROXY, "http", host)
    assert read(("Forwarded", value), values=["for", "proto"]) == Seen(PROXY, "http")


def test_only_the_listed_parameters_of_forwarded_are_read() -> None:
    line = ("Forwarded", "for=192.0.2.43;proto=https;host=example.com")
    assert read(line, values=["for"]) == Seen(("192.0.2.43", 0), "http")
    assert read(line, values=["proto"]) == Seen(PROXY, "https")
    assert read(line, values=["host"]) == Seen(PROXY, "http", b"example.com")
    assert read(line, values=["port", "prefix"]) == UNCHANGED
    assert read(line, values=[]) == UNCHANGED


def test_forwarded_is_ignored_beside_x_forwarded() -> None:
    """A proxy that sets X-Forwarded-* passes on the Forwarded of a client."""
    forged = ("Forwarded", "for=9.9.9.9;proto=https;host=evil.example")
    for own in (("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "bad")):
        client = ("1.2.3.4", 0) if own[1] == "1.2.3.4" else PROXY
        assert read(forged, own) == read(own, forged) == Seen(client, "http")
    assert read(forged, ("X-Forwarded-Proto", "http")) == Seen(PROXY, "http")
    # A header that is not read says nothing about the proxy.
    found = read(forged, ("X-Forwarded-Host", "evil.example"), values=["for", "proto"])
    assert found == Seen(("9.9.9.9", 0), "https")


# -- anything --------------------------------------------------------------------------------------

_PIECES = st.sampled_from(
    [
        *(
            "for=",
            "proto=",
            "host=",
            "by=",
            '"',
            "\\",
            ";",
            ",",
            ", ",
            "=",
            "[",
            "]",
            ":",
            ".",
            "/",
        ),
        *(
            "1.2.3.4",
            "127.0.0.1",
            "2001:db8::1",
            "unknown",
            "_x",
            "https",
            "wss",
            "443",
            "%",
            "\xff",
        ),
    ]
)
_VALUES = st.lists(_PIECES, max_size=12).map("".join) | st.text(
    st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30
)
_HEADERS = st.tuples(
    st.sampled_from(["Forwarded", *(f"X-Forwarded-{value}" for value in ALL)]), _VALUES
)


@given(st.lists(_HEADERS, max_size=6), st.sampled_from(["127.0.0.1", "*", "127.0.0.1,10.0.0.0/8"]))
def test_no_header_raises(headers: list[tuple[str, str]], trusted: str) -> None:
    found = read(*headers, trusted=trusted)
    assert found.scheme in {"http", "https"}
    if found.client is not None:
        ipaddress.ip_address(found.client[0])
    assert found.root_path is None or not found.root_path or found.root_path[0] == "/"


@given(st.lists(st.ip_addresses().map(str), min_size=1, max_size=9), st.integers(0, 8))
def test_the_client_is_left_of_all_trusted_addresses(chain: list[str], at: int) -> None:
    client = min(at, len(chain) - 1)
    trusted = ",".join(chain[client + 1 :])
    if chain[client] in chain[client + 1 :]:
        return
    address = ipaddress.ip_address(chain[client])
    expected = (str(getattr(address, "ipv4_mapped", None) or address), 0)
    assert client_of(", ".join(chain), trusted=trusted) == expected
    nodes = [f'for="[{a}]"' if ":" in a else f"for={a}" for a in chain]
    found = read(("Forwarded", ", ".join(nodes)), trusted=trusted)
    assert found.client == expected
