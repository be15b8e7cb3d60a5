"""Servers that stop and start behind nginx, HAProxy and Caddy."""

import asyncio
import contextlib
import socket
from functools import partial

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.deploy.conftest import Start
from tests.deploy.stack import (
    COMMANDS,
    PATIENCE,
    Certificates,
    Entrance,
    check_echo,
    proxied,
    running_at,
)
from tests.harness.processes import started
from tests.harness.waiting import pause, soon, start_task

# One server without another: HAProxy does not check it, and both wait longer on a loaded machine.
ALONE = {
    "nginx": {},
    "haproxy": {"default-server check ": "default-server ", "retries 3": "retries 60"},
    "caddy": {"lb_try_duration 5s": "lb_try_duration 60s"},
}


async def close_code(websocket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        await soon(websocket.recv(), PATIENCE)
    return websocket.close_code


async def test_a_restart_closes_websockets_with_1012(kind: str, start: Start) -> None:
    async with start(changes=ALONE[kind]) as stack:
        async with contextlib.AsyncExitStack() as opened:
            clients = [
                await opened.enter_async_context(stack.entrance.connect(scheme))
                for scheme in ("ws", "wss")
            ]
            await asyncio.gather(*map(check_echo, clients))
            await stack.stop()
            assert [await close_code(client) for client in clients] == [1012, 1012]
        async with running_at(stack.addresses[0]), stack.entrance.connect("wss") as again:
            await check_echo(again)


async def test_nginx_answers_502_while_its_only_server_restarts(certificates: Certificates) -> None:
    async with (
        proxied(COMMANDS["nginx"], certificates) as stack,
        stack.entrance.client("https") as client,
    ):
        await stack.stop()
        assert (await client.get("/healthz")).status_code == 502
        with pytest.raises(InvalidStatus) as refused:
            await stack.entrance.connect("ws")
        assert refused.value.response.status_code == 502
        async with running_at(stack.addresses[0]):
            assert (await client.get("/healthz")).status_code == 200


# Caddy gives up a POST when it knows that no server is there.
@pytest.mark.parametrize(
    ("name", "method"), [("haproxy", "GET"), ("haproxy", "POST"), ("caddy", "GET")]
)
async def test_requests_wait_while_the_only_server_restarts(
    name: str, method: str, certificates: Certificates
) -> None:
    start = partial(proxied, COMMANDS[name], certificates, changes=ALONE[name])
    async with start() as stack, stack.entrance.client("https") as client:
        await stack.stop()
        request = start_task(client.request(method, "/body"))
        websocket = start_task(stack.entrance.connect("wss"))
        done, _ = await asyncio.wait([request, websocket], timeout=0.5)
        assert not done
        async with running_at(stack.addresses[0]):
            assert (await request).status_code == 200
            async with await websocket as opened:
                await check_echo(opened)


async def test_requests_wait_in_the_queue_of_an_inherited_socket(kind: str, start: Start) -> None:
    # As with systemd's socket activation: the socket stays open while no server runs.
    async with start("--uds-perms", "660", unix=True, changes=ALONE[kind]) as stack:
        await stack.stop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(stack.addresses[0])
            listener.listen()
            command = ("tests.apps.deployed:app", "--fd", str(listener.fileno()))
            async with stack.entrance.client("https") as client:
                for _ in range(2):
                    request = start_task(client.post("/body", content=b"x"))
                    websocket = start_task(stack.entrance.connect("wss"))
                    async with started(*command, pass_fds=[listener.fileno()]) as server:
                        assert (await soon(request, PATIENCE)).text == "x"
                        async with await soon(websocket, PATIENCE) as opened:
                            await check_echo(opened)
                            server.signal()
                            assert await close_code(opened) == 1012
                        assert await server.ended() == 0


@pytest.mark.parametrize("away", [0, 1])
async def test_the_other_server_replaces_one_that_is_away(
    kind: str, start: Start, away: int
) -> None:
    async with start(servers=2) as stack, stack.entrance.client("https") as client:
        await stack.stop(away)
        for _ in range(4):
            assert (await client.get("/healthz")).status_code == 200
            async with stack.entrance.connect("wss") as websocket:
                await check_echo(websocket)
        if kind == "caddy":  # 2.6 cannot send a body again, so wait until its check has failed
            await stack.proxy.logged(
                f"dial tcp {stack.addresses[away]}: connect: connection refused"
            )
        for _ in range(4):
            response = await client.post("/body", content=b"x")
            assert (response.status_code, response.text) == (200, "x")


class Reconnecting:
    """A client that echoes and reconnects, as one should: after 1012, after a moment.

    codes: the close codes it got. refused: why it could not connect.
    """

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self.codes: list[int | None] = []
        self.refused: list[Exception] = []
        self.echoes = 0

    async def run(self) -> None:
        while True:
            try:
                async with self._entrance.connect("wss") as websocket:
                    await self._stay(websocket)
            except (OSError, InvalidStatus) as error:
                self.refused.append(error)
            await pause(0.05)

    async def _stay(self, websocket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await check_echo(websocket)
                self.echoes += 1
                await pause(0.02)
        self.codes.append(websocket.close_code)


async def test_a_rolling_restart_refuses_nobody(start: Start) -> None:
    drain = ("--drain-seconds", "0.5")
    async with start(*drain, servers=2) as stack, contextlib.AsyncExitStack() as opened:
        clients = [Reconnecting(stack.entrance) for _ in range(6)]
        tasks = [start_task(client.run()) for client in clients]
        polling = start_task(poll(stack.entrance))
        for number, address in enumerate(stack.addresses):
            await echo_again(clients)
            await stack.stop(number)
            await opened.enter_async_context(running_at(address, *drain))
        await echo_again(clients)
        for task in (*tasks, polling):
            assert not task.done(), task
            task.cancel()
        await asyncio.gather(*tasks, polling, return_exceptions=True)
        assert not [error for client in clients for error in client.refused]
        codes = [code for client in clients for code in client.codes]
        assert set(codes) == {1012}
        assert len(codes) >= len(clients)


async def echo_again(clients: list[Reconnecting]) -> None:
    """Wait until each client has had some further echoes."""
    before = [client.echoes for client in clients]
    async with asyncio.timeout(PATIENCE):
        while any(c.echoes < old + 3 for c, old in zip(clients, before, strict=True)):
            await pause(0.05)


async def poll(entrance: Entrance) -> None:
    """Send requests one after the other; fail if one is not answered with 200."""
    async with entrance.client("https") as client:
        while True:
            response = await client.get("/healthz")
            assert response.status_code == 200, response
            await pause(0.02)
