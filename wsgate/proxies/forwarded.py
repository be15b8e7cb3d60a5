"""What proxies say about a request: X-Forwarded-* and Forwarded (RFC 7239).

A client can send any of these headers, so the caller reads them only from a trusted peer. Each
proxy adds the peer that it saw at the right end of the list. So the list is read from the right,
and the first address that is not a trusted proxy's is the client: what is left of it may be made
up. A value that is malformed changes nothing.
"""

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from wsgate.fields import is_host
from wsgate.proxies.trusted import TrustedPeers
from wsgate.types import Address, Header

_FOR = b"x-forwarded-for"
_PROTO = b"x-forwarded-proto"
_HOST = b"x-forwarded-host"
_PORT = b"x-forwarded-port"
_PREFIX = b"x-forwarded-prefix"
_FORWARDED = b"forwarded"
_NAMES = {"for": _FOR, "proto": _PROTO, "host": _HOST, "port": _PORT, "prefix": _PREFIX}
# Parameters of Forwarded that are read; it has none for the port and the prefix.
_PARAMETERS = frozenset({"for", "proto", "host"})

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_DEFAULT_PORTS = {"http": "80", "https": "443"}

# RFC 7239 section 6: an IPv4 address, an IPv6 address in brackets, "unknown", or an obfuscated
# identifier; and a port, which may be obfuscated too. X-Forwarded-For has IPv6 without brackets.
_NODE = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]++)\]|(?P<ipv4>[0-9.]++)|(?P<hidden>(?i:unknown)|_[\w.-]++))"
    r"(?::(?:(?P<port>[0-9]{1,5})|_[\w.-]++))?",
    re.ASCII,
)
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]*+:[0-9A-Fa-f:.]++")
_PORT_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT = 65_535
# Segments of a path, without any that changes where the path leads: no "//", no ".." and no
# percent-encoding.
_ROOT_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[\w.~!$&'()*+;=:@-]++)*+/?", re.ASCII)
# RFC 7239 section 4: forwarded-pair = token "=" value. Whitespace around ";" is accepted.
_PAIR = re.compile(
    rb"[ \t]*+(?:(?P<name>[-!#$%&'*+.^_`|~0-9A-Za-z]++)="
    rb'(?:(?P<token>[-!#$%&\'*+.^_`|~0-9A-Za-z]++)|"(?P<quoted>(?:[^"\\]|\\.)*+)"))?+'
    rb"[ \t]*+(?P<end>[;,]|\Z)",
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

_CACHED = 1_024  # values of X-Forwarded-For whose client is remembered
_SHORT = 64  # bytes of such a value


class Forwarded(NamedTuple):
    """A request as its client sent it to the first trusted proxy.

    client: None if a proxy says that it does not know the client, or hides it. scheme: "http" or
    "https". host: the Host header that the client sent, None if the request's own is right.
    root_path: the prefix that a proxy has removed from the path, None if none says so.
    """

    client: Address | None
    scheme: str
    host: bytes | None = None
    root_path: str | None = None


class _Hop(NamedTuple):
    """The client in a list of addresses.

    position: its index. length: of the list. is_valid: it is an address, or one that is hidden. If
    not, `client` has no meaning.
    """

    position: int
    length: int
    client: Address | None
    is_valid: bool


class ForwardedHeaders:
    """Reads the headers of trusted proxies.

    Args:
        trusted: The proxies.
        values: What is read: some of "for", "proto", "host", "port" and "prefix". What is not
            among them may come from the client, because the proxy does not set or remove it.
    """

    def __init__(self, trusted: TrustedPeers, values: Collection[str]) -> None:
        self.trusted = trusted
        self._values = _PARAMETERS.intersection(values)
        self._names = frozenset(_NAMES[value] for value in values)
        if self._values:
            self._names |= {_FORWARDED}
        self._short_hop = lru_cache(_CACHED)(self._find_hop)

    def read(self, headers: list[Header], client: Address | None, scheme: str) -> Forwarded | None:
        """Return what the headers of a request say; None if it has none of them.

        If a request has X-Forwarded-* and Forwarded, then Forwarded is ignored: nearly all proxies
        set the former, and those that do not know the latter pass on what the client sent.

        Args:
            headers: Those of the request.
            client: The peer of the connection, which is trusted.
            scheme: That of the connection.
        """
        names = self._names
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in names:
                found.setdefault(name, []).append(value)
        if not found:
            return None
        lines = found.pop(_FORWARDED, None)
        if found:
            return self._read_x_forwarded(found, headers, client, scheme)
        assert lines is not None  # nothing else was found
        return self._read_forwarded(lines, client, scheme)

    # -- X-Forwarded-* -----------------------------------------------------------------------------

    def _read_x_forwarded(
        self,
        found: dict[bytes, list[bytes]],
        headers: list[Header],
        client: Address | None,
        scheme: str,
    ) -> Forwarded:
        hop = None
        if _FOR in found:
            value = b",".join(found[_FOR])
            hop = self._short_hop(value) if len(value) <= _SHORT else self._find_hop(value)
            if hop.is_valid:
                client = hop.client
        if _PROTO in found:
            scheme = _SCHEMES.get(_member(found[_PROTO], hop).lower(), scheme)
        if len(found) <= 2 and found.keys() <= {_FOR, _PROTO}:  # noqa: PLR2004  # both
            return Forwarded(client, scheme)
        host, port, prefix = (_optional_member(found.get(n), hop) for n in (_HOST, _PORT, _PREFIX))
        outside = _host_with_port(host, port, scheme, headers)
        return Forwarded(client, scheme, outside, None if prefix is None else _root_path(prefix))

    def _find_hop(self, value: bytes) -> _Hop:
        """Return the client in the value of X-Forwarded-For; linear in the value's length."""
        names = [name.strip(" \t") for name in value.decode("latin-1").split(",")]
        index = self._find_client(names)
        try:
            return _Hop(index, len(names), _parse_node(names[index]), is_valid=True)
        except ValueError:
            return _Hop(index, len(names), None, is_valid=False)

    def _find_client(self, names: list[str]) -> int:
        """Return the index of the rightmost name that is not trusted, 0 if all are."""
        if self.trusted.trusts_all:
            return 0
        for index in range(len(names) - 1, -1, -1):
            if not self.trusted.trusts(_without_port(names[index])):
                return index
        return 0

    # -- Forwarded ---------------------------------------------------------------------------------

    def _read_forwarded(
        self, lines: list[bytes], client: Address | None, scheme: str
    ) -> Forwarded | None:
        element = self._find_element(lines)
        if element is None:
            return None
        if "for" in self._values and "for" in element:
            try:
                client = _parse_node(element["for"])
            except ValueError:
                return None
        if "proto" in self._values:
            scheme = _SCHEMES.get(element.get("proto", "").lower(), scheme)
        host = element.get("host", "").encode("latin-1") if "host" in self._values else b""
        return Forwarded(client, scheme, host if is_host(host) else None)

    def _find_element(self, lines: list[bytes]) -> dict[str, str] | None:
        """Return the element that names the client; None if one on the way to it is malformed.

        The lines are parsed from the last one on: a malformed line of the client must not hide
        what a proxy has added after it.
        """
        element: dict[str, str] | None = None
        for line in reversed(lines):
            elements = _parse_elements(line)
            if elements is None:
                return None
            for element in reversed(elements):
                name = _without_port(element.get("for", ""))
                if not self.trusted.trusts_all and not self.trusted.trusts(name):
                    return element
        return element


def _parse_elements(line: bytes) -> list[dict[str, str]] | None:
    """Return the elements of a Forwarded line, each a dict of its parameters.

    Names are in lower case. Returns None for a malformed line.
    """
    elements: list[dict[str, str]] = []
    parameters: dict[str, str] = {}
    at, size = 0, len(line)
    while at <= size:
        pair = _PAIR.match(line, at)
        if pair is None:
            return None
        name, token, quoted, end = pair.group("name", "token", "quoted", "end")
        if name is not None:
            key = name.decode("ascii").lower()
            if key in parameters:  # RFC 7239 section 4: "MUST NOT occur more than once"
                return None
            value = token if token is not None else _ESCAPED.sub(rb"\1", quoted)
            parameters[key] = value.decode("latin-1")
        if end != b";":
            if parameters:  # RFC 9110 section 5.6.1: empty elements of a list are ignored
                elements.append(parameters)
            parameters = {}
        at = pair.end() if end else size + 1
    return elements


# -- single values ---------------------------------------------------------------------------------


def _without_port(node: str) -> str:
    """Return the address of a node without brackets and port; any other text as it is."""
    match = _NODE.fullmatch(node)
    return node if match is None else match["ipv6"] or match["ipv4"] or node


def _parse_node(node: str) -> Address | None:
    """Return the address of a client, with port 0 if none is given; None for a hidden one.

    Raises ValueError if it is malformed.
    """
    match = _NODE.fullmatch(node)
    if match is None:
        if not _BARE_IPV6.fullmatch(node):
            raise ValueError("not an address")
        return _ipv6(node), 0
    port = int(match["port"] or 0)
    if port > _MAX_PORT:
        raise ValueError("not a port")
    if match["hidden"] is not None:
        return None
    if match["ipv6"] is not None:
        return _ipv6(match["ipv6"]), port
    return str(ipaddress.IPv4Address(match["ipv4"])), port


def _ipv6(text: str) -> str:
    """Return an IPv6 address in its usual form, or the IPv4 address that it maps."""
    address = ipaddress.IPv6Address(text)
    return str(address.ipv4_mapped or address)


def _member(lines: list[bytes], hop: _Hop | None) -> str:
    """Return the member of a list that the proxy with the client's address has added.

    If a list has as many members as X-Forwarded-For, they belong together. If it has not, only the
    last one is known to come from the trusted proxy.
    """
    members = b",".join(lines).decode("latin-1").split(",")
    index = hop.position if hop is not None and hop.length == len(members) else -1
    return members[index].strip(" \t")


def _optional_member(lines: list[bytes] | None, hop: _Hop | None) -> str | None:
    return None if lines is None else _member(lines, hop)


def _host_with_port(
    host: str | None, port: str | None, scheme: str, headers: list[Header]
) -> bytes | None:
    """Return the Host as the client sent it; None if the request's own is right.

    A port is added to a host that has none, because some proxies drop it. The host's own port is
    the one that the browser uses; X-Forwarded-Port may be that of an inner proxy.
    """
    outside = None if host is None else host.encode("latin-1")
    if outside is not None and not is_host(outside):
        outside = None
    if port is None or not _PORT_NUMBER.fullmatch(port) or int(port) > _MAX_PORT:
        return outside
    if port == _DEFAULT_PORTS[scheme]:
        return outside
    base = next((v for n, v in headers if n == b"host"), b"") if outside is None else outside
    if not base or _has_port(base):
        return outside
    return base + b":" + port.encode("ascii")


def _has_port(host: bytes) -> bool:
    name, colon, _ = host.rpartition(b":")
    return bool(colon) and (not host.startswith(b"[") or name.endswith(b"]"))


def _root_path(prefix: str) -> str | None:
    return prefix.rstrip("/") if _ROOT_PATH.fullmatch(prefix) else None
