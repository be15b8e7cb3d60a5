"""Clients that disconnect during a framework's handler: not logged as an error."""

import asyncio
import socket
import struct

import pytest

from tests.harness.client import handshake
from tests.harness.processes import ServerProcess, running

HEAD = "HTTP/1.1\r\nHost: a\r\n"
REQUESTS = {
    "/stream": f"GET /stream {HEAD}\r\n".encode(),
    "/upload": f"POST /upload {HEAD}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n".encode(),
    "/talk": handshake(target="/talk"),
    "/listen": handshake(target="/listen"),
    "/both": handshake(target="/both"),
}
LEFT = "The client left during the app's call"


async def leave(server: ServerProcess, request: bytes, *, by_reset: bool) -> None:
    """Wait for the head of the response, then disconnect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    if by_reset:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("app", ["app", "app_with_middleware"])
async def test_a_disconnect_is_logged_at_debug_level_only(loop_name: str, app: str) -> None:
    options = ("--loop", loop_name, "--log-level", "debug")
    async with running(f"tests.apps.leaving:{app}", *options) as server, asyncio.timeout(60):
        for by_reset in (True, False):
            for request in REQUESTS.values():
                await leave(server, request, by_reset=by_reset)
        server.signal()
        assert await server.ended() == 0
    lines = [line for line in server.log if line.startswith(("WARNING", "ERROR", "DEBUG"))]
    assert {line.partition(":")[0] for line in lines} == {"DEBUG"}, lines
    # Starlette's middleware handles the disconnect during a response or an upload itself.
    expected = 10 if app == "app" else 6
    assert sum(LEFT in line for line in lines) >= expected, lines
