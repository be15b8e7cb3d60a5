"""The header of the PROXY protocol, versions 1 and 2.

A proxy sends it before the first byte of a connection, also before TLS, to announce the addresses
of the client's connection to it. Source: doc/proxy-protocol.txt of HAProxy.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from wsgate.types import Address

# Bytes with the CRLF. Section 2.1: "If the CRLF sequence is not found in the first 107 characters,
# the receiver should declare the line invalid."
MAX_V1 = 107
# Bytes. The format allows 64 KiB, but what proxies send is a few hundred: section 2 says "Both
# formats are designed to fit in the smallest TCP segment", of 536 bytes. nginx has the same bound.
MAX_V2 = 4_096

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16  # bytes of a header of version 2 before its addresses

_UNKNOWN = b"PROXY UNKNOWN"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++) ([0-9]++) ([0-9]++)")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,4}")
_MAX_PORT = 65_535

_LOCAL, _PROXY = 0x20, 0x21  # version and command
_INET_STREAM, _INET6_STREAM, _UNIX_STREAM = 0x11, 0x21, 0x31
# Section 2.2, of address families and transports: other values "must be rejected as invalid by
# receivers". The sizes are the bytes of both ends.
_ADDRESS_SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}
_TRANSPORTS = frozenset({0x0, 0x1, 0x2})
_UNIX_PATH = 108  # bytes

_TLV_CRC32C, _TLV_SSL = 0x03, 0x20
_CRC_SIZE = 4
_SSL_FIXED = 5  # bytes of PP2_TYPE_SSL before its own TLVs
_CLIENT_SSL = 0x01


class InvalidProxyHeader(ValueError):
    """What a connection begins with is no valid PROXY header. The text says why."""


@dataclass(slots=True)
class ProxyHeader:
    """A complete header.

    size: its bytes; what follows belongs to the connection. announces: it names the addresses of
    another connection. If not, those of the socket hold: the proxy speaks for itself (LOCAL, as in
    a health check), or does not know them. source: the client's address, None for the client of a
    Unix socket. destination: the address that the client connected to; the path and None for a Unix
    socket, None if that has no name. is_tls: the client's connection to the proxy uses TLS.
    """

    size: int
    announces: bool = False
    source: Address | None = None
    destination: Address | None = None
    is_tls: bool = False


def parse(data: bytes) -> ProxyHeader | None:
    """Return the header at the start of a connection's bytes; None while it is incomplete.

    data: all bytes so far. It returns, or raises, after MAX_V2 bytes at the latest.
    Raises InvalidProxyHeader as soon as the bytes cannot become a valid header.
    """
    if data.startswith(_V1):
        return _parse_v1(data)
    if data.startswith(_V2):
        return _parse_v2(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise InvalidProxyHeader("it does not begin with a PROXY header")


def _host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the text of an address; an IPv4-mapped one as its IPv4 address.

    A proxy that listens on IPv6 and IPv4 announces the client 192.0.2.1 as ::ffff:192.0.2.1.
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


# -- version 1 -------------------------------------------------------------------------------------


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise InvalidProxyHeader(f"its line is longer than {MAX_V1} bytes")
        return None
    line, size = data[:end], end + 2
    # Section 2.1: "For "UNKNOWN", the rest of the line before the CRLF may be omitted by the
    # sender, and the receiver must ignore anything presented before the CRLF is found."
    if line == _UNKNOWN or line.startswith(_UNKNOWN + b" "):
        return ProxyHeader(size)
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidProxyHeader("its line is malformed")
    family, source, destination, source_port, destination_port = match.groups()
    parse_address = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        hosts = [_host(parse_address(host.decode("ascii"))) for host in (source, destination)]
    except ValueError:
        raise InvalidProxyHeader("its line has a malformed address") from None
    return ProxyHeader(
        size,
        announces=True,
        source=(hosts[0], _parse_port(source_port)),
        destination=(hosts[1], _parse_port(destination_port)),
    )


def _parse_port(digits: bytes) -> int:
    if not _NUMBER.fullmatch(digits) or int(digits) > _MAX_PORT:
        raise InvalidProxyHeader("its line has a malformed port")
    return int(digits)


# -- version 2 -------------------------------------------------------------------------------------


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise InvalidProxyHeader("its version or command is unknown")
    if size > MAX_V2:
        raise InvalidProxyHeader(f"it is longer than {MAX_V2} bytes")
    # Section 2.2: with LOCAL the receiver "must use the real connection endpoints and discard the
    # protocol block including the family which is ignored".
    if command == _PROXY:
        _check_family(family, size)
    if len(data) < size:
        return None
    if command == _LOCAL or family >> 4 == 0:
        return ProxyHeader(size)
    return _announced(data[:size], family)


def _check_family(family: int, size: int) -> None:
    addresses = _ADDRESS_SIZES.get(family >> 4)
    if addresses is None or family & 0xF not in _TRANSPORTS:
        raise InvalidProxyHeader("its address family or transport is unknown")
    if size < _FIXED + addresses:
        raise InvalidProxyHeader("its length is too short for its addresses")


def _announced(header: bytes, family: int) -> ProxyHeader:
    """Return a header of the command PROXY with its addresses, after its TLVs are checked."""
    is_tls = _read_tlvs(header, _FIXED + _ADDRESS_SIZES[family >> 4])
    ends: tuple[Address | None, Address | None]
    if family == _INET_STREAM:
        ends = _internet_ends(header, 4)
    elif family == _INET6_STREAM:
        ends = _internet_ends(header, 16)
    elif family == _UNIX_STREAM:
        ends = None, _unix_address(header[_FIXED + _UNIX_PATH : _FIXED + 2 * _UNIX_PATH])
    else:  # datagrams, or no transport: no addresses of a connection
        return ProxyHeader(len(header))
    source, destination = ends
    return ProxyHeader(
        len(header), announces=True, source=source, destination=destination, is_tls=is_tls
    )


def _internet_ends(header: bytes, width: int) -> tuple[Address, Address]:
    """Return source and destination. width: bytes of an address."""
    at = _FIXED
    hosts = [header[at : at + width], header[at + width : at + 2 * width]]
    at += 2 * width
    ports = [int.from_bytes(header[at : at + 2], "big"), int.from_bytes(header[at + 2 : at + 4])]
    source, destination = (_host(ipaddress.ip_address(host)) for host in hosts)
    return (source, ports[0]), (destination, ports[1])


def _unix_address(path: bytes) -> Address | None:
    if path.startswith(b"\x00"):  # an abstract name, or none
        name = path[1:].rstrip(b"\x00")
        return ("@" + name.decode("utf-8", "surrogateescape"), None) if name else None
    return path.partition(b"\x00")[0].decode("utf-8", "surrogateescape"), None


def _read_tlvs(header: bytes, at: int) -> bool:
    """Check the TLVs of a header; return whether one says that the client uses TLS.

    All others, and those that are unknown, are ignored. at: where they start.
    """
    is_tls = False
    for kind, start, value in _tlvs(header, at):
        if kind == _TLV_CRC32C:
            _check_crc(header, start, value)
        elif kind == _TLV_SSL:
            if len(value) < _SSL_FIXED:
                raise InvalidProxyHeader("its PP2_TYPE_SSL is too short")
            for _ in _tlvs(value, _SSL_FIXED):
                pass  # their lengths are checked
            is_tls = bool(value[0] & _CLIENT_SSL)
    return is_tls


def _tlvs(block: bytes, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, the position and the value of each TLV, from `at` to the end of the block."""
    while at < len(block):
        start = at + 3
        at = start + int.from_bytes(block[at + 1 : start], "big")
        if start > len(block) or at > len(block):
            raise InvalidProxyHeader("a TLV is longer than the header")
        yield block[start - 3], start, block[start:at]


def _check_crc(header: bytes, start: int, value: bytes) -> None:
    # Section 2.2.3: "replace the 32 bits of the checksum field in the received PROXY header with
    # all '0's and calculate a CRC32c checksum value of the whole PROXY header".
    zeroed = header[:start] + bytes(_CRC_SIZE) + header[start + _CRC_SIZE :]
    if len(value) != _CRC_SIZE or int.from_bytes(value, "big") != crc32c(zeroed):
        raise InvalidProxyHeader("its checksum is wrong")


def crc32c(data: bytes) -> int:
    """Return the CRC32C of some bytes (RFC 9260 appendix A)."""
    table, crc = _crc_table(), 0xFFFF_FFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFF_FFFF


@cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
        table.append(crc)
    return table
