"""What proxies say about a request: X-Forwarded-* and Forwarded (RFC 7239).

A client can send any of these headers, so the caller reads them only from a trusted peer. Each
proxy adds the peer that it saw at the right end of the list. So the list is read from the right,
and the first address that is not a trusted proxy's is the client: what is left of it may be made
up. A value that is malformed changes nothing.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import NamedTuple

from wsgate.bounded_cache import BoundedCache
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
_DEFAULT_PORTS = {"http": b"80", "https": b"443"}

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

_REMEMBERED = 2_048  # combinations of headers whose meaning is remembered
_FEW, _SHORT = 6, 256  # headers, and bytes of their values, of such a combination


class Forwarded(NamedTuple):
    """What the proxies say about a request; None for what they do not say.

    names_client: they say who the client is. client: its address, None if they do not know it or
    hide it. scheme: "http" or "https". host: the Host header that the client sent. port: the port
    that the client connected to. root_path: the prefix that was removed from the path.
    """

    names_client: bool = False
    client: Address | None = None
    scheme: str | None = None
    host: bytes | None = None
    port: bytes | None = None
    root_path: str | None = None

    def outside_host(self, own: bytes | None, scheme: str) -> bytes | None:
        """Return the Host header as the client sent it, None if there is none.

        A port is added to a host that has none, because some proxies drop it. A host's own port is
        kept: it is the one that the browser uses, and X-Forwarded-Port may be an inner proxy's.

        Args:
            own: The Host header of the request.
            scheme: That of the client's request, whose default port is not added.
        """
        host, port = self.host or own, self.port
        if port is None or not host or port == _DEFAULT_PORTS[scheme] or _has_port(host):
            return host
        return host + b":" + port


NOTHING = Forwarded()


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

    Attributes:
        names: Those of the headers, in lower case.
    """

    def __init__(self, trusted: TrustedPeers, values: Collection[str]) -> None:
        self.trusted = trusted
        self._values = _PARAMETERS.intersection(values)
        self.names = frozenset(_NAMES[value] for value in values)
        if self._values:
            self.names |= {_FORWARDED}
        self._known: BoundedCache[tuple[Header, ...], Forwarded] = BoundedCache(_REMEMBERED)

    def read(self, headers: list[Header]) -> Forwarded:
        """Return what the headers of a request from a trusted proxy say.

        If a request has X-Forwarded-* and Forwarded, then Forwarded is ignored: nearly all proxies
        set the former, and those that do not know the latter pass on what the client sent.
        """
        names = self.names
        found = tuple([header for header in headers if header[0] in names])
        if not found:
            return NOTHING
        known = self._known.get(found)
        return self._interpret(found) if known is None else known

    def _interpret(self, found: tuple[Header, ...]) -> Forwarded:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in found:
            fields.setdefault(name, []).append(value)
        lines = fields.pop(_FORWARDED, [])
        said = self._read_x_forwarded(fields) if fields else self._read_forwarded(lines)
        if len(found) <= _FEW and sum(len(value) for _, value in found) <= _SHORT:
            self._known.keep(found, said)
        return said

    # -- X-Forwarded-* -----------------------------------------------------------------------------

    def _read_x_forwarded(self, fields: dict[bytes, list[bytes]]) -> Forwarded:
        hop = self._find_hop(b",".join(fields[_FOR])) if _FOR in fields else None
        proto, host, port, prefix = (
            _member(fields[name], hop) if name in fields else ""
            for name in (_PROTO, _HOST, _PORT, _PREFIX)
        )
        return Forwarded(
            names_client=hop is not None and hop.is_valid,
            client=None if hop is None else hop.client,
            scheme=_SCHEMES.get(proto.lower()),
            host=_valid_host(host),
            port=_valid_port(port),
            root_path=_root_path(prefix) if _PREFIX in fields else None,
        )

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

    def _read_forwarded(self, lines: list[bytes]) -> Forwarded:
        element = self._find_element(lines)
        if element is None:
            return NOTHING
        read = {name: value for name, value in element.items() if name in self._values}
        try:
            client = _parse_node(read["for"]) if "for" in read else None
        except ValueError:
            return NOTHING
        return Forwarded(
            names_client="for" in read,
            client=client,
            scheme=_SCHEMES.get(read.get("proto", "").lower()),
            host=_valid_host(read.get("host", "")),
        )

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
    """Return an IPv6 address in its short form; an IPv4-mapped one as its IPv4 address."""
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


def _valid_host(text: str) -> bytes | None:
    host = text.encode("latin-1")
    return host if is_host(host) else None


def _valid_port(text: str) -> bytes | None:
    is_port = _PORT_NUMBER.fullmatch(text) and int(text) <= _MAX_PORT
    return text.encode("ascii") if is_port else None


def _has_port(host: bytes) -> bool:
    name, colon, _ = host.rpartition(b":")
    return bool(colon) and (not host.startswith(b"[") or name.endswith(b"]"))


def _root_path(prefix: str) -> str | None:
    return prefix.rstrip("/") if _ROOT_PATH.fullmatch(prefix) else None
