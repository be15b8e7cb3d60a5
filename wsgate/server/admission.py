"""Who is let in: how many connections in all, and how many from one address."""

import ipaddress
import resource
from collections import Counter

from wsgate.types import Address

_LINGERING = 64  # connections that were turned away and may stay to read why
_RESERVE = 128  # open files that are left to the app and to what it opens


def default_limit() -> int:
    """Return how many connections the process's limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return soft - min(_RESERVE, soft // 4)


class Admission:
    """The connections that are let in, counted; those that were turned away count apart.

    most: in all. most_per_address: from one address, None for no limit; the addresses of one IPv6
    network of 64 bits are one, for that is what one host has. turned_away: those that still are
    open behind their 503.
    """

    def __init__(self, most: int, most_per_address: int | None) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._total = 0
        self._of: Counter[str] = Counter()
        self.turned_away = 0

    def enter(self, client: Address | None) -> bool:
        """Let a connection in, or turn it away."""
        if self._total >= self._most or (
            self._most_per_address is not None and self._is_at_its_limit(client)
        ):
            self.turned_away += 1
            return False
        self._total += 1
        if client is not None and self._most_per_address is not None:
            self._of[_key(client[0])] += 1
        return True

    def _is_at_its_limit(self, client: Address | None) -> bool:
        if self._most_per_address is None or client is None:
            return False
        return self._of.get(_key(client[0]), 0) >= self._most_per_address

    @property
    def is_swamped(self) -> bool:
        """Whether so many were turned away that they may not linger: each holds a file."""
        return self.turned_away > _LINGERING

    def leave(self, client: Address | None, *, was_let_in: bool) -> None:
        """Forget a connection."""
        if not was_let_in:
            self.turned_away -= 1
            return
        self._total -= 1
        if client is not None and self._most_per_address is not None:
            key = _key(client[0])
            self._of[key] -= 1
            if not self._of[key]:
                del self._of[key]


def _key(host: str) -> str:
    if ":" not in host:
        return host
    network = ipaddress.IPv6Address(host.partition("%")[0])
    return str(int(network) >> 64) if network.ipv4_mapped is None else str(network.ipv4_mapped)
