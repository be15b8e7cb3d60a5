"""The live server for tests."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.harness.waiting import until
from wsgate.errors import ConfigError, StartupFailed
from wsgate.testing import serve


@pytest.fixture(autouse=True)
async def _no_tasks_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            scope["state"]["greeting"] = b"hello"
            await send({"type": "lifespan.startup.complete"})
        assert message["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["state"]["greeting"]})


async def fail(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def get(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(10):
        data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


async def test_server_runs_while_the_context_lasts() -> None:
    async with serve(answer) as server:
        assert server.host == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.ws_url == f"ws://127.0.0.1:{server.port}"
        assert (await get(server.host, server.port)).endswith(b"\r\n\r\nhello")
        await server.settled()
        assert (server.connections, server.tasks) == (0, 0)
    with pytest.raises(ConnectionRefusedError):
        await get(server.host, server.port)


async def test_two_servers_have_different_ports() -> None:
    async with serve(answer) as one, serve(answer) as two:
        assert one.port != two.port
        assert await get(one.host, one.port)
        assert await get(two.host, two.port)


async def test_options_are_settings() -> None:
    async with serve(answer, headers=[("x-own", "1")]) as server:
        assert b"\r\nx-own: 1\r\n" in await get(server.host, server.port)
    with pytest.raises(ConfigError, match="--backlog"):
        async with serve(answer, backlog=0):
            pytest.fail("it must not start")


async def test_refused_startup_is_raised() -> None:
    with pytest.raises(StartupFailed, match="no database"):
        async with serve(fail):
            pytest.fail("it must not start")


async def test_server_may_be_stopped_within_the_context() -> None:
    async with serve(answer) as server:
        await server.stop()
        await server.stop()
        with pytest.raises(ConnectionRefusedError):
            await get(server.host, server.port)


async def test_server_stops_when_the_test_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(answer) as server:
            raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        await get(server.host, server.port)


async def test_settled_waits_for_connections_and_apps() -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer({**scope, "state": {"greeting": b""}}, receive, send)
        await release.wait()

    async with serve(app, lifespan="off") as server:
        settling = asyncio.create_task(get(server.host, server.port))
        await settling
        waiting = asyncio.create_task(server.settled())
        await until(lambda: not server.connections)
        assert server.tasks == 1
        assert not waiting.done()
        release.set()
        async with asyncio.timeout(10):
            await waiting
