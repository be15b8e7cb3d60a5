"""Conditional requests and ranges: RFC 9110 sections 13 and 14."""

import re
from calendar import timegm
from email.utils import parsedate_tz
from enum import Enum
from typing import NamedTuple

from wsgate.fields import Fields, list_members

_ENTITY_TAG = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE = re.compile(rb"(?i:bytes)=([0-9]*)-([0-9]*)")
_LONGEST_DATE = 33  # bytes of an HTTP-date in its longest form; two dates have more
_DIGITS = 18  # of a position in a file


class Outcome(Enum):
    """What the preconditions of a request ask for."""

    SEND = "the file"
    NOT_MODIFIED = 304
    FAILED = 412


class Part(NamedTuple):
    """A part of a file. start: of its first byte. size: in bytes."""

    start: int
    size: int


def outcome(fields: Fields, tag: bytes, modified: int) -> Outcome:
    """Evaluate the preconditions of a GET or HEAD request in the order of section 13.2.2.

    fields: of the request. tag: the file's strong entity tag. modified: the time of its
    modification in seconds since 1970.
    """
    if b"if-match" in fields:
        if not _matches(fields[b"if-match"], tag, is_weak=False):
            return Outcome.FAILED
    elif (since := _date(fields.get(b"if-unmodified-since"))) is not None and modified > since:
        return Outcome.FAILED
    if b"if-none-match" in fields:
        if _matches(fields[b"if-none-match"], tag, is_weak=True):
            return Outcome.NOT_MODIFIED
    elif (since := _date(fields.get(b"if-modified-since"))) is not None and modified <= since:
        return Outcome.NOT_MODIFIED
    return Outcome.SEND


def _matches(condition: bytes, tag: bytes, *, is_weak: bool) -> bool:
    """Return whether a list of entity tags contains this one (section 8.8.3.2)."""
    if condition.strip(b" \t") == b"*":
        return True
    tags = _ENTITY_TAG.findall(condition)
    return tag in tags or (is_weak and b"W/" + tag in tags)


def _date(value: bytes | None) -> int | None:
    """Return an HTTP-date in seconds since 1970; None if it is not valid, and so ignored."""
    if value is None or len(value) > _LONGEST_DATE:
        return None
    parsed = parsedate_tz(value.decode("latin-1"))
    if parsed is None:
        return None
    try:
        return timegm((*parsed[:6], 0, 0, 0)) - (parsed[9] or 0)
    except (ValueError, OverflowError):  # there is no such day
        return None


def requested_part(fields: Fields, tag: bytes, size: int) -> Part | None:
    """Return the part that a GET request asks for; None for the whole file.

    A Part without bytes cannot be satisfied (416). Several ranges, and ranges that are malformed,
    are ignored: section 14.2 allows it. So is a range if If-Range has another tag than the file's,
    or a date: every file has a tag, so no client may send a date (section 13.1.5).

    size: of the file, in bytes.
    """
    value = fields.get(b"range")
    if value is None or fields.get(b"if-range", tag).strip(b" \t") != tag:
        return None
    members = list_members(value)
    match = _RANGE.fullmatch(members[0]) if len(members) == 1 else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size)
    start = _position(first)
    end = _position(last) if last else size - 1
    if last and end < start:
        return None  # section 14.1.1: it is invalid
    return Part(start, max(0, min(end, size - 1) - start + 1))


def _suffix(digits: bytes, size: int) -> Part | None:
    if not digits:
        return None
    count = min(_position(digits), size)
    # Of an empty file the last bytes are the whole file, which no Content-Range can express.
    return None if not size and _position(digits) else Part(size - count, count)


def _position(digits: bytes) -> int:
    """Return a position; a larger number than any file's may have any number of digits."""
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS
