"""Who is let in: how many connections in all, and how many from one address."""

import ipaddress
import resource
from collections import Counter

from wsgate.types import Address

_RESERVE = 128  # open files that are left to the app and to what it opens


def default_limit() -> int:
    """Return how many connections the process's limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return soft - min(_RESERVE, soft // 4)


class Admission:
    """The connections that are open, counted.

    most: in all. most_per_address: from one address, None for no limit; the addresses of one IPv6
    network of 64 bits are one, for that is what one host has.
    """

    def __init__(self, most: int, most_per_address: int | None) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._total = 0
        self._of: Counter[str] = Counter()

    def enter(self, client: Address | None) -> bool:
        """Count a connection; tell whether it is within the limits."""
        self._total += 1
        if self._most_per_address is None or client is None:
            return self._total <= self._most
        key = _key(client[0])
        self._of[key] += 1
        return self._total <= self._most and self._of[key] <= self._most_per_address

    def leave(self, client: Address | None) -> None:
        """Take back what `enter` has counted."""
        self._total -= 1
        if self._most_per_address is None or client is None:
            return
        key = _key(client[0])
        self._of[key] -= 1
        if not self._of[key]:
            del self._of[key]


def _key(host: str) -> str:
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(int(network) >> 64) if network.ipv4_mapped is None else str(network.ipv4_mapped)
