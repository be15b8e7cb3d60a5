"""WebSockets on a live server: the `websockets` client, and clients that break the protocol."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests import frames
from tests.apps.echo import app as echo
from tests.frames import PING, PONG, TEXT, frame
from tests.harness import loops
from tests.harness.app import ScriptedApp, text
from tests.harness.client import close_code, handshake, text_frame
from tests.harness.log import capture_log
from tests.harness.tcp import connect_tcp
from tests.harness.waiting import PATIENCE, soon
from wsgate.config import Config
from wsgate.errors import ClientDisconnected
from wsgate.process.server import Server
from wsgate.server.connection import Connection
from wsgate.testing import LiveServer, serve
from wsgate.types import App

LOOPS = loops.LOOPS
MIB = 1 << 20


@contextlib.asynccontextmanager
async def live(app: App, **options: Any) -> AsyncIterator[LiveServer]:
    """Serve; check that no task is left at the end, and that no warning or error was logged."""
    tasks = asyncio.all_tasks()
    with capture_log() as log:
        async with serve(app, **{"lifespan": "off", **options}) as server:
            yield server
            await soon(server.settled())
        assert not log.problems
    assert asyncio.all_tasks() == tasks


@contextlib.asynccontextmanager
async def client(server: LiveServer, path: str = "/", **options: Any) -> AsyncIterator[Any]:
    """Connect a `websockets` client."""
    async with connect(server.ws_url + path, proxy=None, max_size=None, **options) as ws:
        yield ws


async def closing(ws: ClientConnection) -> tuple[int, str]:
    """Return the code and the reason of the server's Close."""
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
    for number, message in enumerate(messages):
        await ws.send(message)
        if number % 50 == 0:  # `send` alone would block the loop until all are sent
            await asyncio.sleep(0)


async def test_fragmented_message() -> None:
    async def pieces() -> AsyncIterator[str]:
        for _ in range(50):
            yield "ab" * 500

    async with live(echo) as server, client(server) as ws:
        await ws.send(pieces())
        assert await soon(ws.recv()) == "ab" * 25_000


async def test_pings_are_answered_while_the_app_is_busy() -> None:
    app = ScriptedApp()
    async with live(app) as server:
        opening = asyncio.ensure_future(connect(server.ws_url, proxy=None).__aenter__())
        call = await app.called()
        await call.accept()
        ws = await soon(opening)
        await soon(await ws.ping())
        call.finish()
        await soon(ws.wait_closed())
        assert ws.close_code == 1000


async def test_server_pings_a_client_that_stops_answering() -> None:
    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1, "ws_close_timeout": 0.1}
    async with live(echo, **options) as server, connect_tcp(server.port) as peer:
        await peer.open()
        assert await peer.read_frame() == (PING, b"", True, 0)
        peer.send(frame(PONG))
        while (last := await peer.read_frame()).opcode == PING:
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
    events = asyncio.Queue[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/server":
            await send({"type": "websocket.close", "code": 4001, "reason": "mine"})
        events.put_nowait(await receive())

    async with live(app) as server:
        async with client(server, "/client") as ws:
            await ws.close(4002, "yours")
        event = await soon(events.get())
        assert (event["code"], event["reason"]) == (4002, "yours")
        async with client(server, "/server") as ws:
            assert await closing(ws) == (4001, "mine")
        event = await soon(events.get())
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
    app = ScriptedApp()
    path = str(tmp_path / "s")
    server = Server(app, Config(uds=path, lifespan="off"))
    await server.start()
    opening = asyncio.ensure_future(unix_connect(path).__aenter__())
    call = await app.called()
    await call.accept()
    ws = await soon(opening)
    assert (call.scope["client"], call.scope["server"]) == (None, (path, None))
    call.finish()
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
    app = ScriptedApp()
    async with live(app) as server, connect_tcp(server.port) as peer:
        peer.send(handshake())
        call = await app.called()
        await call.accept()
        await peer.read_until(b"\r\n\r\n")
        size, sent = 100_000, 0
        while True:  # until the kernel's buffers and ours are full
            sending = call.start_send({"type": "websocket.send", "bytes": bytes(size)})
            sent += 1
            done, _ = await asyncio.wait([sending], timeout=0.2)
            if not done:
                break
        await peer.read_exactly(sent * (size + 10))
        await soon(sending)
        call.finish()
        assert await peer.read_close() == (1000, "")
        peer.send(frames.close(1000))
        assert await peer.read_rest() == b""


async def test_reading_stops_while_the_app_does_not_receive() -> None:
    app = ScriptedApp()
    message = frame(frames.BINARY, bytes(100_000))
    async with (
        live(app, ws_max_queue_size=500_000) as server,
        connect_tcp(server.port) as peer,
    ):
        peer.send(handshake())
        call = await app.called()
        await call.accept()
        await peer.read_until(b"\r\n\r\n")
        count = 0
        with contextlib.suppress(TimeoutError):
            while True:
                peer.send(message)
                count += 1
                async with asyncio.timeout(0.2):
                    await peer.writer.drain()
        assert len(await call.receive_payloads(count)) == count
        await peer.drain()
        call.finish()
        assert await peer.read_close() == (1000, "")


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
    async with live(app, **options) as server, connect_tcp(server.port) as peer:
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
    async with live(echo) as server, connect_tcp(server.port) as peer:
        peer.send(request_ + text_frame("a") * 10_000)
        assert (await peer.read_rest()).startswith(b"HTTP/1.1 %d " % status)


async def test_frames_after_the_handshake() -> None:
    async with live(echo) as server, connect_tcp(server.port) as peer:
        await peer.open(rest=text_frame("a") + text_frame("b"))
        assert [(await peer.read_frame()).payload for _ in "ab"] == [b"a", b"b"]
        peer.send(frames.close(1000))
        assert await peer.read_close() == (1000, "")


async def test_many_bytes_before_accept() -> None:
    app = ScriptedApp()
    count = 3_000
    async with live(app) as server, connect_tcp(server.port) as peer:
        peer.send(handshake() + text_frame("a" * 100) * count)
        call = await app.called()
        await call.accept()
        got = 0
        while got < count:
            assert (await call.receive())["text"] == "a" * 100
            got += 1
        call.finish()
        await peer.read_until(b"\r\n\r\n")
        assert await peer.read_close() == (1000, "")


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
    async with live(echo) as server, connect_tcp(server.port) as peer:
        await peer.open(rest=text_frame("a") + bad + text_frame("b") * 10_000)
        assert await peer.read_frame() == (TEXT, b"a", True, 0)
        assert (await peer.read_close())[0] == code
        assert await peer.read_rest() == b""


@pytest.mark.parametrize("way", ["eof", "reset"])
@pytest.mark.parametrize("when", ["asked", "accepted", "messages wait"])
async def test_client_that_disconnects_is_1006(way: str, when: str) -> None:
    app = ScriptedApp()
    async with live(app) as server, connect_tcp(server.port) as peer:
        peer.send(handshake())
        call = await app.called()
        if when != "asked":
            await call.accept()
            await peer.read_until(b"\r\n\r\n")
        else:
            assert (await call.receive())["type"] == "websocket.connect"
        if when == "messages wait":
            peer.send(text_frame("a") * 10)
            assert await call.receive_payloads(1) == ["a"]
        if way == "reset":
            peer.reset()
        else:
            peer.send_eof()
        while (event := await call.receive())["type"] == "websocket.receive":
            assert when == "messages wait"
        assert (event["code"], event["reason"]) == (1006, "")
        with pytest.raises(ClientDisconnected) as caught:
            await call.send(text("a"))
        call.finish(caught.value)
        await soon(server.settled())
        if way == "eof":
            assert await peer.read_rest() == b""


async def test_client_that_resets_while_senders_wait() -> None:
    app = ScriptedApp()
    async with live(app) as server, connect_tcp(server.port) as peer:
        peer.send(handshake())
        call = await app.called()
        await call.accept()
        await peer.read_until(b"\r\n\r\n")
        message = {"type": "websocket.send", "bytes": bytes(20 * MIB)}
        sending = [call.start_send(message) for _ in range(3)]
        await asyncio.sleep(0)
        peer.reset()
        results = await soon(asyncio.gather(*sending, return_exceptions=True))
        assert {type(result) for result in results} <= {ClientDisconnected, type(None)}
        assert isinstance(results[-1], ClientDisconnected)
        call.finish()


async def test_ping_flood_of_a_client_that_does_not_read() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(16 * MIB)})
        assert (await receive())["code"] == 1013

    pings = frame(PING, bytes(125)) * 100
    async with (
        live(app, ws_send_timeout=0.3, ws_close_timeout=0.2) as server,
        connect_tcp(server.port) as peer,
    ):
        await peer.open()
        sizes = set()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                while server.connections:
                    for connection in server._server.worker.connections:
                        assert isinstance(connection, Connection)
                        sizes.add(connection.transport.get_write_buffer_size())
                    peer.send(pings)
                    await peer.writer.drain()
        assert max(sizes) < 16 * MIB + 200
        await soon(server.settled())


async def test_client_that_does_not_answer_the_close_is_aborted() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async with (
        live(app, ws_close_timeout=0.2) as server,
        connect_tcp(server.port) as peer,
    ):
        await peer.open()
        assert await peer.read_close() == (1000, "")
        await soon(server.settled())
        with contextlib.suppress(ConnectionResetError):
            assert await peer.read_rest() == b""


async def test_pipelined_request_before_the_handshake() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"first"})

    async with live(app) as server, connect_tcp(server.port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" + handshake() + text_frame("a"))
        assert b"200 OK" in await peer.read_until(b"\r\n\r\nfirst")
        assert b" 101 " in await peer.read_until(b"\r\n\r\n")
        assert await peer.read_frame() == (TEXT, b"a", True, 0)
        peer.send(frames.close(1000))
        assert await peer.read_close() == (1000, "")
        assert await peer.read_rest() == b""
