"""The fields of requests' heads: those that were seen before, but for what varies, are known.

What a browser sends to one site is the same each time, except for its cookies and the key of a
WebSocket, and what a proxy in front adds is, except for the client's address and the request's
number. So a head's fields are looked up with the values of these blanked, and all that they say is
there, judged. Others are read line by line (`lines`), and kept if each line may be.
"""

import binascii
import re
from itertools import count

from wsgate.protocol.handshake import NONCE_SIZE, is_asked_for
from wsgate.protocol.headers import has_member
from wsgate.protocol.lines import HEADERS, OFTEN_ALIKE, DoubtfulLine
from wsgate.protocol.request import KnownFields
from wsgate.types import Header

# As nearly all spell them; in another spelling they are lines like any other.
_KEY = b"\r\nSec-WebSocket-Key: "
# What is secret, or another each time, and by itself decides nothing.
_VARYING = (
    b"Authorization Cookie If-Modified-Since If-None-Match Referer X-Forwarded-For X-Real-IP "
    b"X-Request-ID"
)
_BLANKED = {b"sec-websocket-key", *_VARYING.lower().split()}
_SPELLINGS = b"|".join(sorted({*_VARYING.split(), *_VARYING.lower().split()}))
_VALUES = re.compile(rb"(\r\n(?:%b): )([^\r\n]*)" % _SPELLINGS)
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
# What a head with one of these says hangs on more than its fields, or on which go together.
_SPECIAL = frozenset({b"expect", b"transfer-encoding"})

_MOST = 512  # heads; then it begins anew
_LONGEST = 1_024  # bytes of a head that is kept: half a megabyte of them in all
_header = HEADERS.__getitem__


class KnownHeads(dict[bytes, KnownFields]):
    """What the lines of a head say, what varies blanked; known heads, as others are asked for.

    Raises DoubtfulLine.
    """

    def __missing__(self, lines: bytes) -> KnownFields:
        """Read the lines, and keep them where they may come again."""
        said = _said(list(map(_header, lines.split(b"\r\n")[1:])))
        if len(lines) <= _LONGEST and _may_be_kept(said):
            if len(self) >= _MOST:
                self.clear()
            self[lines] = said
        return said


def _said(headers: list[Header]) -> KnownFields:
    fields = dict(headers)
    # RFC 9112 section 3.2: exactly one Host.
    if len(fields) != len(headers) or b"host" not in fields or not _SPECIAL.isdisjoint(fields):
        raise DoubtfulLine
    length = fields.get(b"content-length")
    return KnownFields(
        headers,
        dict(zip(fields, count())),
        closes=has_member(fields, b"connection", b"close"),
        asks_websocket=is_asked_for("1.1", fields),
        length=None if length is None else int(length),
    )


def _may_be_kept(said: KnownFields) -> bool:
    others = [header for header in said.headers if header[0] not in OFTEN_ALIKE]
    return all(name in _BLANKED and not value for name, value in others)


HEADS = KnownHeads()  # of this process, one worker
_known = HEADS.get


def read(lines: bytes) -> tuple[KnownFields, list[Header]]:
    """Return what the lines of a head say, each with its CRLF before it; and its headers.

    The headers are the caller's own. Raises DoubtfulLine where more than these lines is to be
    judged, or h11 is to do it.
    """
    said = _known(lines)
    if said is not None:
        return said, said.headers.copy()
    at = lines.find(_KEY)
    if at < 0:
        return _read_varying(lines)
    lines, key = _blanked(lines, at + len(_KEY))
    if not _is_nonce(key):
        raise DoubtfulLine
    said = _known(lines)
    said, headers = (said, said.headers.copy()) if said else _read_varying(lines)
    at = said.places[b"sec-websocket-key"]
    headers[at] = (headers[at][0], key)
    return said, headers


def _read_varying(lines: bytes) -> tuple[KnownFields, list[Header]]:
    parts = _VALUES.split(lines)  # a text, a varying name with what is around it, its value, a text
    values = parts[2::3]
    if not all(map(_VALUE.fullmatch, values)):
        raise DoubtfulLine
    del parts[2::3]
    said = HEADS[b"".join(parts)]
    headers = said.headers.copy()
    for start, value in zip(parts[1::2], values, strict=True):
        at = said.places[start[2:-2].lower()]
        headers[at] = (headers[at][0], value)
    return said, headers


def _blanked(lines: bytes, start: int) -> tuple[bytes, bytes]:
    """Return the lines without the value that starts there, and the value."""
    end = lines.find(b"\r\n", start)
    if end < 0:
        return lines[:start], lines[start:]
    return lines[:start] + lines[end:], lines[start:end]


def _is_nonce(key: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(key, strict_mode=True)) == NONCE_SIZE
    except binascii.Error:
        return False
