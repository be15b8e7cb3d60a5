"""TLS clients that never finish a handshake, send garbage, do not read, or close their half."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.flow import (
    WINDOW,
    drip_to_the_end,
    flood,
    others_served,
    send_to_the_end,
    throttled_log,
    wait_for_calls,
)
from tests.abuse.harness import Target, run_target
from tests.abuse.secure import Peer, peer, peers
from tests.harness.client import handshake, text_frame
from tests.harness.tls import Files, TlsClient, options_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "tests.apps.abuse_flow:app"
MIB, KIB = 2**20, 2**10
DEADLINE, SEND_TIMEOUT = 2.0, 3.0
OPTIONS = (
    *("--no-access-log", "--ws-ping-interval", "0"),
    *("--ws-handshake-timeout", f"{DEADLINE}", "--ws-send-timeout", f"{SEND_TIMEOUT}"),
    *("--ws-close-timeout", "1"),
)
UNFINISHED = 200  # clients that do not finish the handshake
FLOOD = 100  # clients at once that send one kind of garbage
SILENT = 50  # clients that do not read
RECORD = 16_384  # bytes: RFC 8446 section 5.1
SESSION = 96 * KIB  # bytes of one connection with a session
FRAME_HEAD = 10  # bytes, of a large frame
WARM_UP, ROUNDS, RECONNECTS = 3, 10, 100


@pytest.fixture(scope="module")
def context(files: Files) -> ssl.SSLContext:
    return files.client_context()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="module")
def options(files: Files) -> tuple[str, ...]:
    return (*OPTIONS, *options_of(files.issue("server")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    loop_name: str, fast_path: bool, options: tuple[str, ...], context: ssl.SSLContext
) -> AsyncIterator[Target]:
    async with run_target(loop_name, *options, app=APP, context=context) as target:
        yield target


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(
    loop_name: str, fast_path: bool, options: tuple[str, ...], context: ssl.SSLContext
) -> AsyncIterator[Target]:
    """Run a server for one test: what others have freed would hide what this one takes."""
    async with run_target(loop_name, *options, app=APP, context=context) as target:
        yield target


# -- before the handshake is complete --------------------------------------------------------------


async def test_handshakes_that_never_end(
    fresh: Target, context: ssl.SSLContext, measured: Measured
) -> None:
    hello = TlsClient(context).output()
    starts = (b"", hello[:3], hello[:100], hello)
    before = fresh.watch_memory()
    with throttled_log(fresh):
        async with others_served(fresh):
            await asyncio.gather(
                *(send_to_the_end(fresh, starts[number % 4]) for number in range(UNFINISHED)),
                *(drip_to_the_end(fresh, hello) for _ in range(UNFINISHED // 4)),
            )
    grown = fresh.memory().peak - before
    count = UNFINISHED * 5 // 4
    measured(
        f"{count} TLS handshakes that never end: nothing, half a ClientHello, no answer to ours",
        f"closed after {DEADLINE} s; {SESSION // KIB} KiB each",
        f"{grown / count / KIB:.0f} KiB each",
    )
    assert grown < count * SESSION


async def test_a_large_client_hello_without_its_end(fresh: Target, measured: Measured) -> None:
    size = 130_000  # OpenSSL refuses more than 131,396 bytes
    hello = b"\x01" + size.to_bytes(3, "big") + bytes(size - 1)
    records = [hello[at : at + RECORD] for at in range(0, len(hello), RECORD)]
    data = b"".join(
        [b"\x16\x03\x01" + len(record).to_bytes(2, "big") + record for record in records]
    )
    before = fresh.watch_memory()
    with throttled_log(fresh):
        async with others_served(fresh):
            await asyncio.gather(*(send_to_the_end(fresh, data) for _ in range(FLOOD)))
    grown = fresh.memory().peak - before
    bound = SESSION + 2 * size
    measured(
        f"{FLOOD} ClientHellos of {size:,} bytes without the last one",
        f"closed after {DEADLINE} s; {bound // KIB} KiB each",
        f"{grown / FLOOD / KIB:.0f} KiB each",
    )
    assert grown < FLOOD * bound


RANDOM = random.Random(7)  # the same bytes in each run
HELLO_OF_16_MIB = b"\x01\xff\xff\xff"
GARBAGE: dict[str, bytes] = {
    "random": b"\x00" + RANDOM.randbytes(999),
    "random records": b"\x16\x03\x01\x40\x00" + RANDOM.randbytes(16_384),
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "empty records": b"\x16\x03\x01\x00\x00" * 10_000,
    "alerts": b"\x15\x03\x03\x00\x02\x01\x00" * 10_000,
    "application data": b"\x17\x03\x03\x00\x20" + bytes(32),
    "ChangeCipherSpec": b"\x14\x03\x03\x00\x01\x01" * 10_000,
    "a ClientHello of 16 MiB": (b"\x16\x03\x01\x40\x00" + HELLO_OF_16_MIB.ljust(16_384, b"\x00"))
    + (b"\x16\x03\x01\x40\x00" + bytes(16_384)) * 40,
    "SSL 2.0": b"\x80\x2e\x01\x00\x02" + bytes(43),
    "HTTP": handshake(),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_in_place_of_a_handshake(server: Target, kind: str) -> None:
    before = server.watch_memory()
    with throttled_log(server):
        async with others_served(server):
            await flood(server, GARBAGE[kind], FLOOD)
    grown = server.memory().peak - before
    assert grown < FLOOD * SESSION


# -- after the handshake ---------------------------------------------------------------------------


async def open_websocket(client: Peer, path: str) -> None:
    """Send the handshake of a WebSocket; do not read the answer."""
    await client.send(handshake(target=path))


async def test_clients_that_do_not_read(
    fresh: Target, context: ssl.SSLContext, measured: Measured
) -> None:
    before = fresh.watch_memory()
    async with (
        others_served(fresh),
        peers(fresh, context, SILENT, window=WINDOW) as clients,
    ):
        for client in clients:
            await open_websocket(client, "/pour/silent")
        counts = await wait_for_calls(fresh, "ended", "silent", SILENT)
        grown = fresh.memory().peak - before
    bound = SESSION + 160 * KIB  # the buffer is 64 KiB
    measured(
        f"{SILENT} TLS clients never read 10,000 messages of 1 KiB",
        f"1013; {bound // KIB} KiB each",
        f"{grown / SILENT / KIB:.0f} KiB each",
    )
    assert counts.codes == {1013: SILENT}
    assert grown < SILENT * bound


async def close_notify(client: Peer) -> None:
    """End the TLS session; TCP stays open in both directions."""
    await client.socket.send(client.tls.close())


async def fin(client: Peer) -> None:
    """Close our half of TCP, without a close_notify."""
    client.socket.sock.shutdown(1)


HALF_CLOSES: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "close_notify": close_notify,
    "fin": fin,
}


@pytest.mark.parametrize("end", HALF_CLOSES)
@pytest.mark.parametrize("path", ["talk", "pour"])
async def test_clients_that_close_their_half_and_do_not_read(
    server: Target, context: ssl.SSLContext, end: str, path: str
) -> None:
    name = f"{path}-{end}"
    async with (
        others_served(server),
        peers(server, context, SILENT, window=WINDOW) as clients,
    ):
        for client in clients:
            await open_websocket(client, f"/{path}/{name}")
        await wait_for_calls(server, "started", name, SILENT)
        for client in clients:
            await HALF_CLOSES[end](client)
        counts = await wait_for_calls(server, "ended", name, SILENT)
        await asyncio.gather(*(client.socket.read_end() for client in clients))
    assert counts.codes == {1006: SILENT}


async def read_more(client: Peer, answer: bytearray, count: int) -> None:
    """Read at least so many bytes."""
    end = len(answer) + count
    while len(answer) < end:
        answer += await client.read()


async def test_a_large_message_to_slow_clients(
    fresh: Target, context: ssl.SSLContext, measured: Measured
) -> None:
    count, size = 4, 4 * MIB
    text = random.Random(1).randbytes(size // 2).hex()  # nothing secret
    before = fresh.watch_memory()
    async with peers(fresh, context, count, window=WINDOW) as clients:
        for client in clients:
            await open_websocket(client, "/talk/slow")
            await client.send(text_frame(text))
        answers = [bytearray() for _ in clients]
        for _ in range(8):
            for client, answer in zip(clients, answers, strict=True):
                await read_more(client, answer, size // 8)
            await fresh.echo()  # another client is served meanwhile
        for client, answer in zip(clients, answers, strict=True):
            start = answer.index(b"\r\n\r\n") + 4
            await read_more(client, answer, start + FRAME_HEAD + size - len(answer))
            (frame,) = frames.parsed(bytes(answer[start:]))
            assert frame.payload.decode() == text
        grown = fresh.memory().peak - before
    measured(
        f"{count} slow TLS clients read their echo of {size // MIB} MiB",
        "complete; 4 times its size",
        f"{grown / count / size:.1f} times",
    )
    assert grown < 4 * count * size


# -- again and again -------------------------------------------------------------------------------


async def reconnect(server: Target, context: ssl.SSLContext, number: int) -> None:
    """Shake hands, talk, and leave in one of several ways."""
    async with peer(server, context) as client:
        await open_websocket(client, "/talk/again")
        await client.send(text_frame("hello"))
        ways = number % 4
        if ways == 0:
            await client.send(frames.close(1000))
            await client.socket.read_end()
        elif ways == 1:
            await close_notify(client)
            await client.socket.read_end()
        elif ways == 2:
            client.socket.reset()


async def test_reconnects_leak_nothing(
    server: Target, context: ssl.SSLContext, measured: Measured
) -> None:
    sizes: list[int] = []
    for _ in range(ROUNDS):
        for start in range(0, RECONNECTS, 20):
            await asyncio.gather(
                *(reconnect(server, context, start + number) for number in range(20))
            )
        await server.until(lambda stats: stats.websockets == 0)
        sizes.append(server.memory().now)
    steady = sizes[WARM_UP:]
    measured(
        f"{ROUNDS} rounds of {RECONNECTS} TLS handshakes, closed in four ways",
        f"memory within 5 % from round {WARM_UP + 1} on",
        f"{steady[0] / MIB:.1f} to {max(steady) / MIB:.1f} MiB",
    )
    assert max(steady) <= steady[0] * 1.05
