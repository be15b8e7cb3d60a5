"""Checks for any bytes of proxies, shared by the fuzz targets and the tests.

The PROXY protocol: the first byte of an input is not used, the second is the size of the pieces,
the rest is the start of a connection.

Forwarded headers: the first byte of an input chooses the settings, the rest are lines. The first
byte of a line chooses a header, the others are its value.
"""

import ipaddress
import re

from fuzz.checks import pieces
from wsgate.fields import is_host
from wsgate.proxies.forwarded import Forwarded, ForwardedHeaders
from wsgate.proxies.proxy_protocol import MAX_V1, MAX_V2, InvalidProxyHeader, ProxyHeader, parse
from wsgate.proxies.trusted import IPAddress, TrustedPeers
from wsgate.types import Address, Header

_MAX_PORT = 65_535
_MAX_PATH = 108  # bytes of a Unix socket's path in a PROXY header

# -- the PROXY protocol --------------------------------------------------------------------------


def proxy_header_of(data: bytes, size: int) -> ProxyHeader | str | None:
    """Return the header of a connection's bytes, why it is invalid, or None if it is incomplete."""
    arrived = b""
    for piece in pieces(data, size):
        arrived += piece
        try:
            header = parse(arrived)
        except InvalidProxyHeader as invalid:
            return str(invalid)
        if header is not None:
            return header
        assert len(arrived) < (MAX_V1 if arrived.startswith(b"P") else MAX_V2)
    return None


def check_proxy_header(data: bytes) -> None:
    """Check that a header is the same in any pieces, and that what it announces is valid."""
    size, data = data[1] if len(data) > 1 else 0, data[2:]
    found = proxy_header_of(data, 0)
    assert proxy_header_of(data, size) == found
    assert proxy_header_of(data, 1) == found
    if isinstance(found, ProxyHeader):
        assert found.size <= (MAX_V1 if data.startswith(b"P") else MAX_V2)
        assert parse(data[: found.size]) == found, "what follows does not change it"
        _check_ends(found)


def _check_ends(header: ProxyHeader) -> None:
    source, destination = header.source, header.destination
    if not header.announces:
        assert header == ProxyHeader(header.size)
    elif source is None:
        assert destination is None or destination[1] is None
        path = destination[0] if destination else ""
        assert len(path.encode("utf-8", "surrogateescape")) <= _MAX_PATH
    else:
        assert destination is not None
        for end in (source, destination):
            assert getattr(ipaddress.ip_address(end[0]), "ipv4_mapped", None) is None
        assert _ends(parse(_version_1(source, destination))) == (source, destination)
        assert _ends(parse(_version_2(source, destination))) == (source, destination)


def _ends(header: ProxyHeader | None) -> tuple[Address | None, Address | None]:
    assert header is not None
    assert header.announces
    return header.source, header.destination


def _version_1(source: Address, destination: Address) -> bytes:
    """Return a header of version 1 that announces these ends."""
    hosts = _of_one_family(source[0], destination[0])
    line = f"PROXY TCP{hosts[0].version} {hosts[0]} {hosts[1]} {source[1]} {destination[1]}\r\n"
    return line.encode("ascii")


def _version_2(source: Address, destination: Address) -> bytes:
    """Return a header of version 2 that announces these ends."""
    hosts = _of_one_family(source[0], destination[0])
    ports = [(end[1] or 0).to_bytes(2, "big") for end in (source, destination)]
    block = b"".join([*(host.packed for host in hosts), *ports])
    family = b"\x11" if hosts[0].version == 4 else b"\x21"  # noqa: PLR2004  # IPv4
    signature = b"\r\n\r\n\x00\r\nQUIT\n"
    return signature + b"\x21" + family + len(block).to_bytes(2, "big") + block


def _of_one_family(*hosts: str) -> list[IPAddress]:
    """Return addresses; if they are of both families, the IPv4 ones as IPv4-mapped."""
    addresses = [ipaddress.ip_address(host) for host in hosts]
    if len({address.version for address in addresses}) == 1:
        return addresses
    return [ipaddress.IPv6Address(f"::ffff:{h}" if "." in h else h) for h in hosts]


# -- forwarded headers ---------------------------------------------------------------------------

NAMES = (
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"forwarded",
    b"host",
)
_FORWARDED = b"forwarded"
_TRUSTED = (
    TrustedPeers(["127.0.0.1", "::1"]),
    TrustedPeers(["10.0.0.0/8", "2001:db8::/32", "127.0.0.1"]),
    TrustedPeers(["*"]),
)
_VALUES = (("for", "proto"), ("for", "proto", "host", "port", "prefix"), ("host",), ("for",))
# A client cannot send these: RFC 9110 section 5.5, as the HTTP parsers check it.
_NOT_IN_FIELDS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FORGED = b"192.0.2.66"


def reader(options: int) -> ForwardedHeaders:
    """Return the reader that the first byte of an input chooses, without anything cached."""
    return ForwardedHeaders(_TRUSTED[options % 3], _VALUES[options // 3 % 4])


def headers_of(data: bytes) -> list[Header]:
    """Return the headers of an input."""
    return [
        (NAMES[line[0] % len(NAMES)], _NOT_IN_FIELDS.sub(b"", line[1:]).strip(b" \t"))
        for line in data.split(b"\n")
        if line
    ]


def check_forwarded(data: bytes) -> None:
    """Check that what proxies say is valid, and that a client can change nothing of it."""
    options, headers = (data + b"\0")[0], headers_of(data[1:])
    known = reader(options)
    found = known.read(headers)
    assert known.read(headers) == found, "it is the same from the cache"
    read = [header for header in headers if header[0] in known.names]
    assert reader(options).read(read) == found, "other headers change nothing"
    _check_said(found)
    joined = reader(options).read(_joined(headers))
    if not _is_forwarded(read):
        assert joined == found, "RFC 9110 section 5.3: lines of a list may be joined"
    if found.names_client and not _trusts(known.trusted, found.client):
        forged = reader(options).read(_forge(headers))
        assert forged == found, "what is left of the client changes nothing"


def _check_said(said: Forwarded) -> None:
    assert said.scheme in (None, "http", "https")
    assert said.host is None or is_host(said.host)
    assert said.port is None or 0 < int(said.port) <= _MAX_PORT
    if said.client is not None:
        assert said.names_client
        address, port = said.client
        assert str(ipaddress.ip_address(address)) == address
        assert port is not None
        assert 0 <= port <= _MAX_PORT
    if said.root_path:
        root, *segments = said.root_path.split("/")
        assert not root
        assert not {"", ".", ".."}.intersection(segments), "RFC 3986 section 5.2.4: it is a prefix"
        assert not set(said.root_path).intersection("%?#\\")
    for scheme in ("http", "https"):
        host = said.outside_host(b"own:80", scheme)
        assert host is not None
        assert is_host(host)


def _is_forwarded(headers: list[Header]) -> bool:
    """Return whether Forwarded is read: there are no X-Forwarded-*."""
    return all(name == _FORWARDED for name, _ in headers)


def _joined(headers: list[Header]) -> list[Header]:
    """Return the headers with the lines of each name as one."""
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(value)
    return [(name, b", ".join(values)) for name, values in lines.items()]


def _forge(headers: list[Header]) -> list[Header]:
    """Return the headers as if the client had sent some of them, to which its proxy has added."""
    forged = [(name, _FORGED) for name in dict.fromkeys(name for name, _ in headers)]
    return [
        (name, b"for=" + value if name == _FORWARDED else value) for name, value in forged
    ] + headers


def _trusts(trusted: TrustedPeers, client: Address | None) -> bool:
    return trusted.trusts_all or (client is not None and trusted.trusts(client[0]))
