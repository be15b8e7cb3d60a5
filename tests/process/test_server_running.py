"""A server within a program: `async with server.running()`."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness import loops
from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import nothing_left, soon, turns
from wsgate.config import Config
from wsgate.errors import ConfigError, StartupFailed
from wsgate.process.server import Server

LOOPS = loops.LOOPS
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def log() -> Iterator[LogCapture]:
    with capture_log() as lines:
        yield lines


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left(), asyncio.timeout(PATIENCE):
        yield


class App:
    """An app that answers when it may.

    seen: the events of its lifespan, and what has become of each request. release: lets it answer.
    refuses: why its startup fails.
    """

    def __init__(self, *, answers: bool = True, refuses: str = "") -> None:
        self.seen: list[str] = []
        self.asked = asyncio.Event()
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.release = asyncio.Event()
        if answers:
            self.release.set()
        self.refuses = refuses

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        self.asked.set()
        await self.release.wait()
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        self.seen.append("answered")

    async def _run_lifespan(self, receive: Any, send: Any) -> None:
        self.seen.append((await receive())["type"])
        self.asked.set()
        await self.may_start.wait()
        if self.refuses:
            await send({"type": "lifespan.startup.failed", "message": self.refuses})
            return
        self.asked.clear()
        await send({"type": "lifespan.startup.complete"})
        self.seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})


def new_server(app: App, **options: Any) -> Server:
    return Server(app, Config(**{"host": "127.0.0.1", "port": 0, **options}))


def address_of(server: Server) -> tuple[str, int]:
    address: tuple[str, int] = server.sockets[0].getsockname()
    return address


async def get(address: tuple[str, int]) -> bytes:
    """Return the first line of a response; empty without one."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return (await reader.read()).split(b"\r\n")[0]
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_refused(address: tuple[str, int]) -> bool:
    try:
        await get(address)
    except ConnectionRefusedError:
        return True
    return False


OK = b"HTTP/1.1 204 No Content"
ALL = ["lifespan.startup", "answered", "lifespan.shutdown"]


# -- the context -----------------------------------------------------------------------------------


async def test_it_serves_while_the_context_lasts(log: LogCapture) -> None:
    app = App()
    server = new_server(app)
    async with server.running() as entered:
        assert entered is server
        address = address_of(server)
        assert await get(address) == OK
        assert server.urls == [f"http://127.0.0.1:{address[1]}"]
        is_stopping = [server.is_stopping]
    assert await is_refused(address)
    assert app.seen == ALL
    assert [*is_stopping, server.is_stopping] == [False, True]
    assert server.urls == []
    assert log.messages(20)[-1] == "Stopped"


async def test_a_request_is_answered_after_the_end_of_the_context() -> None:
    app = App(answers=False)
    async with asyncio.TaskGroup() as group:
        async with new_server(app).running() as server:
            request = group.create_task(get(address_of(server)))
            await app.asked.wait()
            asyncio.get_running_loop().call_later(0.01, app.release.set)
        assert app.seen == ALL
        assert await request == OK


async def test_an_exception_stops_gracefully_and_is_raised() -> None:
    app = App(answers=False)

    async def fail() -> None:
        async with new_server(app).running() as server:
            requests.append(asyncio.create_task(get(address_of(server))))
            await app.asked.wait()
            asyncio.get_running_loop().call_later(0.01, app.release.set)
            raise ZeroDivisionError

    requests: list[asyncio.Task[bytes]] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert app.seen == ALL
    assert await requests[0] == OK


@pytest.mark.parametrize("times", [1, 5])
async def test_cancellations_stop_gracefully_and_are_raised(times: int) -> None:
    app, running = App(answers=False), asyncio.Event()

    async def run() -> None:
        async with new_server(app).running() as server:
            address.append(address_of(server))
            running.set()
            await asyncio.Event().wait()

    address: list[tuple[str, int]] = []
    task = asyncio.create_task(run())
    await running.wait()
    request = asyncio.create_task(get(address[0]))
    await app.asked.wait()
    for _ in range(times):
        task.cancel()
        await turns()
        assert not task.done(), "it waits for the request"
    app.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.seen == ALL
    assert await request == OK


async def test_a_failed_startup_is_raised_and_the_sockets_are_closed() -> None:
    server = new_server(App(refuses="no database"))
    with pytest.raises(StartupFailed, match="no database"):
        async with server.running():
            pytest.fail("it must not start")
    assert all(sock.fileno() < 0 for sock in server.sockets)


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with new_server(App()).running() as server:
        port = address_of(server)[1]
        with pytest.raises(ConfigError, match="Address already in use"):
            async with new_server(App(), port=port).running():
                pytest.fail("it must not start")
        assert await get(address_of(server)) == OK


async def test_a_cancellation_during_the_startup() -> None:
    app = App()
    app.may_start.clear()
    server = new_server(app)

    async def run() -> None:
        async with server.running():
            pytest.fail("it must not start")

    task = asyncio.create_task(run())
    await app.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(sock.fileno() < 0 for sock in server.sockets)


async def test_a_server_runs_once() -> None:
    server = new_server(App())
    async with server.running():
        with pytest.raises(RuntimeError, match="a server runs once: make another one"):
            await server.start()
        with pytest.raises(RuntimeError, match="a server runs once"):
            async with server.running():
                pytest.fail("it must not start")
        assert await get(address_of(server)) == OK
    with pytest.raises(RuntimeError, match="a server runs once"):
        await server.serve()


# -- a stop from outside ---------------------------------------------------------------------------


async def test_a_stop_that_is_asked_for_leaves_the_context_running() -> None:
    app = App()
    async with new_server(app).running() as server:
        address = address_of(server)
        waiting = asyncio.create_task(server.stop_requested())
        await turns()
        assert not waiting.done()
        server.ask_to_stop()
        server.ask_to_stop()
        await waiting
        assert server.is_stopping
        await server.stop()
        assert await is_refused(address)
        assert app.seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_the_end_of_the_context_waits_for_a_stop_that_was_asked_for() -> None:
    app = App(answers=False)
    async with new_server(app).running() as server:
        request = asyncio.create_task(get(address_of(server)))
        await app.asked.wait()
        server.ask_to_stop()
        asyncio.get_running_loop().call_later(0.01, app.release.set)
    assert app.seen == ALL
    assert await request == OK


async def test_a_waiter_learns_of_the_end_of_the_context() -> None:
    async with new_server(App()).running() as server:
        waiting = asyncio.create_task(server.stop_requested())
    await soon(waiting)


async def test_a_stop_during_the_startup_is_a_failed_start() -> None:
    app = App()
    app.may_start.clear()
    server = new_server(app)

    async def run() -> None:
        with pytest.raises(StartupFailed, match="was asked to stop during its start"):
            async with server.running():
                pytest.fail("it must not start")

    task = asyncio.create_task(run())
    await app.asked.wait()
    server.ask_to_stop()
    await task
    assert all(sock.fileno() < 0 for sock in server.sockets)


async def test_the_limit_of_requests_stops_it() -> None:
    app = App()
    async with new_server(app, limit_max_requests=1).running() as server:
        assert await get(address_of(server)) == OK
        await server.stop_requested()
    assert app.seen == ALL


async def test_an_app_may_stop_its_own_server() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        server.ask_to_stop()
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    server = Server(app, Config(host="127.0.0.1", port=0, lifespan="off"))
    async with server.running():
        assert await get(address_of(server)) == OK
        await server.stop_requested()


# -- signals ---------------------------------------------------------------------------------------


async def test_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with new_server(App()).running():
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_signal_stops_it_and_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: raised.append(number))
    try:
        async with new_server(App()).running(handle_signals=True) as server:
            os.kill(os.getpid(), signal.SIGTERM)
            await server.stop_requested()
            assert raised == []
        assert raised == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)


async def test_signals_are_refused_outside_the_main_thread() -> None:
    async def serve() -> None:
        async with Server(App()).running(handle_signals=True):
            pytest.fail("it must not start")

    text = r"^running\(handle_signals=True\) needs the main thread"
    with pytest.raises(ConfigError, match=text):
        await asyncio.to_thread(asyncio.run, serve())


# -- surroundings ----------------------------------------------------------------------------------


async def test_several_servers_in_one_loop() -> None:
    apps = [App() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(new_server(app).running()) for app in apps]
        assert len({address_of(server) for server in servers}) == 3
        assert [await get(address_of(server)) for server in servers] == [OK] * 3
        servers[1].ask_to_stop()
        await servers[1].stop()
        assert await get(address_of(servers[0])) == OK
    assert [app.seen.count("answered") for app in apps] == [2, 1, 1]
    assert [app.seen[-1] for app in apps] == ["lifespan.shutdown"] * 3


async def test_a_sibling_that_fails_in_a_task_group_stops_it() -> None:
    app = App()

    async def serve() -> None:
        async with new_server(app).running() as server:
            running.set_result(address_of(server))
            await asyncio.Event().wait()

    running: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve())
            await running
            raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        await fail()
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert await is_refused(running.result())


async def test_a_cancelled_scope_of_anyio_stops_it_gracefully() -> None:
    # Such a scope cancels a task again in each loop iteration.
    app = App(answers=False)
    with anyio.CancelScope() as scope:
        async with new_server(app).running() as server:
            request = asyncio.create_task(get(address_of(server)))
            await app.asked.wait()
            asyncio.get_running_loop().call_later(0.01, app.release.set)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert app.seen == ALL
    assert await request == OK


async def test_it_runs_in_a_task_group_of_anyio() -> None:
    app = App()
    async with anyio.create_task_group() as group, new_server(app).running() as server:
        group.start_soon(get, address_of(server))
        await app.asked.wait()
    assert app.seen == ALL


@contextlib.asynccontextmanager
async def _as_in_a_fixture(app: App) -> AsyncIterator[Server]:
    """Enter and leave the context in different tasks, as plugins of pytest do."""
    context = new_server(app).running()
    server = await asyncio.create_task(_awaited(context.__aenter__()))
    yield server
    await asyncio.create_task(_awaited(context.__aexit__(None, None, None)))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def test_its_start_and_end_may_be_in_different_tasks() -> None:
    app = App()
    async with _as_in_a_fixture(app) as server:
        assert await get(address_of(server)) == OK
    assert app.seen == ALL


# -- addresses -------------------------------------------------------------------------------------


async def test_urls_are_for_clients_on_this_machine(tmp_path: Path) -> None:
    async with new_server(App(), host="0.0.0.0", uds=str(tmp_path / "s")).running() as server:
        ports = [s.getsockname()[1] for s in server.sockets if s.family == socket.AF_INET]
        assert server.urls == [f"http://127.0.0.1:{port}" for port in ports]


@pytest.mark.parametrize("host", ["::1", "::"])
async def test_urls_of_ipv6_have_brackets(host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with new_server(App(), host=host).running() as server:
        assert server.urls == [f"http://[::1]:{address_of(server)[1]}"]


def test_without_a_start_there_is_no_url() -> None:
    assert Server(App()).urls == []
