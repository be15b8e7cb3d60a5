"""Limits on open connections and on the requests that proxies share: in total, per address."""

import ipaddress
import resource
from collections import Counter
from typing import TYPE_CHECKING

from wsgate.server.other_workers import NoOtherWorkers, OtherWorkers
from wsgate.types import Address

if TYPE_CHECKING:
    from collections.abc import Callable

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

    limit: admitted connections at a time, those of the other workers included; None for no other
    limit than that of open files. limit_per_address: of these from one address, None for no limit;
    an IPv6 /64 network counts as one address, because a host has all addresses of it. A trusted
    proxy's connection counts in the total only. Its requests count for their clients.

    With other workers a connection is counted first, and then it is checked that all workers
    together keep to the limit: two that accept at the same time may both refuse, but never both
    admit.

    Attributes:
        refused: Refused connections that are still open, to read their 503.
        refused_total: How many connections were refused since the start.
        total: Admitted connections that are open.
        on_change: Called when `total` has changed.
    """

    def __init__(
        self, limit: int | None, limit_per_address: int | None, others: OtherWorkers | None = None
    ) -> None:
        self._limit = limit
        self._own_limit = limit or default_limit()
        self._limit_per_address = limit_per_address
        self._others: OtherWorkers = others or NoOtherWorkers()
        self._per_address: Counter[str] = Counter()
        self._accepted = 0
        self.total = 0
        self.refused = 0
        self.refused_total = 0
        self.on_change: Callable[[], object] = _do_nothing

    def enter(self, client: Address | None) -> bool:
        """Count a new connection.

        Args:
            client: Its address, None for the client of a Unix socket.

        Returns:
            Whether it is admitted.
        """
        if self.total >= self._own_limit or self.is_address_full(client):
            self._refuse()
            return False
        self.total += 1
        self._accepted += 1
        self._add(client)
        self._report()
        if self._exceed_together(client):
            self.leave(client, was_admitted=True)
            self._refuse()
            return False
        return True

    def _refuse(self) -> None:
        self.refused += 1
        self.refused_total += 1

    def _exceed_together(self, client: Address | None) -> bool:
        """Return whether all workers together are above a limit, with the last one counted."""
        limit, others = self._limit, self._others
        if limit is not None and self.total + others.connections() > limit:
            return True
        if self._limit_per_address is None or client is None:
            return False
        return self._count(address_of(client)) > self._limit_per_address

    def _count(self, address: str) -> int:
        return self._per_address.get(address, 0) + self._others.count_of_address(address)

    def enter_request(self, client: Address | None) -> bool:
        """Count a request on a connection that a proxy shares among its clients.

        Args:
            client: The address that the proxy names, None if it is not known.

        Returns:
            Whether it is admitted. If it is not, it is not counted, and does not leave.
        """
        if self._limit_per_address is None or client is None:
            return True
        self._add(client)
        if self._count(address_of(client)) > self._limit_per_address:
            self._remove(client)
            return False
        return True

    def leave_request(self, client: Address | None) -> None:
        """Stop counting a request that was admitted. client: As in `enter_request`."""
        self._remove(client)

    def is_address_full(self, client: Address | None) -> bool:
        """Return whether an address has as many connections and requests as it may have."""
        if self._limit_per_address is None or client is None:
            return False
        return self._count(address_of(client)) >= self._limit_per_address

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
        self.total -= 1
        self._remove(client)
        self._report()

    def _report(self) -> None:
        self._others.report_connections(self.total, self._accepted)
        self.on_change()

    def _add(self, client: Address | None) -> None:
        if client is not None and self._limit_per_address is not None:
            address = address_of(client)
            self._per_address[address] += 1
            self._others.report_address(address, self._per_address[address])

    def _remove(self, client: Address | None) -> None:
        if client is not None and self._limit_per_address is not None:
            address = address_of(client)
            self._per_address[address] -= 1
            self._others.report_address(address, self._per_address[address])
            if not self._per_address[address]:
                del self._per_address[address]


def _do_nothing() -> None:
    """Stand in for one that wants to know of changes."""


def address_of(client: Address) -> str:
    """Return what connections are counted by: an IPv4 address, or an IPv6 /64 network."""
    host = client[0]
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(int(network) >> 64) if network.ipv4_mapped is None else str(network.ipv4_mapped)
