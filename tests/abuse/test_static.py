"""Static files: clients that do not read, floods of ranges, files that change on the way."""

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.abuse.conftest import Measured
from tests.abuse.flow import WINDOW, Socket, connecting, others_served, throttled_log
from tests.abuse.harness import Target, run_target
from tests.abuse.secure import Peer, peer
from tests.harness.tcp import PATIENCE, Response
from tests.harness.tls import Files, options_of
from tests.harness.waiting import pause

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB, KIB = 2**20, 2**10
SIZE = 16 * MIB  # bytes of a file: more than the buffers of both ends
STALLED, COUNT = 50, 10  # clients
RANGES = 3_000
SEND_TIMEOUT = 3.0
PAGE = b"a page"
NOT_FOUND = b"0"  # the answer of the app to other paths
PATTERN = bytes(range(256))
# What a connection may take: without TLS the kernel copies the file. With TLS, what the allocator
# keeps of freed pieces counts, too.
BOUNDS = {"plain": 64 * KIB, "tls": 640 * KIB}

Client = Socket | Peer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(Path(tmp_path_factory.mktemp("tls")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("static")
    (folder / "page.txt").write_bytes(PAGE)
    write_large(folder / "large.bin")
    return folder


def write_large(path: Path) -> None:
    path.write_bytes(PATTERN * (SIZE // len(PATTERN)))


@pytest.fixture(scope="module", params=BOUNDS)
def security(request: pytest.FixtureRequest) -> str:
    """Return "plain", or "tls"."""
    return str(request.param)


@pytest.fixture(scope="module")
def context(files: Files, security: str) -> ssl.SSLContext | None:
    return files.client_context() if security == "tls" else None


@pytest.fixture(scope="module")
def options(folder: Path, files: Files, security: str) -> list[str]:
    certificate = options_of(files.issue("server")) if security == "tls" else []
    return ["--no-access-log", "--static", f"/files={folder}", *certificate]


@contextlib.asynccontextmanager
async def serving(
    loop_name: str, context: ssl.SSLContext | None, *options: str
) -> AsyncIterator[Target]:
    async with run_target(loop_name, *options, context=context) as target:
        await get(target, "page.txt")  # all is imported now
        yield target


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    loop_name: str, fast_path: bool, options: list[str], context: ssl.SSLContext | None
) -> AsyncIterator[Target]:
    async with serving(loop_name, context, *options) as target:
        yield target


def request(name: str, *headers: str) -> bytes:
    """Return a request for a file."""
    return "\r\n".join([f"GET /files/{name} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


async def get(server: Target, name: str) -> Response:
    """Return the response to a well-behaved client."""
    async with server.connect() as client:
        return await client.ask(request(name, "Connection: close"))


@contextlib.asynccontextmanager
async def slow_client(
    server: Target, context: ssl.SSLContext | None, window: int
) -> AsyncIterator[Client]:
    """Connect a client that reads only when a test asks for it."""
    if context is None:
        async with connecting(server, window=window) as client:
            yield client
    else:
        async with peer(server, context, window=window) as secure:
            yield secure


@contextlib.asynccontextmanager
async def downloading(
    server: Target,
    context: ssl.SSLContext | None,
    name: str,
    *,
    count: int = COUNT,
    window: int = 0,
) -> AsyncIterator[list[Client]]:
    """Connect clients that have read some of a file, and then nothing more."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(slow_client(server, context, window))
            for _ in range(count)
        ]
        for client in clients:
            await client.send(request(name, "Connection: close"))
        for client in clients:
            assert (await client.read()).startswith(b"HTTP/1.1 200 ")
        yield clients


async def size_of_rest(client: Client) -> int:
    """Return how many bytes follow until the server ends the connection in any way."""
    size = 0
    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLError):
        while True:
            size += len(await client.read())
    return size


async def sizes_of_rest(clients: list[Client]) -> list[int]:
    return await asyncio.gather(*(size_of_rest(client) for client in clients))


async def test_clients_that_do_not_read_a_file(
    loop_name: str,
    options: list[str],
    security: str,
    context: ssl.SSLContext | None,
    measured: Measured,
) -> None:
    options = [*options, "--ws-send-timeout", f"{SEND_TIMEOUT}"]
    async with serving(loop_name, context, *options) as server:
        before = server.watch_memory()
        with throttled_log(server):
            async with (
                others_served(server),
                downloading(server, context, "large.bin", count=STALLED, window=WINDOW) as clients,
            ):
                assert (await get(server, "page.txt")).body == PAGE
                async with asyncio.timeout(PATIENCE):
                    while any(name.endswith("large.bin") for name in server.files()):
                        await pause(0.05)  # not all are dropped
                assert max(await sizes_of_rest(clients)) < SIZE
        grown = server.memory().peak - before
    bound = BOUNDS[security]
    measured(
        f"{STALLED} clients that do not read a file of {SIZE // MIB} MiB, {security}",
        f"dropped after {SEND_TIMEOUT} s; {bound // KIB} KiB each",
        f"{grown / STALLED / KIB:.0f} KiB each",
    )
    assert grown < STALLED * bound


async def test_a_flood_of_ranges_from_a_client_that_reads_late(
    server: Target, security: str, context: ssl.SSLContext | None, measured: Measured
) -> None:
    starts = [number * 4_099 for number in range(RANGES)]
    flood = b"".join([request("large.bin", f"Range: bytes={start}-{start}") for start in starts])
    before = server.watch_memory()
    async with others_served(server), slow_client(server, context, WINDOW) as client:
        sending = asyncio.ensure_future(client.send(flood))
        assert (await get(server, "page.txt")).body == PAGE
        answer = b""
        found: list[bytes] = []
        while len(found) < RANGES:
            answer += await client.read()
            matches = list(re.finditer(rb"HTTP/1\.1 206 .*?\r\n\r\n(.)", answer, re.DOTALL))
            found += [match[1] for match in matches]
            answer = answer[matches[-1].end() :] if matches else answer
        await sending
        grown = server.memory().peak - before
    assert found == [PATTERN[start % 256 :][:1] for start in starts]
    measured(
        f"{RANGES:,} pipelined requests for one byte of a file, {security}",
        "each is answered; 2 MiB",
        f"{grown / MIB:.1f} MiB",
    )
    assert grown < 2 * MIB


async def test_a_thousand_overlapping_ranges_are_one_whole_file(
    server: Target, context: ssl.SSLContext | None
) -> None:
    ranges = ",".join(["0-"] * 1_000)
    async with others_served(server), slow_client(server, context, WINDOW) as client:
        await client.send(request("large.bin", f"Range: bytes={ranges}", "Connection: close"))
        head = await client.read()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert SIZE < len(head) + await size_of_rest(client) < SIZE + 4 * KIB


async def test_a_file_that_shrinks_while_it_is_sent(
    server: Target, context: ssl.SSLContext | None, folder: Path
) -> None:
    path = folder / "shrinks.bin"
    write_large(path)
    with throttled_log(server):
        async with (
            others_served(server),
            downloading(server, context, path.name) as clients,
        ):
            os.truncate(path, 1)
            assert max(await sizes_of_rest(clients)) < SIZE
    await server.process.logged("became shorter while it was sent")
    assert (await get(server, path.name)).body == PATTERN[:1]


@pytest.mark.parametrize("successor", [b"", PAGE], ids=["removed", "replaced"])
async def test_a_file_that_vanishes_while_it_is_sent(
    server: Target, context: ssl.SSLContext | None, folder: Path, successor: bytes
) -> None:
    path = folder / "vanishes.bin"
    write_large(path)
    async with (
        others_served(server),
        downloading(server, context, path.name) as clients,
    ):
        if successor:
            (folder / "new").write_bytes(successor)
            (folder / "new").rename(path)
        else:
            path.unlink()
        response = await get(server, path.name)
        assert (response.status, response.body) == (200, successor or NOT_FOUND)
        # The old file is sent to its end: one that has it open reads what it opened.
        assert min(await sizes_of_rest(clients)) > SIZE - MIB
    path.unlink(missing_ok=True)
