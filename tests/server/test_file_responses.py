"""The ASGI extensions http.response.pathsend and http.response.zerocopysend, in memory."""

import asyncio
import contextlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.app import END, START, AppCall, piece
from tests.harness.client import GET
from tests.harness.log import LogCapture
from tests.harness.memory import read_chunks, read_head, read_response, requested
from tests.harness.waiting import soon, until
from wsgate.errors import ClientDisconnected, IllegalMessage, InvalidMessage
from wsgate.server.connection import HIGH_WATER
from wsgate.server.file_transfer import PIECE
from wsgate.server.open_file import SMALL_FILE, OpenFile
from wsgate.testing import MemoryClient

pytestmark = pytest.mark.usefixtures("http_parser", "log", "no_task_left", "no_descriptor_left")

SIZES = [0, 1, SMALL_FILE, SMALL_FILE + 1, 3 * PIECE + 5]
LARGE = SMALL_FILE + 1_000
MANY = 40 * PIECE
HEAD = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
TRAILERS = b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n"


def content(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def pathsend(path: object) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


def zerocopy(file: Any, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", "file": file, **more}


def start(length: int | None = None, **more: Any) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {**START, "headers": headers, **more}


def descriptors() -> list[str]:
    """Return the paths of the regular files that this process has open."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.endswith(".bin")]


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    yield
    assert descriptors() == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a large file."""
    return written(tmp_path, MANY)


def written(folder: Path, size: int) -> Path:
    path = folder / f"{size}.bin"
    path.write_bytes(content(size))
    return path


# -- pathsend --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("announced", [False, True])
async def test_a_path_is_sent_as_the_whole_body(
    tmp_path: Path, size: int, announced: bool, log: LogCapture
) -> None:
    async with requested(GET * 2) as (client, app, call):
        assert {"http.response.pathsend", "http.response.zerocopysend"} < {
            *call.scope["extensions"]
        }
        await call.send(start(size if announced else None))
        await call.send(pathsend(written(tmp_path, size)))
        response = await read_response(client)
        assert response.headers[b"content-length"] == b"%d" % size
        assert response.body == content(size)
        assert len(log.access) == 1
        await call.send_raises(END, IllegalMessage, "response complete")
        call.finish()
        second = await app.called()
        await second.respond(b"next")
        assert (await read_response(client)).body == b"next"
        second.finish()


@pytest.mark.parametrize("size", [1_000, LARGE])
async def test_of_a_file_that_has_grown_only_the_announced_bytes_are_sent(
    tmp_path: Path, size: int
) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(start(size - 10))
        await call.send(pathsend(written(tmp_path, size)))
        assert (await read_response(client)).body == content(size - 10)
        call.finish()


@pytest.mark.parametrize("size", [1_000, LARGE])
async def test_a_file_that_is_too_short_is_refused_before_anything_is_sent(
    tmp_path: Path, size: int, log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(start(size + 1))
        too_short = pathsend(written(tmp_path, size))
        await call.send_raises(too_short, InvalidMessage, "Too little data")
        call.finish(LookupError("no"))
        assert (await read_head(client)).status == 500
    assert len(log.access) == 1


@pytest.mark.parametrize("size", [1_000, LARGE])
async def test_trailers_follow_a_file(tmp_path: Path, size: int) -> None:
    async with requested(TRAILERS) as (client, _, call):
        await call.send(start(trailers=True))
        await call.send(pathsend(written(tmp_path, size)))
        await call.send_raises(END, IllegalMessage, "waiting for trailers")
        await call.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})
        head = await read_head(client)
        assert head.headers[b"transfer-encoding"] == b"chunked"
        assert await client.until(b"x-sum: 1\r\n\r\n") == (
            b"%x\r\n%b\r\n0\r\nx-sum: 1\r\n\r\n" % (size, content(size))
        )
        call.finish()


@pytest.mark.parametrize("size", [1_000, LARGE])
@pytest.mark.parametrize(("request_", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
async def test_a_response_without_a_body_has_no_bytes_of_the_file(
    tmp_path: Path, size: int, request_: bytes, status: int
) -> None:
    async with requested(request_ + GET) as (client, app, call):
        await call.send(start(status=status))
        await call.send(pathsend(written(tmp_path, size)))
        head = await read_head(client)
        assert head.status == status
        assert b"content-length" not in head.headers
        call.finish()
        second = await app.called()
        await second.respond(b"next")
        assert (await read_response(client)).body == b"next"
        second.finish()


@pytest.mark.parametrize("size", [1_000, LARGE])
async def test_http_1_0_clients_get_a_file(tmp_path: Path, size: int) -> None:
    async with requested(OLD) as (client, _, call):
        await call.send(START)
        await call.send(pathsend(written(tmp_path, size)))
        assert (await client.ended()).endswith(b"\r\n\r\n" + content(size))
        call.finish()


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        ({"path": None}, "absolute, not None"),
        ({"path": b"/etc/hosts"}, "absolute"),
        ({"path": "relative"}, "absolute"),
        ({"path": ""}, "absolute"),
        ({"path": "/a\0b"}, "absolute"),
        ({"path": "/\udcff\ud800"}, "cannot be sent"),
        ({"path": "/does/not/exist"}, "No such file"),
        ({"path": "/" + "a" * 5_000}, "too long"),
        ({"path": "/etc"}, "not a regular file"),
        ({"path": "/dev/zero"}, "not a regular file"),
        ({}, "absolute"),
    ],
)
async def test_a_path_that_cannot_be_sent_is_an_error_of_the_app(
    sent: dict[str, Any], match: str
) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        await call.send_raises({"type": "http.response.pathsend", **sent}, InvalidMessage, match)
        await call.send(piece(b"else", more=False))
        assert (await read_response(client)).body == b"else"
        call.finish()


async def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with requested(GET) as (_, _, call):
        await call.send(START)
        fifo = pathsend(tmp_path / "fifo")
        await call.send_raises(fifo, InvalidMessage, "not a regular file")
        call.finish()


async def test_a_path_is_not_mixed_with_a_body(tmp_path: Path) -> None:
    path = written(tmp_path, 10)
    async with requested(GET) as (_, _, call):
        await call.send_raises(pathsend(path), IllegalMessage, "waiting for a response")
        await call.send(START)
        await call.send(piece(b"a"))
        await call.send_raises(pathsend(path), IllegalMessage, "streaming")
        call.finish()


# -- zerocopysend ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({}, slice(None)),
        ({"offset": 10}, slice(10, None)),
        ({"offset": 10, "count": 20}, slice(10, 30)),
        ({"offset": None, "count": None}, slice(None)),
        ({"count": 10}, slice(10)),
        ({"count": 0}, slice(0)),
        ({"count": LARGE - 3}, slice(LARGE - 3)),
        ({"count": 10 * LARGE}, slice(None)),  # as os.sendfile does
        ({"offset": LARGE + 1}, slice(0)),
    ],
)
@pytest.mark.parametrize("kind", ["file", "unbuffered", "descriptor"])
async def test_a_part_of_an_open_file_is_sent(
    tmp_path: Path, more: dict[str, Any], sent: slice, kind: str
) -> None:
    path = written(tmp_path, LARGE)
    with path.open("rb", buffering=0 if kind == "unbuffered" else -1) as file:
        async with requested(GET) as (client, _, call):
            await call.send(START)
            await call.send(zerocopy(file.fileno() if kind == "descriptor" else file, **more))
            response = await read_response(client)
            assert response.headers[b"content-length"] == b"%d" % len(response.body)
            assert response.body == content(LARGE)[sent]
            call.finish()


async def test_files_and_parts_of_a_body_leave_in_order(tmp_path: Path) -> None:
    small, large = written(tmp_path, 10), written(tmp_path, LARGE)
    with small.open("rb") as first, large.open("rb") as second:
        async with requested(GET) as (client, _, call):
            await call.send(START)
            messages = [
                zerocopy(second, more_body=True),
                piece(b"a"),
                zerocopy(first, more_body=True),
                zerocopy(first, more_body=True),  # at its end: no bytes
                zerocopy(second, offset=5, count=3, more_body=True),
                piece(b"b"),
            ]
            await asyncio.gather(*map(call.send, messages))
            await call.send(zerocopy(second, offset=1, count=2))
            await read_head(client)
            assert await read_chunks(client) == [
                content(LARGE),
                b"a",
                content(10),
                content(8)[5:],
                b"b",
                content(3)[1:],
            ]
            call.finish()


@pytest.mark.parametrize("kind", ["file", "descriptor"])
async def test_without_an_offset_the_position_of_the_file_counts_and_moves(
    tmp_path: Path, kind: str
) -> None:
    with written(tmp_path, 2 * LARGE).open("rb") as file:
        sent: Any = file if kind == "file" else file.fileno()
        async with requested(GET) as (client, _, call):
            await call.send(START)
            if kind == "file":
                file.read(7)  # which reads ahead
            else:
                os.lseek(sent, 7, os.SEEK_SET)
            await call.send(zerocopy(sent, count=3, more_body=True))
            await call.send(zerocopy(sent, count=LARGE, more_body=True))
            await call.send(zerocopy(sent, offset=1, count=1, more_body=True))
            await call.send(zerocopy(sent, count=1))
            await read_head(client)
            everything = content(2 * LARGE)
            assert await read_chunks(client) == [
                everything[7:10],
                everything[10 : 10 + LARGE],
                b"1",
                everything[10 + LARGE : 11 + LARGE],
            ]
            call.finish()


def closed_file() -> io.IOBase:
    file = Path("/etc/hosts").open("rb")  # noqa: SIM115  # not used in a loop
    file.close()
    return file


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        (lambda: {"file": None}, "descriptor or a binary file"),
        (lambda: {"file": "/etc/hosts"}, "descriptor or a binary file"),
        (lambda: {"file": -1}, "descriptor or a binary file"),
        (lambda: {"file": True}, "descriptor or a binary file"),
        (lambda: {"file": io.StringIO()}, "descriptor or a binary file"),
        (lambda: {"file": io.BytesIO(b"abc")}, "fileno"),
        (lambda: {"file": closed_file()}, "closed file"),
        (lambda: {"file": 1_000_000}, "Bad file descriptor"),
        (lambda: {"file": 10**30}, "cannot be sent"),
        (lambda: {"file": 0, "offset": -1}, "the offset of a file"),
        (lambda: {"file": 0, "offset": 1.5}, "the offset of a file"),
        (lambda: {"file": 0, "count": True}, "the count of a file"),
        (lambda: {"file": 0, "count": 2**63}, "the count of a file"),
        (dict, "descriptor or a binary file"),
    ],
)
async def test_what_is_no_part_of_a_file_is_an_error_of_the_app(sent: Any, match: str) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        message = {"type": "http.response.zerocopysend", **sent()}
        await call.send_raises(message, InvalidMessage, match)
        await call.send(piece(b"else", more=False))
        assert (await read_response(client)).body == b"else"
        call.finish()


async def test_a_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        async with requested(GET) as (_, _, call):
            await call.send(START)
            for more in ({}, {"offset": 0}):
                await call.send_raises(zerocopy(reading, **more), InvalidMessage, "cannot be sent")
            call.finish()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("size", [100, LARGE])
async def test_files_that_do_not_fit_the_content_length_are_refused(
    tmp_path: Path, size: int
) -> None:
    with written(tmp_path, size).open("rb") as file:
        async with requested(GET) as (client, _, call):
            await call.send(start(size - 1))
            await call.send_raises(zerocopy(file, offset=0), InvalidMessage, "Too much data")
            await call.send(zerocopy(file, offset=0, count=10, more_body=True))
            await call.send_raises(zerocopy(file, offset=0), InvalidMessage, "Too much data")
            call.finish()
            await client.ended()


async def test_a_last_file_that_is_too_short_is_refused(tmp_path: Path, log: LogCapture) -> None:
    with written(tmp_path, LARGE).open("rb") as file:
        async with requested(GET) as (client, _, call):
            await call.send(start(2 * LARGE + 1))
            await call.send(zerocopy(file, offset=0, more_body=True))
            await call.send_raises(zerocopy(file, offset=0), InvalidMessage, "Too little data")
            call.finish()
            assert len(await client.ended()) > 2 * LARGE
    assert [line.split()[-2:] for line in log.access] == [["200", "OK"]]


async def test_an_app_may_close_its_file_while_it_is_sent(path: Path) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        descriptor = os.open(path, os.O_RDONLY)
        sending = call.start_send(zerocopy(descriptor, offset=0))
        await until(lambda: call_is_stalled(client))
        os.close(descriptor)
        client.read_on()
        await soon(sending)
        assert (await read_response(client)).body == content(MANY)
        call.finish()


# -- clients that are slow, leave, and calls that end --------------------------------------------


def call_is_stalled(client: MemoryClient) -> bool:
    return client.connection.gate.is_shut


async def test_a_client_that_reads_slowly_gets_a_file_in_bounded_memory(path: Path) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        most = 0
        while not sending.done():
            await until(lambda: call_is_stalled(client) or sending.done())
            most = max(most, client.transport.get_write_buffer_size())
            client.read_some(PIECE)
        client.read_on()
        assert (await read_response(client)).body == content(MANY)
        assert most <= HIGH_WATER + PIECE + 1_000
        call.finish()


async def test_a_client_that_stops_reading_a_file_is_dropped_in_time(path: Path) -> None:
    async with requested(GET, ws_send_timeout=5) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        await until(lambda: call_is_stalled(client))
        await client.advance(4)
        client.read_some(1_000)
        await client.advance(4)
        assert not client.is_lost
        await client.advance(2)
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        await call.send_raises(END, ClientDisconnected, "left")
        call.finish()


async def test_a_client_may_leave_amid_a_file(path: Path, log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        waiting = call.start_send(END)
        await until(lambda: call_is_stalled(client))
        client.drop()
        for one in (sending, waiting):
            with pytest.raises(ClientDisconnected):
                await soon(one)
        call.finish(ClientDisconnected())
        await until(lambda: not client.worker.tasks)
    assert len(log.access) == 1
    assert log.problems == []


@pytest.mark.parametrize("size", [10, MANY])
async def test_a_client_may_leave_while_a_file_is_opened(
    tmp_path: Path, size: int, log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        await call.send(START)
        sending = call.start_send(pathsend(written(tmp_path, size)))
        client.drop()
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        call.finish()
        await until(lambda: not client.worker.tasks)
    assert log.problems == []


async def test_a_client_may_half_close_and_read_on(path: Path) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        await until(lambda: call_is_stalled(client))
        client.eof()
        client.read_on()
        await soon(sending)
        assert (await read_response(client)).body == content(MANY)
        call.finish()


async def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(
    path: Path, log: LogCapture
) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        await until(lambda: call_is_stalled(client))
        os.truncate(path, 2 * PIECE)
        client.read_on()
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        call.finish(sending.exception())
        assert len(await client.ended()) < MANY
        await until(lambda: client.is_lost and not client.worker.tasks)
    assert log.problems == ["A file became shorter while it was sent: connection aborted"]
    assert len(log.access) == 1


async def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(path: Path) -> None:
    async with requested(GET) as (client, _, call):
        client.stall()
        await call.send(START)
        sending = call.start_send(pathsend(path))
        await until(lambda: call_is_stalled(client))
        with path.open("ab") as file:
            file.write(b"more")
        client.read_on()
        await soon(sending)
        assert (await read_response(client)).body == content(MANY)
        call.finish()


async def test_an_error_of_the_disk_reaches_the_app_and_ends_the_connection(
    path: Path, monkeypatch: pytest.MonkeyPatch, log: LogCapture
) -> None:
    def fail(file: OpenFile, _: int) -> bytes:
        assert file.left
        raise OSError(5, "Input/output error")

    async with requested(GET) as (client, _, call):
        await call.send(START)
        monkeypatch.setattr(OpenFile, "_read", fail)
        await call.send_raises(pathsend(path), OSError, "Input/output error")
        call.finish(OSError(5, "Input/output error"))
        await until(lambda: client.is_lost and not client.worker.tasks)
    assert len(log.problems) == 1


async def stalled(client: MemoryClient, call: AppCall, path: Path) -> "asyncio.Task[None]":
    """Return the sending of a large file, after its first bytes."""
    client.stall()
    await call.send(START)
    sending = call.start_send(pathsend(path))
    await until(lambda: call_is_stalled(client))
    return sending


async def test_a_cancelled_file_ends_the_connection(path: Path) -> None:
    async with requested(GET) as (client, _, call):
        sending = await stalled(client, call, path)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(sending)
        call.finish()
        await until(lambda: client.is_lost)


async def test_a_call_that_ends_amid_a_file_ends_it(path: Path, log: LogCapture) -> None:
    async with requested(GET) as (client, _, call):
        sending = await stalled(client, call, path)
        call.finish()
        await until(lambda: not client.worker.tasks)
        client.read_on()
        with pytest.raises(ClientDisconnected):
            await soon(sending)
        assert len(await client.ended()) < MANY
    assert log.problems == ["ASGI callable returned without completing its response"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_may_be_cancelled_while_a_thread_opens_its_file(
    tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    has_begun, has_ended, may_go_on = asyncio.Event(), asyncio.Event(), threading.Event()
    open_path = OpenFile._open_path

    def hold(file: OpenFile, path: str) -> None:
        loop.call_soon_threadsafe(has_begun.set)
        assert may_go_on.wait(10)
        open_path(file, path)
        loop.call_soon_threadsafe(has_ended.set)
        if fails:
            raise OSError("too late")

    monkeypatch.setattr(OpenFile, "_open_path", hold)
    async with requested(GET) as (client, _, call):
        await call.send(START)
        sending = call.start_send(pathsend(written(tmp_path, 10)))
        await soon(has_begun.wait())
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(sending)
        may_go_on.set()
        await call.send(piece(b"else", more=False))  # nothing was sent, so all is well
        assert (await read_response(client)).body == b"else"
        call.finish()
        await soon(has_ended.wait())
        await until(lambda: not descriptors())
