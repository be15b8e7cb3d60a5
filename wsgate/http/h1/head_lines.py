"""The lines of request heads: each is parsed by itself, and a line that comes often only once.

Most lines have been seen before: the same browsers and programs send the same ones again and again.
A line that is valid whatever stands beside it is cached under its exact bytes, so the next time it
is looked up and not parsed. A client gains nothing by it that it has not sent itself. What one line
alone cannot tell, such as that there is one Host, is checked where the head is read.

A line that is malformed, or may be, is ambiguous: None is returned for it, and h11 reads its head.
"""

import re
from functools import lru_cache

from wsgate.bounded_cache import BoundedCache
from wsgate.fields import COMMON_NAMES, is_host, is_length, lower_name
from wsgate.http.request import ASCII_ONLY
from wsgate.types import Header

# RFC 9112 section 3, to the byte: one space each, and no other version of the protocol.
# The method is uppercase here: the connection rewrites another one, and then asks again.
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")
# RFC 9112 section 5: no blank before the colon, nor before the name, which would be an obs-fold;
# RFC 9110 section 5.5: no control character in the value but HTAB.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_MAX_LINES = 1_024  # of either kind
_MAX_LENGTH = 512  # bytes of a cached line: half a megabyte of them in all, and as much again

# What many clients send alike. All else stays out: secrets (credentials, cookies, a WebSocket's key
# and, as some put a token there, its subprotocols; whatever an unknown header may hold) and what
# differs each time, such as a length or an address. So junk does not come in either.
OFTEN_ALIKE = frozenset(
    b"accept accept-encoding accept-language cache-control connection content-type dnt expect host "
    b"keep-alive origin pragma priority sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions "
    b"sec-websocket-version transfer-encoding upgrade upgrade-insecure-requests user-agent "
    b"x-forwarded-host x-forwarded-port x-forwarded-proto".split()
)

RequestLine = tuple[str, bytes, bytes, bytes]
"""Method, target, and the target's path and query."""

# A process is one worker: all of its connections share these.
FIELD_LINES: BoundedCache[bytes, Header] = BoundedCache(_MAX_LINES)
REQUEST_LINES: BoundedCache[bytes, RequestLine] = BoundedCache(_MAX_LINES)
_cached_field = FIELD_LINES.get


def parse_fields(lines: list[bytes]) -> list[Header] | None:
    """Return the header that each line makes; None if one of the lines is ambiguous."""
    headers = [_cached_field(line) or parse_field(line) for line in lines]
    # Each of them is there, or None is among them.
    return None if None in headers else headers  # type: ignore[return-value]


def parse_field(line: bytes) -> Header | None:
    """Return the header that a line makes, its name in lower case; None for an ambiguous line.

    The header is cached if the line may come often.
    """
    spelling, colon, rest = line.partition(b":")
    name = COMMON_NAMES.get(spelling) or _lower_name(spelling)
    if name is None or not colon or not _VALUE.fullmatch(rest):
        return None
    value = rest.strip(b" \t")
    if name in ASCII_ONLY and not _is_unambiguous(name, value):
        return None
    header = (name, value)
    if name in OFTEN_ALIKE and len(line) <= _MAX_LENGTH:
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
    """Return whether a field that is matched against ASCII tokens has one meaning for everybody."""
    if not value.isascii():
        return False
    if name == b"host":
        return is_host(value) and b"," not in value
    if name == b"content-length":
        return is_length(value)
    return name != b"transfer-encoding" or value == b"chunked"


def parse_request_line(line: bytes) -> RequestLine | None:
    """Return what a request line says, and cache it if it may come often.

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
    """Return equal headers, each the cached object if there is one.

    An open WebSocket keeps the headers of its handshake for its app, and most of them are the same
    for all.
    """
    return [_shared(header) for header in headers]


def _shared(header: Header) -> Header:
    line = b": ".join(header)
    known = _cached_field(line) or parse_field(line)
    return known if known == header else header
