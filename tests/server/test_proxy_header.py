"""The start of a connection with the PROXY protocol, in memory."""

import asyncio
import struct
from typing import Any

import pytest

from tests.harness.app import ScriptedApp, respond_path
from tests.harness.client import GET, handshake
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_response
from tests.harness.waiting import turns
from wsgate.config import Config
from wsgate.server.connection import Connection
from wsgate.server.listener import Listener
from wsgate.server.proxy_header import AnnouncedConnection, ProxyHeaderReader
from wsgate.server.worker import Worker
from wsgate.testing import MemoryClient, connect

pytestmark = pytest.mark.usefixtures("no_task_left")

SOCKET = ("127.0.0.1", 50_000), ("127.0.0.1", 8_000)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
ENDS = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 56324, 443)
V2 = SIGNATURE + b"\x21\x11\0\x0c" + ENDS
V2_TLS = SIGNATURE + b"\x21\x11\0\x14" + ENDS + b"\x20\0\x05\x01\0\0\0\0"
LOCAL = SIGNATURE + b"\x20\0\0\0"
UNIX = SIGNATURE + b"\x21\x31\0\xd8" + b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")
ANNOUNCED = ("192.0.2.7", 56324), ("198.51.100.1", 443)
HEADERS = {
    "v1": (V1, *ANNOUNCED, "http"),
    "v1 TCP6": (b"PROXY TCP6 ::1 ::2 1 2\r\n", ("::1", 1), ("::2", 2), "http"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", *SOCKET, "http"),
    "v2": (V2, *ANNOUNCED, "http"),
    "v2 TLS": (V2_TLS, *ANNOUNCED, "https"),
    "v2 LOCAL": (LOCAL, *SOCKET, "http"),
    "v2 Unix": (UNIX, None, ("/b", None), "http"),
}


def is_waiting_for_header(client: MemoryClient) -> bool:
    return isinstance(client.transport.get_protocol(), ProxyHeaderReader)


async def check_scope(app: ScriptedApp, client: MemoryClient, *expected: Any) -> None:
    call = await app.called()
    scope = call.scope
    assert (scope["client"], scope["server"], scope["scheme"]) == expected
    await call.respond(b"fine")
    call.finish()
    assert (await read_response(client)).body == b"fine"


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("pieces", ["whole", "bytes", "header first"])
async def test_a_header_and_its_requests(name: str, pieces: str, log: LogCapture) -> None:
    header, *expected = HEADERS[name]
    app = ScriptedApp()
    async with connected(app, proxy_protocol=True) as client:
        if pieces == "whole":
            client.send(header + GET + GET)
        elif pieces == "bytes":
            for byte in header[:-1]:
                client.send(bytes([byte]))
                assert is_waiting_for_header(client)
            client.send(header[-1:])
            assert not is_waiting_for_header(client)
            for byte in GET + GET:
                client.send(bytes([byte]))
        else:
            client.send(header)
            await turns()
            client.send(GET + GET)
        for _ in range(2):
            await check_scope(app, client, *expected)
        announces = expected[0] != SOCKET[0]
        assert type(client.connection) is (AnnouncedConnection if announces else Connection)
    assert not log.problems


async def test_a_websocket_after_a_header() -> None:
    app = ScriptedApp()
    async with connected(app, proxy_protocol=True) as client:
        client.send(V2_TLS + handshake())
        call = await app.called()
        assert call.scope["scheme"] == "wss"
        assert call.scope["client"] == ANNOUNCED[0]
        client.drop()
        await turns()
        call.finish()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GET, "it does not begin with a PROXY header"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "it does not begin with a PROXY header"),
        (b"PROXY TCP4 192.0.2.7\r\n" + GET, "its line is malformed"),
        (b"PROXY " + b"x" * 200, "its line is longer than 107 bytes"),
        (SIGNATURE + b"\x21\x11\xff\xff" + ENDS, "it is longer than 4096 bytes"),
        (SIGNATURE + b"\x21\x11\0\x01" + ENDS, "its length is too short for its addresses"),
        (SIGNATURE + b"\x31\x11\0\x0c" + ENDS, "its version or command is unknown"),
        (SIGNATURE + b"\x21\x11\0\x0f" + ENDS + b"\x04\0\x01", "a TLV is longer than the header"),
    ],
)
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_bad_header_closes_the_connection_with_one_line(
    data: bytes, reason: str, is_whole: bool, log: LogCapture
) -> None:
    async with connected(respond_path, proxy_protocol=True) as client:
        for piece in [data] if is_whole else [bytes([byte]) for byte in data]:
            client.send(piece)
        assert await client.ended() == b""
        assert client.is_lost
    assert log.problems == [f"Connection from 127.0.0.1:50000 closed: {reason}"]


async def test_many_bad_headers_are_logged_once_a_second(log: LogCapture) -> None:
    async with connected(respond_path, proxy_protocol=True) as client:
        for _ in range(5):
            bad = MemoryClient(client.worker, client.clock)
            bad.send(GET)
            assert await bad.ended() == b""
        client.drop()
    assert len(log.problems) == 1


async def test_bytes_after_a_bad_header_are_not_read(log: LogCapture) -> None:
    async with connected(respond_path, proxy_protocol=True) as client:
        protocol = client.transport.get_protocol()
        client.send(GET)
        protocol.data_received(V1 + GET)  # a loop may still deliver what it has read
        assert await client.ended() == b""
        assert client.transport.get_protocol() is protocol
    assert len(log.problems) == 1


async def test_another_peer_is_closed(log: LogCapture) -> None:
    options = {"proxy_protocol": True, "proxy_allow_from": "192.0.2.0/24"}
    async with connected(respond_path, **options) as client:
        client.send(V1 + GET)
        assert await client.ended() == b""
    line = "Connection from 127.0.0.1:50000 closed: --proxy-allow-from does not list the peer"
    assert log.problems == [line]


async def test_a_connection_without_a_byte_is_not_logged(log: LogCapture) -> None:
    """A TCP check of a load balancer connects and closes."""
    async with connected(respond_path, proxy_protocol=True) as client:
        client.eof()
        client.drop()  # as the transport does after its protocol's eof_received
        assert await client.ended() == b""
    assert not log.problems


@pytest.mark.parametrize("data", [b"P", V1[:-1], V2[:-1]])
async def test_an_end_within_the_header(data: bytes, log: LogCapture) -> None:
    async with connected(respond_path, proxy_protocol=True) as client:
        client.send(data)
        client.eof()
        assert await client.ended() == b""
    assert log.problems == [
        "Connection from 127.0.0.1:50000 closed: it ended within its PROXY header"
    ]


@pytest.mark.parametrize("data", [b"", V1[:-1]])
async def test_a_late_header(data: bytes, log: LogCapture) -> None:
    options = {"proxy_protocol": True, "ws_handshake_timeout": 5}
    async with connected(respond_path, **options) as client:
        client.send(data)
        await client.advance(4)
        assert not client.is_ended
        await client.advance(2)
        assert await client.ended() == b""
    assert log.problems == [
        "Connection from 127.0.0.1:50000 closed: its PROXY header did not arrive in time"
    ]


async def test_a_check_before_the_deadline_only_says_when_to_come_again() -> None:
    async with connected(respond_path, proxy_protocol=True, ws_handshake_timeout=5) as client:
        (connection,) = client.worker.connections
        assert connection.check(client.clock.now + 4) == client.clock.now + 5
        assert not client.is_ended
        client.drop()


async def test_the_request_has_the_whole_time_after_the_header() -> None:
    options = {"proxy_protocol": True, "ws_handshake_timeout": 5}
    async with connected(respond_path, **options) as client:
        client.send(V1[:-1])
        await client.advance(4)
        client.send(V1[-1:])
        await client.advance(4)
        client.send(GET)
        assert (await read_response(client)).status == 200


async def test_a_stop_aborts_a_connection_without_a_header(log: LogCapture) -> None:
    async with connected(respond_path, proxy_protocol=True) as client:
        client.send(V1[:-1])
        client.worker.stopping = True
        (connection,) = client.worker.connections
        connection.stop()
        assert await client.ended() == b""
        late = MemoryClient(client.worker, client.clock)
        assert await late.ended() == b""
        assert client.worker.is_idle
    assert not log.problems


# -- limits ----------------------------------------------------------------------------------------


async def test_a_connection_counts_under_the_announced_address() -> None:
    options = {"proxy_protocol": True, "limit_connections_per_ip": 1}
    async with connected(respond_path, **options) as client:
        client.send(V1 + GET)
        assert (await read_response(client)).status == 200
        assert dict(client.worker.admission._per_address) == {"192.0.2.7": 1}
        second = MemoryClient(client.worker, client.clock)
        second.send(V2 + GET)
        assert (await read_response(second)).status == 503
        other = MemoryClient(client.worker, client.clock)
        other.send(V1.replace(b"192.0.2.7", b"192.0.2.8") + GET)
        assert (await read_response(other)).status == 200
        for one in (second, other):
            one.drop()
        await turns()
        assert dict(client.worker.admission._per_address) == {"192.0.2.7": 1}


async def test_a_connection_counts_in_the_total_before_its_header() -> None:
    options = {"proxy_protocol": True, "limit_connections": 1}
    async with connected(respond_path, **options) as client:
        admission = client.worker.admission
        assert (admission.total, admission.refused) == (1, 0)
        second = MemoryClient(client.worker, client.clock)
        assert (admission.total, admission.refused) == (1, 1)
        second.send(V1)  # it gets its answer after its header
        assert (await read_response(second)).status == 503
        second.drop()
        await turns()
        client.send(V1 + GET)
        assert (await read_response(client)).status == 200
        assert (admission.total, admission.refused) == (1, 0)
        client.drop()
        await turns()
        assert (admission.total, admission.refused) == (0, 0)


async def test_too_many_connections_are_aborted_without_an_answer() -> None:
    options = {"proxy_protocol": True, "limit_connections": 1}
    async with connected(respond_path, **options) as client:
        waiting = [MemoryClient(client.worker, client.clock) for _ in range(64)]
        assert not any(one.is_ended for one in waiting)
        last = MemoryClient(client.worker, client.clock)
        assert await last.ended() == b""
        for one in waiting:
            one.drop()
        await turns()
        assert client.worker.admission.refused == 0


# -- forwarded headers -----------------------------------------------------------------------------

XFF = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "allowed", "client"),
    [
        # The proxy passes on what its client sent, so only the announced address counts.
        (V1, "127.0.0.1", "192.0.2.7"),
        (V1, "127.0.0.1,192.0.2.0/24", "203.0.113.9"),
        (V1, "*", "203.0.113.9"),
        (LOCAL, "127.0.0.1", "203.0.113.9"),
        (LOCAL, "192.0.2.7", "127.0.0.1"),
    ],
)
async def test_headers_are_trusted_by_the_announced_address(
    header: bytes, allowed: str, client: str
) -> None:
    app = ScriptedApp()
    async with connect(app, proxy_protocol=True, forwarded_allow_ips=allowed) as memory:
        memory.send(header + XFF)
        call = await app.called()
        assert call.scope["client"][0] == client
        call.finish()


# -- what follows the reader -----------------------------------------------------------------------


class Next(asyncio.Protocol):
    """Any protocol that a listener makes for a connection."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append(transport)

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)


@pytest.mark.parametrize("rest", [b"", b"\x16\x03\x01"])
async def test_any_protocol_may_follow(monkeypatch: pytest.MonkeyPatch, rest: bytes) -> None:
    following, announced = Next(), []

    def protocol(_: Listener, header: Any) -> Any:
        announced.append(header)
        return following

    monkeypatch.setattr(Listener, "announced", protocol)
    worker = Worker(respond_path, Config(proxy_protocol=True))
    client = MemoryClient(worker, lambda: 0.0)  # type: ignore[arg-type]  # no clock is needed
    client.send(V2 + rest)
    assert client.transport.get_protocol() is following
    assert following.calls == [client.transport, *([rest] if rest else [])]
    assert announced[0].source == ANNOUNCED[0]
    assert not worker.connections, "the next protocol registers itself"
