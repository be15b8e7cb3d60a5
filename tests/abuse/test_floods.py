"""Floods: of Pings, of tiny frames, of reconnects, and of connections over the limits.

Threads send the floods from prepared chunks of bytes, so that the tests measure the server and not
the client.
"""

import asyncio
import contextlib
import socket
import time

import pytest

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.flow import WINDOW, Socket, connecting, opened, percentile, serving, wait_for_calls
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
    """Use only the default loop: floods take long."""
    return "uvloop"


async def test_a_hundred_thousand_pings_from_a_client_that_reads_no_pong(
    server: Target, measured: Measured
) -> None:
    flood = b"".join(frames.frame(frames.PING, f"{number:0125}") for number in range(PINGS))
    async with opened(server, "/", window=WINDOW) as client:
        before = server.watch_memory()
        await client.send(flood)
        await client.send(text_frame("after them all"))
        await server.echo()
        # Now it reads the Pongs: in order, none twice, some omitted, but not the last.
        last = pongs = 0
        while last < PINGS - 1:
            number = int((await client.read_until(frames.PONG)).payload)
            assert number >= last
            last = number
            pongs += 1
        grown = server.memory().peak - before
        echo = await client.read_until(frames.TEXT)
    assert echo.payload == b"after them all"
    assert pongs < PINGS
    assert grown < 2 * MIB
    measured(
        f"{PINGS} Pings of 125 bytes, no Pong read",
        "memory grows by less than 2 MiB; the last is answered",
        f"{grown / 1024:.0f} KiB; {pongs} Pongs",
    )


async def _echoes(client: TcpClient, is_over: asyncio.Event) -> list[float]:
    """Measure round trips in seconds until the event is set, at least a hundred."""
    times: list[float] = []
    while not is_over.is_set() or len(times) < 100:
        began = time.monotonic()
        await client.echoes()
        times.append(time.monotonic() - began)
    return times


async def _round_trips(clients: list[TcpClient], is_over: asyncio.Event) -> list[float]:
    found = await asyncio.gather(*(_echoes(client, is_over) for client in clients))
    return [took for times in found for took in times]


async def test_a_million_two_byte_messages_do_not_slow_down_others(
    server: Target, measured: Measured
) -> None:
    flood = frames.frame(frames.BINARY, b"xy") * FRAMES
    is_over = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        good = [await stack.enter_async_context(server.opened()) for _ in range(GOOD)]
        baseline = asyncio.create_task(_round_trips(good, is_over))
        await server.echo()
        is_over.set()
        without_flood = percentile(await baseline, 0.99)
        is_over.clear()
        before = server.watch_memory()
        trips = asyncio.create_task(_round_trips(good, is_over))
        async with opened(server, "/take/flood") as client:
            began = time.monotonic()
            for _ in range(BATCHES):
                await client.send(flood)
            await client.send(frames.close(1000))
            found = await wait_for_calls(server, "ended", "flood", 1)
            took = time.monotonic() - began
        grown = server.memory().peak - before
        is_over.set()
        times = await trips
    assert found.received == BATCHES * FRAMES
    with_flood = percentile(times, 0.99)
    bound = max(PROMPT, 10 * without_flood)  # for a machine that is slow without a flood, too
    assert with_flood < bound
    assert grown < 8 * MIB
    measured(
        f"{BATCHES * FRAMES} messages of 2 bytes from one client",
        f"99% of the echoes of {GOOD} other clients within {bound:.2f} s",
        f"{with_flood * 1e3:.1f} ms, {len(times)} echoes ({without_flood * 1e3:.1f} ms without the "
        f"flood); the flood took {took:.1f} s, {grown / 1024:.0f} KiB",
    )


def _reconnect(port: int, source: str, times: int) -> None:
    """Open a WebSocket, check one echo, and close it, several times in sequence."""
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


async def test_twenty_thousand_reconnects_leak_nothing(server: Target, measured: Measured) -> None:
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


async def _handshake_status(client: Socket, target: str = "/") -> int:
    """Send a handshake and return the status of the response."""
    await client.send(handshake(target=target))
    return await client.read_head()


async def _check_refused(server: Target, source: str = "127.0.0.1") -> None:
    async with connecting(server, source=source) as client:
        assert await _handshake_status(client) == 503
        await client.read_end()


async def _wait_until_admitted(server: Target, source: str = "127.0.0.1") -> None:
    """Send handshakes until one is accepted: the server may learn of another's end later."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with connecting(server, source=source) as client:
                if await _handshake_status(client) == 101:
                    return
                await client.read_end()


@pytest.mark.parametrize("option", ["--limit-connections", "--limit-concurrency"])
async def test_connections_over_a_limit_get_503_and_others_are_served(
    option: str, loop_name: str, measured: Measured
) -> None:
    async with serving(loop_name, option, "10") as server:
        async with contextlib.AsyncExitStack() as stack:
            good = [await stack.enter_async_context(server.opened()) for _ in range(10)]
            began = time.monotonic()
            for _ in range(FLOOD):
                await _check_refused(server)
            took = time.monotonic() - began
            for client in good:
                await client.echoes()
        await _wait_until_admitted(server)
    measured(f"500 connections over {option}", "503 each", f"503 each, in {took:.2f} s")


async def test_connections_over_the_limit_of_an_address_get_503_and_others_are_served(
    loop_name: str, measured: Measured
) -> None:
    async with serving(loop_name, "--limit-connections-per-ip", "10") as server:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                greedy = await stack.enter_async_context(connecting(server, source="127.0.0.2"))
                assert await _handshake_status(greedy) == 101
            began = time.monotonic()
            for number in range(FLOOD):
                await _check_refused(server, source="127.0.0.2")
                if number % 50 == 0:
                    await _wait_until_admitted(server, source=f"127.0.1.{number // 50 + 1}")
            took = time.monotonic() - began
        await _wait_until_admitted(server, source="127.0.0.2")
    measured("500 connections over --limit-connections-per-ip", "503 each", f"{took:.2f} s")


async def test_an_address_over_its_limit_does_not_use_up_the_limit_of_all(
    loop_name: str, measured: Measured
) -> None:
    options = ("--limit-connections", "40", "--limit-connections-per-ip", "10")
    async with serving(loop_name, *options) as server, contextlib.AsyncExitStack() as stack:
        for number in range(100):
            greedy = await stack.enter_async_context(connecting(server, source="127.0.0.2"))
            assert await _handshake_status(greedy) == (
                101 if number < 10 else 503
            )  # and stays open
        async with connecting(server, source="127.0.0.3") as other:
            status = await _handshake_status(other)
    measured("100 connections from one address", "another is served: 101", status)
    assert status == 101
