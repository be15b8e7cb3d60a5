"""No request makes the server import a module or open a file for the first time.

Without a free file descriptor that would fail, and the first client to need it would get an error.
"""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import pytest

from tests import frames
from tests.abuse.harness import Target
from tests.apps.audited import ERRORS
from tests.frames import BINARY, PING, PONG, TEXT, Deflater, fragments, frame
from tests.harness.client import DEFLATE, handshake, text_frame
from tests.harness.processes import running
from tests.harness.tcp import TcpClient
from tests.harness.waiting import pause, soon

APP = "tests.apps.audited:app"
# Timeouts that are short enough for each of them to expire in a test.
OPTIONS = (
    *("--timeout-keep-alive", "0.3", "--timeout-request-body", "0.5", "--ws-send-timeout", "1"),
    *("--ws-handshake-timeout", "0.8", "--ws-ping-interval", "0.3", "--ws-ping-timeout", "0.3"),
    *("--ws-close-timeout", "0.3", "--timeout-graceful-shutdown", "1"),
    *("--ws-max-size", "100000", "--ws-max-message-rate", "1000", "--ws-origins", "https://a,none"),
)


@contextlib.asynccontextmanager
async def audited(loop: str, parsers: tuple[str, str], *options: str) -> AsyncIterator[Target]:
    """Run a server; fail if its process imports or opens anything after its start."""
    http, codec_switch = parsers
    async with running(APP, "--loop", loop, "--http", http, codec_switch, *options) as process:
        yield Target(process, loop)
        process.signal()
        assert await process.ended() == 0
    violations = audit(process.log)
    assert not violations, "\n".join(violations)


def audit(log: list[str]) -> list[str]:
    return [line for line in log if line.startswith("AUDIT")]


PARSERS = {"fast": ("fast", "--ws-fast-path"), "reference": ("h11", "--no-ws-fast-path")}


@pytest.fixture(params=PARSERS)
def parsers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the value of --http and the switch for the WebSocket codec: both fast, or neither."""
    return PARSERS[request.param]


async def exchange(target: Target, request: bytes) -> bytes:
    """Send bytes; return all that the server sends until it closes the connection."""
    async with target.connect() as client:
        client.send(request)
        return await client.read_rest_or_reset()


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def test_audit_notices_an_import(loop_name: str) -> None:
    async with running(APP, "--loop", loop_name) as process:
        target = Target(process, loop_name)
        assert audit(process.log) == []
        assert (await exchange(target, get("/import", "Connection: close"))).startswith(
            b"HTTP/1.1 200"
        )
        await process.logged("AUDIT import 'this'")
        await process.logged("AUDIT open '.*/this.*'")


async def test_http_imports_and_opens_nothing(loop_name: str, parsers: tuple[str, str]) -> None:
    async with audited(loop_name, parsers, *OPTIONS) as target:
        await asyncio.gather(*(exchange(target, request) for request in (*REQUESTS, *SLOW)))
        async with target.connect() as client:  # pipelined, and then idle until the server closes
            client.send(get("/a") + get("/b?x=%0d%0a%e9\\") + get("/c", method="HEAD") + get("/d"))
            for _ in range(3):
                assert (await client.response()).status == 200
            await client.read_rest_or_reset()
        await leave_mid_stream(target)
        lines = await flushed_log(target)
    for error in ("NameError", "ExceptionGroup", "RecursionError", "SyntaxError", "ImportError"):
        assert any(error in line for line in lines), error


async def flushed_log(target: Target) -> list[str]:
    """Return the log up to and with a line that is written now."""
    await exchange(target, get("/the-last-line", "Connection: close"))
    await target.process.logged("/the-last-line")
    return target.process.log


async def leave_mid_stream(target: Target) -> None:
    for leave in (TcpClient.send_eof, TcpClient.reset):
        async with target.connect() as client:
            client.send(get("/endless"))
            await client.read_until(b"xxxx\r\n")
            leave(client)
    async with target.connect() as client:  # it reads nothing
        client.send(get("/echo", "Content-Length: 8000000", method="POST") + bytes(8_000_000))
        await soon(client.reader.readexactly(1))
        client.reset()


async def test_websockets_import_and_open_nothing(loop_name: str, parsers: tuple[str, str]) -> None:
    async with audited(loop_name, parsers, *OPTIONS) as target:
        opened = [handshake(*extensions) for extensions in ((), (DEFLATE,))]
        requests = [head + data + frames.close(1000) for head in opened for data in FRAMES]
        requests += HANDSHAKES
        requests += [handshake(target=path) + text_frame("a") for path in PATHS]
        await asyncio.gather(*(exchange(target, request) for request in requests))
        async with target.opened(DEFLATE) as client:
            for payload in (b"compressed " * 200, "nicht übel".encode()):
                client.send(frame(TEXT, Deflater().whole(payload), rsv=frames.RSV1))
                assert (await client.read_frame()).opcode == TEXT
            client.reset()
        async with target.opened(target="/push"):  # it reads nothing
            await target.process.logged(r'"WebSocket /push" \[closed\] 1013')
        await flushed_log(target)


async def test_limits_import_and_open_nothing(loop_name: str, parsers: tuple[str, str]) -> None:
    options = ("--limit-connections", "3", "--limit-concurrency", "2")
    async with audited(loop_name, parsers, *options) as target:
        async with target.opened(), target.opened():
            assert b" 503 " in await exchange(target, get("/"))
            assert b" 503 " in await exchange(target, handshake())
            async with target.connect(), target.connect() as one_too_many:
                assert b" 503 " in await one_too_many.read_rest_or_reset()
        await target.process.logged("A limit of connections is reached")


async def test_stop_imports_and_opens_nothing(loop_name: str, parsers: tuple[str, str]) -> None:
    async with (
        contextlib.AsyncExitStack() as held,
        audited(loop_name, parsers, *OPTIONS) as target,
    ):
        for path in ("/", "/push", "/stubborn", "/quiet"):
            await held.enter_async_context(target.opened(target=path))
        for request in (get("/endless"), get("/echo", "Content-Length: 5", method="POST"), b"GET "):
            client = await held.enter_async_context(target.connect())
            client.send(request)


BODY = b"Content-Length: 5\r\n\r\nhello"
CHUNKED = b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
CLOSE = "Connection: close"
REQUESTS = [
    get("/", CLOSE),
    get("/", version="1.0"),
    get("/%e9?\xe9", CLOSE),
    get("/stats", CLOSE),
    get("/nothing", CLOSE),
    get("/half", CLOSE),
    get("/wrong", CLOSE),
    get("/header/0a", CLOSE),
    get("/header/61", CLOSE, "X-A: b", "Cookie: c", "Accept: */*", "X-Latin: \xe9"),
    *(get(f"/raise/{name}") for name in ERRORS),
    get("/", CLOSE, method="HEAD"),
    get("/", CLOSE, method="OPTIONS"),
    get("*", CLOSE, method="OPTIONS"),
    get("http://a/absolute", CLOSE),
    get("/echo", CLOSE, "Content-Length: 5", method="POST") + b"hello",
    get("/echo", CLOSE, "Transfer-Encoding: chunked", method="POST") + CHUNKED,
    get("/echo", CLOSE, "Expect: 100-continue", "Content-Length: 5", method="POST") + b"hello",
    get("/", "Content-Length: 5", method="POST") + b"hello",
    # Requests that are refused:
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"G\xe9T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\x00\x1b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\r\n\r\n\r\n\r\n",
    get("/" + "x" * 9_000),
    get("/", "X: " + "y" * 70_000),
    get("/", *(f"X-{number}: y" for number in range(200))),
    get("/", "X y: z"),
    get("/", "X: \x00"),
    get("/", "Host: b"),
    get("/", "Host: \xe9"),
    get("/", "Content-Length: 1, 2"),
    get("/", "Content-Length: 5", "Transfer-Encoding: chunked"),
    get("/", "Transfer-Encoding: gzip, chunked", method="POST"),
    get("/", "Expect: something", method="POST"),
    get("/echo", "Transfer-Encoding: chunked", method="POST") + b"zz\r\nhello\r\n",
    get("/echo", "Transfer-Encoding: chunked", method="POST") + b"5;x=\x00\r\nhello\r\n",
    get("/echo", "Transfer-Encoding: chunked", method="POST") + b"0\r\nA b: c\r\n\r\n",
]
SLOW = [
    b"",
    b"GET / HT",
    get("/echo", "Content-Length: 5", method="POST") + b"hel",
    get("/", "Transfer-Encoding: chunked", method="POST"),
]
HANDSHAKES = [
    handshake(without="Sec-WebSocket-Key"),
    handshake(without="Sec-WebSocket-Version"),
    handshake("Sec-WebSocket-Version: 8"),
    handshake(method="POST"),
    handshake("Origin: https://evil.example"),
    handshake("Origin: \x00"),
    handshake("Sec-WebSocket-Protocol: a, b"),
    handshake("Sec-WebSocket-Protocol: a b,,"),
    handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99, x"),
    handshake("Sec-WebSocket-Extensions: ;;"),
    handshake("Content-Length: 5") + b"hello",
    handshake(target="/%0d%0a\xe9"),
]
STAGES = ("called", "connected", "accepted", "received", "sent", "closed")
PATHS = [f"/{end}/{stage}" for end in ("raise", "return") for stage in STAGES]
PATHS += ["/early", "/twice", "/late", "/slow", "/deny", "/header/0a", "/hold", "/", "/quiet"]
FRAMES = [
    b"",
    text_frame("a"),
    text_frame("é\u2028日本") * 20,
    text_frame("x" * 70_000),
    frame(BINARY, bytes(300)) + frame(PING, b"p") + frame(PONG),
    b"".join(fragments(TEXT, [b"a", "é".encode()[:1], "é".encode()[1:]])),
    fragments(BINARY, [b"a", b"b"])[0] + frame(PING) + fragments(BINARY, [b"a", b"b"])[1],
    frame(TEXT, Deflater().whole(b"deflated" * 50), rsv=frames.RSV1),
    b"".join(fragments(TEXT, Deflater().pieces(b"de", b"flated"), rsv=frames.RSV1)),
    frame(TEXT, Deflater().whole(bytes(200_000)), rsv=frames.RSV1),
    frame(TEXT, b"\xff\xff not deflate", rsv=frames.RSV1),
    frame(TEXT, b"\xed\xa0\x80"),
    frame(TEXT, b"a", mask=None),
    frame(3, b"a"),
    frame(TEXT, b"a", rsv=frames.RSV2),
    frame(PING, b"a", fin=False),
    frame(TEXT, b"x" * 200_000),
    frames.close(),
    frames.close(4000, "bye \r\n\x1b ü\u2028😀"),
    frames.close(1005),
    frames.close(1000, b"\xff"),
    frame(frames.CLOSE, b"a"),
    text_frame("flood") * 3_000,
]


# -- without a free descriptor ---------------------------------------------------------------------


async def test_first_requests_without_a_free_file_descriptor(
    loop_name: str, parsers: tuple[str, str]
) -> None:
    """Serve and log although no descriptor is free after the connections were accepted."""
    http, codec_switch = parsers
    async with running(APP, "--loop", loop_name, "--http", http, codec_switch) as process:
        target = Target(process, loop_name)
        async with contextlib.AsyncExitStack() as stack:
            before = len(target.files())
            clients = [await stack.enter_async_context(target.connect()) for _ in range(4)]
            while len(target.files()) < before + len(clients):  # until all are accepted
                await pause(0.01)
            # Open descriptors stay open, but nothing can be opened.
            limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            first, failing, refused, websocket = clients
            assert (await first.ask(get("/%e9?\\", CLOSE))).status == 200
            assert (await failing.ask(get("/raise/name"))).status == 500
            assert (await refused.ask(b"GET / HTTP/9\r\n\r\n")).status == 400
            await websocket.open(DEFLATE)
            await websocket.echoes()
            websocket.send(frames.close(4000, "bye \r\n\x1b ü\u2028😀"))
            assert await websocket.read_close_code() == 4000
        await process.logged(r'"GET /%e9\?\\\\ HTTP/1.1" 200 OK')
        await process.logged(r"NameError: name 'recieve' is not defined")
        await process.logged("Invalid HTTP request received: 400")
        await process.logged(r"\[closed\] 4000 bye \\r\\n\\x1b \\xfc\\u2028\\U0001f600 after")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        process.signal()
        assert await process.ended() == 0
    assert sum("Traceback" in line for line in process.log) == 1, process.log
