"""Abuse of the process: shutdown with many clients, no file descriptors, log injection."""

import asyncio
import contextlib
import itertools
import os
import re
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.harness import Target
from tests.frames import CONT, TEXT, frame
from tests.harness.client import close_code, handshake, text_frame
from tests.harness.processes import running
from tests.harness.tcp import PATIENCE, TcpClient
from tests.harness.waiting import pause

APP = "tests.apps.abuse_app:app"
GRACE = 10.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def started(loop_name: str, *options: str) -> AsyncIterator[Target]:
    """Run a separate server for a test that ends it; check that its log has no traceback."""
    async with running(APP, "--loop", loop_name, *options) as process:
        yield Target(process, loop_name)
    assert not any("Traceback" in line for line in process.log), "\n".join(process.log)


async def opened(target: Target, stack: contextlib.AsyncExitStack, count: int) -> list[TcpClient]:
    """Open WebSockets, fifty at a time."""
    clients: list[TcpClient] = []
    while len(clients) < count:
        some = [target.opened(target="/burst") for _ in range(min(50, count - len(clients)))]
        clients += await asyncio.gather(*(stack.enter_async_context(client) for client in some))
    return clients


async def read_to_close(client: TcpClient) -> tuple[int, int]:
    """Read up to the server's Close; return the number of texts before it, and its code."""
    texts = 0
    while (found := await client.read_frame()).opcode != frames.CLOSE:
        assert found.opcode == TEXT
        assert len(found.payload) == 1_000
        texts += 1
    return texts, close_code(found)[0]


# -- shutdown --------------------------------------------------------------------------------------


async def test_a_thousand_clients_in_the_middle_of_a_message(
    loop_name: str, measured: Measured
) -> None:
    options = ("--timeout-graceful-shutdown", str(GRACE), "--no-access-log")
    async with started(loop_name, *options) as target, contextlib.AsyncExitStack() as stack:
        clients = await opened(target, stack, 1_000)
        whole = frame(TEXT, "y" * 50)
        for at, client in enumerate(clients):
            # Half of them are between two fragments, the others in the middle of a frame.
            first = frame(TEXT, "begun", fin=False) if at % 2 else whole[:20]
            client.send(text_frame("go") + first)
        deadline = time.monotonic() + PATIENCE
        while (sent := await target.ask("/bursts"))["bursts"] < 1_000:
            assert time.monotonic() < deadline, sent
            await pause(0.05)
        began = time.monotonic()
        target.process.signal()
        seen = await asyncio.gather(*map(read_to_close, clients))
        for at, client in enumerate(clients):
            rest = frame(CONT, "and ended") if at % 2 else whole[20:]
            client.send(rest + frames.close(1012))
            client.send_eof()
        status = await target.process.ended()
        took = time.monotonic() - began
    measured(
        "SIGTERM with 1,000 connections in the middle of a message",
        f"1012 and 5 texts to each, exit 0 within {GRACE + 1} s",
        f"{seen.count((5, 1012))} of 1,000, exit {status} after {took:.1f} s",
    )
    assert seen == [(5, 1012)] * 1_000
    assert status == 0
    assert took < GRACE + 1


async def test_clients_that_never_answer_the_close(loop_name: str, measured: Measured) -> None:
    grace = 1.0
    options = ("--timeout-graceful-shutdown", str(grace))
    async with started(loop_name, *options) as target, contextlib.AsyncExitStack() as stack:
        clients = await opened(target, stack, 100)
        began = time.monotonic()
        target.process.signal()
        assert {await client.read_close_code() for client in clients} == {1012}
        status = await target.process.ended()
        took = time.monotonic() - began
    measured(
        "SIGTERM with 100 clients that never answer",
        f"exit 0 within {grace + 1} s",
        f"exit {status} after {took:.1f} s",
    )
    assert status == 0
    assert grace <= took < grace + 1 + 1  # a second for a loaded machine


async def test_a_second_signal_ends_at_once(loop_name: str, measured: Measured) -> None:
    async with started(loop_name) as target, target.opened(target="/stubborn") as client:
        target.process.signal()
        assert await client.read_close() == (1012, "service restart")
        began = time.monotonic()
        target.process.signal()
        assert await target.process.ended() == 128 + 15
        took = time.monotonic() - began
        measured("a second SIGTERM during a shutdown timeout of 10 s", "at once", f"{took:.2f} s")
        assert took < 2
        assert any("Second signal: ending at once" in line for line in target.process.log)


async def test_running_streams_may_end(loop_name: str) -> None:
    async with started(loop_name) as target, target.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"3\r\none\r\n")
        await client.read_until(b"\r\n\r\n3\r\none\r\n")
        target.process.signal()
        await target.process.logged("Shutting down")
        for piece in (b"two", b"six", b"ten"):
            client.send(b"3\r\n" + piece + b"\r\n")
            assert await client.read_until(piece + b"\r\n") == b"3\r\n" + piece + b"\r\n"
        client.send(b"0\r\n\r\n")
        assert await client.read_rest_or_reset() == b"0\r\n\r\n"
        client.writer.close()
        assert await target.process.ended() == 0


async def test_endless_streams_are_cancelled(loop_name: str, measured: Measured) -> None:
    grace = 0.5
    options = ("--timeout-graceful-shutdown", str(grace))
    async with started(loop_name, *options) as target, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(target.connect()) for _ in range(20)]
        for client in clients:
            client.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.read_until(b"xxxx\r\n")
        began = time.monotonic()
        target.process.signal()
        status = await target.process.ended()
        took = time.monotonic() - began
        for client in clients:
            body = await client.read_rest_or_reset()
            assert not body.endswith(b"0\r\n\r\n"), "it looks complete"
    measured(
        "SIGTERM with 20 endless streams",
        f"exit 0 within {grace + 2} s",
        f"exit {status} after {took:.1f} s",
    )
    assert status == 0
    assert took < grace + 2  # one of them for cancelled clients to read and close


# -- draining --------------------------------------------------------------------------------------


async def test_a_drain_is_even_and_remaining_clients_are_served(
    loop_name: str, measured: Measured
) -> None:
    seconds, count = 4.0, 500
    times: list[float] = []
    answers: list[float] = []
    some_are_closed = asyncio.Event()

    async def lives(client: TcpClient) -> None:
        while (found := await client.read_frame()).opcode != frames.CLOSE:
            answers.append(time.monotonic())
        times.append(time.monotonic())
        assert close_code(found) == (1012, "service restart")
        client.send(frames.close(1012))
        client.send_eof()
        if len(times) == count // 5:
            some_are_closed.set()

    async with (
        started(loop_name, "--drain-seconds", str(seconds), "--no-access-log") as target,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = await opened(target, stack, count)
        living = [asyncio.ensure_future(lives(client)) for client in clients]
        began = time.monotonic()
        target.process.signal()
        await some_are_closed.wait()
        for client, life in zip(clients, living, strict=True):
            if not life.done():
                client.send(text_frame("go"))
        await asyncio.gather(*living)
        assert await target.process.ended() == 0
    quarters = [
        sum(start <= at - began < start + seconds / 4 for at in times) / count
        for start in (0, seconds / 4, seconds / 2, seconds * 3 / 4)
    ]
    # A loaded machine makes closes later, never earlier than their share of the time.
    earliest = min(at - began - seconds * number / count for number, at in enumerate(times))
    served = len(answers) / 5 / (count * 4 / 5)
    measured(
        f"SIGTERM with --drain-seconds {seconds:.0f} and {count} clients",
        "a quarter of the closes in each quarter, the rest served",
        f"{', '.join(f'{share:.0%}' for share in quarters)}; {served:.0%} of the echoes answered",
    )
    assert len(times) == count
    assert earliest > -seconds / 10, quarters
    assert answers  # how many are asked in time is up to the machine


# -- file descriptors ------------------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Return the CPU time in seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def highest_file(pid: int) -> int:
    """Return the highest number of a file descriptor that a process has."""
    return max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())


async def test_the_server_runs_out_of_file_descriptors_and_recovers(
    loop_name: str, measured: Measured
) -> None:
    # Fewer clients wait than there is room: asyncio accepts about as many per second.
    window, room, crowd = 3.0, 40, 60
    async with started(loop_name, "--limit-connections", "100000", "--no-access-log") as target:
        pid = target.process.pid
        await target.echo()
        open_now = len(target.files())
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = highest_file(pid) + 1 + room
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(target.connect()) for _ in range(crowd)]
            await wait_until_full(target, open_now + room // 2)
            lines, cpu = len(target.process.log), cpu_seconds(pid)
            for client in clients:  # each accepted one starts a request
                client.send(b"GET / ")
            await pause(window)
            logged = len(target.process.log) - lines
            used = cpu_seconds(pid) - cpu
        relieved = time.monotonic()
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(PATIENCE), target.opened() as client:
                    await client.echoes()
                break
            assert time.monotonic() < relieved + PATIENCE
            await pause(0.02)
        took = time.monotonic() - relieved
        measured(
            f"{crowd} connections with file descriptors for {room}",
            f"one line per second, {window / 3} s of CPU time in {window} s, "
            "accepting again within 2 s",
            f"{logged} lines and {used:.2f} s in {window} s; accepting after {took:.2f} s",
        )
        assert logged <= window + 1, "\n".join(target.process.log[-30:])
        assert used < window / 3
        assert took < 2 + 1  # a second for a loaded machine
        target.process.signal()
        assert await target.process.ended() == 0


async def wait_until_full(target: Target, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(target.files()) < count:
        assert time.monotonic() < deadline, target.files()
        await pause(0.02)


async def test_shutdown_without_free_file_descriptors(loop_name: str) -> None:
    async with started(loop_name, "--limit-connections", "100000") as target:
        pid = target.process.pid
        await target.echo()
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = highest_file(pid) + 3
        async with contextlib.AsyncExitStack() as stack:
            held = await stack.enter_async_context(target.opened())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
            for _ in range(10):
                await stack.enter_async_context(target.connect())
            await held.echoes()
            target.process.signal()
            assert await held.read_close() == (1012, "service restart")
            await pause(1.5)  # asyncio tries to accept again after a second
            held.send(frames.close(1012))
            await held.read_rest_or_reset()
        assert await target.process.ended() == 0


# -- the log ---------------------------------------------------------------------------------------

_LINE = re.compile(r"(INFO|WARNING|ERROR): {1,5}[\x20-\x7e]*")
_FORGED = "\r\nINFO:     forged \x1b[31m \x07\x9b \u2028 \x85\n"


async def test_control_characters_in_the_log_are_escaped(measured: Measured) -> None:
    async with started("asyncio", "--ws-origins", "https://a.example,none") as target:
        for raw in _requests():
            async with target.connect() as client:
                client.send(raw)
                client.send_eof()
                await client.read_rest_or_reset()
        async with target.opened(target="/%0d%0aINFO:forged") as client:
            client.send(frames.close(4000, _FORGED))
            await client.read_close()
        async with target.opened() as client:
            client.send(frames.close(4001, b"\xff\xfe"))
            await client.read_close()
        await target.process.logged(r"4000 \\r\\nINFO: {5}forged")
        target.process.signal()
        assert await target.process.ended() == 0
    lines = target.process.log
    bad = [line for line in lines if not _LINE.fullmatch(line) or line.startswith("INFO:     forg")]
    measured(
        "control characters in everything that a client sends",
        "0 raw",
        f"{len(bad)} of {len(lines)}",
    )
    assert bad == []


def _requests() -> list[bytes]:
    forged = _FORGED.encode()
    parts = (forged, b"\x1b[31m", b"\x00", b"\x9b", b"\n", b"\x7f", b"\xe2\x80\xa8")
    shapes = (
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G%b / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1%b\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX%b: y\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;%b\r\na\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na%b: b\r\n\r\n",
    )
    heads = (b"Origin: %b", b"Sec-WebSocket-Protocol: %b", b"Sec-WebSocket-Key: %b")
    upgrades = [handshake("X: y")[:-4] + b"\r\n" + head + b"\r\n\r\n" for head in heads]
    return [shape % part for shape, part in itertools.product((*shapes, *upgrades), parts)]
