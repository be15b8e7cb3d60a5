"""The head of a response, made ready: checked, and written as far as it is the same each time.

An app sends a few heads again and again. What is worth keeping of one is kept under its exact
status and headers, and its bytes as long as the server's own headers are the same: for a second.
"""

from http import HTTPStatus
from itertools import chain
from typing import Any

from wsgate.bounded_cache import BoundedCache
from wsgate.fields import normalize_headers, combine_headers, is_length
from wsgate.types import Header

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
BODILESS = frozenset({204, 304})  # RFC 9110 section 6.4.1
_NO_CONTENT = 204
# ASGI: "Transfer-Encoding headers sent by the application must be ignored": framing is the
# server's. RFC 9110 section 8.6: no Content-Length in a 204.
_DROPPED = frozenset({b"transfer-encoding"})
_DROPPED_204 = frozenset({b"transfer-encoding", b"content-length"})
# What changes how a response is framed, or where its lines stand.
_SPECIAL = frozenset({b"connection", b"host"})

_MAX_HEADS = 256
_MAX_SIZE = 1_024  # bytes of a cached head
# What an app sends alike to many. All else stays out: secrets (cookies, whatever a header that
# nobody knows may hold) and what is another each time.
_OFTEN_ALIKE = frozenset(
    b"access-control-allow-credentials access-control-allow-headers access-control-allow-methods "
    b"access-control-allow-origin allow cache-control connection content-encoding content-language "
    b"content-length content-security-policy content-type expires pragma referrer-policy server "
    b"strict-transport-security vary x-content-type-options x-frame-options".split()
)


class ResponseHead:
    """A status and the app's headers, checked.

    headers: lower-case names, without those that are not the app's to send. fields: the same
    combined. length: the Content-Length, None without one. is_usual: it can stand before a whole
    body as it is, on a connection that goes on.
    Raises InvalidMessage for headers that are malformed.
    """

    __slots__ = ("_defaults", "_start", "fields", "headers", "is_usual", "length", "status")

    def __init__(self, status: int, headers: object) -> None:
        dropped = _DROPPED_204 if status == _NO_CONTENT else _DROPPED
        self.status = status
        self.headers = [header for header in normalize_headers(headers) if header[0] not in dropped]
        self.fields = combine_headers(self.headers)
        length = self.fields.get(b"content-length", b"0")
        is_number = is_length(length)
        self.is_usual = (
            is_number and status not in BODILESS and self.fields.keys().isdisjoint(_SPECIAL)
        )
        self.length = int(length) if is_number and b"content-length" in self.fields else None
        self._defaults: list[Header] | None = None
        self._start = b""

    def beside(self, defaults: list[Header]) -> list[Header]:
        """Return the headers behind the server's own, which give way to those of the same name."""
        return [header for header in defaults if header[0] not in self.fields] + self.headers

    def written(self, defaults: list[Header], size: int) -> bytes:
        """Return the bytes of the head of a response with a whole body of this size."""
        if self._defaults is not defaults:
            self._start = written(self.status, self.beside(defaults))
            self._defaults = defaults
        if self.length is not None:
            return self._start
        return b"%bcontent-length: %d\r\n\r\n" % (self._start[:-2], size)


def written(status: int, headers: list[Header]) -> bytes:
    """Return the bytes of a head."""
    line = b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b""))
    return b"\r\n".join([line, *map(b": ".join, headers), b"\r\n"])


_heads: BoundedCache[tuple[int, tuple[Header, ...]], ResponseHead] = BoundedCache(_MAX_HEADS)
_SEQUENCES = frozenset({list, tuple})
_EXACT = frozenset({tuple, bytes})


def response_head(status: int, headers: Any) -> ResponseHead:
    """Return a head made ready, a known one where there is one. Raises InvalidMessage."""
    # Only these exact types are keys: a memoryview equals bytes and hashes alike, and is no header;
    # a writable one has no hash, and a subclass may equal what it likes. The verdict on any of
    # them must not depend on what is known.
    if type(headers) in _SEQUENCES and _EXACT.issuperset(
        map(type, chain(headers, chain.from_iterable(headers)))
    ):
        key = (status, tuple(headers))
        head = _heads.get(key)
        if head is None:
            head = ResponseHead(status, headers)
            if _may_be_cached(head):
                _heads.keep(key, head)
        return head
    return ResponseHead(status, headers)


def _may_be_cached(head: ResponseHead) -> bool:
    size = sum(len(name) + len(value) for name, value in head.headers)
    return head.fields.keys() <= _OFTEN_ALIKE and size <= _MAX_SIZE
