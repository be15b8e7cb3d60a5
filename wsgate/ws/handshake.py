"""The server's side of the opening handshake.

Sources: RFC 6455 sections 4.2 (requirements), 1.3 (the accept key), 9.1 (extensions).
"""

import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from wsgate.bounded_cache import BoundedCache
from wsgate.errors import InvalidMessage, Refusal, RequestRefused
from wsgate.fields import (
    Fields,
    combine_headers,
    has_member,
    is_token,
    list_members,
    normalize_headers,
    values_of,
)
from wsgate.types import Header
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings, negotiate
from wsgate.ws.origins import Origins, Site, is_cross_site

# RFC 6455 section 1.3: a fixed string.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NONCE_SIZE = 16  # bytes

CrossSite = tuple[bytes, bytes]


@dataclass(slots=True)
class Handshake:
    """A valid handshake.

    key: the Sec-WebSocket-Key as sent. subprotocols: as offered, in order. deflate: the agreement
    on permessage-deflate, None without it. cross_site: the Origin and the host, if a page on
    another host sent cookies and the allowed origins are not limited; None otherwise.
    """

    key: bytes
    subprotocols: list[str]
    deflate: Agreement | None
    cross_site: CrossSite | None = None


PROTOCOL = b"websocket"  # the token in the Upgrade header, in lower case


class HandshakeRequest(Protocol):
    """The part of a request that the handshake needs.

    template: an object shared by all requests with the same headers except for those that vary,
    such as Sec-WebSocket-Key; None for a request that shares none.
    """

    @property
    def method(self) -> str:
        """The method, in uppercase."""

    @property
    def headers(self) -> list[Header]:
        """The headers in order, with names in lower case."""

    @property
    def template(self) -> object | None:
        """The object shared with similar requests."""


def check_handshake(
    request: HandshakeRequest,
    settings: DeflateSettings | None,
    origins: Origins | None = None,
    scheme: str = "http",
    host: bytes | None = None,
) -> Handshake:
    """Return the handshake of a request.

    settings: for permessage-deflate, None to decline it. origins: those allowed, None for any.
    scheme, host: of the request's URL as its client sees it; a host of None is that of the Host
    header, which a trusted proxy may have replaced.
    Raises RequestRefused: 400 if it is malformed, 426 for another WebSocket version, 403 for an
    origin that is not allowed.
    """
    template = request.template
    if template is None or request.method != "GET":
        return _check(request, settings, origins, scheme, host)
    terms = (settings, origins, scheme, host)
    cached = _cache.get(template)
    if cached is not None and cached.terms == terms:
        key = _check_key(request.headers[cached.key_index][1])
        return Handshake(key, cached.subprotocols.copy(), cached.deflate, cached.cross_site)
    handshake = _check(request, *terms)
    key_index = [name for name, _ in request.headers].index(b"sec-websocket-key")
    subprotocols = handshake.subprotocols.copy()
    kept = _Cached(terms, key_index, subprotocols, handshake.deflate, handshake.cross_site)
    _cache.keep(template, kept)
    return handshake


_Terms = tuple[DeflateSettings | None, Origins | None, str, bytes | None]


@dataclass(slots=True, eq=False)
class _Cached:
    """The result of the checks for all handshakes with one template, under these terms.

    Two requests with one template have the same Host and Origin, and both have cookies or none.
    terms: the arguments of `check_handshake` after the request. key_index: of Sec-WebSocket-Key in
    the headers.
    """

    terms: _Terms
    key_index: int
    subprotocols: list[str]
    deflate: Agreement | None
    cross_site: CrossSite | None


_cache: BoundedCache[object, _Cached] = BoundedCache(512)


def _check(
    request: HandshakeRequest,
    settings: DeflateSettings | None,
    origins: Origins | None,
    scheme: str,
    host: bytes | None,
) -> Handshake:
    fields = combine_headers(request.headers)
    if request.method != "GET":
        raise RequestRefused(400, "a WebSocket handshake is a GET")
    if not has_member(fields, b"connection", b"upgrade"):
        raise RequestRefused(400, "Connection: Upgrade is missing")
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"").strip(b"0"):
        raise RequestRefused(400, "a WebSocket handshake has no body")
    _check_version(fields)
    site = Site(scheme, fields.get(b"host", b"") if host is None else host)
    cross_site = _check_origin(request.headers, fields, origins, site)
    return Handshake(
        _key(fields), _subprotocols(fields), _deflate(request.headers, settings), cross_site
    )


def _check_origin(
    headers: list[Header], fields: Fields, origins: Origins | None, site: Site
) -> CrossSite | None:
    """Return the Origin and the host of a cross-site request with cookies, if any may connect.

    Raises RequestRefused: 403 for an origin that is not allowed.
    """
    values = values_of(headers, b"origin")
    if origins is None:
        is_noteworthy = b"cookie" in fields and is_cross_site(values, site)
        return (values[0], site.host) if is_noteworthy else None
    if not origins.allow(values, site):
        raise RequestRefused(403, "this origin may not connect", refusal=Refusal.ORIGIN)
    return None


def _check_version(fields: Fields) -> None:
    # RFC 6455 section 4.2.2: "If the value of this header field does not match a version
    # understood by the server, the server MUST abort [...] and instead send an appropriate HTTP
    # error code (such as 426 Upgrade Required) and a |Sec-WebSocket-Version| header field".
    if fields.get(b"sec-websocket-version") != b"13":
        raise RequestRefused(
            426,
            "this server speaks WebSocket version 13",
            [
                (b"sec-websocket-version", b"13"),
                (b"upgrade", b"websocket"),  # RFC 9110 section 15.5.22: a MUST in a 426
                (b"connection", b"upgrade"),
            ],
            refusal=Refusal.VERSION,
        )


def _key(fields: Fields) -> bytes:
    # RFC 6455 section 4.2.1: "a base64-encoded value that, when decoded, is 16 bytes in length".
    # Two headers, combined, are not base64.
    key = fields.get(b"sec-websocket-key")
    if key is None:
        raise RequestRefused(400, "exactly one Sec-WebSocket-Key is needed")
    return _check_key(key)


def _check_key(key: bytes) -> bytes:
    """Return a valid Sec-WebSocket-Key. Raises RequestRefused for a malformed one."""
    try:
        nonce = binascii.a2b_base64(key, strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != _NONCE_SIZE:
        raise RequestRefused(400, "Sec-WebSocket-Key is not 16 bytes in base64")
    return key


def _subprotocols(fields: Fields) -> list[str]:
    # RFC 6455 section 4.1: "The elements that comprise this value MUST be non-empty strings
    # [...] and MUST all be unique strings. The ABNF for the value of this header field is 1#token".
    if b"sec-websocket-protocol" not in fields:
        return []
    offered = list_members(fields[b"sec-websocket-protocol"])
    if not offered or len(set(offered)) != len(offered) or not all(map(is_token, offered)):
        raise RequestRefused(400, "Sec-WebSocket-Protocol is not a list of unique tokens")
    return [member.decode("ascii") for member in offered]


def _deflate(headers: list[Header], settings: DeflateSettings | None) -> Agreement | None:
    # RFC 6455 section 9.1: "If a value is received [...] that does not conform to the ABNF below,
    # the recipient of such malformed data MUST immediately _Fail the WebSocket Connection_.", also
    # if no extension would be agreed.
    lines = values_of(headers, b"sec-websocket-extensions")
    return negotiate(tuple(lines), settings) if lines else None


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2, 5.4)."""
    # The hash only shows that the server read the handshake; it is no protection.
    digest = _SHA1.copy()  # hashlib.sha1() would look the algorithm up each time
    digest.update(key + _GUID)
    return binascii.b2a_base64(digest.digest(), newline=False)


_SHA1 = hashlib.sha1(usedforsecurity=False)


def accept_headers(headers: Iterable[Iterable[bytes]]) -> list[Header]:
    """Return the app's headers for the 101, in order, with names in lower case.

    Raises InvalidMessage for a header that is malformed or set by the server.
    """
    valid = normalize_headers(headers)
    for name, _ in valid:
        if name.startswith(b"sec-websocket-") or name in _HANDSHAKE_ONLY:
            header = name.decode()
            raise InvalidMessage(f"the header {header!r} is set by the server in an accept")
    return valid


# In a 101 these would change how the data after it is read. RFC 9110 section 8.6: "A server MUST
# NOT send a Content-Length header field in any response with a status code of 1xx".
_HANDSHAKE_ONLY = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding"})


def check_subprotocol(handshake: Handshake, subprotocol: object) -> str | None:
    """Return the app's subprotocol. Raises InvalidMessage if the client did not offer it."""
    if subprotocol is None:
        return None
    if not isinstance(subprotocol, str) or subprotocol not in handshake.subprotocols:
        raise InvalidMessage(
            f"the subprotocol {subprotocol!r} was not offered: {handshake.subprotocols}"
        )
    return subprotocol


def lines_of(headers: Iterable[Header]) -> bytes:
    """Return valid headers as lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def response(handshake: Handshake, subprotocol: str | None, lines: bytes) -> bytes:
    """Return the 101 that opens the WebSocket; the arguments are valid.

    lines: further headers, from `lines_of`.
    """
    subprotocol_line = extensions_line = b""
    if subprotocol is not None:
        subprotocol_line = b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("ascii")
    if handshake.deflate is not None:
        extensions_line = b"\r\nSec-WebSocket-Extensions: " + handshake.deflate.header()
    key = accept_key(handshake.key)
    return b"%b%b%b%b\r\n%b\r\n" % (_SWITCHING, key, subprotocol_line, extensions_line, lines)


_SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)
