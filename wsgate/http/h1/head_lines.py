"""Parses the lines of request heads one by one, and caches frequent ones.

The same browsers and programs send the same lines repeatedly. A line that is valid whatever other
lines there are is cached by its exact bytes, so it is looked up the next time. A client gains
nothing from the cache that it has not sent itself. Rules about the whole head, such as that there
is exactly one Host, are checked where the whole head is read.

A line that is malformed, or may be, is ambiguous: the functions return None, and h11 parses its
head.
"""

import re
from functools import lru_cache

from wsgate.bounded_cache import BoundedCache
from wsgate.fields import COMMON_NAMES, is_host, is_length, lower_name
from wsgate.http.request import ASCII_ONLY
from wsgate.types import Header

# RFC 9112 section 3, exactly: one space each, and HTTP/1.1 only. The method is uppercase: the
# connection rewrites any other before this parser is asked again.
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")
# RFC 9112 section 5: no whitespace before the colon, nor before the name (an obs-fold);
# RFC 9110 section 5.5: no control character in the value but HTAB.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_MAX_LINES = 1_024  # for each of the two caches
_MAX_LENGTH = 512  # bytes of a cached line, so half a megabyte for each cache

# Headers that are the same for many clients. All others are not cached: secrets (credentials,
# cookies, the key of a WebSocket and its subprotocols, where some clients put a token, and unknown
# headers, which may hold anything) and values that differ each time, such as a length or an
# address. So a client cannot fill the cache with junk names.
CACHEABLE_NAMES = frozenset(
    b"accept accept-encoding accept-language cache-control connection content-type dnt expect host "
    b"keep-alive origin pragma priority sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions "
    b"sec-websocket-version transfer-encoding upgrade upgrade-insecure-requests user-agent "
    b"x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto".split()
)

RequestLine = tuple[str, bytes, bytes, bytes]
"""The method, the target, and the path and query of the target."""

# Shared by all connections of this process.
FIELD_LINES: BoundedCache[bytes, Header] = BoundedCache(_MAX_LINES)
REQUEST_LINES: BoundedCache[bytes, RequestLine] = BoundedCache(_MAX_LINES)
_cached_field = FIELD_LINES.get


def parse_fields(lines: list[bytes]) -> list[Header] | None:
    """Return the header of each line; None if a line is ambiguous."""
    headers = [_cached_field(line) or parse_field(line) for line in lines]
    # Every item is a header, or None is among them.
    return None if None in headers else headers  # type: ignore[return-value]


def parse_field(line: bytes) -> Header | None:
    """Return the header of a line, its name in lower case; None for an ambiguous line.

    Caches the header if its name is in CACHEABLE_NAMES.
    """
    spelling, colon, rest = line.partition(b":")
    name = COMMON_NAMES.get(spelling) or _lower_name(spelling)
    if name is None or not colon or not _VALUE.fullmatch(rest):
        return None
    value = rest.strip(b" \t")
    if name in ASCII_ONLY and not _is_unambiguous(name, value):
        return None
    header = (name, value)
    if name in CACHEABLE_NAMES and len(line) <= _MAX_LENGTH:
        FIELD_LINES.keep(line, header)
    return header


def _lower_name(spelling: bytes) -> bytes | None:
    return _short_name(spelling) if len(spelling) <= _SHORT else lower_name(spelling)


@lru_cache(maxsize=256)
def _short_name(spelling: bytes) -> bytes | None:
    name = lower_name(spelling)
    return None if name is None else COMMON_NAMES.get(name, name)


_SHORT = 64  # bytes


def _is_unambiguous(name: bytes, value: bytes) -> bool:
    """Return whether all recipients read the value of a field in ASCII_ONLY in the same way."""
    if not value.isascii():
        return False
    if name == b"host":
        return is_host(value) and b"," not in value
    if name == b"content-length":
        return is_length(value)
    return name != b"transfer-encoding" or value == b"chunked"


def parse_request_line(line: bytes) -> RequestLine | None:
    """Return the parts of a request line; cache them unless the target has a query.

    Returns None for anything but HTTP/1.1 with a target in origin-form.
    """
    cached = REQUEST_LINES.get(line)
    if cached is not None:
        return cached
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return None
    method, target = match.groups()
    if not target.startswith(b"/") or b"#" in target or method == b"CONNECT":
        return None
    path, mark, query = target.partition(b"?")
    parsed = (method.decode("ascii"), target, path, query)
    if not mark and len(line) <= _MAX_LENGTH:  # a query may hold a secret
        REQUEST_LINES.keep(line, parsed)
    return parsed


def share_headers(headers: list[Header]) -> list[Header]:
    """Return the same headers, as cached objects where there are any.

    An open WebSocket keeps the headers of its handshake for its app, and most of them are the same
    for all WebSockets: shared objects save memory.
    """
    return [_cached_header(header) for header in headers]


def _cached_header(header: Header) -> Header:
    line = b": ".join(header)
    cached = _cached_field(line) or parse_field(line)
    return cached if cached == header else header
