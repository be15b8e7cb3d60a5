"""A request's head: its limits, and the checks of framing, Host and target.

Both HTTP/1.1 parsers pass each head to `build_request`, so neither is less strict than the other.
Sources: RFC 9112 sections 3.2 (targets), 6.1 to 6.3 (framing); RFC 9110 section 7.2 (Host).
"""

import re
from dataclasses import dataclass, field

from wsgate.errors import RequestRefused
from wsgate.fields import Fields, has_member, is_host
from wsgate.types import Header

_ABSOLUTE = re.compile(rb"(?i:https?|wss?)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)")

# Fields that frame the message or are compared with ASCII tokens.
ASCII_ONLY = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    }
)


_HEAD_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Limits on a request's head.

    size: bytes of the head. target: bytes of the request target. headers: number of headers.
    size and headers also limit the trailers of a chunked body.
    """

    size: int = _HEAD_SIZE
    target: int = 8_192
    headers: int = 100


def head_limits(size: int, target: int | None = None, headers: int | None = None) -> HeadLimits:
    """Return the limits for a head of at most `size` bytes.

    target, headers: None takes the default for that size. An operator who allows larger heads than
    the default needs long targets or many headers. So above the default size a target may be as
    long as the head, and one header is allowed for each 64 bytes. A smaller size changes neither.
    """
    default = HeadLimits(size)
    if size > _HEAD_SIZE:
        default = HeadLimits(size, target=size, headers=size // 64)
    return HeadLimits(size, target or default.target, headers or default.headers)


@dataclass(slots=True, eq=False)
class HeadTemplate:
    """The cached fields of a head, with one Host and no repeated name.

    Two requests with the same template have equal headers, except for the values of varying
    headers: secrets, and values that differ each time.

    headers: in order; varying values are empty. positions: the index of each name in `headers`.
    closes: the client asks to close the connection after the response. upgrades: the protocols in
    Upgrade, in lower case. length: the Content-Length in bytes, None without one.
    """

    headers: list[Header]
    positions: dict[bytes, int]
    closes: bool
    upgrades: frozenset[bytes]
    length: int | None


@dataclass(slots=True)
class Request:
    """One request's head.

    method: in uppercase. target: as it was sent. raw_path, query: parts of the target, still
    percent-encoded. version: "1.0" or "1.1", the highest that both sides support. headers:
    lower-case names, in order; the host of an absolute-form target replaces the Host header, and
    so does the one that a trusted proxy names.
    template: the cached fields of the head, None if they may not be cached.
    """

    method: str
    target: bytes
    raw_path: bytes
    query: bytes
    version: str
    headers: list[Header]
    template: HeadTemplate | None = field(default=None, repr=False, compare=False)

    @property
    def host(self) -> bytes | None:
        """The Host header: the host and port that the client asks for. None without one."""
        return next((value for name, value in self.headers if name == b"host"), None)

    def replace_host(self, host: bytes) -> None:
        """Replace the Host header, at its place, or add one."""
        for index, (name, _) in enumerate(self.headers):
            if name == b"host":
                self.headers[index] = (name, host)
                return
        self.headers.insert(0, (b"host", host))


def asks_for_upgrade(version: str, fields: Fields, protocol: bytes) -> bool:
    """Return whether a request asks to upgrade to a protocol, alone or among others.

    protocol: its token in lower case. RFC 9110 section 7.8: "A server MUST ignore an Upgrade header
    field that is received in an HTTP/1.0 request".
    """
    return b"upgrade" in fields and version != "1.0" and has_member(fields, b"upgrade", protocol)


def build_request(
    method: bytes, target: bytes, version: bytes, headers: list[Header], fields: Fields
) -> Request:
    """Return the request of a parsed head.

    version: such as `1.1`. headers: with lower-case names. fields: the same headers, combined.
    Raises RequestRefused: 400 if the framing, the Host or the target is invalid or ambiguous, 505
    for another major version of HTTP.
    """
    if not version.startswith(b"1."):
        raise RequestRefused(505, "this server speaks HTTP/1.0 and HTTP/1.1")
    is_http_1_0 = version == b"1.0"
    _check_ascii(fields)
    if b"transfer-encoding" in fields:
        _check_framing(fields, is_http_1_0=is_http_1_0)
    _check_host(fields, is_http_1_0=is_http_1_0)
    authority, path, query = _split_target(method, target)
    if authority is not None:
        headers = _replace_host(headers, authority)
    used_version = "1.0" if is_http_1_0 else "1.1"
    return Request(method.decode("ascii"), target, path, query, used_version, headers)


def _check_ascii(fields: Fields) -> None:
    if b"".join(fields.values()).isascii():
        return
    for name in ASCII_ONLY & fields.keys():
        if not fields[name].isascii():
            raise RequestRefused(400, f"a byte above 0x7f in {name.decode()}")


def _check_framing(fields: Fields, *, is_http_1_0: bool) -> None:
    # RFC 9112 section 6.1: "A server MAY reject a request that contains both Content-Length and
    # Transfer-Encoding"; "A server or client that receives an HTTP/1.0 message containing a
    # Transfer-Encoding header field MUST treat the message as if the framing is faulty".
    if b"content-length" in fields:
        raise RequestRefused(400, "both Content-Length and Transfer-Encoding")
    if is_http_1_0:
        raise RequestRefused(400, "Transfer-Encoding in an HTTP/1.0 request")


def _check_host(fields: Fields, *, is_http_1_0: bool) -> None:
    # RFC 9112 section 3.2: "A server MUST respond with a 400 (Bad Request) status code to any
    # HTTP/1.1 request message that lacks a Host header field and to any request message that
    # contains more than one Host header field line or a Host header field with an invalid field
    # value."
    host = fields.get(b"host")
    if host is None and not is_http_1_0:
        raise RequestRefused(400, "exactly one Host header is needed")
    if host is not None and not is_host(host):  # several, combined, are not one
        raise RequestRefused(400, "the Host header is invalid")


def _split_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Return a target's authority, None without one, its path and its query."""
    # RFC 9112 section 3.2.3: the authority-form is for CONNECT only, and this is not a proxy.
    if method == b"CONNECT":
        raise RequestRefused(400, "this is no proxy to CONNECT through")
    if target.startswith(b"/") and b"#" not in target:
        path, _, query = target.partition(b"?")
        return (None, path, query)
    if target == b"*" and method == b"OPTIONS":
        return (None, b"*", b"")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute and is_host(absolute["authority"]):
        path, _, query = absolute["rest"].partition(b"?")
        return (absolute["authority"], path or b"/", query)
    raise RequestRefused(400, "the request target is invalid")


def _replace_host(headers: list[Header], authority: bytes) -> list[Header]:
    # RFC 9112 section 3.2.2: "the origin server MUST ignore the received Host header field (if
    # any) and instead use the host information of the request-target."
    return [(b"host", authority), *(h for h in headers if h[0] != b"host")]
