"""Abuse by the app: its errors affect only its own connection."""

import asyncio
import time

import pytest
from websockets.asyncio.client import ClientConnection, connect as ws_connect

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.harness import Target
from tests.harness.client import handshake, text_frame
from tests.harness.processes import running
from tests.harness.tcp import PATIENCE
from tests.harness.waiting import pause, soon

APP = "tests.apps.abuse_app:app"
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def check_logged_error(server: Target, stage: str) -> None:
    """Check that the log has the app's exception, and no other."""
    await server.process.logged(f"Tired: {stage}$", PATIENCE)
    lines = server.process.log[server._checked_lines :]
    assert sum("Traceback" in line for line in lines) == 1
    assert sum("Exception in ASGI application" in line for line in lines) == 1
    server._checked_lines = len(server.process.log)


# -- an end at each stage --------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["called", "connected"])
@pytest.mark.parametrize("how", ["raise", "return"])
async def test_an_app_that_ends_before_its_accept(server: Target, how: str, stage: str) -> None:
    async with server.connect() as client:
        response = await client.ask(handshake(target=f"/{how}/{stage}"))
        assert response.status == 500
        assert await client.read_rest_or_reset() == b""
    if how == "raise":
        await check_logged_error(server, stage)


@pytest.mark.parametrize("stage", ["accepted", "received", "sent", "closed"])
@pytest.mark.parametrize(("how", "code"), [("raise", 1011), ("return", 1000)])
async def test_an_app_that_ends_after_its_accept(
    server: Target, how: str, code: int, stage: str
) -> None:
    async with server.opened(target=f"/{how}/{stage}") as client:
        client.send(text_frame("a"))
        if stage in ("sent", "closed"):
            assert await client.read_text() == "last words"
        assert (await client.read_close())[0] == (4000 if stage == "closed" else code)
        client.send(frames.close(code))
        assert await client.read_rest_or_reset() == b""
    if how == "raise":
        await check_logged_error(server, stage)


# -- messages out of order -------------------------------------------------------------------------


async def test_an_app_that_sends_before_its_accept(server: Target) -> None:
    async with server.opened(target="/early") as client:
        found = "IllegalMessage: 'websocket.send' cannot be sent in the state connecting"
        assert await client.read_text() == found
        assert await client.read_close() == (1000, "")


async def test_an_app_that_accepts_twice(server: Target) -> None:
    async with server.opened(target="/twice") as client:
        found = "IllegalMessage: 'websocket.accept' cannot be sent in the state open"
        assert await client.read_text() == found
        assert await client.read_close() == (1000, "")


async def test_an_app_that_sends_after_its_close(server: Target) -> None:
    async with server.opened(target="/late") as client:
        assert await client.read_close() == (4000, "")
        client.send(frames.close(4000))
        assert await client.read_rest_or_reset() == b""
    async with server.connect() as client:
        client.send(b"GET /errors HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        found = (await client.read_rest_or_reset()).decode()
    for kind in ("send", "close"):
        assert f"IllegalMessage: 'websocket.{kind}' cannot be sent in the state closed" in found


# -- headers ---------------------------------------------------------------------------------------

_BREAKS = [b"a\r\nset-cookie: b", b"a\nb: c", b"a\rb", b"\r\n\r\n<html>", b"a\r\n", b"\n", b"a\0"]


@pytest.mark.parametrize("value", _BREAKS)
async def test_a_line_break_in_a_header_of_an_accept(server: Target, value: bytes) -> None:
    async with server.connect() as client:
        client.send(handshake(target=f"/header/{value.hex()}"))
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"set-cookie" not in head
        assert b"x-of-the-app" not in head
        assert (await client.read_text()).startswith("InvalidMessage: the value of the header")


@pytest.mark.parametrize("value", _BREAKS)
async def test_a_line_break_in_a_header_of_a_response(server: Target, value: bytes) -> None:
    async with server.connect() as client:
        path = f"/header/{value.hex()}".encode()
        client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head = await client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"set-cookie" not in head
        assert b"x-of-the-app" not in head
        assert b"InvalidMessage: the value of the header" in await client.read_rest_or_reset()


# -- apps that do not receive, block, or ignore cancellation ---------------------------------------


async def test_an_app_that_never_receives(server: Target, measured: Measured) -> None:
    before = server.watch_memory()
    async with server.opened(target="/deaf") as client:
        client.send(text_frame("x" * 1_000) * 20_000)
        # Data that does not fit into the kernel's buffers stays in the client.
        seen = -1
        while (size := client.writer.transport.get_write_buffer_size()) != seen:
            seen = size
            await pause(0.1)
        assert size > 5_000_000
        assert await server.echo() < PATIENCE
        grown = server.memory().peak - before
        measured("an app that never receives 20 MB", "8 MiB of memory", f"{grown / 2**20:.1f} MiB")
        assert grown < 8 * 2**20
    await server.ask("/hear", "POST")


async def test_an_app_that_blocks_the_loop(loop_name: str, measured: Measured) -> None:
    """The blocking call is logged while it blocks, and no other client times out."""
    options = ("--loop", loop_name, "--ws-ping-interval", "0.5", "--ws-ping-timeout", "1")
    async with running(APP, *options) as process, asyncio.TaskGroup() as group:
        connecting = [
            ws_connect(process.ws_url, proxy=None, ping_interval=None, open_timeout=PATIENCE)
            for _ in range(50)
        ]
        clients = [await group.create_task(_connected(client)) for client in connecting]
        blocker = ws_connect(process.ws_url + "/block", proxy=None, ping_interval=None)
        async with blocker as ws:
            await ws.send("5")
            began = time.monotonic()
            found = await process.logged(
                r"WARNING: +The event loop has been blocked for (\S+) s by "
                r"_block \(abuse_app\.py, line \d+\)"
            )
            after = time.monotonic() - began
            assert await soon(ws.recv(), PATIENCE) == "awake"
            await process.logged(
                r"The event loop was blocked for [45]\.\d s; deadlines are extended"
            )
            # Twice the interval plus the timeout: a wrong timeout would show by now.
            await pause(3)
            for client in clients:
                await client.send("alive")
            alive = [await soon(client.recv(), PATIENCE) for client in clients]
        assert alive == ["alive"] * 50
        measured(
            "an app blocks the loop for 5 s, pings every 0.5 s with a timeout of 1 s",
            "logged within 2.5 s, 50 of 50 clients stay connected",
            f"logged after {after:.1f} s, reporting {found[1]} s; 50 of 50 stay connected",
        )
        assert after < 2.5
        assert not any("ping timeout" in line for line in process.log)
        assert sum("has been blocked" in line for line in process.log) == 1
        for client in clients:
            group.create_task(client.close())


async def _connected(client: ws_connect) -> ClientConnection:
    return await client


async def test_an_app_that_ignores_its_cancellation(loop_name: str, measured: Measured) -> None:
    options = ("--loop", loop_name, "--timeout-graceful-shutdown", "0.5")
    async with running(APP, *options) as process:
        target = Target(process, loop_name)
        async with target.opened(target="/stubborn") as client:
            began = time.monotonic()
            process.signal()
            assert await client.read_close() == (1012, "service restart")
            assert await process.ended() == 0
            took = time.monotonic() - began
        bound = 0.5 + 4 * 1.0  # four timeouts: two to end the app, two to end the loop
        measured("an app ignores its cancellation", f"{bound} s to exit", f"{took:.1f} s")
        assert took < bound + 2
        text = "App calls that ignore their cancellation: 1"
        assert any(line.endswith(text) for line in process.log)
        assert not any("Traceback" in line for line in process.log)
