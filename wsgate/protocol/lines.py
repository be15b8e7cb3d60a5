"""The lines of requests' heads: each is judged by itself, and those that come often only once.

A head is lines, nearly all of which have been seen before: the same browsers and programs send the
same ones again and again. So a line that is beyond doubt whatever stands beside it is kept with
what it says, under its exact bytes, and the next time it is looked up and not judged. Nobody gets
anything by it that he has not sent himself. What one line alone cannot tell, such as that there is
one Host, is the head's reader's business.
"""

import re
from functools import lru_cache

from wsgate.protocol.headers import NAMES, is_host, is_length, lower_name
from wsgate.protocol.request import ASCII_ONLY
from wsgate.types import Header

# RFC 9112 section 3, to the byte: one space each, and no protocol but this.
# The method is uppercase here: `http1` writes another one so, and then asks again.
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")
# RFC 9112 section 5: no blank before the colon, nor before the name, which would be an obs-fold;
# RFC 9110 section 5.5: no control character in the value but HTAB.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_MOST = 1_024  # lines of either kind; then it begins anew
_LONGEST = 512  # bytes of a line that is kept: half a megabyte of them in all, and as much again

# What many clients send alike. All else stays out: secrets (credentials, cookies, a WebSocket's key
# and, as some put a token there, its subprotocols; whatever a header that nobody knows may hold)
# and what is another each time, such as a length or an address. So junk does not come in either.
OFTEN_ALIKE = frozenset(
    b"accept accept-encoding accept-language cache-control connection content-type dnt expect host "
    b"keep-alive origin pragma priority sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-websocket-extensions "
    b"sec-websocket-version transfer-encoding upgrade upgrade-insecure-requests user-agent "
    b"x-forwarded-host x-forwarded-port x-forwarded-proto".split()
)


class DoubtfulLine(KeyError):
    """A line that is malformed, or may be: only its head as a whole tells."""


class HeaderLines(dict[bytes, Header]):
    """The header that a line makes, its name in lower case; known lines, as others are asked for.

    Raises DoubtfulLine.
    """

    def __missing__(self, line: bytes) -> Header:
        """Judge a line, and keep it where it may come again."""
        before, colon, behind = line.partition(b":")
        name = NAMES.get(before) or _name(before)
        if name is None or not colon or not _VALUE.fullmatch(behind):
            raise DoubtfulLine
        value = behind.strip(b" \t")
        if name in ASCII_ONLY and not _is_clear(name, value):
            raise DoubtfulLine
        header = (name, value)
        if name in OFTEN_ALIKE and len(line) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[line] = header
        return header


def _name(spelling: bytes) -> bytes | None:
    return _short_name(spelling) if len(spelling) <= _SHORT else lower_name(spelling)


@lru_cache(maxsize=256)
def _short_name(spelling: bytes) -> bytes | None:
    name = lower_name(spelling)
    return None if name is None else NAMES.get(name, name)


_SHORT = 64  # bytes


def _is_clear(name: bytes, value: bytes) -> bool:
    """Tell whether a field that is matched against ASCII tokens has a value beyond doubt."""
    if not value.isascii():
        return False
    if name == b"host":
        return is_host(value) and b"," not in value
    if name == b"content-length":
        return is_length(value)
    return name != b"transfer-encoding" or value == b"chunked"


RequestLine = tuple[str, bytes, bytes, bytes]
"""Method, target, and the target's path and query."""


class RequestLines(dict[bytes, RequestLine]):
    """What a request line says, where that is HTTP/1.1 and its target has the origin-form.

    Raises DoubtfulLine.
    """

    def __missing__(self, line: bytes) -> RequestLine:
        """Judge a line, and keep it where it may come again."""
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise DoubtfulLine
        method, target = match.groups()
        if not target.startswith(b"/") or b"#" in target or method == b"CONNECT":
            raise DoubtfulLine
        path, mark, query = target.partition(b"?")
        said = (method.decode("ascii"), target, path, query)
        if not mark and len(line) <= _LONGEST:  # a query may hold a secret
            if len(self) >= _MOST:
                self.clear()
            self[line] = said
        return said


# A process is one worker: what all of its connections share.
HEADERS = HeaderLines()
REQUESTS = RequestLines()


def share(headers: list[Header]) -> list[Header]:
    """Return equal headers, each the same object as in other heads where it is a known one.

    An open WebSocket keeps the headers of its handshake for its app, most of which are the same for
    all.
    """
    return [_shared(header) for header in headers]


def _shared(header: Header) -> Header:
    try:
        known = HEADERS[b": ".join(header)]
    except DoubtfulLine:
        return header
    return known if known == header else header
