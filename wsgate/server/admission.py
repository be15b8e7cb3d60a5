"""Limits on open connections and on the requests that proxies share: in total, per address."""

import ipaddress
import resource
from collections import Counter

from wsgate.types import Address

_MAX_REFUSED = 64  # refused connections that may stay open to read their 503
_RESERVE = 128  # file descriptors reserved for the app


def default_limit() -> int:
    """Return how many connections fit into the process's limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return soft - min(_RESERVE, soft // 4)


class Admission:
    """Counts admitted and refused connections.

    max_total: admitted connections at a time. max_per_address: of these from one address, None for
    no limit; an IPv6 /64 network counts as one address, because a host has all addresses of it. A
    trusted proxy's connection counts in the total only. Its requests count for their clients.
    refused: refused connections that are still open, to read their 503.
    """

    def __init__(self, max_total: int, max_per_address: int | None) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._total = 0
        self._per_address: Counter[str] = Counter()
        self.refused = 0

    def enter(self, client: Address | None) -> bool:
        """Count a new connection.

        Args:
            client: Its address, None for the client of a Unix socket.

        Returns:
            Whether it is admitted.
        """
        if self._total >= self._max_total or self.is_address_full(client):
            self.refused += 1
            return False
        self._total += 1
        self._add(client)
        return True

    def enter_request(self, client: Address | None) -> bool:
        """Count a request on a connection that a proxy shares among its clients.

        Args:
            client: The address that the proxy names, None if it is not known.

        Returns:
            Whether it is admitted. If it is not, it is not counted, and does not leave.
        """
        if self.is_address_full(client):
            return False
        self._add(client)
        return True

    def leave_request(self, client: Address | None) -> None:
        """Stop counting a request that was admitted. client: As in `enter_request`."""
        self._remove(client)

    def is_address_full(self, client: Address | None) -> bool:
        """Return whether an address has as many connections and requests as it may have."""
        if self._max_per_address is None or client is None:
            return False
        return self._per_address.get(_key(client[0]), 0) >= self._max_per_address

    @property
    def is_swamped(self) -> bool:
        """Whether too many refused connections are open: each uses a file descriptor."""
        return self.refused > _MAX_REFUSED

    def leave(self, client: Address | None, *, was_admitted: bool) -> None:
        """Stop counting a connection that has ended.

        Args:
            client: As in `enter`.
            was_admitted: What `enter` returned.
        """
        if not was_admitted:
            self.refused -= 1
            return
        self._total -= 1
        self._remove(client)

    def _add(self, client: Address | None) -> None:
        if client is not None and self._max_per_address is not None:
            self._per_address[_key(client[0])] += 1

    def _remove(self, client: Address | None) -> None:
        if client is not None and self._max_per_address is not None:
            key = _key(client[0])
            self._per_address[key] -= 1
            if not self._per_address[key]:
                del self._per_address[key]


def _key(host: str) -> str:
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(int(network) >> 64) if network.ipv4_mapped is None else str(network.ipv4_mapped)
