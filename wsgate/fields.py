"""The grammar of HTTP fields: tokens, lists, hosts, and the headers that an app may send.

Sources: RFC 9110 section 5.6 (tokens, lists, quoted strings), RFC 3986 section 3.2.2 (hosts).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from wsgate.errors import InvalidMessage
from wsgate.types import Header

Fields = Mapping[bytes, bytes]
"""Headers by lower-case name, each with one value; see `combine_headers`."""

_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and
# dangerous"; the other control characters but HTAB are no part of a field-value either.
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROLS = bytes(byte for byte in (*range(0x20), 0x7F) if byte != 0x09)  # noqa: PLR2004  # HTAB
_LENGTH_DIGITS = 20
_COMMON_HOST = re.compile(rb"[-A-Za-z0-9.]++(?::[0-9]{1,4})?")
_HOST = re.compile(
    rb"(?:\[(?P<ip>[0-9A-Fa-f:.]++)\]"
    rb"|(?P<name>(?:[-A-Za-z0-9._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})++))"
    rb"(?::(?P<port>[0-9]*+))?"
)


def is_token(value: bytes) -> bool:
    """Return whether `value` is a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def is_host(value: bytes) -> bool:
    """Return whether `value` is `uri-host [ ":" port ]` (RFC 9110 section 7.2) and not empty."""
    return _COMMON_HOST.fullmatch(value) is not None or _is_host(value)


def is_length(value: bytes) -> bool:
    """Return whether a Content-Length is one number, with no more digits than h11 accepts."""
    return value.isdigit() and len(value) <= _LENGTH_DIGITS


def _is_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    if match is None:
        return False
    port = match["port"]
    if port and (len(port) > 5 or int(port) > 65535):  # noqa: PLR2004  # a port has 16 bits
        return False
    return match["ip"] is None or _is_ipv6(match["ip"])


def _is_ipv6(value: bytes) -> bool:
    try:
        ipaddress.IPv6Address(value.decode("ascii"))
    except ValueError:
        return False
    return True


def _common_names() -> dict[bytes, bytes]:
    """Map each spelling of a common name to one shared object in lower case."""
    names = {name.lower(): name.lower() for name in _COMMON}
    return {spelling: names[name.lower()] for name in _COMMON for spelling in (name, name.lower())}


# Each connection's scope holds its header names. Common names are one shared object each.
_COMMON = (
    b"Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Content-Length "
    b"Content-Type Cookie DNT Date ETag Expect Forwarded Host If-Modified-Since If-None-Match "
    b"Keep-Alive Location Origin Pragma Priority Range Referer Sec-CH-UA Sec-CH-UA-Mobile "
    b"Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode Sec-Fetch-Site Sec-Fetch-User Sec-GPC "
    b"Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version "
    b"Server Set-Cookie Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Vary Via "
    b"X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto "
    b"X-Real-IP X-Request-ID"
).split()
COMMON_NAMES = _common_names()


def lower_name(name: bytes) -> bytes | None:
    """Return a header's name in lower case; None if it is not a token."""
    return COMMON_NAMES.get(name) or (name.lower() if is_token(name) else None)


def count_lines(head: bytes) -> int:
    """Return the number of lines in a head; 0 if one contains a control character except HTAB."""
    breaks = head.count(b"\r\n")
    return breaks if len(head) - len(head.translate(None, _CONTROLS)) == 2 * breaks else 0


def combine_headers(headers: list[Header]) -> Fields:
    """Return the headers by name; several headers with one name become one list.

    RFC 9110 section 5.3: "A recipient MAY combine multiple field lines within a field section that
    have the same field name into one field line, without changing the semantics of the message, by
    appending each subsequent field line value to the initial field line value in order, separated
    by a comma (",") and optional whitespace". A value with a comma is invalid in a field that must
    not be a list.
    """
    fields = dict(headers)
    if len(fields) != len(headers):
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        fields = {name: b", ".join(lines) for name, lines in values.items()}
    return fields


def values_of(headers: list[Header], name: bytes) -> list[bytes]:
    """Return the values of all headers with this name, in order."""
    return [value for key, value in headers if key == name]


def list_members(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, without surrounding whitespace.

    RFC 9110 section 5.6.1.2: "a recipient MUST parse and ignore a reasonable number of empty list
    elements".
    """
    return [m for m in (m.strip(b" \t") for m in value.split(b",")) if m]


def has_member(fields: Fields, name: bytes, member: bytes) -> bool:
    """Return whether the list in a field contains a member, without regard to case.

    name, member: in lower case.
    """
    value = fields.get(name)
    if value is None:
        return False
    if len(value) <= _SHORT_LIST:
        return member in _short_list_members(value)
    return member in list_members(value.lower())


_SHORT_LIST = 64  # bytes


@lru_cache(maxsize=128)
def _short_list_members(value: bytes) -> frozenset[bytes]:
    return frozenset(list_members(value.lower()))


def normalize_headers(headers: object) -> list[Header]:
    """Return the app's headers with lower-case names and stripped values.

    headers: an iterable of pairs of bytes, as an app sends it.
    Raises InvalidMessage if a header is not a pair of bytes, if a name is not a token, or if a
    value contains a control character. A CR LF in a value would start another header.
    """
    if not isinstance(headers, (list, tuple, Iterable)):
        raise InvalidMessage(f"headers are a list of pairs, not {headers!r}")
    clean = []
    for header in headers:
        name, value = header if type(header) is tuple and len(header) == 2 else _pair(header)  # noqa: PLR2004  # a pair
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise InvalidMessage(f"a header's name and value are bytes, not {header!r}")
        lower = COMMON_NAMES.get(name) or lower_name(name)
        if lower is None:
            raise InvalidMessage(f"{name!r} is not a valid header name (RFC 9110 section 5.1)")
        if _NOT_IN_VALUE.search(value):
            raise InvalidMessage(f"the value of the header {name!r} has a control character")
        clean.append((lower, value.strip(b" \t")))
    return clean


def _pair(header: object) -> list[object]:
    # An app may send anything, whatever its types say.
    if not isinstance(header, Iterable) or len(pair := list(header)) != 2:  # noqa: PLR2004  # a pair
        raise InvalidMessage(f"a header is a pair of name and value, not {header!r}")
    return pair
