"""Invalid frames, and messages that are expensive for their size."""

import asyncio
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.abuse.conftest import Measured
from tests.abuse.harness import Pulse, Target, run_target
from tests.frames import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    close,
    deflated,
    fragments,
    frame,
    ways,
)
from tests.harness.client import DEFLATE
from tests.harness.tcp import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
LIMIT = 16 * MIB  # --ws-max-size by default
SLACK = 2 * MIB  # by which a process may grow for other reasons


async def refused(server: Target, data: bytes | list[bytes], *headers: str) -> tuple[int, str]:
    """Send bytes between two valid messages; return the code and reason of the server's Close.

    Check that the first message is echoed, the second is not, and the connection ends.
    """
    pieces = [data] if isinstance(data, bytes) else data
    async with server.opened(*headers) as client:
        client.send(frame(TEXT, "before"))
        for piece in pieces:
            client.send(piece)
        client.send(frame(TEXT, "after"))
        assert await client.read_text() == "before"
        found = await client.read_close()
        client.send(close(1000))
        assert await client.read_rest_or_reset() == b""
        return found


# -- 1002: invalid framing ------------------------------------------------------------------------

VIOLATIONS = {
    "unmasked text": frame(TEXT, "x", mask=None),
    "unmasked Ping": frame(PING, "x", mask=None),
    "unmasked Close": frame(CLOSE, b"\x03\xe8", mask=None),
    "RSV1 without deflate": frame(TEXT, "x", rsv=RSV1),
    "RSV2": frame(TEXT, "x", rsv=RSV2),
    "RSV3": frame(BINARY, "x", rsv=RSV3),
    "RSV1 on a Ping": frame(PING, "x", rsv=RSV1),
    **{f"opcode {code:#x}": frame(code, "x") for code in (*range(0x3, 0x8), *range(0xB, 0x10))},
    "Ping of 126 bytes": frame(PING, b"x" * 126),
    "Pong of 70,000 bytes": frame(PONG, b"x" * 70_000),
    "Close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "fragmented Ping": frame(PING, "x", fin=False),
    "fragmented Close": frame(CLOSE, b"\x03\xe8", fin=False),
    "stray continuation": frame(CONT, "x"),
    "stray first continuation": frame(CONT, "x", fin=False),
    "text within a text": frame(TEXT, "a", fin=False) + frame(TEXT, "b"),
    "binary within a text": frame(TEXT, "a", fin=False) + frame(BINARY, "b", fin=False),
    "text within a binary": frame(BINARY, "a", fin=False) + frame(TEXT, "b"),
    "125 in two bytes": frame(TEXT, "x" * 125, length_octets=2),
    "0 in two bytes": frame(TEXT, "", length_octets=2),
    "0 in eight bytes": frame(TEXT, "", length_octets=8),
    "65,535 in eight bytes": frame(TEXT, "x" * 65_535, length_octets=8),
    "Ping's length in two bytes": frame(PING, "x", length_octets=2),
    "bit 63 of the length": frame(BINARY, b"x", declared=1 << 63, length_octets=8),
    "all bits of the length": frame(BINARY, b"x", declared=(1 << 64) - 1, length_octets=8),
    "Close of one byte": frame(CLOSE, b"\x03"),
    **{
        f"Close {code}": close(code)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65_535)
    },
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_framing_violation_is_1002(server: Target, name: str) -> None:
    assert await refused(server, VIOLATIONS[name]) == (1002, "protocol error")


@pytest.mark.parametrize("name", ["unmasked text", "bit 63 of the length", "Close 1005"])
async def test_a_violation_sent_in_pieces_is_1002(server: Target, name: str) -> None:
    for pieces in ways(VIOLATIONS[name]):
        assert await refused(server, pieces) == (1002, "protocol error")


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, deflated(b"a"), rsv=RSV1, fin=False) + frame(CONT, b"\x01", rsv=RSV1),
        frame(PING, deflated(b"a"), rsv=RSV1),
        frame(CONT, deflated(b"a"), rsv=RSV1),
        frame(TEXT, deflated(b"a"), rsv=RSV1 | RSV2),
    ],
    ids=["continuation", "Ping", "stray", "with RSV2"],
)
async def test_a_misplaced_rsv1_is_1002(server: Target, data: bytes) -> None:
    assert await refused(server, data, DEFLATE) == (1002, "protocol error")


# -- 1007: invalid payloads -----------------------------------------------------------------------

BAD_TEXTS = {
    "surrogate": b"ab\xed\xa0\x80cd",
    "overlong": b"ab\xc0\x80cd",
    "over U+10FFFF": b"ab\xf4\x90\x80\x80cd",
    "byte 0xff": b"ab\xffcd",
    "lone continuation": b"ab\x80cd",
    "cut short": "ab\N{GRINNING FACE}".encode()[:-1],
}


@pytest.mark.parametrize("name", BAD_TEXTS)
async def test_invalid_utf_8_split_at_every_byte_is_1007(server: Target, name: str) -> None:
    bad = BAD_TEXTS[name]
    for at in range(len(bad) + 1):
        data = b"".join(fragments(TEXT, [bad[:at], bad[at:]]))
        assert await refused(server, data) == (1007, "invalid payload")
    assert await refused(server, frame(TEXT, deflated(bad), rsv=RSV1), DEFLATE) == (
        1007,
        "invalid payload",
    )


async def test_utf_8_split_at_every_byte_is_accepted(server: Target) -> None:
    good = "κόσμε \N{GRINNING FACE} 東京".encode()
    async with server.opened() as client:
        for at in range(len(good) + 1):
            client.send(b"".join(fragments(TEXT, [good[:at], good[at:]])))
            assert await client.read_text() == good.decode()


BAD_DEFLATE = {
    "reserved block type": b"\x07",
    "stored block's length": b"\x00\x05\x00\x00\x00hello",
    "noise": b"\xff" * 64,
    "stops within a block": deflated(b"Hello, Hello, Hello")[:-4],
    "distance too far back": zlib.compress(b"abc" * 100, 9)[2:-4].replace(b"K", b"\x02", 1)[3:],
}


@pytest.mark.parametrize("name", BAD_DEFLATE)
async def test_bad_deflate_data_is_1007(server: Target, name: str) -> None:
    for kind in (TEXT, BINARY):
        found = await refused(server, frame(kind, BAD_DEFLATE[name], rsv=RSV1), DEFLATE)
        assert found == (1007, "invalid payload")


@pytest.mark.parametrize("name", BAD_TEXTS)
async def test_a_close_reason_that_is_not_utf_8_is_1007(server: Target, name: str) -> None:
    assert await refused(server, close(1000, BAD_TEXTS[name])) == (1007, "invalid payload")


# -- 1009: messages over the limit ----------------------------------------------------------------


def grown(server: Target, before: int) -> int:
    """Return the maximum growth of the process in bytes."""
    return max(0, server.memory().peak - before)


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(loop_name: str) -> AsyncIterator[Target]:
    """Run a new process, without memory freed by another test."""
    async with run_target(loop_name) as target:
        yield target


def mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 32, (1 << 63) - 1])
async def test_a_declared_length_over_the_limit_is_refused_at_the_header(
    server: Target, size: int, measured: Measured
) -> None:
    before = server.watch_memory()
    async with server.opened() as client:
        client.send(frame(BINARY, declared=size))
        assert await client.read_close() == (1009, "message too big")
    assert grown(server, before) <= SLACK
    measured(f"a frame of {size:,} bytes declared", mib(SLACK), mib(grown(server, before)))


async def test_fragments_are_refused_at_the_byte_over_the_limit(
    fresh: Target, measured: Measured
) -> None:
    before = fresh.watch_memory()
    async with fresh.opened() as client:
        client.send(frame(BINARY, bytes(MIB), fin=False))
        for _ in range(15):
            client.send(frame(CONT, bytes(MIB), fin=False))
        client.send(frame(PING, "still open"))
        assert (await client.read_frame()).opcode == PONG
        client.send(frame(CONT, declared=1))  # the byte itself is never sent
        assert await client.read_close() == (1009, "message too big")
    assert grown(fresh, before) <= 2 * LIMIT
    measured("16 MiB and a byte in fragments", mib(2 * LIMIT), mib(grown(fresh, before)))


async def test_a_message_is_refused_at_the_inflated_byte_over_the_limit(server: Target) -> None:
    for kind, data in ((BINARY, bytes(LIMIT + 1)), (TEXT, b"a" * (LIMIT + 1))):
        async with server.opened(DEFLATE) as client:
            client.send(frame(kind, deflated(data), rsv=RSV1))
            assert await client.read_close() == (1009, "message too big")


EXACTLY: dict[str, tuple[bool, Callable[[], list[bytes]]]] = {
    "whole": (False, lambda: [frame(BINARY, bytes(LIMIT))]),
    "in fragments": (False, lambda: fragments(BINARY, [bytes(MIB)] * 16)),
    "inflated": (True, lambda: [frame(BINARY, deflated(bytes(LIMIT)), rsv=RSV1)]),
    "inflated text": (True, lambda: [frame(TEXT, deflated(b"a" * LIMIT), rsv=RSV1)]),
}


@pytest.mark.parametrize("name", EXACTLY)
async def test_a_message_of_exactly_the_limit_is_accepted(server: Target, name: str) -> None:
    compressed, make = EXACTLY[name]
    async with server.opened(*[DEFLATE] * compressed, target="/count") as client:
        for piece in make():
            client.send(piece)
        assert await client.read_text() == str(LIMIT)


async def test_a_compression_bomb_uses_at_most_twice_the_limit(
    fresh: Target, measured: Measured
) -> None:
    bomb = frame(BINARY, deflated(bytes(4 * LIMIT), level=9), rsv=RSV1)
    before = fresh.watch_memory()
    async with fresh.opened(DEFLATE) as client:
        client.send(bomb)
        assert await client.read_close() == (1009, "message too big")
    assert grown(fresh, before) <= 2 * LIMIT
    measured(
        f"{len(bomb):,} bytes that inflate to 64 MiB", mib(2 * LIMIT), mib(grown(fresh, before))
    )


# -- loop iterations ------------------------------------------------------------------------------

MAX_ITERATION = 0.050  # seconds for which input of one connection may block the loop
LONGEST: dict[str, Callable[[], bytes]] = {
    "16 MiB of zeros, inflated": lambda: frame(BINARY, deflated(bytes(LIMIT)), rsv=RSV1),
    "16 MiB of text, inflated": lambda: frame(TEXT, deflated(b"a" * LIMIT), rsv=RSV1),
    "4 Mi emoji, inflated": lambda: frame(
        TEXT, deflated("\N{GRINNING FACE}".encode() * (LIMIT // 4)), rsv=RSV1
    ),
    "30,000 final blocks": lambda: frame(BINARY, b"\x03\x00" * 30_000 + b"\x00", rsv=RSV1),
    "16,000 empty fragments": lambda: (
        frame(TEXT, "x", fin=False) + frame(CONT, fin=False) * 16_000 + frame(CONT)
    ),
    "40,000 Pongs": lambda: frame(PONG) * 40_000 + frame(TEXT, "x"),
}


@pytest.mark.parametrize("name", LONGEST)
async def test_no_input_blocks_the_loop(server: Target, name: str, measured: Measured) -> None:
    data = LONGEST[name]()
    pulses: list[Pulse] = []
    async with server.opened(DEFLATE, target="/count") as client:
        # The minimum of some runs is the server's time; more than that is load of the machine.
        while not pulses or (pulses[-1].busy > MAX_ITERATION and len(pulses) < 5):
            async with server.pulse() as pulse:
                client.send(data)
                await client.read_text()
            pulses.append(pulse)
    best = min(pulses, key=lambda pulse: pulse.busy)
    assert best.busy <= MAX_ITERATION, pulses
    assert best.turns > 4  # it was processed in parts
    value = f"{best.busy * 1000:.0f} ms CPU time, {best.gap * 1000:.0f} ms wall time"
    measured(f"longest loop iteration: {name}", f"{MAX_ITERATION * 1000:.0f} ms", value)


# -- many small pieces ----------------------------------------------------------------------------


def send_byte_by_byte(sock: socket.socket, data: bytes) -> None:
    """Send each byte in a separate call."""
    for at in range(len(data)):
        sock.send(data[at : at + 1])


async def test_a_megabyte_in_one_byte_writes(measured: Measured) -> None:
    data = frame(BINARY, bytes(1_000_000))
    async with run_target("asyncio") as server:
        before, began = server.watch_memory(), time.monotonic()
        async with server.opened(target="/count") as client:
            sock = client.writer.get_extra_info("socket").dup()
            sock.setblocking(True)
            try:
                await asyncio.to_thread(send_byte_by_byte, sock, data)
            finally:
                sock.close()
            assert await client.read_text() == "1000000"
        took, size = time.monotonic() - began, grown(server, before)
    assert size <= 3 * MIB + SLACK
    measured("1 MB in writes of one byte", mib(3 * MIB + SLACK), mib(size))
    measured("1 MB in writes of one byte, time", f"{PATIENCE:.0f} s", f"{took:.1f} s")


async def test_100_000_empty_continuations(measured: Measured) -> None:
    data = frame(TEXT, "x", fin=False) + frame(CONT, fin=False) * 100_000 + frame(CONT, "y")
    await check_fragments(data, "2", "100,000 empty fragments", measured)


async def test_131_000_one_byte_fragments(measured: Measured) -> None:
    data = b"".join(fragments(BINARY, [b"x"] * 131_000))
    await check_fragments(data, "131000", "131,000 one-byte fragments", measured)


async def check_fragments(data: bytes, length: str, what: str, measured: Measured) -> None:
    """Check that a message in many fragments is accepted and needs little memory."""
    async with run_target("asyncio") as server:
        before, began = server.watch_memory(), time.monotonic()
        async with server.opened(target="/count") as client:
            client.send(data)
            assert await client.read_text() == length
        took, size = time.monotonic() - began, grown(server, before)
    assert size <= SLACK
    measured(what, mib(SLACK), mib(size))
    measured(f"{what}, time", f"{PATIENCE:.0f} s", f"{took:.1f} s")


@pytest.mark.parametrize("payload", ["", "x"])
async def test_one_fragment_over_the_limit_is_1009(loop_name: str, payload: str) -> None:
    first, more = frame(TEXT, "x", fin=False), frame(CONT, payload, fin=False)
    async with (
        run_target(loop_name, "--ws-max-fragments", "1000") as server,
        server.opened(target="/count") as client,
    ):
        client.send(first + more * 998 + frame(CONT))
        assert await client.read_text() == str(1 + 998 * len(payload))
        client.send(first + more * 999)  # the limit is reached before the last fragment
        assert await client.read_close() == (1009, "message too big")
