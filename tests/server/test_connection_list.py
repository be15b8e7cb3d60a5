"""The list of open connections: what it says of each, its ids, filters and pages."""

import asyncio
import re
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.frames import TEXT, frame
from tests.harness.app import text
from tests.harness.memory import opened, peer, requested
from tests.harness.waiting import turns
from wsgate.server import connection_list
from wsgate.server.connection_info import ConnectionInfo, Kind
from wsgate.server.connection_list import ConnectionList, Filters, item_of
from wsgate.server.websocket import WebSocket
from wsgate.server.worker import Worker
from wsgate.testing import MemoryClient

GET = b"GET /rooms?token=secret HTTP/1.1\r\nHost: x\r\n\r\n"


def item(client: MemoryClient) -> dict[str, Any]:
    connection = client.connection
    return item_of(client.worker, connection, connection.info())


def parts(client: MemoryClient) -> tuple[Any, ...]:
    shown = item(client)
    return shown["type"], shown["address"], shown["path"]


# -- what it says of a connection ------------------------------------------------------------------


async def test_a_request_and_the_wait_for_the_next_one() -> None:
    async with requested(GET) as (client, _, call):
        assert parts(client) == ("http", "127.0.0.1:50000", "/rooms")
        await client.advance(3)
        assert item(client)["age"] == 3
        assert item(client)["sent_bytes"] is None
        await call.respond(b"fine")
        call.finish()
        assert parts(client) == ("idle", "127.0.0.1:50000", None)
        assert re.fullmatch(rf"{client.worker.process}-[a-z2-9]{{4}}-1", item(client)["id"])


@pytest.mark.parametrize("access_log", [True, False])
async def test_a_websocket_from_its_handshake_to_its_end(access_log: bool) -> None:
    async with peer(access_log=access_log) as ws:
        client = ws.client
        await ws.request(target="/chat?token=secret")
        assert parts(client) == ("websocket", "127.0.0.1:50000", "/chat")
        assert item(client)["received_messages"] is None
        await client.advance(1)
        await ws.call.accept()
        await client.until(b"\r\n\r\n")
        client.send(frame(TEXT, "hello"))
        await ws.call.receive()
        await ws.call.send(text("hi"))
        await client.advance(2)
        assert parts(client) == ("websocket", "127.0.0.1:50000", "/chat")
        shown = item(client)
        assert (shown["age"], shown["worker"]) == (2, client.worker.process)
        assert (shown["received_messages"], shown["received_bytes"]) == (1, 11)
        assert (shown["sent_messages"], shown["sent_bytes"]) == (1, 4)
        assert shown["round_trip"] is None  # there was no Ping yet
        ws_driver = client.connection.driver
        assert isinstance(ws_driver, WebSocket)
        ws_driver._liveness.round_trip = 0.01234567
        assert item(client)["round_trip"] == 0.012346
        client.eof()
        await turns()
        ws.call.finish()


async def test_without_an_access_log_the_path_costs_no_memory_and_the_end_is_no_event() -> None:
    async with opened(access_log=False) as ws:
        driver = ws.client.connection.driver
        assert isinstance(driver, WebSocket)
        assert driver._target is ws.call.scope["raw_path"]
        ws.client.drop()
        await ws.receive_disconnect()
        assert not ws.log.problems
        ws.call.finish()


async def test_a_connection_that_closes() -> None:
    async with requested(b"GET / HTTP/1.0\r\n\r\n") as (client, _, call):
        await call.respond(b"fine")
        call.finish()
        await client.ended()
        assert parts(client) == ("closing", "127.0.0.1:50000", None)
        assert item(client)["age"] is None
        client.eof()
        await turns()


async def test_a_connection_without_its_proxy_header() -> None:
    async with peer(proxy_protocol=True) as ws:
        (reader,) = ws.client.worker.connections
        await ws.client.advance(1)
        shown = item_of(ws.client.worker, reader, reader.info())
        assert (shown["type"], shown["address"], shown["age"]) == ("idle", "127.0.0.1:50000", 1)
        ws.client.drop()
        await turns()


def test_the_client_of_a_unix_socket_and_a_long_path() -> None:
    worker: Any = SimpleNamespace(process=7, clock=lambda: 10.0)
    path = b"/" + b"a" * 1_000
    shown = item_of(worker, cast("Any", Listed(1)), ConnectionInfo(Kind.HTTP, None, path, 11.0))
    assert (shown["address"], shown["age"], shown["id"]) == (None, 0.0, "7-abcd-1")
    assert len(shown["path"]) == connection_list.LONGEST_PATH


@pytest.mark.parametrize(
    ("client", "written"),
    [(("::1", 5), "[::1]:5"), (("10.0.0.1", 5), "10.0.0.1:5"), (("named", None), "named")],
)
def test_addresses_are_written_as_in_urls(client: Any, written: str) -> None:
    assert connection_list.address_text(*client) == written


# -- ids -------------------------------------------------------------------------------------------


async def test_the_id_is_that_of_the_scope_and_finds_the_open_connection() -> None:
    async with opened() as ws:
        worker, connection = ws.client.worker, ws.client.connection
        (found,) = {item(ws.client)["id"]}
        assert found == ws.call.scope["extensions"]["wsgate"]["connection_id"]
        assert worker.find_connection(found) is connection
        ws.client.drop()
        await turns()
        assert worker.find_connection(found) is None
        ws.call.finish()


# -- filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        (Filters(), True),
        (Filters("/chat/*"), True),
        (Filters("/chat"), False),
        (Filters(None, ip_network("10.0.0.0/8")), True),
        (Filters(None, ip_network("10.0.0.2")), False),
        (Filters(None, ip_network("::/0")), False),
        (Filters("/chat/*", ip_network("10.0.0.1")), True),
    ],
)
def test_filters(filters: Filters, matches: bool) -> None:
    info = ConnectionInfo(Kind.WEBSOCKET, ("10.0.0.1", 1), b"/chat/1")
    assert filters.matches(info) is matches


@pytest.mark.parametrize("client", [None, ("unknown", 1)])
def test_a_client_without_an_address_is_in_no_network(client: Any) -> None:
    info = ConnectionInfo(Kind.IDLE, client)
    assert not Filters(None, ip_network("0.0.0.0/0")).matches(info)
    assert not Filters("/*").matches(info)
    assert Filters("*").matches(info)


# -- pages -----------------------------------------------------------------------------------------


class Listed:
    """A connection in a list."""

    bucket = None
    unsent_bytes = 5

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection_id = f"7-abcd-{number}"

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(Kind.IDLE, ("10.0.0.1", self.number), b"/", 1.0)


def worker_with(count: int) -> Worker:
    worker: Any = SimpleNamespace(process=7, clock=lambda: 10.0)
    worker.connections = {Listed(number) for number in range(count)}
    return cast("Worker", worker)


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [
        (0, None, []),
        (1, None, [1]),
        (connection_list.PAGE, None, [100]),
        (250, None, [100, 100, 50]),
        (250, 120, [100, 20]),
        (250, 0, []),
    ],
)
async def test_pages(count: int, limit: int | None, sizes: list[int]) -> None:
    listed = ConnectionList(worker_with(count), Filters())
    pages = [page async for page in listed.pages(limit)]
    assert [len(page) for page in pages] == sizes
    assert listed.total == count
    assert len({one["id"] for page in pages for one in page}) == sum(sizes)


async def test_a_connection_that_ends_meanwhile_is_left_out() -> None:
    worker = worker_with(connection_list.PAGE + 1)
    listed = ConnectionList(worker, Filters())
    async for _ in listed.pages(None):
        worker.connections.clear()
    assert listed.total == connection_list.PAGE


async def test_the_event_loop_runs_in_between() -> None:
    listed = ConnectionList(worker_with(10 * connection_list.AT_ONCE), Filters("/none"))
    steps = 0

    async def count() -> None:
        nonlocal steps
        while not listed.total:
            steps += 1
            await turns(1)

    counting = asyncio.create_task(count())
    assert [page async for page in listed.pages(None)] == []
    counting.cancel()
    assert steps >= 9
