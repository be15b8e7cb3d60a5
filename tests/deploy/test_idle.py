"""WebSockets that are idle for longer than a proxy waits: our Pings keep them open."""

import asyncio
from functools import partial

import pytest

from tests import frames
from tests.deploy.stack import COMMANDS, PATIENCE, Certificates, proxied
from tests.harness.client import handshake
from tests.harness.proxies import HOST
from tests.harness.tcp import TcpClient, connect_tcp
from tests.harness.waiting import soon

TIMEOUT = 3.0  # seconds that the proxies wait here
INTERVAL = 0.5  # seconds between Pings; a loaded machine may delay one by TIMEOUT - INTERVAL
CHANGES = {
    "nginx": {"proxy_read_timeout 60s;": f"proxy_read_timeout {TIMEOUT:.0f}s;"},
    "haproxy": {"timeout tunnel 60s ": f"timeout tunnel {TIMEOUT:.0f}s "},
    "caddy": {},  # it has no such timeout
}


async def open_websocket(client: TcpClient) -> None:
    """Open a WebSocket, whose name is that of the configurations."""
    response = await client.ask(handshake(f"Host: {HOST}", without="Host"))
    assert response.status == 101, response


@pytest.mark.parametrize("kind", COMMANDS)
async def test_pings_keep_an_idle_websocket_open(kind: str, certificates: Certificates) -> None:
    options = ("--ws-ping-interval", str(INTERVAL))
    start = partial(proxied, COMMANDS[kind], certificates, *options, changes=CHANGES[kind])
    async with start() as stack, connect_tcp(stack.entrance.port("http")) as client:
        await open_websocket(client)
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < started + 2 * TIMEOUT:
            ping = await client.read_frame()
            assert ping.opcode == frames.PING
            client.send(frames.frame(frames.PONG, ping.payload))
        await client.echoes()


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_without_pings_the_proxy_ends_it(kind: str, certificates: Certificates) -> None:
    options = ("--ws-ping-interval", "0")
    start = partial(proxied, COMMANDS[kind], certificates, *options, changes=CHANGES[kind])
    async with start() as stack, connect_tcp(stack.entrance.port("http")) as client:
        await open_websocket(client)
        assert await soon(client.reader.read(), PATIENCE) == b""  # without a Close: 1006
        await stack.servers[0].logged("disconnected with 1006")
