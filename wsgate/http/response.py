"""The head of a response: checked, cached, and formatted as far as it is always the same.

An app sends the same few heads repeatedly. Those that may be cached are cached by their exact
status and headers. Each keeps its formatted bytes while the server's default headers stay the same,
which is one second.
"""

from http import HTTPStatus
from itertools import chain
from typing import Any

from wsgate.bounded_cache import BoundedCache
from wsgate.errors import InvalidMessage, RequestRefused
from wsgate.fields import combine_headers, is_length, normalize_headers
from wsgate.types import Header

REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")  # of the server's own responses
STATUSES_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110 section 6.4.1
_NO_CONTENT = 204
# ASGI: "Transfer-Encoding headers sent by the application must be ignored": the server frames the
# body. RFC 9110 section 8.6: a 204 has no Content-Length.
_DROPPED = frozenset({b"transfer-encoding"})
_DROPPED_204 = frozenset({b"transfer-encoding", b"content-length"})
# Headers that change how the connection goes on, or the order of the lines.
_SPECIAL = frozenset({b"connection", b"host"})
# RFC 9110 section 6.5.1: "Many fields cannot be processed outside the header section because their
# evaluation is necessary prior to receiving the content, such as those that describe message
# framing, routing, authentication, request modifiers, response controls, or content format. A
# sender MUST NOT generate a trailer field unless the sender knows the corresponding header field
# name's definition permits sending the field as a trailer."
_FORBIDDEN_TRAILERS = frozenset(
    b"content-length transfer-encoding trailer connection keep-alive proxy-connection te upgrade "
    b"host max-forwards "
    b"authorization cookie proxy-authenticate proxy-authorization set-cookie www-authenticate "
    b"expect if-match if-modified-since if-none-match if-range if-unmodified-since range "
    b"age cache-control date expires location pragma retry-after vary warning "
    b"content-encoding content-range content-type".split()
)

_MAX_HEADS = 256
_MAX_SIZE = 1_024  # bytes of a cached head
# Headers that are often the same for many clients. All others are not cached: they may hold
# secrets, as cookies and unknown headers do, or differ each time.
_CACHEABLE = frozenset(
    b"access-control-allow-credentials access-control-allow-headers access-control-allow-methods "
    b"access-control-allow-origin allow cache-control connection content-encoding content-language "
    b"content-length content-security-policy content-type expires pragma referrer-policy server "
    b"strict-transport-security vary x-content-type-options x-frame-options".split()
)


def refusal_text(refused: RequestRefused) -> bytes:
    """Return the body of a response that the server makes itself."""
    reason, detail = REASONS.get(refused.status, b""), refused.detail.encode("ascii", "replace")
    return b"%d %b: %b\n" % (refused.status, reason, detail)


class ResponseHead:
    """A status and the app's headers, checked.

    headers: with lower-case names, without those that only the server sends, and with at most one
    Content-Length. fields: the same, combined. length: the Content-Length in bytes, None without
    one. is_simple: on a persistent connection the headers can precede a whole body as they are.
    Raises InvalidMessage if the headers are malformed.
    """

    __slots__ = (
        "_default_headers",
        "_formatted",
        "fields",
        "headers",
        "is_simple",
        "length",
        "status",
    )

    def __init__(self, status: int, headers: object) -> None:
        dropped = _DROPPED_204 if status == _NO_CONTENT else _DROPPED
        self.status = status
        self.headers = [h for h in normalize_headers(headers) if h[0] not in dropped]
        self.fields = combine_headers(self.headers)
        self.length = None
        if b"content-length" in self.fields:
            self.length = self._merge_lengths()
        self.is_simple = status not in STATUSES_WITHOUT_BODY and self.fields.keys().isdisjoint(
            _SPECIAL
        )
        self._default_headers: list[Header] | None = None
        self._formatted = b""

    def _merge_lengths(self) -> int:
        """Replace equal Content-Lengths by one (RFC 9110 section 8.6); return it in bytes."""
        lengths = {length.strip() for length in self.fields[b"content-length"].split(b",")}
        length = lengths.pop()
        if lengths:
            raise InvalidMessage("conflicting Content-Length headers")
        if not is_length(length):
            raise InvalidMessage("bad Content-Length")
        if self.fields[b"content-length"] != length:
            self.fields = {**self.fields, b"content-length": length}
            at = next(i for i, (name, _) in enumerate(self.headers) if name == b"content-length")
            self.headers = [h for h in self.headers if h[0] != b"content-length"]
            self.headers.insert(at, (b"content-length", length))
        return int(length)

    def with_defaults(self, default_headers: list[Header]) -> list[Header]:
        """Return the default headers that the app does not send itself, then the app's headers."""
        return [h for h in default_headers if h[0] not in self.fields] + self.headers

    def to_bytes(self, default_headers: list[Header], body_size: int) -> bytes:
        """Return the head of an HTTP/1.1 response with a whole body of this many bytes."""
        if self._default_headers is not default_headers:
            self._formatted = format_head(self.status, self.with_defaults(default_headers))
            self._default_headers = default_headers
        if self.length is not None:
            return self._formatted
        return b"%bcontent-length: %d\r\n\r\n" % (self._formatted[:-2], body_size)


def format_head(status: int, headers: list[Header]) -> bytes:
    """Return the head of an HTTP/1.1 response as bytes."""
    line = b"HTTP/1.1 %d %b" % (status, REASONS.get(status, b""))
    return b"\r\n".join([line, *map(b": ".join, headers), b"\r\n"])


_heads: BoundedCache[tuple[int, tuple[Header, ...]], ResponseHead] = BoundedCache(_MAX_HEADS)
_SEQUENCES = frozenset({list, tuple})
_EXACT = frozenset({tuple, bytes})


def response_head(status: Any, headers: Any) -> ResponseHead:
    """Return the head with this status and these headers, from the cache if it is there.

    status: an int from 200 to 999. headers: an iterable of pairs of bytes. Both are as an app sends
    them. Raises InvalidMessage.
    """
    if not isinstance(status, int) or not 200 <= status <= 999:  # noqa: PLR2004  # no 1xx
        raise InvalidMessage(f"the status of a response is 200 to 999, not {status!r}")
    status = int(status)  # of an HTTPStatus
    # Only these exact types are keys. A memoryview equals bytes and has the same hash, but is not
    # a valid header; a writable one has no hash, and a subclass may equal anything. Whether a
    # header is valid must not depend on what is cached.
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
    return head.fields.keys() <= _CACHEABLE and size <= _MAX_SIZE


def response_trailers(headers: object) -> list[Header]:
    """Return the app's trailers with lower-case names.

    Raises InvalidMessage if one is malformed or must not be a trailer (RFC 9110 section 6.5.1).
    """
    trailers = normalize_headers(headers)
    for name, _ in trailers:
        if name in _FORBIDDEN_TRAILERS:
            raise InvalidMessage(f"{name.decode()} must not be a trailer (RFC 9110 section 6.5.1)")
    return trailers
