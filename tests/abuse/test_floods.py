"""Floods: of Pings, of tiny frames, of reconnects, and of connections over the limits.

The floods are sent by threads, in chunks of bytes made before, so that what is measured is the
server and not its client.
"""

import asyncio
import contextlib
import socket
import time

import pytest

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.flow import WINDOW, Socket, connecting, opened, percentile, serving, told
from tests.abuse.harness import Target
from tests.harness.client import handshake, text_frame
from tests.harness.tcp import PATIENCE, TcpClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "tests.apps.abuse_flow:app"
OPTIONS = ("--no-access-log", "--ws-ping-interval", "0")
MIB = 2**20

PINGS = 100_000
BATCHES, FRAMES = 50, 20_000
GOOD = 10  # clients, while others flood
PROMPT = 0.25  # seconds, for 99 of 100 of their echoes
WARM_UP, ROUNDS, RECONNECTS, THREADS = 2, 20, 1_000, 4
FLOOD = 500  # connections over a limit


@pytest.fixture(scope="module")
def loop_name() -> str:
    """Flood the loop that is used by default: floods take long."""
    return "uvloop"


async def test_a_hundred_thousand_pings_from_a_client_that_reads_no_pong(
    server: Target, measured: Measured
) -> None:
    flood = b"".join(frames.frame(frames.PING, f"{number:0125}") for number in range(PINGS))
    async with opened(server, "/", window=WINDOW) as client:
        before = server.watch_memory()
        await client.send(flood)
        await client.send(text_frame("behind them all"))
        await server.echo()
        # Now it reads: Pongs in order, none of them twice, some left out, but never the last.
        last = pongs = 0
        while last < PINGS - 1:
            number = int((await client.read_until(frames.PONG)).payload)
            assert number >= last
            last = number
            pongs += 1
        grown = server.memory().peak - before
        echo = await client.read_until(frames.TEXT)
    assert echo.payload == b"behind them all"
    assert pongs < PINGS
    assert grown < 2 * MIB
    measured(
        f"{PINGS} Pings of 125 bytes, no Pong read",
        "memory grows by less than 2 MiB; the last is answered",
        f"{grown / 1024:.0f} KiB; {pongs} Pongs",
    )


async def _echoes(client: TcpClient, enough: asyncio.Event) -> list[float]:
    """Measure round trips until it is enough, and at least a hundred."""
    times: list[float] = []
    while not enough.is_set() or len(times) < 100:
        began = time.monotonic()
        await client.echoes()
        times.append(time.monotonic() - began)
    return times


async def _round_trips(clients: list[TcpClient], enough: asyncio.Event) -> list[float]:
    found = await asyncio.gather(*(_echoes(client, enough) for client in clients))
    return [took for times in found for took in times]


async def test_a_million_two_byte_messages_leave_the_others_their_pace(
    server: Target, measured: Measured
) -> None:
    flood = frames.frame(frames.BINARY, b"xy") * FRAMES
    enough = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        good = [await stack.enter_async_context(server.opened()) for _ in range(GOOD)]
        calm = asyncio.create_task(_round_trips(good, enough))
        await server.echo()
        enough.set()
        unhurt = percentile(await calm, 0.99)
        enough.clear()
        before = server.watch_memory()
        trips = asyncio.create_task(_round_trips(good, enough))
        async with opened(server, "/take/flood") as client:
            began = time.monotonic()
            for _ in range(BATCHES):
                await client.send(flood)
            await client.send(frames.close(1000))
            found = await told(server, "ended", "flood", 1)
            took = time.monotonic() - began
        grown = server.memory().peak - before
        enough.set()
        times = await trips
    assert found.received == BATCHES * FRAMES
    hurt = percentile(times, 0.99)
    bound = max(PROMPT, 10 * unhurt)  # on a machine that is slow without a flood, too
    assert hurt < bound
    assert grown < 8 * MIB
    measured(
        f"{BATCHES * FRAMES} messages of 2 bytes from one client",
        f"99 of 100 echoes of {GOOD} others within {bound:.2f} s",
        f"{hurt * 1e3:.1f} ms of {len(times)} ({unhurt * 1e3:.1f} ms without); the flood took "
        f"{took:.1f} s, {grown / 1024:.0f} KiB",
    )


def _reconnect(port: int, source: str, times: int) -> None:
    """Open a WebSocket, have one echo, and close it; so many times, one behind the other."""
    head, text, close = handshake(), text_frame("hello"), frames.close(1000)
    for _ in range(times):
        with socket.socket() as sock:
            sock.settimeout(PATIENCE)
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port))
            sock.sendall(head)
            assert sock.recv(4_096).startswith(b"HTTP/1.1 101 ")
            sock.sendall(text)
            assert sock.recv(4_096) == b"\x81\x05hello"
            sock.sendall(close)
            answer = b""
            while data := sock.recv(4_096):
                answer += data
            assert answer == b"\x88\x02\x03\xe8"


async def test_twenty_thousand_reconnects_leave_nothing_behind(
    server: Target, measured: Measured
) -> None:
    sizes: list[int] = []
    began = time.monotonic()
    for _ in range(ROUNDS):
        await asyncio.gather(
            *(
                asyncio.to_thread(
                    _reconnect, server.process.port, f"127.0.0.{2 + thread}", RECONNECTS // THREADS
                )
                for thread in range(THREADS)
            )
        )
        assert (await server.stats()).websockets == 0
        sizes.append(server.memory().now)
    took = time.monotonic() - began
    steady = sizes[WARM_UP:]
    assert max(steady) <= steady[0] * 1.05
    measured(
        f"{ROUNDS} rounds of {RECONNECTS} reconnects",
        "memory within 5 % from the third round on",
        f"{steady[0] / MIB:.1f} to {max(steady) / MIB:.1f} MiB; {took / ROUNDS:.2f} s a round",
    )


# -- limits ------------------------------------------------------------------------------------


async def _asks(client: Socket, target: str = "/") -> int:
    """Ask for a WebSocket and return the answer's status."""
    await client.send(handshake(target=target))
    return await client.read_head()


async def _refused(server: Target, source: str = "127.0.0.1") -> None:
    async with connecting(server, source=source) as client:
        assert await _asks(client) == 503
        await client.read_end()


async def _admitted(server: Target, source: str = "127.0.0.1") -> None:
    """Ask until there is room: the server hears of another's end only soon."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with connecting(server, source=source) as client:
                if await _asks(client) == 101:
                    return
                await client.read_end()


@pytest.mark.parametrize("option", ["--limit-connections", "--limit-concurrency"])
async def test_those_over_a_limit_get_503_and_harm_nobody(
    option: str, loop_name: str, measured: Measured
) -> None:
    async with serving(loop_name, option, "10") as server:
        async with contextlib.AsyncExitStack() as stack:
            good = [await stack.enter_async_context(server.opened()) for _ in range(10)]
            began = time.monotonic()
            for _ in range(FLOOD):
                await _refused(server)
            took = time.monotonic() - began
            for client in good:
                await client.echoes()
        await _admitted(server)
    measured(f"500 connections over {option}", "503 each", f"503 each, in {took:.2f} s")


async def test_connections_over_the_limit_of_an_address_get_503_and_others_are_served(
    loop_name: str, measured: Measured
) -> None:
    async with serving(loop_name, "--limit-connections-per-ip", "10") as server:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                greedy = await stack.enter_async_context(connecting(server, source="127.0.0.2"))
                assert await _asks(greedy) == 101
            began = time.monotonic()
            for number in range(FLOOD):
                await _refused(server, source="127.0.0.2")
                if number % 50 == 0:
                    await _admitted(server, source=f"127.0.1.{number // 50 + 1}")
            took = time.monotonic() - began
        await _admitted(server, source="127.0.0.2")
    measured("500 connections over --limit-connections-per-ip", "503 each", f"{took:.2f} s")


async def test_an_address_over_its_limit_does_not_use_up_the_limit_of_all(
    loop_name: str, measured: Measured
) -> None:
    options = ("--limit-connections", "40", "--limit-connections-per-ip", "10")
    async with serving(loop_name, *options) as server, contextlib.AsyncExitStack() as stack:
        for number in range(100):
            greedy = await stack.enter_async_context(connecting(server, source="127.0.0.2"))
            assert await _asks(greedy) == (101 if number < 10 else 503)  # and it stays
        async with connecting(server, source="127.0.0.3") as other:
            status = await _asks(other)
    measured("100 connections from one address", "another is served: 101", status)
    assert status == 101
