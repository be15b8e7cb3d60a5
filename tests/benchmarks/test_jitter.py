"""What the load "jitter" counts, and how its clients lose their network."""

import asyncio
from typing import Any

import pytest

import wsgate.testing
from benchmarks import jitter
from benchmarks.app import Message, Receive, Send
from benchmarks.jitter import COMPLETE, INCOMPLETE, Plan, Room
from benchmarks.jitter_app import app
from benchmarks.jitter_connection import connect
from tests.harness.waiting import soon, until


def figures(*texts: str, messages: int = 4) -> dict[str, Any]:
    """Return the figures of a room with one client, which gets these texts."""
    room = Room(Plan(clients=1, messages=messages), [])
    for text in texts:
        room._clients[0]._take(text)
    return room._figures()


def test_every_message_once_is_no_failure() -> None:
    found = figures(COMPLETE, "0", "1", "2", "3", "4", "5")
    assert (found["delivered_percent"], found["failures"]) == (100, 0)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((COMPLETE, "0", "1", "4", "5"), {"missing": 2, "delivered_percent": 50}),
        ((COMPLETE, "0", "1", "2"), {"missing": 2, "delivered_percent": 50}),
        ((COMPLETE, "0", "1", "2", "2", "3", "4", "5"), {"twice": 1, "delivered_percent": 100}),
        ((COMPLETE, "0", "1", "3", "2", "4", "5"), {"twice": 1, "missing": 1}),
        ((INCOMPLETE, "0", "1", "2", "3", "4", "5"), {"incomplete": 1, "delivered_percent": 100}),
        ((), {"missing": 4, "delivered_percent": 0}),
    ],
)
def test_each_failure_is_counted(texts: tuple[str, ...], expected: dict[str, Any]) -> None:
    found = figures(*texts)
    assert found == found | expected
    assert found["failures"] == found["missing"] + found["twice"] + found["incomplete"] > 0


def test_messages_count_when_it_is_known_whether_they_are_complete() -> None:
    assert figures("0", "1", "2", "3", "4")["missing"] == 4
    assert figures("0", "1", "2", "3", "4", COMPLETE)["missing"] == 0


def test_a_hundred_per_cent_is_nothing_less() -> None:
    room = Room(Plan(clients=1, messages=100_000), [])
    room.delivered = 99_999
    assert room._figures()["delivered_percent"] == 99.99


@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_network_is_lost_by_a_reset_or_silently(is_reset: bool) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x011")
        try:
            ended.set_result(await reader.read())
        except ConnectionResetError as error:
            ended.set_result(error)
        writer.close()

    texts: list[str] = []
    async with await asyncio.start_server(switch, "127.0.0.1", 0) as server:
        connection = await connect(server.sockets[0].getsockname()[1], "/", texts.append)
        await until(lambda: texts == ["1"])
        if is_reset:
            connection.reset()
            assert isinstance(await soon(ended), ConnectionResetError)
        else:
            connection.fall_silent()
            done, _ = await asyncio.wait([ended], timeout=0.1)
            assert not done
            connection.reset()
        await soon(ended)


async def test_a_refused_handshake_is_an_error() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectionError):
            await connect(server.sockets[0].getsockname()[1], "/", lambda _: None)


async def test_clients_come_back_and_have_every_message() -> None:
    plan = Plan(clients=10, messages=20, interval=0.01, up=(0.01, 0.1), down=(0.01, 0.05))
    async with wsgate.testing.serve(app, access_log=False) as server:
        found = await jitter.run(plan, [server.port], {})
    assert (found["delivered_percent"], found["failures"]) == (100, 0)
    assert found["reconnects"] > 0


async def test_a_server_that_does_not_send_what_was_missed_is_found() -> None:
    async def forgetful(scope: Message, receive: Receive, send: Send) -> None:
        await app({**scope, "query_string": b""}, receive, send)

    plan = Plan(clients=10, messages=20, interval=0.01, up=(0.01, 0.1), down=(0.01, 0.05))
    async with wsgate.testing.serve(forgetful, access_log=False) as server:
        found = await jitter.run(plan, [server.port], {})
    assert found["missing"] > 0
    assert found["delivered_percent"] < 100
