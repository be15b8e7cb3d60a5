"""The peers that are trusted to name another client: addresses, networks, and Unix sockets."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from wsgate.types import Address

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHED = 4_096  # names whose trust is remembered
_LONGEST = 64  # characters of such a name: an IPv6 address with a zone is shorter
ANY_UNIX_SOCKET = "unix:"  # as nginx writes it


class TrustedPeers:
    """The peers that an operator trusts.

    entries: addresses, networks, and names of Unix sockets: the path on which the server listens,
    `unix:` and the path, or `unix:` alone for all of them. `*` alone is everyone. As in uvicorn,
    any other text is kept and compared literally.

    Paths are compared literally too: what is in the file system, the server finds out, and calls
    `trust_socket`.

    trusts_all: the only entry is `*`.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        given = [entry.strip() for entry in entries]
        self.trusts_all = given == ["*"]
        self._addresses: set[IPAddress] = set()
        self._networks: list[IPNetwork] = []
        self._literals: set[str] = set()
        self._sockets: set[str] = set()
        for entry in [] if self.trusts_all else given:
            self._add(entry)
        self._is_listed = lru_cache(_CACHED)(self._find)

    def _add(self, entry: str) -> None:
        try:
            if "/" in entry:
                self._networks.append(ipaddress.ip_network(entry))
            else:
                self._addresses.add(ipaddress.ip_address(entry))
        except ValueError:
            if entry:
                self._literals.add(entry)

    @property
    def names(self) -> list[str]:
        """The entries that are neither an address, a network nor `unix:`: of sockets, or typos."""
        return sorted(self._literals - {ANY_UNIX_SOCKET})

    @property
    def trusts_somebody(self) -> bool:
        """Whether some peer may be trusted: names count once `trust_socket` has found them."""
        is_for_sockets = bool(self._sockets) or ANY_UNIX_SOCKET in self._literals
        return self.trusts_all or bool(self._addresses or self._networks) or is_for_sockets

    def trust_socket(self, path: str) -> None:
        """Trust the clients of a Unix socket, whichever spelling of its path is an entry.

        path: as `getsockname` returns it.
        """
        self._sockets.add(path)

    def trusts(self, name: str) -> bool:
        """Return whether a host is trusted.

        name: its address, or what a proxy calls it.
        """
        if self.trusts_all:
            return True
        return self._is_listed(name) if len(name) <= _LONGEST else name in self._literals

    def _find(self, name: str) -> bool:
        forms = _forms(name)
        if not forms:
            return name in self._literals
        return any(
            form in self._addresses or any(form in network for network in self._networks)
            for form in forms
        )

    def trusts_peer(self, client: Address | None, server: Address | None) -> bool:
        """Return whether the peer of a connection is trusted.

        client: its address, None for the client of a Unix socket. server: the local address; for a
        Unix socket its path and None, or None if it has no name.
        """
        if client is not None:
            return self.trusts(client[0])
        if self.trusts_all:
            return True
        if server is None or server[1] is not None:
            return False
        path = server[0]
        names = (path, ANY_UNIX_SOCKET, ANY_UNIX_SOCKET + path, f"{ANY_UNIX_SOCKET}//{path}")
        return path in self._sockets or not self._literals.isdisjoint(names)


def _forms(name: str) -> list[IPAddress]:
    """Return the addresses that an entry may have for this one; an empty list for other text.

    They are the address without its zone (fe80::1%eth0), with it, and the IPv4 address that it
    maps: a socket that listens on IPv6 and IPv4 names the client 192.0.2.1 as ::ffff:192.0.2.1.
    """
    host, percent, _ = name.partition("%")
    try:
        forms = [ipaddress.ip_address(host)]
        if percent:
            forms.append(ipaddress.ip_address(name))
    except ValueError:
        return []
    mapped = forms[0].ipv4_mapped if isinstance(forms[0], ipaddress.IPv6Address) else None
    return forms if mapped is None else [*forms, mapped]
