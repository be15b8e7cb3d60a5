"""A stop while clients connect or wait: every accepted connection gets its response."""

import asyncio

import pytest

from tests.harness.processes import program, running
from tests.harness.tcp import connect_tcp

# asyncio's debug mode reports callbacks of more than 0.1 s as "Executing ..."; on a loaded machine
# any callback may take that long.
EXPECTED_LINES = ("INFO", "WARNING", "blocked", "Executing <")
GET = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def send_request(port: int, path: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET % path)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_connections_waiting_when_the_server_stops_are_answered(
    loop_name: str, count: int
) -> None:
    command = ("-m", "wsgate", "tests.apps.blocking:app", "--port", "0", "--loop", loop_name)
    async with (
        asyncio.timeout(60),
        program("-X", "dev", *command, stdin=asyncio.subprocess.PIPE) as server,
    ):
        await server.serves()
        clients = [await send_request(server.port, b"/block")]
        await server.logged("^blocked$")
        clients += [await send_request(server.port, b"/") for _ in range(count)]
        server.signal()
        assert server.process.stdin is not None
        server.process.stdin.write(b"go on\n")
        for reader, writer in clients:
            assert (await reader.read()).endswith(b"\r\n\r\nhello")
            writer.close()
        assert await server.ended() == 0
    assert not [line for line in server.log if not line.startswith(EXPECTED_LINES)]


@pytest.mark.parametrize("body", [0, 3_000_000], ids=["GET", "POST"])
async def test_clients_of_cancelled_calls_get_503(loop_name: str, body: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % body
    options = ("--loop", loop_name, "--timeout-graceful-shutdown", "0.1")
    async with (
        asyncio.timeout(60),
        running("tests.apps.hanging:app", *options) as server,
        connect_tcp(server.port) as client,
        connect_tcp(server.port) as sender,
    ):
        # The app reads no body, so that the rest of one waits in the kernel's buffers.
        client.send(request + b"x" * body)
        sender.send(request + b"x" * (body // 2))
        await server.logged("^called$", times=2)
        server.signal()
        for each in (client, sender):
            response = await each.response()
            assert response.status == 503
            assert response.get("retry-after") == "1"
            assert response.get("connection") == "close"
            assert await each.read_rest() == b""
            each.writer.close()
        assert await server.ended() == 0
    assert len([line for line in server.log if '" 503' in line]) == 2
