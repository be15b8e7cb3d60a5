"""PROXY headers that never end, arrive late, or are none."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.abuse.conftest import Measured
from tests.abuse.flow import drip_to_the_end, flood, others_served, send_to_the_end, throttled_log
from tests.abuse.harness import Target, run_target

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 2**10
DEADLINE = 2.0
OPTIONS = (
    *("--no-access-log", "--proxy-protocol", "--proxy-allow-from", "127.0.0.0/8"),
    *("--ws-handshake-timeout", f"{DEADLINE}"),
)
ENDLESS, DRIPPING, FLOOD = 180, 50, 100  # clients at once
BOUND = 32 * KIB  # bytes of a connection
GOOD = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST = SIGNATURE + b"\x21\x11" + (4_080).to_bytes(2, "big") + bytes(4_080)
# What could still become a valid header.
STARTS = (b"", GOOD[:1], GOOD[:-1], b"PROXY UNKNOWN".ljust(106), SIGNATURE, LONGEST[:-1])
INVALID = {
    "a line without end": b"PROXY UNKNOWN " + bytes(100_000),
    "a block that is too long": SIGNATURE + b"\x21\x11\xff\xff" + bytes(100_000),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a wrong address": b"PROXY TCP4 192.0.2.777 198.51.100.1 1 1\r\n",
    "TLVs that are too long": LONGEST.replace(bytes(3), b"\x01\xff\xff"),
    "many headers": GOOD.replace(b"443", b"65536") * 1_000,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(loop_name: str, fast_path: bool) -> AsyncIterator[Target]:
    async with run_target(loop_name, *OPTIONS, proxy_header=GOOD) as target:
        yield target


async def test_headers_that_never_end(server: Target, measured: Measured) -> None:
    before = server.watch_memory()
    with throttled_log(server):
        async with others_served(server):
            await asyncio.gather(
                *(send_to_the_end(server, start) for start in STARTS * (ENDLESS // len(STARTS))),
                *(drip_to_the_end(server, LONGEST) for _ in range(DRIPPING)),
            )
    grown = server.memory().peak - before
    count = ENDLESS + DRIPPING
    measured(
        f"{count} PROXY headers that never end, of both versions",
        f"closed after {DEADLINE} s; {BOUND // KIB} KiB each",
        f"{grown / count / KIB:.0f} KiB each",
    )
    assert grown < count * BOUND
    await server.process.logged("its PROXY header did not arrive in time")


@pytest.mark.parametrize("kind", INVALID)
async def test_a_flood_of_invalid_headers(server: Target, kind: str) -> None:
    before = server.watch_memory()
    with throttled_log(server):
        async with others_served(server):
            await flood(server, INVALID[kind], FLOOD)
    assert server.memory().peak - before < FLOOD * (BOUND + len(INVALID[kind]))
