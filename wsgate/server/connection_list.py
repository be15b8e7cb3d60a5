"""The open connections of a worker, as an operator lists them: filters and pages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any

from wsgate.server.connection_info import ConnectionInfo

if TYPE_CHECKING:
    from wsgate.server.worker import OpenConnection, Worker

AT_ONCE = 200  # connections that are checked in one loop iteration
PAGE = 100  # connections in one page
LONGEST_PATH = 200  # characters of a path that are shown

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which connections to list.

    path: a pattern such as `/chat/*`, None for any path. network: that of the client, None for any.
    """

    path: str | None = None
    network: IPv4Network | IPv6Network | None = None

    def matches(self, info: ConnectionInfo) -> bool:
        """Return whether a connection is one of them."""
        if self.path is not None and not fnmatchcase(path_text(info.path), self.path):
            return False
        return self.network is None or _is_in(self.network, info)


def _is_in(network: IPv4Network | IPv6Network, info: ConnectionInfo) -> bool:
    if info.client is None:
        return False
    try:
        return ip_address(info.client[0]) in network
    except ValueError:  # a proxy has named something else
        return False


class ConnectionList:
    """The connections of a worker that match filters.

    Attributes:
        total: How many matched; complete when `pages` has ended.
    """

    def __init__(self, worker: "Worker", filters: Filters) -> None:
        self._worker = worker
        self._filters = filters
        self.total = 0

    async def pages(self, limit: int | None) -> AsyncIterator[list[Item]]:
        """Yield the connections in pages. The event loop runs after every `AT_ONCE` of them.

        Args:
            limit: How many to yield; the others are counted only. None for all.
        """
        page: list[Item] = []
        for done, connection in enumerate(list(self._worker.connections), 1):
            item = self._item(connection, shows=limit is None or self.total < limit)
            if item is not None:
                page.append(item)
            if len(page) == PAGE:
                yield page
                page = []
            if done % AT_ONCE == 0:
                await asyncio.sleep(0)
        if page:
            yield page

    def _item(self, connection: "OpenConnection", *, shows: bool) -> Item | None:
        """Count a connection that matches; return it if it is to be shown."""
        worker = self._worker
        if connection not in worker.connections:
            return None  # it has ended since the list was begun
        info = connection.info()
        if not self._filters.matches(info):
            return None
        self.total += 1
        return item_of(worker, connection, info) if shows else None


def item_of(worker: "Worker", connection: "OpenConnection", info: ConnectionInfo) -> Item:
    """Return a connection as data: addresses as text, times in seconds."""
    traffic, round_trip = info.traffic, info.round_trip
    age = None if info.opened_at is None else max(worker.clock() - info.opened_at, 0.0)
    return {
        "id": connection.connection_id,
        "worker": worker.process,
        "address": None if info.client is None else address_text(*info.client),
        "type": info.kind.value,
        "path": None if info.path is None else path_text(info.path)[:LONGEST_PATH],
        "age": None if age is None else round(age, 3),
        "round_trip": None if round_trip is None else round(round_trip, 6),
        **(_NO_TRAFFIC if traffic is None else asdict(traffic)),
        "unsent_bytes": connection.unsent_bytes,
    }


_NO_TRAFFIC: dict[str, int | None] = dict.fromkeys(
    ("received_messages", "received_bytes", "sent_messages", "sent_bytes")
)


def path_text(path: bytes | None) -> str:
    """Return a path as text, empty for None."""
    return "" if path is None else path.decode("ascii", "backslashreplace")


def address_text(host: str, port: int | None) -> str:
    """Return an address as text, an IPv6 one with a port in brackets."""
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
