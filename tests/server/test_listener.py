"""A listener: the socket belongs to its owner, the loop gets duplicates; the backlog at a stop."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import loops
from tests.harness.log import capture_log
from tests.harness.waiting import soon, start_task, turns, until
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.server import listener as module
from wsgate.server.lifecycle import Lifecycle
from wsgate.server.listener import Listener
from wsgate.server.worker import Worker

LOOPS = loops.LOOPS

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


@pytest.fixture(params=["tcp", "unix"])
def sock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Return a bound socket that its owner, the test, has to close."""
    if request.param == "tcp":
        bound = socket.create_server(("127.0.0.1", 0))
    else:
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(tmp_path / "sock"))
    yield bound
    bound.close()


def count_handles(sock: socket.socket) -> int:
    """Return how many descriptors of this process the socket has. It must be open."""
    inode = os.fstat(sock.fileno()).st_ino
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found += str(descriptor.readlink()) == f"socket:[{inode}]"
    return found


def connect(sock: socket.socket) -> socket.socket:
    client = socket.socket(sock.family)
    client.connect(sock.getsockname())
    client.setblocking(False)
    return client


async def started(sock: socket.socket) -> Lifecycle:
    life = Lifecycle(Worker(app, Config(lifespan="off")))
    await life.start([sock])
    assert life._timer is not None
    life._timer.cancel()
    life._watchdog.stop()
    return life


async def test_the_socket_of_the_owner_stays_open(sock: socket.socket) -> None:
    life = await started(sock)
    assert count_handles(sock) > 1
    life.close_listeners()
    await turns()
    assert count_handles(sock) == 1
    # It works: another server that has it can accept connections.
    sock.listen()
    with connect(sock), sock.accept()[0]:
        pass


async def test_connections_are_served(sock: socket.socket) -> None:
    life = await started(sock)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        with connect(sock) as client:
            await loop.sock_sendall(client, GET)
            assert (await soon(loop.sock_recv(client, 1000))).startswith(b"HTTP/1.1 204 ")
            await turns()
    life.close_listeners()
    await soon(life._wait_until_idle(5))


async def test_after_the_stop_the_loop_accepts_no_more(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("other loops accept until their server is closed")
    life = await started(sock)
    (listener,) = life.listeners
    listener.stop_accepting()
    with connect(sock), connect(sock):
        await turns()
        assert not life.worker.connections
        waiting = listener.take_backlog()
        assert len(waiting) == 2
        for accepted in waiting:
            accepted.close()
        assert listener.take_backlog() == []
    listener.close()
    listener.stop_accepting()  # nothing is left to stop


@pytest.mark.parametrize("step", ["dup", "serve"])
@pytest.mark.parametrize("at", [0, 3])
async def test_a_failed_start_leaks_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, sock: socket.socket, step: str, at: int
) -> None:
    if at and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        pytest.skip("there is one handle")
    place, name = (os, "dup") if step == "dup" else (Listener, "_serve")
    original, calls = getattr(place, name), 0

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > at:
            raise OSError(24, "Too many open files")
        return original(*arguments)

    monkeypatch.setattr(place, name, fail)
    life = Lifecycle(Worker(app, Config(lifespan="off")))
    with pytest.raises(ConfigError, match="Too many open files"):
        await life.start([sock])
    life.close_listeners()
    await turns()
    assert count_handles(sock) == 1


async def test_a_socket_that_the_loop_refuses_is_not_leaked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The loops check the type of the socket themselves, after `listen`.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setattr(socket.socket, "listen", lambda *_: None)
        listener = Listener(Worker(app, Config()), sock)
        with pytest.raises((ValueError, OSError)):
            await listener.start(5)
        listener.close()
        await turns()
        assert count_handles(sock) == 1


async def test_closing_twice_closes_nothing_else(sock: socket.socket) -> None:
    life = await started(sock)
    life.close_listeners()
    await turns()
    with contextlib.closing(socket.socket()) as other:  # may get the number of a closed handle
        life.close_listeners()
        await turns()
        assert count_handles(other) == 1


# -- pauses ----------------------------------------------------------------------------------------


async def served(client: socket.socket) -> bool:
    """Send a request and return whether it is answered; the client is closed."""
    loop = asyncio.get_running_loop()
    with client:
        await loop.sock_sendall(client, GET)
        return (await soon(loop.sock_recv(client, 1000))).startswith(b"HTTP/1.1 204 ")


@contextlib.asynccontextmanager
async def listening(sock: socket.socket) -> AsyncIterator[tuple[Listener, Worker]]:
    """Serve on a socket; check that no descriptor is left at the end."""
    life = await started(sock)
    yield life.listeners[0], life.worker
    life.close_listeners()
    await soon(life._wait_until_idle(5))
    await turns()
    assert count_handles(sock) == 1


async def test_while_paused_no_connection_is_accepted(sock: socket.socket) -> None:
    async with listening(sock) as (listener, worker):
        listener.pause()
        client = connect(sock)
        await turns()
        assert not worker.connections
        listener.resume()
        assert await served(client)


@pytest.mark.parametrize("iterations", range(9))
async def test_a_pause_loses_no_connection(sock: socket.socket, iterations: int) -> None:
    # asyncio sets up an accepted connection over some iterations of the loop.
    async with listening(sock) as (listener, _):
        clients = [connect(sock) for _ in range(20)]
        await turns(iterations)
        listener.pause()
        serving = [start_task(served(client)) for client in clients]
        await turns()
        listener.resume()
        assert await asyncio.gather(*serving) == [True] * 20


async def test_what_was_accepted_is_served_during_the_pause(sock: socket.socket) -> None:
    async with listening(sock) as (listener, worker):
        client = connect(sock)
        await until(lambda: worker.connections)
        listener.pause()
        assert await served(client)


async def test_pauses_leave_no_descriptor(sock: socket.socket) -> None:
    async with listening(sock) as (listener, _):
        handles = count_handles(sock)
        for _ in range(20):
            listener.pause()
            await turns()
            assert count_handles(sock) == 1
            listener.resume()
            await turns()
            assert count_handles(sock) == handles


@pytest.mark.parametrize("calls", ["pr", "prp", "prpr", "ppr", "prr", "rr", "pp", "rpr"])
async def test_pauses_and_resumes_in_one_iteration(sock: socket.socket, calls: str) -> None:
    async with listening(sock) as (listener, worker):
        handles = count_handles(sock)
        for call in calls:
            listener.pause() if call == "p" else listener.resume()
        await turns()
        is_accepting = calls.endswith("r")
        assert count_handles(sock) == (handles if is_accepting else 1)
        client = connect(sock)
        await turns()
        assert bool(worker.connections) == is_accepting
        listener.resume()
        assert await served(client)


@pytest.mark.parametrize("iterations", range(8))
@pytest.mark.parametrize("end", [Listener.pause, Listener.close])
async def test_a_resume_that_is_interrupted_accepts_nothing(
    sock: socket.socket, iterations: int, end: Callable[[Listener], None]
) -> None:
    async with listening(sock) as (listener, worker):
        listener.pause()
        await turns()
        listener.resume()
        await turns(iterations)
        end(listener)
        await turns()
        assert count_handles(sock) == 1
        client = connect(sock)
        await turns()
        assert not worker.connections
        listener.resume()
        assert await served(client)


async def test_a_resume_runs_in_a_context_that_is_entered_already(sock: socket.socket) -> None:
    # As in a callback of the worker; an eager task runs at once in the context that it is given.
    async with listening(sock) as (listener, worker):
        listener.pause()
        worker.call_soon(listener.resume)
        assert await served(connect(sock))


async def test_a_resume_without_a_descriptor_is_tried_again(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter(range(3))
    original = os.dup

    def dup(descriptor: int) -> int:
        if next(failures, None) is not None:
            raise OSError(errno.EMFILE, "Too many open files")
        return original(descriptor)

    monkeypatch.setattr(module, "_RETRY", 0.0)
    async with listening(sock) as (listener, _):
        handles = count_handles(sock)
        listener.pause()
        await turns()
        with capture_log() as log:
            monkeypatch.setattr(os, "dup", dup)
            listener.resume()
            assert await served(connect(sock))
        assert log.warnings == [
            f"{listener.name}: cannot accept at the moment: Too many open files"
        ]
        assert count_handles(sock) == handles


@pytest.mark.parametrize("end", [Listener.pause, Listener.stop_accepting, Listener.close])
async def test_a_retry_ends_with_the_listener(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch, end: Callable[[Listener], None]
) -> None:
    def dup(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(module, "_RETRY", 0.0)
    async with listening(sock) as (listener, worker):
        listener.pause()
        await turns()
        with monkeypatch.context() as patched:
            patched.setattr(os, "dup", dup)
            listener.resume()
            await turns()
            end(listener)
        with connect(sock):
            await turns()
            assert not worker.connections
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux's")
async def test_the_backlog_of_the_socket_stays_as_it_was_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        life = Lifecycle(Worker(app, Config(lifespan="off", backlog=77)))
        await life.start([sock])
        (listener,) = life.listeners
        assert backlog_of(sock) == 77
        listener.pause()
        await turns()
        assert backlog_of(sock) == 77
        listener.resume()
        await turns()
        assert backlog_of(sock) == 77
        assert life._timer is not None
        life._timer.cancel()
        life._watchdog.stop()
        life.close_listeners()


def backlog_of(sock: socket.socket) -> int:
    """Return the maximal backlog of a listening socket: `tcpi_sacked` of Linux's `tcp_info`."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int.from_bytes(info[28:32], sys.byteorder)


# -- the description at startup --------------------------------------------------------------------


def describe(sock: socket.socket) -> str:
    with sock:
        return Listener(Worker(app, Config()), sock).description.replace(
            f":{sock.getsockname()[1]}", ":PORT"
        )


def ipv6(host: str, *, is_only: bool) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, is_only)
        sock.bind((host, 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    return sock


def test_an_address_of_ipv4_is_described() -> None:
    assert describe(socket.create_server(("127.0.0.1", 0))) == "http://127.0.0.1:PORT"
    wildcard = socket.create_server(("0.0.0.0", 0))
    assert describe(wildcard) == "http://0.0.0.0:PORT, all addresses of IPv4"


@pytest.mark.parametrize(
    ("host", "is_only", "description"),
    [
        ("::1", True, "http://[::1]:PORT"),
        ("::1", False, "http://[::1]:PORT"),
        ("::", True, "http://[::]:PORT, all addresses of IPv6 and none of IPv4"),
        ("::", False, "http://[::]:PORT, all addresses of IPv6 and IPv4"),
    ],
)
def test_an_address_of_ipv6_is_described(host: str, is_only: bool, description: str) -> None:
    assert describe(ipv6(host, is_only=is_only)) == description


def test_a_unix_socket_is_described(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    with sock:
        listener = Listener(Worker(app, Config()), sock)
        assert listener.description == f"unix socket {tmp_path}/s"
