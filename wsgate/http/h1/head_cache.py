"""A cache of request heads, without the values that vary.

A browser sends one site the same head each time, except for its cookies and the key of a WebSocket.
A proxy in front adds the same headers, except for the client's address and a request's number. So
the fields of a head are looked up with these values blanked, and the template that is found has all
that they mean. The fields of an unknown head are parsed line by line (`head_lines`). They become a
template if each line may be cached.
"""

import re
from collections.abc import Sequence
from itertools import count

from wsgate.bounded_cache import BoundedCache
from wsgate.fields import has_member, list_members
from wsgate.http.h1.head_lines import CACHEABLE_NAMES, parse_fields
from wsgate.http.request import HeadTemplate
from wsgate.types import Header

# The spelling of nearly all clients. In another spelling it is an ordinary line.
_KEY = b"\r\nSec-WebSocket-Key: "
_KEY_VALUE = re.compile(rb"[\x21-\x7e]+")
# Values that are secret or differ each time, and that do not affect how a request is read.
_VARYING = (
    b"Authorization Cookie Forwarded If-Modified-Since If-None-Match Referer X-Forwarded-For "
    b"X-Real-IP X-Request-ID"
)
VARYING = frozenset({b"sec-websocket-key", *_VARYING.lower().split()})
_SPELLINGS = b"|".join(sorted({*_VARYING.split(), *_VARYING.lower().split()}))
_VALUES = re.compile(rb"(\r\n(?:%b): )([^\r\n]*)" % _SPELLINGS)
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
# Heads with one of these are left to another parser: their meaning depends on more than one field.
_SPECIAL = frozenset({b"expect", b"transfer-encoding"})

_MAX_TEMPLATES = 512
_SHAPES = 4  # of known heads with varying values
_MAX_SIZE = 1_024  # bytes of a cached head: half a megabyte of them in all

TEMPLATES: BoundedCache[bytes, HeadTemplate] = BoundedCache(_MAX_TEMPLATES)  # of this process
_cached = TEMPLATES.get


def read_fields(lines: bytes) -> tuple[HeadTemplate, list[Header]] | None:
    """Return the template of a head's fields, and a new list of its headers.

    lines: each with a CRLF before it. Returns None for an ambiguous or special head, which another
    parser reads.
    """
    template = _cached(lines)
    if template is not None:
        return template, template.headers.copy()
    at = lines.find(_KEY)
    if at < 0:
        return _read_varying(lines)
    return _read_with_key(*_cut_value(lines, at + len(_KEY)))


def _read_with_key(lines: bytes, key: bytes) -> tuple[HeadTemplate, list[Header]] | None:
    if not _KEY_VALUE.fullmatch(key):
        return None
    template = _cached(lines)
    read = (template, template.headers.copy()) if template else _read_varying(lines)
    if read is None:
        return None
    template, headers = read
    _put_value(headers, template.positions[b"sec-websocket-key"], key)
    return read


def _read_varying(lines: bytes) -> tuple[HeadTemplate, list[Header]] | None:
    for shape in _recent:
        headers = shape.read(lines)
        if headers is not None:
            return shape.template, headers
    parts = _VALUES.split(lines)  # text, varying name and colon, its value, text, …
    values = parts[2::3]
    if not all(map(_VALUE.fullmatch, values)):
        return None
    del parts[2::3]
    blanked = b"".join(parts)
    template = template_of(blanked)
    if template is None:
        return None
    shape = _Shape(parts, template)
    if values and _cached(blanked) is template:
        _recent.insert(0, shape)
        del _recent[_SHAPES:]
    headers = shape.read(lines)
    assert headers is not None  # it is the head's own shape
    return template, headers


class _Shape:
    """A head but for its varying values.

    parts: text, and a varying name with its colon, in turn.
    """

    __slots__ = ("_chunks", "_last", "template")

    def __init__(self, parts: Sequence[bytes], template: HeadTemplate) -> None:
        self.template = template
        # What is before a value, and the place and the name of its header.
        self._chunks: list[tuple[bytes, int, bytes]] = []
        for text, start in zip(parts[::2], parts[1::2], strict=False):
            position = template.positions[start[2:-2].lower()]
            self._chunks.append((text + start, position, template.headers[position][0]))
        self._last = parts[-1]

    def read(self, lines: bytes) -> list[Header] | None:
        """Return the headers of a head of this shape; None for any other."""
        headers, at = self.template.headers.copy(), 0
        for chunk, position, name in self._chunks:
            if not lines.startswith(chunk, at):
                return None
            at += len(chunk)
            end = lines.find(b"\r\n", at)
            value = lines[at:] if end < 0 else lines[at:end]
            if _VALUE.fullmatch(value) is None:
                return None
            headers[position] = (name, value)
            at += len(value)
        return headers if lines[at:] == self._last else None


# Cutting a head at its varying values takes longer than all else, so the last shapes are tried.
_recent: list[_Shape] = []


def _put_value(headers: list[Header], at: int, value: bytes) -> None:
    headers[at] = (headers[at][0], value)


def _cut_value(lines: bytes, start: int) -> tuple[bytes, bytes]:
    """Return the lines without the value that starts at `start`, and the value."""
    end = lines.find(b"\r\n", start)
    if end < 0:
        return lines[:start], lines[start:]
    return lines[:start] + lines[end:], lines[start:end]


def template_of(lines: bytes) -> HeadTemplate | None:
    """Return the template of a head with blanked values, from the cache if it is there.

    Returns None for an ambiguous or special head.
    """
    template = _cached(lines)
    if template is None:
        headers = parse_fields(lines.split(b"\r\n")[1:])
        template = None if headers is None else _make_template(headers)
        if template is not None and len(lines) <= _MAX_SIZE and _may_be_cached(template):
            TEMPLATES.keep(lines, template)
    return template


def _make_template(headers: list[Header]) -> HeadTemplate | None:
    fields = dict(headers)
    # RFC 9112 section 3.2: exactly one Host.
    if len(fields) != len(headers) or b"host" not in fields or not _SPECIAL.isdisjoint(fields):
        return None
    length = fields.get(b"content-length")
    return HeadTemplate(
        headers,
        dict(zip(fields, count())),
        closes=has_member(fields, b"connection", b"close"),
        upgrades=frozenset(list_members(fields.get(b"upgrade", b"").lower())),
        length=None if length is None else int(length),
    )


def _may_be_cached(template: HeadTemplate) -> bool:
    others = [header for header in template.headers if header[0] not in CACHEABLE_NAMES]
    return all(name in VARYING and not value for name, value in others)
