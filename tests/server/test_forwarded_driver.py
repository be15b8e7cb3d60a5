"""The requests of a proxy's connection: each has its own client, scheme, host and limit."""

import asyncio
from typing import Any

import pytest

from tests import frames
from tests.harness.app import ScriptedApp, echo_request, piece, respond_path
from tests.harness.client import GET, POST, UPGRADE, handshake
from tests.harness.log import LogCapture
from tests.harness.memory import connected, read_response, requested
from tests.harness.waiting import turns
from wsgate.server.deadlines import TICK
from wsgate.server.forwarded_driver import TIME_TO_SEND, ForwardedHttp1Driver
from wsgate.server.http1_driver import Http1Driver
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left")


PROXY = ("127.0.0.1", 50_000)
SERVER = ("127.0.0.1", 8_000)
ALL = "for,proto,host,port,prefix"


def get(*headers: str, path: str = "/", host: str = "x") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def get_for(client: str) -> bytes:
    return get(f"X-Forwarded-For: {client}")


FORGED = (
    "X-Forwarded-For: 192.0.2.7",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "Forwarded: for=192.0.2.8;proto=https;host=evil.example",
)


@pytest.mark.parametrize(
    "options",
    [
        {"forwarded_allow_ips": "192.0.2.1,10.0.0.0/8"},
        {"forwarded_allow_ips": ""},
        {"forwarded_allow_ips": "*", "proxy_headers": False},
        {"forwarded_allow_ips": "*", "forwarded_values": ()},
    ],
)
async def test_headers_of_others_change_nothing(options: dict[str, Any], log: LogCapture) -> None:
    values = {"forwarded_values": ALL} | options
    async with requested(get(*FORGED), **values) as (client, _, call):
        assert type(client.connection.driver) is Http1Driver
        scope = call.scope
        assert (scope["client"], scope["server"], scope["scheme"]) == (PROXY, SERVER, "http")
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/", b"/")
        sent = [(b"host", b"x")]
        sent += [
            (n.lower().encode(), v.encode()) for n, _, v in (h.partition(": ") for h in FORGED)
        ]
        assert scope["headers"] == sent
        await call.respond()
        call.finish()
        assert log.access == ['127.0.0.1:50000 - "GET / HTTP/1.1" 200 OK']


async def test_each_request_of_a_connection_has_its_own_client(log: LogCapture) -> None:
    app = ScriptedApp()
    requests = [
        (get_for("192.0.2.1"), ("192.0.2.1", 0)),
        (get_for("192.0.2.2:80"), ("192.0.2.2", 80)),
        (get(), PROXY),
        (get_for("bad"), PROXY),
        (get_for("9.9.9.9, 192.0.2.3, 127.0.0.1"), ("192.0.2.3", 0)),
        (get('Forwarded: for="[2001:db8::1]:7"'), ("2001:db8::1", 7)),
        (get_for("unknown"), None),
        (get_for("192.0.2.1"), ("192.0.2.1", 0)),
    ]
    async with connected(app) as client:
        client.send(b"".join(data for data, _ in requests))  # pipelined
        for _, address in requests:
            call = await app.called()
            assert call.scope["client"] == address
            assert call.scope["scheme"] == "http"
            assert call.scope["server"] == SERVER
            await call.respond()
            call.finish()
            await read_response(client)
        assert type(client.connection.driver) is ForwardedHttp1Driver
        assert client.connection.peer.client == PROXY
    clients = [line.partition(" - ")[0] for line in log.access]
    assert clients == [
        *("192.0.2.1:0", "192.0.2.2:80", "127.0.0.1:50000", "127.0.0.1:50000", "192.0.2.3:0"),
        *("[2001:db8::1]:7", "", "192.0.2.1:0"),
    ]


async def test_the_scope_has_the_url_of_the_browser() -> None:
    headers = (
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: example.com",
        "X-Forwarded-Port: 8443",
        "X-Forwarded-Prefix: /app/",
    )
    data = get(*headers, path="/a%20b?c", host="inner")
    async with requested(data, forwarded_values=ALL, root_path="/own") as (_, _, call):
        scope = call.scope
        assert scope["scheme"] == "https"
        assert scope["headers"][0] == (b"host", b"example.com:8443")
        assert scope["headers"][2] == (b"x-forwarded-host", b"example.com")
        assert (scope["root_path"], scope["path"]) == ("/app", "/app/a b")
        assert (scope["raw_path"], scope["query_string"]) == (b"/app/a%20b", b"c")
        assert scope["server"] == SERVER, "the address that it listens on"
        await call.respond()
        call.finish()


async def test_the_own_root_path_holds_without_a_prefix() -> None:
    for prefix, root_path in (("bad", "/own"), ("/", "")):
        data = get(f"X-Forwarded-Prefix: {prefix}")
        async with requested(data, forwarded_values=ALL, root_path="/own") as (_, _, call):
            assert call.scope["root_path"] == root_path
            await call.respond()
            call.finish()


async def test_a_host_is_added_to_a_request_without_one() -> None:
    data = b"GET / HTTP/1.0\r\nX-Forwarded-Host: example.com\r\n\r\n"
    async with requested(data, forwarded_values=ALL) as (_, _, call):
        assert call.scope["headers"][0] == (b"host", b"example.com")
        await call.respond()
        call.finish()


async def test_a_replaced_host_is_not_kept_for_the_next_request() -> None:
    """Heads are cached, and their headers must not change with a request."""
    app = ScriptedApp()
    async with connected(app, forwarded_values=ALL) as client:
        for _ in range(2):
            for headers, host in (
                (["X-Forwarded-Host: a.example"], b"a.example"),
                (["Forwarded: host=b.example"], b"b.example"),
                (["Forwarded: host=c.example"], b"c.example"),
                ([], b"x"),
            ):
                client.send(get(*headers))
                call = await app.called()
                assert dict(call.scope["headers"])[b"host"] == host
                await call.respond()
                call.finish()
                await read_response(client)


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ("X-Forwarded-Proto: https", "wss"),
        ("X-Forwarded-Proto: wss", "wss"),
        ("X-Forwarded-Proto: http", "ws"),
        ("Forwarded: proto=https", "wss"),
    ],
)
async def test_a_websocket_has_the_client_of_its_handshake(
    header: str, scheme: str, log: LogCapture
) -> None:
    client_header = header if "=" not in header else f"{header};for=192.0.2.7"
    data = handshake(client_header, *(["X-Forwarded-For: 192.0.2.7"] if "=" not in header else []))
    async with requested(data) as (client, _, call):
        assert call.scope["scheme"] == scheme
        assert call.scope["client"] == ("192.0.2.7", 0)
        await call.accept()
        await client.until(b"\r\n\r\n")
        client.send(frames.frame(frames.TEXT, "a"))
        assert await call.receive_payloads(1) == ["a"]
        client.drop()
        await turns()
        call.finish()
    assert log.access[0] == '192.0.2.7:0 - "WebSocket /" [accepted]'
    assert log.access[1].startswith('192.0.2.7:0 - "WebSocket /" [closed] 1006')


async def test_a_failed_body_is_logged_for_the_client(log: LogCapture) -> None:
    head = (
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 192.0.2.7\r\n"
    )
    async with requested(f"{head}\r\nzz".encode() + b"\r\n") as (client, _, call):
        assert await call.receive() == {"type": "http.disconnect"}
        call.finish()
        assert (await read_response(client)).status == 400
        client.drop()
    line = log.warnings[0]
    assert line.startswith("192.0.2.7:0 - Invalid HTTP request received: 400 ")


# -- limits ----------------------------------------------------------------------------------------


async def test_the_connections_of_a_proxy_do_not_count_for_its_address() -> None:
    async with connected(echo_request, limit_connections_per_ip=1) as client:
        others = [MemoryClient(client.worker, client.clock) for _ in range(3)]
        for number, other in enumerate((client, *others)):
            other.send(get_for(f"192.0.2.{number}"))
            assert (await read_response(other)).status == 200
        for other in others:
            other.drop()
        await turns()
        assert not client.worker.admission._per_address


async def test_the_connection_of_a_proxy_counts_in_the_total() -> None:
    async with connected(echo_request, limit_connections=1) as client:
        other = MemoryClient(client.worker, client.clock)
        assert (await read_response(other)).status == 503
        other.drop()


async def test_a_request_above_the_limit_of_its_client_disturbs_nothing(log: LogCapture) -> None:
    app = ScriptedApp()
    async with connected(app, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        other.send(get_for("192.0.2.7"))
        running = await app.called()
        # On the shared connection: refused, served for another client, refused with its body.
        body = POST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n") % 5
        client.send(get_for("192.0.2.7") + get_for("192.0.2.8") + body + b"hello" + get())
        refused = await read_response(client)
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"5")
        assert refused.body == b"503 Service Unavailable: the server is at its limit\n"
        assert b"connection" not in refused.headers
        for status in (200, 503, 200):
            if status == 200:
                call = await app.called()
                await call.respond(b"fine")
                call.finish()
            assert (await read_response(client)).status == status
        assert app.calls.empty()
        await running.respond(b"fine")
        running.finish()
        assert (await read_response(other)).body == b"fine"
        await turns()
        client.send(get_for("192.0.2.7"))
        await (call := await app.called()).respond()
        call.finish()
        assert (await read_response(client)).status == 200, "there is room again"
        await turns()
        assert not client.worker.admission._per_address
        assert not client.is_ended
        other.drop()
    assert log.access[0] == '192.0.2.7:0 - "GET / HTTP/1.1" 503 Service Unavailable'
    assert log.warnings == ["A proxy's client is at --limit-connections-per-ip: answering with 503"]


async def test_a_refused_request_whose_body_arrives_later() -> None:
    app = ScriptedApp()
    post = POST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n") % 5
    async with connected(app, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        other.send(get_for("192.0.2.7"))
        running = await app.called()
        client.send(post + b"hel")
        assert (await read_response(client)).status == 503
        client.send(b"lo" + get_for("192.0.2.8"))
        await (call := await app.called()).respond()
        call.finish()
        assert (await read_response(client)).status == 200
        client.send(post)
        assert (await read_response(client)).status == 503
        await client.advance(11)  # the body does not arrive
        assert await client.ended() == b""
        running.finish()
        other.drop()


@pytest.mark.parametrize("is_handshake", [False, True])
async def test_without_headers_a_trusted_address_is_a_client_like_any_other(
    log: LogCapture, is_handshake: bool
) -> None:
    async with connected(echo_request, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        client.send(get())
        assert (await read_response(client)).status == 200
        other.send(handshake() if is_handshake else get())
        assert (await read_response(other)).status == 503
        assert await other.ended() == b""
        client.send(get())
        assert (await read_response(client)).status == 200
        other.drop()
    assert log.warnings == ["A limit of connections is reached: answering with 503"]
    line = '127.0.0.1:50000 - "WebSocket /" 503' if is_handshake else '"GET / HTTP/1.1" 503'
    assert sum(line in one for one in log.access) == 1


@pytest.mark.parametrize("sent", [b"", b"G"])
async def test_a_connection_that_is_one_too_many_has_a_second(log: LogCapture, sent: bytes) -> None:
    async with connected(echo_request, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        other.send(sent)
        assert not other.received
        await client.advance(TIME_TO_SEND + TICK)
        assert (await read_response(other)).status == 503
        assert not client.is_ended
        other.drop()
    assert log.warnings == ["A limit of connections is reached: answering with 503"]


async def test_a_connection_stays_a_proxys_and_leaves_its_address() -> None:
    async with connected(echo_request, limit_connections_per_ip=1) as client:
        client.send(get_for("192.0.2.7") + get())
        for _ in range(2):
            assert (await read_response(client)).status == 200
        other = MemoryClient(client.worker, client.clock)
        await client.advance(2 * TIME_TO_SEND)
        other.send(get())
        assert (await read_response(other)).status == 200, "the address has room again"
        other.drop()
        await turns()
        assert not client.worker.admission._per_address


async def test_websockets_count_for_their_clients_until_their_calls_end(log: LogCapture) -> None:
    app = ScriptedApp()
    async with connected(app, limit_connections_per_ip=2) as client:
        wires = [MemoryClient(client.worker, client.clock) for _ in range(4)]
        for wire, address in zip(wires, ("2001:db8::1", "2001:db8::2", "::1"), strict=False):
            wire.send(handshake(f"X-Forwarded-For: {address}"))
        calls = [await app.called() for _ in range(3)]
        wires[3].send(handshake("X-Forwarded-For: 2001:db8::3"))  # the same /64 network
        assert (await read_response(wires[3])).status == 503
        client.send(get_for("2001:db8::4"))
        assert (await read_response(client)).status == 503
        await calls[0].accept()
        wires[0].drop()
        await turns()
        client.send(get_for("2001:db8::4"))
        assert (await read_response(client)).status == 503, "the call still runs"
        calls[0].finish()
        await turns()
        client.send(get_for("2001:db8::4"))
        await (call := await app.called()).respond()
        call.finish()
        assert (await read_response(client)).status == 200
        for call, wire in zip(calls[1:], wires[1:], strict=False):
            call.finish()
            wire.drop()
        wires[3].drop()
        await turns()
        assert not client.worker.admission._per_address
    reason = "503 Service Unavailable (the server is at its limit)"
    assert f'[2001:db8::3]:0 - "WebSocket /" {reason}' in log.access


async def test_what_is_refused_for_another_reason_does_not_stay_counted() -> None:
    app = ScriptedApp()
    options = {"limit_connections_per_ip": 5, "limit_concurrency": 1}
    async with connected(app, **options) as client:
        others = [MemoryClient(client.worker, client.clock) for _ in range(3)]
        client.send(get_for("192.0.2.1"))
        call = await app.called()
        others[0].send(get_for("192.0.2.2"))
        others[1].send(handshake("X-Forwarded-For: 192.0.2.2"))
        others[2].send(UPGRADE.replace(b"13\r\n", b"12\r\nX-Forwarded-For: 192.0.2.2\r\n"))
        for other in others:
            assert (await read_response(other)).status == 503
            other.drop()
        await turns()
        assert dict(client.worker.admission._per_address) == {"192.0.2.1": 1}
        await call.respond()
        call.finish()
        await turns()
        bad = MemoryClient(client.worker, client.clock)
        bad.send(UPGRADE.replace(b"13\r\n", b"12\r\nX-Forwarded-For: 192.0.2.2\r\n"))
        assert (await read_response(bad)).status == 426
        bad.drop()
        await turns()
        assert not client.worker.admission._per_address


@pytest.mark.parametrize("ending", ["error", "lost", "cancelled", "answered"])
async def test_a_request_is_counted_once_however_it_ends(ending: str) -> None:
    app = ScriptedApp()
    async with connected(app, limit_connections_per_ip=1) as client:
        client.send(get_for("192.0.2.7"))
        call = await app.called()
        counts = client.worker.admission._per_address
        assert dict(counts) == {"192.0.2.7": 1}
        if ending == "error":
            call.finish(ValueError("of the app"))
        elif ending == "cancelled":
            for task in client.worker.tasks:
                task.cancel()
        elif ending == "lost":
            client.drop()
            await turns()
            assert dict(counts) == {"192.0.2.7": 1}
            call.finish()
        else:
            await call.respond()
            await turns()
            assert dict(counts) == {"192.0.2.7": 1}, "the call still runs"
            call.finish()
        await turns()
        assert not counts
        client.drop()


async def test_pipelined_requests_of_a_client_at_its_limit() -> None:
    """The second begins in the loop iteration in which the first ends."""
    async with connected(respond_path, limit_connections_per_ip=1) as client:
        client.send(get_for("192.0.2.7") * 3 + GET)
        for _ in range(4):
            assert (await read_response(client)).status == 200


async def test_a_hidden_client_has_no_limit() -> None:
    app = ScriptedApp()
    async with connected(app, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        for wire in (client, other):
            wire.send(get_for("unknown"))
        calls = [await app.called() for _ in range(2)]
        for call in calls:
            await call.send({"type": "http.response.start", "status": 200})
            await call.send(piece(b"", more=False))
            call.finish()
        other.drop()


async def test_a_stop_closes_the_connection_after_a_refusal() -> None:
    app = ScriptedApp()
    async with connected(app, limit_connections_per_ip=1) as client:
        other = MemoryClient(client.worker, client.clock)
        other.send(get_for("192.0.2.7"))
        running = await app.called()
        client.send(get_for("192.0.2.7"))
        client.worker.stopping = True
        assert (await read_response(client)).status == 503
        client.connection.stop()
        await asyncio.sleep(0)
        assert await client.ended() == b""
        running.finish()
        other.drop()
        client.drop()
