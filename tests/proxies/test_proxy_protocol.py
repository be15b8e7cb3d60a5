"""The header of the PROXY protocol: whole, byte by byte, with trailing data, and malformed."""

import ipaddress
import struct

import pytest
from hypothesis import given, strategies as st

from wsgate.proxies.proxy_protocol import (
    MAX_V1,
    MAX_V2,
    InvalidProxyHeader,
    ProxyHeader,
    crc32c,
    parse,
)
from wsgate.types import Address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GET = b"GET / HTTP/1.1\r\n\r\n"
LOCAL, PROXY = 0x20, 0x21
LARGEST = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
SOURCE, DESTINATION = ("192.0.2.7", 56324), ("198.51.100.1", 443)


def v2(family: int, body: bytes = b"", command: int = PROXY, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def ends(source: Address = SOURCE, destination: Address = DESTINATION) -> bytes:
    hosts = [ipaddress.ip_address(host).packed for host, _ in (source, destination)]
    return b"".join(hosts) + struct.pack("!HH", source[1], destination[1])


def paths(source: bytes, destination: bytes) -> bytes:
    return source.ljust(108, b"\0") + destination.ljust(108, b"\0")


V4_ENDS = ends()
SSL = struct.pack("!BI", 1, 0)  # the client uses TLS
V6_ENDS = ends(("2001:db8::1", 0), ("2001:db8::2", 65535))


def checked(family: int, body: bytes, at: bytes = b"") -> bytes:
    """Return a header with a valid PP2_TYPE_CRC32C after `body` and before `at`."""
    header = v2(family, body + tlv(0x03, bytes(4)) + at)
    start = 16 + len(body) + 3
    crc = struct.pack("!I", crc32c(header))
    return header[:start] + crc + header[start + 4 :]


VALID = {
    "v1 TCP4": (
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
        (SOURCE, DESTINATION, False),
    ),
    "v1 largest": (
        b"PROXY TCP6 %b %b 65535 0\r\n" % (LARGEST, LARGEST[:-1].upper() + b"E"),
        (
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 0),
            False,
        ),
    ),
    "v1 IPv4-mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6401 56324 443\r\n",
        (SOURCE, DESTINATION, False),
    ),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with addresses": (
        b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (LARGEST, LARGEST),
        None,
    ),
    "v1 UNKNOWN with anything": (b"PROXY UNKNOWN \0\xff \r \n\r\n", None),
    "v2 TCP4": (v2(0x11, V4_ENDS), (SOURCE, DESTINATION, False)),
    "v2 TCP6": (v2(0x21, V6_ENDS), (("2001:db8::1", 0), ("2001:db8::2", 65535), False)),
    "v2 IPv4-mapped": (
        v2(0x21, ends(("::ffff:192.0.2.7", 56324), ("::ffff:198.51.100.1", 443))),
        (SOURCE, DESTINATION, False),
    ),
    "v2 IPv4-mapped, one end": (
        v2(0x21, ends(("::ffff:192.0.2.7", 56324), ("2001:db8::2", 1))),
        (SOURCE, ("2001:db8::2", 1), False),
    ),
    "v2 Unix": (v2(0x31, paths(b"/client", b"/run/app")), (None, ("/run/app", None), False)),
    "v2 Unix, abstract": (v2(0x31, paths(b"", b"\0app")), (None, ("@app", None), False)),
    "v2 Unix, unnamed": (v2(0x31, paths(b"", b"")), (None, None, False)),
    "v2 Unix, whole path": (v2(0x31, b"/" * 216), (None, ("/" * 108, None), False)),
    "v2 TLVs": (
        v2(
            0x11,
            V4_ENDS + tlv(0x01, b"h2") + tlv(0x02, b"a.example") + tlv(0xEA, b"") + tlv(4, b""),
        ),
        (SOURCE, DESTINATION, False),
    ),
    "v2 TLS": (
        v2(0x11, V4_ENDS + tlv(0x20, SSL + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"cn"))),
        (SOURCE, DESTINATION, True),
    ),
    "v2 no TLS": (v2(0x21, V6_ENDS + tlv(0x20, bytes(5))), (("2001:db8::1", 0), None, False)),
    "v2 largest": (
        v2(0x11, V4_ENDS + tlv(0x04, bytes(MAX_V2 - 16 - 12 - 3))),
        (SOURCE, DESTINATION, False),
    ),
    "v2 checksum": (checked(0x11, V4_ENDS, tlv(4, b"x")), (SOURCE, DESTINATION, False)),
    "v2 LOCAL": (v2(0x00, command=LOCAL), None),
    "v2 LOCAL with addresses": (v2(0x11, V4_ENDS, LOCAL), None),
    "v2 LOCAL with anything": (v2(0xFF, b"\xff" * 7, LOCAL), None),
    "v2 UNSPEC": (v2(0x00), None),
    "v2 UNSPEC with anything": (v2(0x00, b"\xff" * 99), None),
    "v2 UDP4": (v2(0x12, V4_ENDS), None),
    "v2 UDP6": (v2(0x22, V6_ENDS), None),
    "v2 Unix datagrams": (v2(0x32, paths(b"/a", b"/b")), None),
    "v2 TCP4 without transport": (v2(0x10, V4_ENDS), None),
}


@pytest.mark.parametrize("name", VALID)
def test_a_valid_header(name: str) -> None:
    data, announced = VALID[name]
    header = parse(data)
    assert header is not None
    assert header.size == len(data)
    if announced is None:
        assert header == ProxyHeader(len(data))
        return
    source, destination, is_tls = announced
    assert header.announces
    assert (header.source, header.is_tls) == (source, is_tls)
    assert destination is None or header.destination == destination


@pytest.mark.parametrize("name", VALID)
def test_a_header_byte_by_byte_and_with_trailing_data(name: str) -> None:
    data, _ = VALID[name]
    whole = parse(data)
    for end in range(len(data)):
        assert parse(data[:end]) is None
    for trailing in (b"\r\n", GET, data, b"\0" * 5_000):
        assert parse(data + trailing) == whole


INVALID = {
    "HTTP": (GET, "does not begin with"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", "does not begin with"),
    "one byte": (b"G", "does not begin with"),
    "lower case": (b"proxy TCP4 ", "does not begin with"),
    "v1 without space": (b"PROXYTCP4", "does not begin with"),
    "almost v2": (SIGNATURE[:11] + b"\r", "does not begin with"),
    "an empty line": (b"\r\nGET", "does not begin with"),
    "v1 without end": (b"PROXY TCP4 " + b"1" * 96, "longer than 107"),
    "v1 too long": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "longer than 107"),
    "v1 CRLF too late": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r", "longer than 107"),
    "v1 empty": (b"PROXY \r\n", "malformed"),
    "v1 two spaces": (b"PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n", "malformed"),
    "v1 trailing space": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2 \r\n", "malformed"),
    "v1 tab": (b"PROXY TCP4\t192.0.2.7 192.0.2.8 1 2\r\n", "malformed"),
    "v1 bare LF": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\nGET / HTTP/1.1\r\n", "malformed"),
    "v1 bare CR": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\rGET / HTTP/1.1\r\n", "malformed"),
    "v1 three fields": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", "malformed"),
    "v1 UDP": (b"PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n", "malformed"),
    "v1 UNKNOWNx": (b"PROXY UNKNOWNx\r\n", "malformed"),
    "v1 unknown": (b"PROXY unknown\r\n", "malformed"),
    "v1 IPv6 in TCP4": (b"PROXY TCP4 ::1 ::2 1 2\r\n", "address"),
    "v1 IPv4 in TCP6": (b"PROXY TCP6 192.0.2.7 192.0.2.8 1 2\r\n", "address"),
    "v1 leading zero": (b"PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n", "address"),
    "v1 256": (b"PROXY TCP4 192.0.2.256 192.0.2.8 1 2\r\n", "address"),
    "v1 zone": (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "malformed"),
    "v1 port 65536": (b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 2\r\n", "port"),
    "v1 port 01": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 02\r\n", "port"),
    "v1 port of many digits": (b"PROXY TCP4 192.0.2.7 192.0.2.8 1 99999999999\r\n", "port"),
    "v1 negative port": (b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 2\r\n", "malformed"),
    "v2 version 1": (v2(0x11, V4_ENDS, 0x11), "version or command"),
    "v2 version 3": (v2(0x11, V4_ENDS, 0x31), "version or command"),
    "v2 command 2": (v2(0x11, V4_ENDS, 0x22), "version or command"),
    "v2 family 4": (v2(0x41, V4_ENDS), "family"),
    "v2 transport 3": (v2(0x13, V4_ENDS), "transport"),
    "v2 too long": (v2(0x11, length=MAX_V2 - 15), "longer than 4096"),
    "v2 LOCAL too long": (v2(0x00, command=LOCAL, length=65535), "longer than 4096"),
    "v2 no addresses": (v2(0x11), "too short"),
    "v2 IPv4 too short": (v2(0x11, V4_ENDS[:-1]), "too short"),
    "v2 IPv6 too short": (v2(0x21, V6_ENDS[:-1]), "too short"),
    "v2 Unix too short": (v2(0x31, bytes(215)), "too short"),
    "v2 IPv4 addresses as IPv6": (v2(0x21, V4_ENDS), "too short"),
    "v2 UDP too short": (v2(0x12, b"x"), "too short"),
    "v2 one byte of a TLV": (v2(0x11, V4_ENDS + b"\x04"), "TLV"),
    "v2 two bytes of a TLV": (v2(0x11, V4_ENDS + b"\x04\0"), "TLV"),
    "v2 TLV too long": (v2(0x11, V4_ENDS + b"\x04\0\x02x"), "TLV"),
    "v2 TLV much too long": (v2(0x11, V4_ENDS + b"\x04\xff\xff"), "TLV"),
    "v2 TLV of datagrams": (v2(0x12, V4_ENDS + b"\x04\0\x02x"), "TLV"),
    "v2 short PP2_TYPE_SSL": (v2(0x11, V4_ENDS + tlv(0x20, b"\x01\0\0\0")), "SSL"),
    "v2 TLV in PP2_TYPE_SSL": (v2(0x11, V4_ENDS + tlv(0x20, SSL + b"\x21\0\x09x")), "TLV"),
    "v2 wrong checksum": (v2(0x11, V4_ENDS + tlv(0x03, b"\0\0\0\x01")), "checksum"),
    "v2 short checksum": (v2(0x11, V4_ENDS + tlv(0x03, b"\0\0\0")), "checksum"),
}


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("trailing", [b"", GET, b"\0" * 200])
def test_an_invalid_header(name: str, trailing: bytes) -> None:
    data, reason = INVALID[name]
    with pytest.raises(InvalidProxyHeader, match=reason):
        parse(data + trailing)


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_header_byte_by_byte(name: str) -> None:
    """It is refused at the latest with its last byte, and never taken for a valid one."""
    data, _ = INVALID[name]
    for end in range(len(data) + 1):
        try:
            assert parse(data[:end]) is None
        except InvalidProxyHeader:
            return
    raise AssertionError("it was not refused")


def test_a_header_without_end_is_refused_within_its_bound() -> None:
    for start, bound in ((b"PROXY TCP4 ", MAX_V1), (v2(0x11, length=MAX_V2 - 16), MAX_V2)):
        for size in (bound - 1, bound):
            data = start.ljust(size, b"\x04")
            if size < bound:
                assert parse(data) is None
            else:
                with pytest.raises(InvalidProxyHeader):
                    parse(data)


def test_the_checksum_of_the_rfc() -> None:
    # RFC 3720 appendix B.4 has these.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for start in (b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        try:
            header = parse(start + data)
        except InvalidProxyHeader:
            continue
        assert header is None or 15 <= header.size <= len(start + data)


def unmapped(address: ipaddress._BaseAddress) -> str:
    """Return the text of an address; that of the IPv4 address if it maps one."""
    return str(getattr(address, "ipv4_mapped", None) or address)


_PORTS = st.integers(0, 65535)


_ENDS = [
    st.tuples(hosts, _PORTS, hosts, _PORTS)
    for hosts in (st.ip_addresses(v=4), st.ip_addresses(network="2000::/3"))
]


@given(st.one_of(_ENDS), st.binary(max_size=50))
def test_both_versions_announce_the_same(
    at: tuple[ipaddress._BaseAddress, int, ipaddress._BaseAddress, int], trailing: bytes
) -> None:
    source, destination = (str(at[0]), at[1]), (str(at[2]), at[3])
    version = at[0].version
    line = f"PROXY TCP{version} {at[0]} {at[2]} {at[1]} {at[3]}\r\n".encode()
    binary = v2(0x11 if version == 4 else 0x21, ends(source, destination))
    for data in (line, binary):
        header = parse(data + trailing)
        assert header == ProxyHeader(
            len(data),
            announces=True,
            source=(unmapped(at[0]), at[1]),
            destination=(unmapped(at[2]), at[3]),
        )
