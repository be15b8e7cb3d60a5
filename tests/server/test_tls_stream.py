"""TLS on a connection in memory: the handshake, both directions, every way to end."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests import frames
from tests.harness.app import AppCall, ScriptedApp, echo_request, piece
from tests.harness.client import GET, handshake, text_frame
from tests.harness.log import LogCapture
from tests.harness.tls import Files, TlsClient, load
from tests.harness.waiting import soon, turns, until
from wsgate.config import Config
from wsgate.observe.throttled_log import throttled
from wsgate.server.connection import Connection
from wsgate.server.deadlines import LINGER, TICK
from wsgate.server.fast_path import NONE
from wsgate.server.listener import Listener
from wsgate.server.tls_stream import MAX_REPLIES, READ_AT_ONCE, TlsStream
from wsgate.server.worker import Worker
from wsgate.testing import MemoryClient, connect
from wsgate.tls.session import TlsSession


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="module")
def certificate(files: Files) -> dict[str, Any]:
    return files.issue("server")


class Secure:
    """A client that speaks TLS, and its end of the connection in memory."""

    def __init__(self, client: MemoryClient, tls: TlsClient) -> None:
        self.client = client
        self.tls = tls

    @property
    def received(self) -> bytearray:
        """All plaintext so far."""
        return self.tls.received

    def pump(self) -> None:
        """Process what the server has sent."""
        data, self.client.received = bytes(self.client.received), bytearray()
        if data:
            self.tls.receive(data)

    async def shake(self, *, step: int | None = None) -> None:
        """Complete the handshake. step: send so many bytes at a time."""
        while data := self.tls.output():
            for start in range(0, len(data), step or len(data)):
                self.client.send(data[start : start + (step or len(data))])
            await turns()
            self.pump()
        assert self.tls.is_open

    def send(self, data: bytes) -> None:
        self.client.send(self.tls.write(data))

    async def until(self, wanted: bytes) -> bytes:
        """Return the plaintext up to the end of `wanted`, and remove it."""

        def arrived() -> bool:
            self.pump()
            return wanted in self.received

        await until(arrived)
        end = self.received.index(wanted) + len(wanted)
        data = bytes(self.received[:end])
        del self.received[:end]
        return data

    async def closed(self) -> None:
        """Wait for the server's close_notify."""

        def is_closed() -> bool:
            self.pump()
            return self.tls.is_ended

        await until(is_closed)


@pytest.fixture
async def app() -> ScriptedApp:
    return ScriptedApp()


@contextlib.asynccontextmanager
async def secure(
    files: Files, app: Any, certificate: dict[str, Any], **options: Any
) -> AsyncIterator[Secure]:
    """Connect, without a handshake; check that nothing is left at the end."""
    async with asyncio.timeout(60), connect(app, **certificate, **options) as client:
        yield Secure(client, TlsClient(files.client_context()))
    assert not client.worker.connections
    assert not client.worker.tasks


@contextlib.asynccontextmanager
async def called(
    files: Files, app: ScriptedApp, certificate: dict[str, Any], request: bytes = GET
) -> AsyncIterator[tuple[Secure, AppCall]]:
    """Send a request over TLS, and wait for the app's call."""
    async with secure(files, app, certificate) as peer:
        await peer.shake()
        peer.send(request)
        yield peer, await app.called()


# -- a request -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, 1])
async def test_a_request(
    files: Files, certificate: dict[str, Any], app: ScriptedApp, step: int | None
) -> None:
    async with secure(files, app, certificate) as peer:
        await peer.shake(step=step)
        data = peer.tls.write(GET)
        for start in range(0, len(data), step or len(data)):
            peer.client.send(data[start : start + (step or len(data))])
        call = await app.called()
        assert call.scope["scheme"] == "https"
        tls = call.scope["extensions"]["tls"]
        assert (tls["tls_version"], tls["client_cert_name"]) == (0x0304, None)
        assert tls["server_cert"] == load(**certificate).default.pem
        await call.respond(b"hello")
        assert (await peer.until(b"hello")).startswith(b"HTTP/1.1 200 OK")
        call.finish()


async def test_a_request_in_one_piece_with_the_end_of_the_handshake(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with secure(files, app, certificate) as peer:
        peer.client.send(peer.tls.output())
        await turns()
        peer.pump()
        assert peer.tls.is_open
        peer.client.send(peer.tls.output() + peer.tls.write(GET) + peer.tls.close())
        call = await app.called()
        assert "tls" in call.scope["extensions"]
        await call.respond(b"answer")
        await peer.until(b"answer")  # RFC 8446 section 6.1: only its half is closed
        await peer.closed()
        call.finish()


async def test_the_scheme_of_a_websocket(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with called(files, app, certificate, handshake()) as (peer, call):
        assert call.scope["scheme"] == "wss"
        await call.accept()
        await peer.until(b"\r\n\r\n")
        peer.send(text_frame("hi"))
        assert (await call.receive())["text"] == "hi"
        await call.send({"type": "websocket.send", "text": "ho"})
        await peer.until(b"\x81\x02ho")
        peer.send(frames.frame(frames.CLOSE, b"\x03\xe8"))
        assert (await call.receive())["code"] == 1000
        await peer.closed()
        call.finish()


async def test_a_large_response_is_flushed_as_the_client_reads(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with called(files, app, certificate) as (peer, call):
        peer.client.stall()
        body = bytes(range(256)) * 4096
        await call.send({"type": "http.response.start", "status": 200})
        sending = call.start_send(piece(body, more=False))
        await turns()
        assert not sending.done()
        connection = peer.client.connection
        assert connection.gate.is_shut
        assert not connection.is_flushed
        peer.client.read_on()
        await soon(sending)
        await peer.until(body)
        call.finish()


async def test_a_client_that_does_not_read_is_dropped(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with called(files, app, certificate) as (peer, call):
        peer.client.stall()
        await call.send({"type": "http.response.start", "status": 200})
        sending = call.start_send(piece(b"x" * 1_000_000))
        await turns()
        await peer.client.advance(61)
        assert peer.client.is_lost
        await soon(asyncio.wait([sending]))
        assert sending.exception() is None or isinstance(sending.exception(), OSError)
        call.finish()


async def test_nothing_can_bypass_the_encryption(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with called(files, app, certificate) as (peer, call):
        connection = peer.client.connection
        peer.client.transport._extra["socket"] = object()  # type: ignore[attr-defined]
        assert peer.client.transport.get_extra_info("socket") is not None
        assert isinstance(connection.transport, TlsStream)
        assert connection.transport.get_extra_info("socket") is None
        assert connection.transport.get_extra_info("socket", 1) == 1
        assert connection.find_descriptor() == NONE
        await call.send({"type": "http.response.start", "status": 200})
        for n in range(4):  # from the second write on, a connection is asked for its descriptor
            await call.send(piece(b"secret %d" % n))
            await turns()
        assert connection.fd == NONE
        assert b"secret" not in peer.client.received
        await peer.until(b"secret 3")
        call.finish()


# -- large reads -----------------------------------------------------------------------------------


async def test_one_client_does_not_keep_the_loop_from_the_others(
    files: Files, certificate: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = TlsSession.receive

    def receive(self: Any, data: bytes) -> bytes:
        sizes.append(len(data))
        return original(self, data)

    async with secure(files, echo_request, certificate) as peer:
        await peer.shake()
        monkeypatch.setattr(TlsSession, "receive", receive)
        body = bytes(range(256)) * 1024
        peer.client.send(
            peer.tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            + b"".join(peer.tls.write(body[i : i + 999]) for i in range(0, len(body), 999))
        )
        assert len(sizes) == 1
        assert peer.client.transport.is_paused
        await peer.until(body)
        assert max(sizes) == READ_AT_ONCE
        assert len(sizes) > 4
        assert not peer.client.transport.is_paused


def unread_of(stream: TlsStream) -> int:
    return len(stream._unread or b"")


async def test_a_pause_holds_for_what_was_read_but_not_decrypted(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
    async with called(files, app, certificate, request) as (peer, call):
        peer.send(b"x" * 400_000)
        await turns(50)
        connection = peer.client.connection
        assert connection.paused_since is not None  # the app does not receive
        stream = connection.transport
        assert isinstance(stream, TlsStream)
        left = unread_of(stream)
        assert left > 0
        await turns(50)
        assert unread_of(stream) == left
        got = 0
        while got < 400_000:
            got += len((await call.receive())["body"])
        assert unread_of(stream) == 0
        await call.respond(b"done")
        await peer.until(b"done")
        call.finish()


async def test_a_connection_ends_amid_a_large_read(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
    async with called(files, app, certificate, request) as (peer, call):
        peer.send(b"x" * 400_000)
        peer.client.drop()
        await turns()
        assert (await call.receive())["type"] in {"http.request", "http.disconnect"}
        call.finish()


# -- before the handshake is complete --------------------------------------------------------------


async def test_a_slow_handshake_is_ended(files: Files, certificate: dict[str, Any]) -> None:
    async with secure(files, echo_request, certificate) as peer:
        hello = peer.tls.output()
        for byte in hello[:9]:
            await peer.client.advance(1)
            peer.client.send(bytes((byte,)))
        assert not peer.client.is_ended
        await peer.client.advance(2)
        assert await peer.client.ended() == b""
        peer.client.send(hello[9:])  # it is not answered any more
        await peer.client.advance(3)
        assert peer.client.is_lost
        assert not peer.client.received


async def test_a_silent_client_has_no_session(files: Files, certificate: dict[str, Any]) -> None:
    async with secure(files, echo_request, certificate) as peer:
        stream = peer.client.connection.transport
        assert isinstance(stream, TlsStream)
        assert stream._session is None
        await peer.client.advance(11)
        assert await peer.client.ended() == b""


async def test_a_client_leaves_in_the_handshake(
    files: Files, certificate: dict[str, Any], log: LogCapture
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        peer.client.send(peer.tls.output()[:100])
        peer.client.eof()
        await until(lambda: peer.client.is_lost)
    assert not log.problems


async def test_a_stop_ends_a_handshake_that_takes_long(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        peer.client.send(peer.tls.output()[:100])
        peer.client.worker.stopping = True
        peer.client.connection.stop()
        await turns()
        assert not peer.client.is_ended
        await peer.client.advance(LINGER + TICK)
        assert await peer.client.ended() == b""


async def test_a_request_that_follows_a_handshake_is_answered_during_a_stop(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        peer.client.worker.stopping = True
        peer.client.connection.stop()
        peer.client.send(peer.tls.output())
        await turns()
        peer.pump()
        finished = peer.tls.output()
        peer.client.send(finished + peer.tls.write(GET))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await peer.closed()


async def test_a_stop_closes_a_connection_without_a_request_after_the_handshake(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        peer.client.worker.stopping = True
        peer.client.connection.stop()
        await peer.shake()
        await peer.closed()


async def test_a_refused_client_gets_its_503_after_the_handshake(
    files: Files, certificate: dict[str, Any]
) -> None:
    worker = Worker(echo_request, Config(limit_connections=1, **certificate))
    assert worker.certificates is not None
    worker.certificates.load()
    worker.admission.enter(None)  # the only one that is admitted
    client = MemoryClient(worker, None)  # type: ignore[arg-type]  # no clock is turned here
    peer = Secure(client, TlsClient(files.client_context()))
    assert not client.is_ended
    assert client.connection.transport.get_write_buffer_size() > 0
    await peer.shake()
    assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
    await peer.closed()
    client.send(peer.tls.close())
    client.eof()
    await until(lambda: not worker.connections)


async def test_a_client_that_is_not_admitted_and_speaks_plain_http(
    files: Files, certificate: dict[str, Any]
) -> None:
    worker = Worker(echo_request, Config(limit_connections=1, **certificate))
    assert worker.certificates is not None
    worker.certificates.load()
    worker.admission.enter(None)
    client = MemoryClient(worker, None)  # type: ignore[arg-type]  # no clock is turned here
    client.send(GET)
    assert (await client.ended()).startswith(b"HTTP/1.1 400")
    client.eof()
    await until(lambda: not worker.connections)


# -- what is not TLS -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [None, 1])
async def test_plain_http_gets_a_400(
    files: Files, certificate: dict[str, Any], log: LogCapture, step: int | None
) -> None:
    throttled.forget()
    for method in (b"GET", b"POST", b"OPTIONS", b"BREW"):
        async with secure(files, echo_request, certificate) as peer:
            data = GET.replace(b"GET", method)
            for start in range(0, len(data), step or len(data)):
                peer.client.send(data[start : start + (step or len(data))])
            answer = await peer.client.ended()
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"use https:// or wss://" in answer
            peer.client.send(b"more")
            peer.client.eof()
            await until(lambda: peer.client.is_lost)
    line = "127.0.0.1:50000 - HTTP request on a TLS port: answering with 400"
    assert log.warnings == [line]
    assert not log.errors


async def test_garbage_ends_the_connection(
    files: Files, certificate: dict[str, Any], log: LogCapture
) -> None:
    throttled.forget()
    for data in (b"\x00" * 99, b"\xff\n", b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff" * 9):
        async with secure(files, echo_request, certificate) as peer:
            peer.client.send(data)
            await peer.client.advance(11)  # the second is an incomplete record
            answer = await peer.client.ended()
            assert answer[:1] in {b"", b"\x15"}
            peer.client.send(data)
            await peer.client.advance(3)
            assert peer.client.is_lost
    (line,) = [m for m in log.messages(logging.INFO) if "TLS" in m]
    assert line.startswith("127.0.0.1:50000 - TLS handshake failed: ")
    assert not log.problems


async def test_a_client_that_leaves_after_much_garbage_is_noticed_at_once(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        peer.client.send(b"\x00" * 3 * READ_AT_ONCE)
        await peer.client.ended()
        peer.client.eof()
        await until(lambda: peer.client.is_lost)


async def test_a_failed_handshake_sends_its_alert(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate, ssl_min_version="TLSv1.3") as peer:
        context = files.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        old = TlsClient(context)
        peer.client.send(old.output())
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            old.receive(await peer.client.ended())


async def test_a_bad_record_ends_the_connection(
    files: Files, certificate: dict[str, Any], app: ScriptedApp, log: LogCapture
) -> None:
    async with called(files, app, certificate) as (peer, call):
        record = bytearray(peer.tls.write(b"x"))
        record[-1] ^= 1
        peer.client.send(bytes(record))
        await until(lambda: peer.client.is_lost)
        assert peer.client.received[:1] == b"\x17"  # an encrypted alert
        await call.receive()
        assert (await call.receive())["type"] == "http.disconnect"
        call.finish()
        await turns()
    assert not log.problems


# -- the end ---------------------------------------------------------------------------------------


async def test_the_absence_of_close_notify_is_forgiven(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    async with called(files, app, certificate) as (peer, call):
        peer.client.eof()
        await call.respond(b"answer")
        await peer.until(b"answer")
        await peer.closed()
        await until(lambda: peer.client.is_lost)
        call.finish()


async def test_both_ends_of_the_peer_are_reported_once(
    files: Files,
    certificate: dict[str, Any],
    app: ScriptedApp,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[Connection] = []

    def end(connection: Connection) -> None:
        ends.append(connection)

    monkeypatch.setattr(Connection, "eof_received", end)
    async with called(files, app, certificate) as (peer, call):
        peer.client.send(peer.tls.close())
        peer.client.eof()
        await turns()
        assert ends == [peer.client.connection]
        call.finish()


async def test_an_idle_connection_is_closed_with_close_notify(
    files: Files, certificate: dict[str, Any]
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        await peer.shake()
        peer.send(GET)
        await peer.until(b"GET / ")
        await peer.client.advance(6)  # --timeout-keep-alive
        await peer.closed()
        assert peer.client.is_ended
        peer.send(b"discarded")
        peer.client.send(peer.tls.close())
        await until(lambda: peer.client.is_lost)


async def test_a_lost_connection_leaves_no_cycle(files: Files, certificate: dict[str, Any]) -> None:
    async with secure(files, echo_request, certificate) as peer:
        await peer.shake()
        stream = peer.client.transport.get_protocol()
        assert isinstance(stream, TlsStream)
        peer.client.drop()
        await turns()
        assert not hasattr(stream, "_connection")
        assert stream._session is None
        stream.data_received(b"late")
        stream._read_on()


async def test_replies_of_the_session_are_bounded(
    files: Files, certificate: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secure(files, echo_request, certificate) as peer:
        await peer.shake()
        stream = peer.client.transport.get_protocol()
        assert isinstance(stream, TlsStream)
        monkeypatch.setattr(TlsSession, "has_output", True)
        monkeypatch.setattr(TlsSession, "take_output", lambda _: b"reply" * 200)
        for _ in range(100):  # it reads them
            peer.send(b"x")
        assert not peer.client.is_lost
        peer.client.stall()
        for _ in range(MAX_REPLIES // 1000):
            peer.send(b"x")
        await turns()
        assert not peer.client.is_lost
        peer.send(b"x")
        await until(lambda: peer.client.is_lost)


# -- started by another protocol -------------------------------------------------------------------


async def test_it_can_take_over_a_transport(
    files: Files, certificate: dict[str, Any], app: ScriptedApp
) -> None:
    """What reads the PROXY header does this: set_protocol, connection_made, data_received."""
    async with secure(files, app, certificate) as peer:
        client = peer.client
        transport = client.transport
        client.connection.connection_lost(None)
        stream = Listener(client.worker, None).protocol()
        assert isinstance(stream, TlsStream)
        transport.set_protocol(stream)
        stream.connection_made(transport)
        stream.data_received(b"")  # nothing came after the header yet
        stream.data_received(peer.tls.output())
        await turns()
        peer.pump()
        await peer.shake()
        peer.send(GET)
        call = await app.called()
        await call.respond(b"hello")
        await peer.until(b"hello")
        call.finish()


def test_a_listener_without_certificates_has_no_tls() -> None:
    assert isinstance(Listener(Worker(echo_request, Config()), None).protocol(), Connection)
