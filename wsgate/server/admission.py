"""Admission: how many connections may be open, in all and from one address."""

import ipaddress
import resource
from collections import Counter

from wsgate.types import Address

_LINGERING = 64  # refused connections that may stay to read why
_RESERVE = 128  # open files that are left to the app


def default_limit() -> int:
    """Return how many connections the process's limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return soft - min(_RESERVE, soft // 4)


class Admission:
    """Counts the connections that were admitted, and apart from them those that were refused.

    max_total: in all. max_per_address: from one address, None for no limit; the addresses of one
    IPv6 network of 64 bits count as one, because one host has all of them. refused: those that are
    still open after their 503.
    """

    def __init__(self, max_total: int, max_per_address: int | None) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._total = 0
        self._of: Counter[str] = Counter()
        self.refused = 0

    def enter(self, client: Address | None) -> bool:
        """Count a connection; returns whether it is admitted."""
        if self._total >= self._max_total or (
            self._max_per_address is not None and self._is_at_its_limit(client)
        ):
            self.refused += 1
            return False
        self._total += 1
        if client is not None and self._max_per_address is not None:
            self._of[_key(client[0])] += 1
        return True

    def _is_at_its_limit(self, client: Address | None) -> bool:
        if self._max_per_address is None or client is None:
            return False
        return self._of.get(_key(client[0]), 0) >= self._max_per_address

    @property
    def is_swamped(self) -> bool:
        """Whether so many were refused that they may not linger: each holds a descriptor."""
        return self.refused > _LINGERING

    def leave(self, client: Address | None, *, was_admitted: bool) -> None:
        """Stop counting a connection."""
        if not was_admitted:
            self.refused -= 1
            return
        self._total -= 1
        if client is not None and self._max_per_address is not None:
            key = _key(client[0])
            self._of[key] -= 1
            if not self._of[key]:
                del self._of[key]


def _key(host: str) -> str:
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(int(network) >> 64) if network.ipv4_mapped is None else str(network.ipv4_mapped)
