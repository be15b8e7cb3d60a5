"""HTTP and a WebSocket over a wire that is no TCP connection: the drivers reach nothing past it."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests import frames
from tests.frames import CLOSE, PING, PONG, TEXT, ServerFrame
from tests.harness.waiting import until
from wsgate.asgi.scope import Peer
from wsgate.config import Config
from wsgate.observe.causes import Cause
from wsgate.server.backpressure import Gate
from wsgate.server.http1_driver import Http1Driver
from wsgate.server.open_file import OpenFile
from wsgate.server.wire import Driver, Wire
from wsgate.server.worker import Worker

CLIENT = ("192.0.2.7", 40_000)
SERVER = ("192.0.2.1", 443)
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Stream:
    """A wire in memory, without a transport: it has what `Wire` names, and nothing else."""

    driver: Driver

    def __init__(self) -> None:
        self.connection_id = "7-abcd-1"
        self.end_error: Exception | None = None
        self.peer = Peer(CLIENT, SERVER, "https", {"tls_version": 0x0304})
        self.gate = Gate()
        self.has_eof = False
        self.is_lost = False
        self.paused_since: float | None = None
        self.is_flushed = True
        self.read_deadline = math.inf
        self.written = bytearray()
        self.calls: list[str] = []
        self.check_time = math.inf

    def hand_to(self, driver: Driver) -> None:
        self.driver = driver

    def write(self, data: bytes) -> None:
        self.written += data

    def write_at_once(self, data: bytes) -> bool:
        self.write(data)
        return True

    async def send_file(self, file: OpenFile) -> None:
        while file.left:
            self.write(await file.read(65_536))

    def share(self) -> None:
        raise NotImplementedError  # no proxy is trusted here

    def check_at(self, when: float) -> None:
        self.check_time = min(self.check_time, when)

    def pause_reading(self) -> None:
        self.paused_since = 0.0

    def resume_reading(self) -> None:
        self.paused_since = None

    def close(self) -> None:
        self.calls.append("close")

    def close_finished(self) -> None:
        self.calls.append("close_finished")

    def close_promptly(self) -> None:
        self.calls.append("close_promptly")

    def abort(self) -> None:
        self.calls.append("abort")

    # -- what the test does ------------------------------------------------------------------------

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    async def frame(self) -> ServerFrame:
        await until(lambda: self.written)
        (frame,) = frames.parsed(self.take())
        return frame


class App:
    """Echoes, and keeps the scope and what `receive` returned at the end."""

    scope: Any
    end: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            if scope["path"] != "/":
                await send({"type": "http.response.pathsend", "path": scope["path"]})
                return
            await send({"type": "http.response.body", "body": b"hello"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.end = message


@pytest.fixture
def app() -> App:
    return App()


@pytest_asyncio.fixture
async def worker(app: App) -> AsyncIterator[Worker]:
    worker = Worker(app, Config(date_header=False, server_header=False), lambda: 1_000.0)
    yield worker
    async with asyncio.timeout(10):
        while worker.tasks:
            await asyncio.wait(worker.tasks)
            await asyncio.sleep(0)


def begin(worker: Worker) -> Stream:
    """Return a stream that speaks HTTP."""
    stream = Stream()
    wire: Wire = stream
    driver = Http1Driver(worker, wire)
    wire.hand_to(driver)
    driver.start()
    return stream


async def open_websocket(worker: Worker) -> Stream:
    stream = begin(worker)
    stream.driver.data(HANDSHAKE)
    await until(lambda: stream.written)
    assert stream.take().startswith(b"HTTP/1.1 101 ")
    return stream


async def test_a_request_is_answered(worker: Worker, app: App) -> None:
    stream = begin(worker)
    stream.driver.data(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await until(lambda: not worker.tasks)
    assert stream.take() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    assert stream.calls == []
    assert (app.scope["client"], app.scope["server"]) == (CLIENT, SERVER)


async def test_a_file_is_sent(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * 200_000)
    stream = begin(worker)
    stream.driver.data(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    await until(lambda: not worker.tasks)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n"
    assert stream.take() == head + b"x" * 200_000


async def test_a_websocket_echoes(worker: Worker, app: App) -> None:
    stream = await open_websocket(worker)
    assert (app.scope["scheme"], app.scope["client"]) == ("wss", CLIENT)
    assert app.scope["extensions"]["tls"] == {"tls_version": 0x0304}
    for text in ("a", "b" * 70_000, "gr\u00fc\u00df"):
        stream.driver.data(frames.frame(TEXT, text))
        assert await stream.frame() == ServerFrame(TEXT, text.encode())
    stream.driver.data(frames.frame(PING, b"p"))
    assert await stream.frame() == ServerFrame(PONG, b"p")
    stream.driver.data(frames.close(1000))
    assert await stream.frame() == ServerFrame(CLOSE, b"\x03\xe8")
    assert stream.calls == ["close_finished"]


async def test_fragments_and_pipelined_messages_pass(worker: Worker) -> None:
    stream = await open_websocket(worker)
    stream.driver.data(b"".join(frames.fragments(TEXT, [b"on", b"e"])) + frames.frame(TEXT, "two"))
    await until(lambda: len(stream.written) >= 10)
    assert [frame.payload for frame in frames.parsed(stream.take())] == [b"one", b"two"]
    stream.driver.data(frames.close(1000))


async def test_a_shut_gate_makes_the_app_wait(worker: Worker) -> None:
    stream = await open_websocket(worker)
    stream.gate.shut(1_000.0)
    stream.driver.data(frames.frame(TEXT, "later"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stream.written
    stream.gate.open()
    stream.driver.writable()
    assert (await stream.frame()).payload == b"later"
    stream.driver.data(frames.close(1000))


async def test_a_full_queue_pauses_reading(app: App) -> None:
    worker = Worker(app, Config(ws_max_queue=2), lambda: 1_000.0)
    stream = await open_websocket(worker)
    stream.gate.shut(1_000.0)  # so the app waits in its first send
    for text in ("a", "b", "c", "d"):
        stream.driver.data(frames.frame(TEXT, text))
        await asyncio.sleep(0)
    assert stream.paused_since is not None
    stream.gate.open()
    stream.driver.writable()
    await until(lambda: stream.paused_since is None and len(stream.written) >= 12)
    stream.driver.data(frames.close(1000))
    await asyncio.wait(worker.tasks)


async def test_draining_closes_with_1012(worker: Worker, app: App) -> None:
    stream = await open_websocket(worker)
    (websocket,) = worker.websockets.values()
    websocket.drain()
    assert (await stream.frame()).payload[:2] == (1012).to_bytes(2, "big")
    stream.driver.data(frames.close(1012))
    assert stream.calls == ["close_finished"]
    await until(lambda: app.end is not None)
    assert app.end["code"] == 1012


async def test_a_lost_wire_disconnects_the_app(worker: Worker, app: App) -> None:
    stream = await open_websocket(worker)
    stream.is_lost = True
    stream.driver.lost()
    await until(lambda: app.end is not None)
    assert app.end == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_a_client_that_does_not_answer_our_close_is_aborted(worker: Worker) -> None:
    stream = await open_websocket(worker)
    (websocket,) = worker.websockets.values()
    websocket.close(1000, "", Cause.OPERATOR)
    assert stream.check_time < math.inf
    assert stream.driver.check(stream.check_time + 1_000) == math.inf
    assert stream.calls == ["abort"]
    stream.is_lost = True
    stream.driver.lost()
