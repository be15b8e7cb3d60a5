"""The opening handshake on the server's side.

Sources: RFC 6455 sections 4.2 (requirements), 1.3 (the accept key), 9.1 (extensions).
"""

import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from wsgate.bounded_cache import BoundedCache
from wsgate.errors import InvalidMessage, RequestRefused
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
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings, negotiated
from wsgate.ws.origins import Origins

# RFC 6455 section 1.3: the fixed string that both sides know.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NONCE_SIZE = 16  # bytes


@dataclass(slots=True)
class Handshake:
    """A handshake that may be accepted.

    key: as it was sent. subprotocols: as offered, in order. deflate: what was agreed of
    permessage-deflate, None without it.
    """

    key: bytes
    subprotocols: list[str]
    deflate: Agreement | None


PROTOCOL = b"websocket"  # the token of the Upgrade header, in lower case


class HandshakeRequest(Protocol):
    """A request for a WebSocket, as far as the handshake needs to know it.

    template: an object that all requests share whose headers are equal but for those that vary,
    Sec-WebSocket-Key among them; None for a request that shares none.
    """

    @property
    def method(self) -> str:
        """The method, in uppercase."""

    @property
    def headers(self) -> list[Header]:
        """The headers in order, their names in lower case."""

    @property
    def template(self) -> object | None:
        """What the request shares with others."""


def check_handshake(
    request: HandshakeRequest, settings: DeflateSettings | None, origins: Origins | None = None
) -> Handshake:
    """Return the handshake that the request makes.

    settings: how this side does permessage-deflate, None where it does not. origins: those whose
    pages may connect, None for any.
    Raises RequestRefused: 400, 426 with the version spoken here, or 403 for another origin.
    """
    template = request.template
    if template is None or request.method != "GET":
        return _check(request, settings, origins)
    known = _checked.get(template)
    if known is not None and known.settings is settings and known.origins is origins:
        key = _check_key(request.headers[known.key_at][1])
        return Handshake(key, known.subprotocols.copy(), known.deflate)
    handshake = _check(request, settings, origins)
    key_at = [name for name, _ in request.headers].index(b"sec-websocket-key")
    offered = handshake.subprotocols.copy()
    _checked.keep(template, _Checked(settings, origins, key_at, offered, handshake.deflate))
    return handshake


@dataclass(slots=True, eq=False)
class _Checked:
    """What was found, with these settings, for all handshakes of one template.

    key_at: the index of Sec-WebSocket-Key among their headers.
    """

    settings: DeflateSettings | None
    origins: Origins | None
    key_at: int
    subprotocols: list[str]
    deflate: Agreement | None


_checked: BoundedCache[object, _Checked] = BoundedCache(512)


def _check(
    request: HandshakeRequest, settings: DeflateSettings | None, origins: Origins | None
) -> Handshake:
    fields = combine_headers(request.headers)
    if request.method != "GET":
        raise RequestRefused(400, "a WebSocket handshake is a GET")
    if not has_member(fields, b"connection", b"upgrade"):
        raise RequestRefused(400, "Connection: Upgrade is missing")
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"").strip(b"0"):
        raise RequestRefused(400, "a WebSocket handshake has no body")
    _check_version(fields)
    if origins is not None and not origins.allow(values_of(request.headers, b"origin")):
        raise RequestRefused(403, "this origin may not connect")
    return Handshake(
        _key(fields),
        _subprotocols(fields),
        _deflate(request.headers, settings),
    )


def _check_version(fields: Fields) -> None:
    # RFC 6455 section 4.2.2: "If the value of this header field does not match a version
    # understood by the server, the server MUST abort [...] and instead send an appropriate HTTP
    # error code (such as 426 Upgrade Required) and a |Sec-WebSocket-Version| header field".
    if fields.get(b"sec-websocket-version") != b"13":
        raise RequestRefused(
            426,
            "WebSocket version 13 is spoken here",
            [
                (b"sec-websocket-version", b"13"),
                (b"upgrade", b"websocket"),  # RFC 9110 section 15.5.22: a MUST in a 426
                (b"connection", b"upgrade"),
            ],
        )


def _key(fields: Fields) -> bytes:
    # RFC 6455 section 4.2.1: "a base64-encoded value that, when decoded, is 16 bytes in length".
    # Two of them, combined, are not base64.
    key = fields.get(b"sec-websocket-key")
    if key is None:
        raise RequestRefused(400, "exactly one Sec-WebSocket-Key is needed")
    return _check_key(key)


def _check_key(key: bytes) -> bytes:
    """Return a Sec-WebSocket-Key. Raises RequestRefused for one that is malformed."""
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
    # where no extension would be agreed.
    lines = values_of(headers, b"sec-websocket-extensions")
    return negotiated(tuple(lines), settings) if lines else None


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2, 5.4)."""
    # The hash only shows that the server read the handshake; it secures nothing.
    digest = _SHA1.copy()  # a new one would be looked up by its name each time
    digest.update(key + _GUID)
    return binascii.b2a_base64(digest.digest(), newline=False)


_SHA1 = hashlib.sha1(usedforsecurity=False)


def accept_headers(headers: Iterable[Iterable[bytes]]) -> list[Header]:
    """Return the app's headers for the 101, in order.

    Raises InvalidMessage for one that is malformed or the handshake's own business.
    """
    clean = normalize_headers(headers)
    for name, _ in clean:
        if name.startswith(b"sec-websocket-") or name in _HANDSHAKE_ONLY:
            raise InvalidMessage(f"the header {name.decode()!r} is the server's in an accept")
    return clean


# In a 101 these would change how what follows is read (RFC 9110 section 8.6: "A server MUST NOT
# send a Content-Length header field in any response with a status code of 1xx").
_HANDSHAKE_ONLY = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding"})


def check_subprotocol(handshake: Handshake, subprotocol: object) -> str | None:
    """Return the subprotocol, which must be one offered. Raises InvalidMessage."""
    if subprotocol is None:
        return None
    if not isinstance(subprotocol, str) or subprotocol not in handshake.subprotocols:
        raise InvalidMessage(
            f"the subprotocol {subprotocol!r} is not one offered: {handshake.subprotocols}"
        )
    return subprotocol


def lines_of(headers: Iterable[Header]) -> bytes:
    """Return checked headers as lines, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def response(handshake: Handshake, subprotocol: str | None, lines: bytes) -> bytes:
    """Return the 101 that opens the WebSocket; the arguments have been checked.

    lines: further headers, as `lines_of` returns them.
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
