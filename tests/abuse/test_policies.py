"""Each limit of the command line in a real process: violations are refused, others are served."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.harness import Target
from tests.frames import TEXT, Deflater, Inflater, frame
from tests.harness.client import close_code, handshake, text_frame
from tests.harness.processes import running
from tests.harness.tcp import PATIENCE, TcpClient

APP = "tests.apps.abuse_app:app"
EARLY, LATE = 0.25, 3.0  # seconds by which a deadline may be off: a tick; a loaded machine
pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def serving(*options: str) -> AsyncIterator[Target]:
    """Run a server with some options; check at the end that it has released everything."""
    async with running(APP, *options) as process:
        target = Target(process, "auto")
        await target.settled()
        yield target
        await target.check_released()


async def refused(target: Target, *headers: str) -> int:
    """Send a handshake that is refused; return the status; check that the connection ends."""
    async with target.connect() as client:
        response = await client.ask(handshake(*headers))
        assert response.status != 101
        assert await client.read_rest_or_reset() == b""
        return response.status


# -- admission -------------------------------------------------------------------------------------


async def test_origins() -> None:
    origins = "https://a.example, https://*.b.example:8443, none"
    async with serving("--ws-origins", origins) as target:
        for origin in (
            "https://a.example",
            "https://x.b.example:8443",
            "https://x.y.b.example:8443",
        ):
            async with target.opened(f"Origin: {origin}") as client:
                await client.echoes()
        async with target.opened() as client:
            await client.echoes()
        for origin in (
            "http://a.example",
            "https://a.example.evil.org",
            "https://b.example:8443",
            "https://x.b.example",
            "null",
        ):
            assert await refused(target, f"Origin: {origin}") == 403
        assert (
            await refused(target, "Origin: https://a.example", "Origin: https://a.example") == 403
        )


async def test_origins_without_none() -> None:
    async with running(APP, "--ws-origins", "https://a.example") as process:
        target = Target(process, "auto")
        assert await refused(target) == 403
        async with target.opened("Origin: https://a.example") as client:
            await client.echoes()


@pytest.mark.parametrize("option", ["--limit-connections", "--limit-connections-per-ip"])
async def test_number_of_connections(option: str) -> None:
    async with serving(option, "3") as target, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            client = await stack.enter_async_context(target.opened())
        for _ in range(5):
            assert await refused(target) == 503
        await client.echoes()
        await target.process.logged("limit of connections is reached")
        lines = [line for line in target.process.log if "limit of connections is reached" in line]
        assert 1 <= len(lines) <= 5
        await stack.aclose()


# -- timeouts --------------------------------------------------------------------------------------


async def test_handshake_timeout(measured: Measured) -> None:
    async with serving("--ws-handshake-timeout", "1") as target:
        began = time.monotonic()
        async with target.connect() as silent, target.connect() as slow:
            slow.send(handshake()[:-2])
            async with target.connect() as client:
                # The app never accepts.
                response = await client.ask(handshake(target="/slow"))
                assert response.status == 503
            assert (await slow.response()).status == 408
            assert await silent.read_rest_or_reset() == b""
            took = time.monotonic() - began
        measured("no head, half a head, an app that never accepts", "1 s", f"{took:.2f} s")
        assert 1 <= took < 1 + LATE
        await target.process.logged(r'"WebSocket /slow" 503')


async def closed_after(client: TcpClient, began: float, code: int, reason: str) -> float:
    assert await client.read_close() == (code, reason)
    took = time.monotonic() - began
    client.send(frames.close(code))
    assert await client.read_rest_or_reset() == b""
    return took


async def test_idle_timeout(measured: Measured) -> None:
    async with serving("--ws-idle-timeout", "1") as target, target.opened() as client:
        await client.echoes()
        took = await closed_after(client, time.monotonic(), 1001, "idle timeout")
        measured("an idle client", "1001 after 1 s", f"{took:.2f} s")
        assert 1 - EARLY <= took < 1 + LATE


async def test_max_lifetime(measured: Measured) -> None:
    async with serving("--ws-max-lifetime", "1") as target:
        began = time.monotonic()
        async with target.opened() as client:
            client.send(text_frame("busy") * 10)
            assert [await client.read_text() for _ in range(10)] == ["busy"] * 10
            took = await closed_after(client, began, 1012, "lifetime reached")
        measured("a client that never leaves", "1012 after 0.9 to 1.1 s", f"{took:.2f} s")
        assert 0.9 <= took < 1.1 + LATE


async def test_a_client_that_does_not_answer_the_close(measured: Measured) -> None:
    async with (
        serving("--ws-close-timeout", "1") as target,
        target.opened(target="/return/accepted") as client,
    ):
        assert await client.read_close() == (1000, "")
        began = time.monotonic()
        await client.read_rest_or_reset()
        took = time.monotonic() - began
        measured("a client that does not answer the Close", "aborted after 1 s", f"{took:.2f} s")
        assert 1 - EARLY <= took < 1 + LATE


async def test_a_client_that_does_not_read(measured: Measured) -> None:
    options = ("--ws-send-timeout", "1", "--ws-close-timeout", "1")
    async with serving(*options) as target, target.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport
        client.send(handshake(target="/push"))
        await target.process.logged(r'"WebSocket /push" \[accepted\]')
        began = time.monotonic()
        line = await target.process.logged(r"/push.* \[closed\] 1013 slow consumer after (\S+) s")
        took = time.monotonic() - began
        measured("a client that does not read", "1013, aborted after 1 + 1 s", f"{took:.2f} s")
        assert 2 - 2 * EARLY <= took < 2 + LATE, line
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.read_rest_or_reset()


async def test_a_client_that_reads_late_receives_the_close() -> None:
    options = ("--ws-send-timeout", "1", "--ws-close-timeout", "20")
    async with serving(*options) as target, target.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(handshake(target="/push"))
        await target.process.logged(r'"WebSocket /push" \[accepted\]')
        deadline = time.monotonic() + PATIENCE
        while (
            await target.stats()
        ).tasks > target._tasks:  # until the app has received its disconnect
            assert time.monotonic() < deadline
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.read_until(b"\r\n\r\n")
        while (found := await client.read_frame()).opcode != frames.CLOSE:
            assert found.payload == b"x" * 10_000, "a message is incomplete"
        assert close_code(found) == (1013, "slow consumer")


# -- rates and sizes -------------------------------------------------------------------------------


async def test_message_rate() -> None:
    options = ("--ws-max-message-rate", "0.001", "--ws-max-message-burst", "5")
    async with serving(*options) as target, target.opened() as client:
        for number in range(5):
            await client.echoes(str(number))
        client.send(text_frame("one too many"))
        assert await client.read_close() == (1008, "message rate exceeded")
        async with target.opened() as other:
            await other.echoes()


@pytest.mark.parametrize("name", ["--limit-request-head", "--h11-max-incomplete-event-size"])
async def test_head_size(name: str) -> None:
    room = 600 - len(handshake("X: "))
    async with serving(name, "600") as target:
        async with target.opened("X: " + "y" * room) as client:
            await client.echoes()
        assert await refused(target, "X: y" + "y" * room) == 431


async def test_number_of_fragments() -> None:
    async with serving("--ws-max-fragments", "10") as target, target.opened() as client:
        client.send(b"".join(frames.fragments(TEXT, [b"x"] * 10)))
        assert await client.read_text() == "x" * 10
        client.send(b"".join(frames.fragments(TEXT, [b"x"] * 11)))
        assert (await client.read_close())[0] == 1009


# -- compression -----------------------------------------------------------------------------------

MESSAGES = [f"{number} " + "a message that compresses well; " * 100 for number in range(5)]


async def negotiated(target: Target, **offer: int | bool | None) -> PerMessageDeflate:
    """Echo messages with an offer of the `websockets` client; return the negotiated extension."""
    offers = [ClientPerMessageDeflateFactory(**offer)]  # type: ignore[arg-type]
    async with ws_connect(
        target.process.ws_url, proxy=None, compression=None, extensions=offers
    ) as ws:
        for message in MESSAGES:
            await ws.send(message)
            async with asyncio.timeout(PATIENCE):
                assert await ws.recv() == message
        (extension,) = ws.protocol.extensions
        assert isinstance(extension, PerMessageDeflate)
        return extension


async def test_no_context_takeover_by_default() -> None:
    async with serving() as target:
        extension = await negotiated(target)
        assert extension.local_no_context_takeover
        assert extension.remote_no_context_takeover


async def test_context_takeover_in_both_directions() -> None:
    async with serving("--ws-deflate-context-takeover", "true") as target:
        extension = await negotiated(target)
        assert not extension.local_no_context_takeover
        assert not extension.remote_no_context_takeover
        async with target.connect() as client:
            await client.open("Sec-WebSocket-Extensions: permessage-deflate")
            message = (
                random.Random(1).randbytes(2_000).hex()
            )  # compressible only with the window of the previous message
            deflater, inflater, sizes = Deflater(keep=True), Inflater(keep=True), []
            for _ in range(3):
                payload = deflater.whole(message.encode())
                client.send(frame(TEXT, payload, rsv=frames.RSV1))
                found = await client.read_frame()
                assert found.rsv == frames.RSV1
                assert inflater.whole(found.payload).decode() == message
                sizes.append((len(payload), len(found.payload)))
        # From the second time on, the window contains the message.
        assert all(mine < sizes[0][0] / 2 and ours < sizes[0][1] / 2 for mine, ours in sizes[1:])


@pytest.mark.parametrize("offer", ["client_no_context_takeover", "server_no_context_takeover"])
async def test_a_client_may_disable_context_takeover(offer: str) -> None:
    async with serving("--ws-deflate-context-takeover", "true") as target:
        extension = await negotiated(target, **{offer: True})
        assert extension.local_no_context_takeover is offer.startswith("client")
        assert extension.remote_no_context_takeover is offer.startswith("server")


async def test_a_client_may_limit_the_window_sizes() -> None:
    far_apart = MESSAGES[0] + "".join(chr(0x4E00 + at % 8_000) for at in range(4_000)) + MESSAGES[0]
    async with serving() as target:
        extension = await negotiated(target, server_max_window_bits=9, client_max_window_bits=9)
        assert (extension.remote_max_window_bits, extension.local_max_window_bits) == (9, 9)
        async with target.connect() as client:
            offer = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9"
            response = await client.open(f"Sec-WebSocket-Extensions: {offer}")
            answer = response.get("sec-websocket-extensions") or ""
            assert "server_max_window_bits=9" in answer
            client.send(frame(TEXT, far_apart))
            found = await client.read_frame()
            # zlib refuses a distance larger than the window of the inflater.
            assert found.rsv == frames.RSV1
            assert Inflater(bits=9).whole(found.payload).decode() == far_apart


async def test_window_bits_option() -> None:
    async with serving("--ws-deflate-window-bits", "10") as target:
        extension = await negotiated(target, client_max_window_bits=True)
        assert extension.remote_max_window_bits == 10
        assert extension.local_max_window_bits == 10


async def test_compression_threshold() -> None:
    async with serving("--ws-deflate-threshold", "100") as target, target.connect() as client:
        await client.open("Sec-WebSocket-Extensions: permessage-deflate")
        for size, rsv in ((99, 0), (100, frames.RSV1)):
            client.send(text_frame("x" * size))
            assert (await client.read_frame()).rsv == rsv


async def test_no_compression() -> None:
    async with serving("--ws-per-message-deflate", "false") as target, target.connect() as client:
        response = await client.open("Sec-WebSocket-Extensions: permessage-deflate")
        assert response.get("sec-websocket-extensions") is None
        await client.echoes("x" * 5_000)
