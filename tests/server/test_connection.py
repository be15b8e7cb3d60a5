"""The TCP connection: its start, its end, its addresses."""

import asyncio
import socket
from typing import Any

import pytest

from wsgate.asgi.scope import Peer
from wsgate.config import Config
from wsgate.server.connection import Connection
from wsgate.server.listener import Listener
from wsgate.server.worker import Worker
from wsgate.types import Address, Receive, Scope, Send


async def test_a_connection_accepted_while_the_server_stops_is_closed() -> None:
    worker = Worker(_never, Config())
    worker.stopping = True
    transport = _Transport()
    connection = new_connection(worker)
    connection.connection_made(transport)
    assert transport.calls == ["write_eof"]
    connection.driver.stop()
    connection.connection_lost(None)
    assert not worker.connections


async def test_nothing_happens_after_the_end() -> None:
    transport = _Transport()
    connection = new_connection(Worker(_never, Config()))
    connection.connection_made(transport)
    connection.connection_lost(None)
    connection.data_received(b"GET")
    connection.eof_received()
    connection.driver.lost()
    connection.driver.stop()
    assert connection.driver.check(0.0) == connection.check(0.0) == float("inf")
    assert connection.is_flushed
    connection.write(b"a")
    connection.pause_reading()
    connection.resume_reading()
    connection.close()
    connection.end()
    connection.abort()
    assert transport.calls == []


async def test_a_reset_that_asyncio_reports_only_on_half_close() -> None:
    transport = _Transport()
    connection = new_connection(Worker(_never, Config()))
    connection.connection_made(transport)
    transport.is_reset = True
    connection.close()
    assert transport.calls == ["write_eof", "abort"]


async def test_a_rejected_connection_lingers_unless_too_many_do() -> None:
    worker = Worker(_never, Config(limit_connections=1))
    made = []
    for _ in range(67):
        made.append(_Transport())
        new_connection(worker).connection_made(made[-1])
    assert made[0].calls == []
    answered = ["HTTP/1.1 503", "write_eof"]
    assert all(transport.calls == answered for transport in made[1:65])
    assert all(transport.calls == [*answered, "abort"] for transport in made[65:])
    for connection in list(worker.connections):
        assert isinstance(connection, Connection)
        connection.connection_lost(None)
    assert worker.admission.enter(None)


async def test_a_transport_without_half_close_is_closed() -> None:
    transport = _Transport(halves=False)
    connection = new_connection(Worker(_never, Config()))
    connection.connection_made(transport)
    connection.close()
    connection.close()
    assert transport.calls == ["close"]


@pytest.mark.parametrize(
    ("family", "names", "client", "server"),
    [
        (socket.AF_INET, [("a", 1), ("b", 2)], ("a", 1), ("b", 2)),
        (socket.AF_INET6, [("::1", 1, 0, 0), ("::2", 2, 0, 0)], ("::1", 1), ("::2", 2)),
        (socket.AF_UNIX, ["", "/run/x"], None, ("/run/x", None)),
        (socket.AF_UNIX, ["", ""], None, None),
        (socket.AF_UNIX, ["", ("odd", 1)], None, ("odd", 1)),
        (None, [None, None], None, None),
    ],
)
async def test_endpoint_names_both_ends(
    family: int | None, names: list[Any], client: Any, server: Any
) -> None:
    transport = _Transport(family, *names)
    connection = new_connection(Worker(_never, Config()))
    connection.connection_made(transport)
    assert (connection.peer.client, connection.peer.server) == (client, server)


@pytest.mark.parametrize("client", [("192.0.2.1", 50_000), None])
async def test_the_address_that_was_admitted_leaves(client: Address | None) -> None:
    """A proxy's headers may change the peer in between."""
    worker = Worker(_never, Config(limit_connections=2, limit_connections_per_ip=1))
    connection, turned_away = new_connection(worker), new_connection(worker)
    connection.connection_made(_Transport(peer=client))
    if client is not None:
        turned_away.connection_made(_Transport(peer=client))
        assert worker.admission.refused == 1
        turned_away.peer = Peer(("198.51.100.8", 50_000), None)
        turned_away.connection_lost(None)
    connection.peer = Peer(("198.51.100.7", 50_000), None)
    connection.connection_lost(None)
    assert not worker.admission._per_address
    assert (worker.admission.total, worker.admission.refused) == (0, 0)


def new_connection(worker: Worker) -> Connection:
    return Connection(Listener(worker, None))


async def _never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the app is not called")


class _Family:
    def __init__(self, family: int) -> None:
        self.family = family


class _Transport(asyncio.Transport):
    """A transport that notes what is asked of it."""

    def __init__(
        self, family: int | None = None, peer: Any = None, name: Any = None, *, halves: bool = True
    ) -> None:
        sock = None if family is None else _Family(family)
        super().__init__({"peername": peer, "sockname": name, "socket": sock})
        self.calls: list[str] = []
        self._halves = halves
        self.is_reset = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return self._halves

    def write_eof(self) -> None:
        self.calls.append("write_eof")
        if self.is_reset:
            raise OSError(107, "Transport endpoint is not connected")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data[:12]).decode())

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")
