"""Restarts under load: failures are counted by their kind, the rest as answered."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

import wsgate.testing
from benchmarks import restarts
from benchmarks.app import app
from benchmarks.restarts import Clients
from tests.harness.processes import running
from tests.harness.proxies import reserved_ports
from tests.harness.waiting import pause, start_task

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def run_until(clients: Clients, is_done: Callable[[], bool]) -> None:
    """Run clients until `is_done`."""
    running_clients = start_task(clients.run())
    async with asyncio.timeout(20):
        while not is_done():
            await pause(0.01)
    running_clients.cancel()
    await asyncio.wait([running_clients])


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def close_in_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await close(reader, writer)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def reject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (close, "cut"),
        (close_in_the_head, "cut"),
        (reset, "reset"),
        (reject, "rejected"),
        (ignore, "silent"),
    ],
)
async def test_each_failure_is_counted_by_its_kind(
    handler: Handler, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "silent":
        monkeypatch.setattr(restarts, "ANSWER_SECONDS", 0.1)
    async with await asyncio.start_server(handler, "127.0.0.1", 0) as server:
        clients = Clients(server.sockets[0].getsockname()[1])
        # At least one handshake and one request.
        await run_until(clients, lambda: clients.failures.total() > restarts.HANDSHAKERS + 4)
    assert set(clients.failures) == {kind}
    assert not clients.done


async def test_a_refused_connection_is_a_failure() -> None:
    with reserved_ports(1) as (port,):
        clients = Clients(port)
        await run_until(clients, lambda: clients.failures.total() > 10)
    assert set(clients.failures) == {"refused"}


async def test_a_connection_closed_between_two_requests_is_no_failure() -> None:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        clients = Clients(server.sockets[0].getsockname()[1])
        for _ in range(3):
            await clients.keep_alive(0.1)
    assert clients.done["requests"] == 3
    assert clients.pids == {7}


async def test_a_request_on_a_kept_alive_connection_that_is_not_answered_is_a_failure() -> None:
    async def answer_one_of_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7")
        await close(reader, writer)

    async with await asyncio.start_server(answer_one_of_two, "127.0.0.1", 0) as server:
        clients = Clients(server.sockets[0].getsockname()[1])
        with pytest.raises(EOFError):
            await clients.keep_alive(0)
    assert clients.done["requests"] == 1


async def test_answers_are_counted_and_name_their_process() -> None:
    async with wsgate.testing.serve(app, access_log=False) as server:
        clients = Clients(server.port)
        await run_until(clients, lambda: min(clients.done.values(), default=0) > 20)
    assert set(clients.done) == {"handshakes", "requests"}
    assert not clients.failures
    assert clients.pids == {os.getpid()}


async def test_a_server_is_restarted_under_load() -> None:
    options = ("--workers", "2", "--no-access-log")
    async with running("benchmarks.app:app", *options) as server:
        found = await asyncio.to_thread(restarts.measure, server.port, server.pid, 2, 2)
        await server.logged("Restarted 2 workers", times=2)
    assert found["restarts"] == 2
    assert found["failures"] == sum(found[kind] for kind in restarts.KINDS) == 0
    assert min(found["handshakes"], found["requests"]) > 0


async def test_a_server_that_does_not_restart_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "RESTART_SECONDS", 3)
    async with running("benchmarks.app:app", "--no-access-log") as server:
        for workers, reason in ((1, "a restart does not end"), (2, "the workers do not all serve")):
            with pytest.raises(restarts.NotRestarted, match=reason):
                await asyncio.to_thread(restarts.measure, server.port, server.pid, workers, 1)


async def test_a_fault_of_the_clients_is_no_failure_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Clients, "_connect", out_of_files)
    with pytest.raises(OSError, match="Too many open files"):
        await asyncio.to_thread(restarts.measure, 1, os.getpid(), 1, 1)


async def out_of_files(clients: Clients) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
