"""WebSockets of a live server: the `websockets` client, and what no well-behaved client sends."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests import frames, loops
from tests.apps.echo import app as echo
from tests.frames import PING, PONG, TEXT, frame
from tests.wsclient import (
    PATIENCE,
    Stage,
    close_code,
    handshake,
    logged,
    soon,
    text,
    text_frame,
)
from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.process.server import Server
from wsgate.testing import LiveServer, serve
from wsgate.types import App

LOOPS = loops.LOOPS
MIB = 1 << 20


@contextlib.asynccontextmanager
async def live(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve; see that nothing is left of what the test opened, and that nothing went wrong."""
    tasks = asyncio.all_tasks()
    with logged() as log:
        async with serve(app, **{"lifespan": "off", **options}) as server:
            yield server
            await soon(server.settled())
        assert not log.problems
    assert asyncio.all_tasks() == tasks


@contextlib.asynccontextmanager
async def raw(server: LiveServer) -> AsyncIterator["Raw"]:
    """Connect without a WebSocket client; broken off in the end."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await soon(writer.wait_closed())


class Raw:
    """A client's TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def open(self, *headers: str, behind: bytes = b"") -> bytes:
        """Send a handshake and return the head of the answer."""
        self.send(handshake(*headers) + behind)
        return await soon(self.reader.readuntil(b"\r\n\r\n"))

    async def frame(self) -> frames.ServerFrame:
        """Return the server's next frame, of at most 125 bytes."""
        head = await soon(self.reader.readexactly(2))
        (found,) = frames.parsed(head + await soon(self.reader.readexactly(head[1])))
        return found

    async def closed(self) -> tuple[int, str]:
        """Return code and reason of the server's Close, which comes next."""
        return close_code(await self.frame())

    async def rest(self) -> bytes:
        """Return what comes until the server ends its half."""
        return await soon(self.reader.read())

    def reset(self) -> None:
        """Break off with a TCP reset."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def client(server: LiveServer, path: str = "/", **options: Any) -> AsyncIterator[Any]:
    """Connect a `websockets` client."""
    async with connect(server.ws_url + path, proxy=None, max_size=None, **options) as ws:
        yield ws


async def closing(ws: ClientConnection) -> tuple[int, str]:
    """Return code and reason with which the server closes."""
    with pytest.raises(ConnectionClosed) as caught:
        await soon(ws.recv())
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


# -- a well-behaved client ------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_echo_of_all_sizes(compression: str | None) -> None:
    noise = random.Random(1).randbytes(1_000)  # what repeats later than the window reaches
    async with live(echo) as server, client(server, compression=compression) as ws:
        assert bool(ws.protocol.extensions) is (compression is not None)
        for size in (0, 1, 125, 126, 65_535, 65_536, 300_000, MIB):
            data = (noise * (size // 1_000 + 1))[:size]
            await ws.send(data)
            assert await soon(ws.recv()) == data
            await ws.send("ä" * (size // 2))
            assert await soon(ws.recv()) == "ä" * (size // 2)


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_many_messages_sent_before_one_is_read(compression: str | None) -> None:
    messages = [str(i) * (i % 50) for i in range(5_000)]
    async with live(echo) as server, client(server, compression=compression, max_queue=None) as ws:
        sending = asyncio.ensure_future(_send_all(ws, messages))
        assert [await soon(ws.recv()) for _ in messages] == messages
        await soon(sending)


async def _send_all(ws: ClientConnection, messages: list[str]) -> None:
    for message in messages:
        await ws.send(message)


async def test_message_in_pieces() -> None:
    async def pieces() -> AsyncIterator[str]:
        for _ in range(50):
            yield "ab" * 500

    async with live(echo) as server, client(server) as ws:
        await ws.send(pieces())
        assert await soon(ws.recv()) == "ab" * 25_000


async def test_clients_pings_are_answered_while_the_app_is_busy() -> None:
    stage = Stage()
    async with live(stage) as server:
        opening = asyncio.ensure_future(connect(server.ws_url, proxy=None).__aenter__())
        await stage.entered()
        await stage.accept()
        ws = await soon(opening)
        await soon(await ws.ping())
        stage.leave()
        await soon(ws.wait_closed())
        assert ws.close_code == 1000


async def test_pings_of_the_server_and_a_client_that_is_dead() -> None:
    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1, "ws_close_timeout": 0.1}
    async with live(echo, **options) as server, raw(server) as peer:
        await peer.open()
        assert await peer.frame() == (PING, b"", True, 0)
        peer.send(frame(PONG))
        while (last := await peer.frame()).opcode == PING:
            pass
        assert close_code(last) == (1011, "keepalive ping timeout")
        await soon(server.settled())


async def test_subprotocol_and_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"x-a", b"1"), (b"x-a", b"2")]
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": headers})

    async with live(app) as server:
        offered = [Subprotocol("a"), Subprotocol("b")]
        async with client(server, subprotocols=offered) as ws:
            assert ws.subprotocol == "b"
            assert ws.response.headers.get_all("x-a") == ["1", "2"]
            assert await closing(ws) == (1000, "")


async def test_refusal_and_denial() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/close":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        for more in (True, True, False):
            body = b"tea" * 50_000
            await send({"type": "websocket.http.response.body", "body": body, "more_body": more})

    async with live(app) as server:
        for path, status, body in (("/close", 403, 33), ("/tea", 418, 450_000)):
            with pytest.raises(InvalidStatus) as caught:
                async with client(server, path):
                    pass
            assert caught.value.response.status_code == status
            assert path == "/close" or len(caught.value.response.body or b"") == body


async def test_close_codes_reach_both_sides() -> None:
    told = asyncio.Queue[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/server":
            await send({"type": "websocket.close", "code": 4001, "reason": "mine"})
        told.put_nowait(await receive())

    async with live(app) as server:
        async with client(server, "/client") as ws:
            await ws.close(4002, "yours")
        event = await soon(told.get())
        assert (event["code"], event["reason"]) == (4002, "yours")
        async with client(server, "/server") as ws:
            assert await closing(ws) == (4001, "mine")
        event = await soon(told.get())
        assert (event["code"], event["reason"]) == (4001, "mine")


async def test_too_large_message_is_1009() -> None:
    async with live(echo, ws_max_size=1_000) as server:
        for compression in (None, "deflate"):
            async with client(server, compression=compression) as ws:
                await ws.send("a" * 1_000)
                assert await soon(ws.recv()) == "a" * 1_000
                await ws.send("a" * 1_001)
                assert await closing(ws) == (1009, "message too big")


async def test_limit_concurrency_is_503() -> None:
    async with live(echo, limit_concurrency=2) as server:
        async with client(server), client(server) as ws:
            with pytest.raises(InvalidStatus) as caught:
                async with client(server):
                    pass
            assert caught.value.response.status_code == 503
            await ws.send("alive")
            assert await soon(ws.recv()) == "alive"
        await soon(server.settled())
        async with client(server) as ws:
            await ws.close()


async def test_unix_socket(tmp_path: Path) -> None:
    stage = Stage()
    path = str(tmp_path / "s")
    server = Server(stage, Config(uds=path, lifespan="off"))
    await server.start()
    opening = asyncio.ensure_future(unix_connect(path).__aenter__())
    await stage.entered()
    await stage.accept()
    ws = await soon(opening)
    assert (stage.scope["client"], stage.scope["server"]) == (None, (path, None))
    stage.leave()
    await soon(ws.wait_closed())
    await soon(server.stop())


async def test_many_clients_at_once() -> None:
    async def talk(server: LiveServer, name: str) -> None:
        async with client(server, open_timeout=PATIENCE) as ws:
            for i in range(10):
                await ws.send(f"{name} {i}")
                assert await soon(ws.recv()) == f"{name} {i}"

    async with live(echo) as server:
        await asyncio.gather(*(talk(server, str(i)) for i in range(30)))


# -- flow control ---------------------------------------------------------------------------------


async def test_send_waits_for_a_client_that_does_not_read() -> None:
    stage = Stage()
    async with live(stage) as server, raw(server) as peer:
        peer.send(handshake())
        await stage.entered()
        await stage.accept()
        await soon(peer.reader.readuntil(b"\r\n\r\n"))
        size, sent = 100_000, 0
        while True:  # until the kernel's buffers and ours are full
            sending = stage.sending({"type": "websocket.send", "bytes": bytes(size)})
            sent += 1
            done, _ = await asyncio.wait([sending], timeout=0.2)
            if not done:
                break
        await soon(peer.reader.readexactly(sent * (size + 10)))
        await soon(sending)
        stage.leave()
        assert await peer.closed() == (1000, "")
        peer.send(frames.close(1000))
        assert await peer.rest() == b""


async def test_reading_stops_while_the_app_does_not_receive() -> None:
    stage = Stage()
    message = frame(frames.BINARY, bytes(100_000))
    async with live(stage, ws_max_queue_size=500_000) as server, raw(server) as peer:
        peer.send(handshake())
        await stage.entered()
        await stage.accept()
        await soon(peer.reader.readuntil(b"\r\n\r\n"))
        count = 0
        with contextlib.suppress(TimeoutError):
            while True:
                peer.send(message)
                count += 1
                async with asyncio.timeout(0.2):
                    await peer.writer.drain()
        assert len(await stage.receives(count)) == count
        await soon(peer.writer.drain())
        stage.leave()
        assert await peer.closed() == (1000, "")


async def test_slow_consumer_is_closed_with_1013() -> None:
    codes = asyncio.Queue[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(ClientDisconnected):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(200_000)})
        codes.put_nowait((await receive())["code"])

    options = {"ws_send_timeout": 0.3, "ws_close_timeout": 0.3}
    async with live(app, **options) as server, raw(server) as peer:
        await peer.open()
        assert await soon(codes.get()) == 1013
        await soon(server.settled())


# -- a client that misbehaves ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake(without="Sec-WebSocket-Key"), 400),
        (handshake(without="Sec-WebSocket-Version"), 426),
        (handshake(method="POST"), 400),
    ],
    ids=["no key", "no version", "POST"],
)
async def test_bad_handshake_is_answered_and_closed(request_: bytes, status: int) -> None:
    async with live(echo) as server, raw(server) as peer:
        peer.send(request_ + text_frame("a") * 10_000)
        assert (await peer.rest()).startswith(b"HTTP/1.1 %d " % status)


async def test_frames_behind_the_handshake() -> None:
    async with live(echo) as server, raw(server) as peer:
        await peer.open(behind=text_frame("a") + text_frame("b"))
        assert [(await peer.frame()).payload for _ in "ab"] == [b"a", b"b"]
        peer.send(frames.close(1000))
        assert await peer.closed() == (1000, "")


async def test_many_bytes_before_accept() -> None:
    stage = Stage()
    count = 3_000
    async with live(stage) as server, raw(server) as peer:
        peer.send(handshake() + text_frame("a" * 100) * count)
        await stage.entered()
        await stage.accept()
        got = 0
        while got < count:
            assert (await stage._receive())["text"] == "a" * 100
            got += 1
        stage.leave()
        await soon(peer.reader.readuntil(b"\r\n\r\n"))
        assert await peer.closed() == (1000, "")


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, "a", mask=None), 1002),
        (frame(0x3), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"", declared=1 << 40), 1009),
    ],
)
async def test_bad_frame_is_answered_with_its_code(bad: bytes, code: int) -> None:
    async with live(echo) as server, raw(server) as peer:
        await peer.open(behind=text_frame("a") + bad + text_frame("b") * 10_000)
        assert await peer.frame() == (TEXT, b"a", True, 0)
        assert (await peer.closed())[0] == code
        assert await peer.rest() == b""


@pytest.mark.parametrize("way", ["eof", "reset"])
@pytest.mark.parametrize("when", ["asked", "accepted", "messages wait"])
async def test_client_that_goes_away_is_1006(way: str, when: str) -> None:
    stage = Stage()
    async with live(stage) as server, raw(server) as peer:
        peer.send(handshake())
        await stage.entered()
        if when != "asked":
            await stage.accept()
            await soon(peer.reader.readuntil(b"\r\n\r\n"))
        else:
            assert (await stage.receive())["type"] == "websocket.connect"
        if when == "messages wait":
            peer.send(text_frame("a") * 10)
            assert await stage.receives(1) == ["a"]
        if way == "reset":
            peer.reset()
        else:
            peer.writer.write_eof()
        while (event := await stage.receive())["type"] == "websocket.receive":
            assert when == "messages wait"
        assert (event["code"], event["reason"]) == (1006, "")
        with pytest.raises(ClientDisconnected) as caught:
            await stage.send(text("a"))
        stage.leave(caught.value)
        await soon(server.settled())
        if way == "eof":
            assert await peer.rest() == b""


async def test_client_that_resets_while_senders_wait() -> None:
    stage = Stage()
    async with live(stage) as server, raw(server) as peer:
        peer.send(handshake())
        await stage.entered()
        await stage.accept()
        await soon(peer.reader.readuntil(b"\r\n\r\n"))
        message = {"type": "websocket.send", "bytes": bytes(20 * MIB)}
        sending = [stage.sending(message) for _ in range(3)]
        await asyncio.sleep(0)
        peer.reset()
        results = await soon(asyncio.gather(*sending, return_exceptions=True))
        assert {type(result) for result in results} <= {ClientDisconnected, type(None)}
        assert isinstance(results[-1], ClientDisconnected)
        stage.leave()


async def test_ping_flood_of_a_client_that_does_not_read() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(16 * MIB)})
        assert (await receive())["code"] == 1013

    pings = frame(PING, bytes(125)) * 100
    async with live(app, ws_send_timeout=0.3, ws_close_timeout=0.2) as server, raw(server) as peer:
        await peer.open()
        sizes = set()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                while server.connections:
                    for connection in server._server.context.connections:
                        sizes.add(connection.transport.get_write_buffer_size())
                    peer.send(pings)
                    await peer.writer.drain()
        assert max(sizes) < 16 * MIB + 200
        await soon(server.settled())


async def test_client_that_does_not_answer_the_close_is_cut_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async with live(app, ws_close_timeout=0.2) as server, raw(server) as peer:
        await peer.open()
        assert await peer.closed() == (1000, "")
        await soon(server.settled())
        with contextlib.suppress(ConnectionResetError):
            assert await peer.rest() == b""


async def test_pipelined_request_in_front_of_the_handshake() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first"})

    async with live(app) as server, raw(server) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" + handshake() + text_frame("a"))
        assert b"200 OK" in await soon(peer.reader.readuntil(b"\r\n\r\nfirst"))
        assert b" 101 " in await soon(peer.reader.readuntil(b"\r\n\r\n"))
        assert await peer.frame() == (TEXT, b"a", True, 0)
        peer.send(frames.close(1000))
        assert await peer.closed() == (1000, "")
        assert await peer.rest() == b""
