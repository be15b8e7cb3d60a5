"""Start and stop of a server, and what may interrupt them."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import loops
from tests.harness.app import ScriptedApp
from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import nothing_left, turns, until
from wsgate.config import Config
from wsgate.errors import ConfigError, StartupFailed
from wsgate.process import sockets
from wsgate.process.server import Server
from wsgate.server.connection import Connection
from wsgate.types import App

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


class ControlledApp:
    """An app whose lifespan is controlled by the test. seen: its events, and "cancelled"."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.entered = asyncio.Event()
        self.may_start = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._run_lifespan(receive, send)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    async def _run_lifespan(self, receive: Any, send: Any) -> None:
        self.seen.append((await receive())["type"])
        self.entered.set()
        await self.may_start.wait()
        await send({"type": "lifespan.startup.complete"})
        self.seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


def new_server(app: App, **options: Any) -> Server:
    return Server(app, Config(**{"port": 0, **options}))


async def is_refused(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


# -- a stop during the start -----------------------------------------------------------------------


async def test_a_stop_during_a_startup_that_hangs(log: LogCapture) -> None:
    app = ControlledApp()
    server = new_server(app)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await app.entered.wait()
    address = server.sockets[0].getsockname()
    server.ask_to_stop()
    await serving
    assert app.seen == ["lifespan.startup", "cancelled"]
    assert await is_refused(address)
    assert not log.errors
    assert not log.messages(20), "it has run or stopped"


async def test_a_stop_before_the_start() -> None:
    app = ControlledApp()
    server = new_server(app)
    server.ask_to_stop()
    await server.serve(handle_signals=False)
    assert app.seen in ([], ["lifespan.startup", "cancelled"])


async def test_a_stop_at_the_same_time_as_the_start(log: LogCapture) -> None:
    app = ControlledApp()
    server = new_server(app)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await app.entered.wait()
    app.may_start.set()
    await until(lambda: server._is_running)
    server.ask_to_stop()
    await serving
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert log.messages(20)[-1] == "Stopped"


async def test_a_failed_startup_raises_and_closes_the_sockets() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = new_server(app)
    with pytest.raises(StartupFailed, match="no database"):
        await server.serve(handle_signals=False)
    assert all(sock.fileno() < 0 for sock in server.sockets)


# -- cancellation ----------------------------------------------------------------------------------


async def test_serving_may_be_cancelled(log: LogCapture) -> None:
    app = ControlledApp()
    app.may_start.set()
    server = new_server(app)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await until(lambda: server._is_running)
    address = server.sockets[0].getsockname()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert app.seen == ["lifespan.startup", "lifespan.shutdown"]
    assert await is_refused(address)
    assert log.messages(20)[-1] == "Stopped"


async def test_serving_may_be_cancelled_during_the_startup() -> None:
    app = ControlledApp()
    server = new_server(app)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await app.entered.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert app.seen == ["lifespan.startup", "cancelled"]
    assert all(sock.fileno() < 0 for sock in server.sockets)


async def test_to_stop_a_server_that_was_not_started_does_nothing(log: LogCapture) -> None:
    await new_server(nothing).stop()
    assert not log.records


# -- the socket ------------------------------------------------------------------------------------


async def test_a_port_taken_by_another_server_during_the_startup() -> None:
    app, second = ControlledApp(), ControlledApp()
    server = new_server(app)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await app.entered.wait()
    port = server.sockets[0].getsockname()[1]
    late = asyncio.create_task(new_server(second, port=port).serve(handle_signals=False))
    await second.entered.wait()  # both have bound; neither listens yet
    app.may_start.set()
    await until(lambda: server._is_running)
    second.may_start.set()
    with pytest.raises(ConfigError) as raised:
        await late
    expected = f"cannot listen on http://127.0.0.1:{port}: Address already in use"
    assert str(raised.value) == expected
    assert second.seen == ["lifespan.startup", "lifespan.shutdown"]
    server.ask_to_stop()
    await serving


async def test_a_connected_socket_cannot_listen() -> None:
    near, far = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with near, far:
        far.connect(near.getsockname())
        accepted, _ = near.accept()
        with pytest.raises(ConfigError, match=r"^cannot listen on http://127\.0\.0\.1:\d+: .+"):
            await new_server(nothing, fd=accepted.detach()).serve(handle_signals=False)


async def test_a_unix_socket_file_is_removed_before_the_socket_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    server = new_server(nothing, uds=str(path))
    await server.start()
    open_then: list[bool] = []
    unlink = os.unlink

    def remove(place: str) -> None:
        open_then.append(server.sockets[0].fileno() >= 0)
        unlink(place)

    monkeypatch.setattr(os, "unlink", remove)
    assert path.is_socket()
    await server.stop()
    assert not path.exists()
    assert open_then == [True]


async def test_clients_of_a_unix_socket_wait_while_the_app_starts(tmp_path: Path) -> None:
    controlled = ControlledApp()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await controlled(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

    path = str(tmp_path / "s")
    server = new_server(app, uds=path)
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await controlled.entered.wait()
    with pytest.raises(ConfigError, match="is in use by another server"):
        await new_server(nothing, uds=path).serve(handle_signals=False)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await turns()
    assert not server.worker.connections, "it accepts before the app has started"
    controlled.may_start.set()
    assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
    writer.close()
    await writer.wait_closed()
    server.ask_to_stop()
    await serving
    assert not (tmp_path / "s").exists()


async def test_an_abandoned_startup_leaves_no_unix_socket(tmp_path: Path) -> None:
    app = ControlledApp()
    server = new_server(app, uds=str(tmp_path / "s"))
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await app.entered.wait()
    assert (tmp_path / "s").is_socket()
    server.ask_to_stop()
    await serving
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("is_served", [True, False])
async def test_an_inherited_unix_socket_is_not_removed(tmp_path: Path, is_served: bool) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(path)
        app = ControlledApp()
        server = new_server(app, fd=os.dup(given.fileno()))
        serving = asyncio.create_task(server.serve(handle_signals=False))
        await app.entered.wait()
        if is_served:
            app.may_start.set()
            await until(lambda: server._is_running)
        server.ask_to_stop()
        await serving
        with socket.socket(socket.AF_UNIX) as client:
            assert client.connect_ex(path) == (0 if is_served else errno.ECONNREFUSED)


@pytest.mark.parametrize("is_inherited", [False, True])
async def test_connections_have_the_options_of_tcp_on_each_loop(is_inherited: bool) -> None:
    options = {"fd": socket.create_server(("127.0.0.1", 0)).detach()} if is_inherited else {}
    server = new_server(nothing, **options)
    await server.start()
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await until(lambda: server.worker.connections)
    (connection,) = server.worker.connections
    assert isinstance(connection, Connection)
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000
    writer.close()
    await server.stop()


async def test_the_backlog_of_an_inherited_socket_is_left_to_others(tmp_path: Path) -> None:
    """One server has both kinds; only for its own sockets is nobody else there to accept."""
    given = socket.create_server(("127.0.0.1", 0))
    own = str(tmp_path / "s")
    server = Server(answering, Config(uds=own, lifespan="off"))
    opened = sockets.open_sockets(server.config)
    inherited = given.dup()
    opened.sockets.append(inherited)
    opened.inherited.add(inherited)
    server._sockets = opened
    await server._lifecycle.start(server.sockets)
    server._is_running = True
    for listener in server._lifecycle.listeners:
        listener.stop_accepting()  # as if the loop were busy: both connections wait
        for loop_server in listener._servers:
            loop_server.close()
    clients = [socket.create_connection(given.getsockname()), socket.socket(socket.AF_UNIX)]
    clients[1].connect(own)
    for client in clients:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
    await server.stop()
    assert clients[1].recv(100).startswith(b"HTTP/1.1 204 ")
    accepted, _ = given.accept()
    assert accepted.recv(100) == b"GET / HTTP/1.0\r\n\r\n"
    for sock in (*clients, accepted, given):
        sock.close()


async def answering(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


# -- late connections ------------------------------------------------------------------------------


async def test_a_connection_that_was_accepted_while_the_server_stops_is_closed() -> None:
    app = ScriptedApp()
    server = new_server(app, lifespan="off")
    await server.start()
    server.worker.stopping = True  # as if it had been accepted before, in the same iteration
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await server.stop()
    assert app.calls.empty()


async def test_a_connection_over_the_limit_gets_503(log: LogCapture) -> None:
    app = ScriptedApp()
    server = new_server(app, lifespan="off", limit_connections=1)
    await server.start()
    address = server.sockets[0].getsockname()
    _, first = await asyncio.open_connection(*address)
    await until(lambda: server.worker.connections)
    reader, second = await asyncio.open_connection(*address)
    second.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 5\r\n" in answer
    for writer in (first, second):
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await until(lambda: not server.worker.connections)
    assert server.worker.admission.enter(None), "a connection is still counted"
    await server.stop()
    await turns()
    assert app.calls.empty()
    assert log.warnings in ([], ["A limit of connections is reached: answering with 503"])


async def test_an_exception_in_a_deadline_does_not_stop_the_others(log: LogCapture) -> None:
    server = Server(ScriptedApp(), Config(port=0, lifespan="off"))
    await server.start()
    ticked = asyncio.Event()

    def fail() -> float:
        server.worker.tick = succeed  # type: ignore[method-assign]  # to fail once
        raise RuntimeError("of this one")

    def succeed() -> float:
        ticked.set()
        return 0.25

    server.worker.tick = fail  # type: ignore[method-assign]  # to fail once
    async with asyncio.timeout(PATIENCE):
        await ticked.wait()
    await server.stop()
    assert [r.exc_info is not None for r in log.records if r.levelname == "ERROR"] == [True]


async def test_a_server_in_a_thread_does_not_change_signal_handlers() -> None:
    server = Server(ScriptedApp(), Config(port=0, lifespan="off"))
    before = signal.getsignal(signal.SIGTERM)

    async def serve() -> None:
        asyncio.get_running_loop().call_soon(server.ask_to_stop)
        await server.serve()

    await asyncio.to_thread(asyncio.run, serve())
    assert signal.getsignal(signal.SIGTERM) is before
    assert server.worker.stopping


# -- what was written for uvicorn ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((Config(port=0),), r"the app is the first argument: wsgate\.Server\(app, config\)"),
        (
            ("main:app",),
            r'wsgate\.Server takes the app itself, not "main:app": wsgate\.run\(\) and .+',
        ),
        ((None,), "the app is None, not an ASGI app"),
        ((nothing, {"port": 0}), r"the settings are a wsgate\.Config, not \{'port': 0\}"),
    ],
)
async def test_other_arguments_name_the_right_call(arguments: tuple[Any, ...], error: str) -> None:
    with pytest.raises(ConfigError, match=f"^{error}$"):
        Server(*arguments)


@pytest.mark.parametrize("from_thread", [True, False])
async def test_should_exit_stops_the_server(log: LogCapture, from_thread: bool) -> None:
    def stop() -> None:
        server.should_exit = True

    server = new_server(nothing, lifespan="off")
    server.should_exit = False
    serving = asyncio.create_task(server.serve(handle_signals=False))
    await until(lambda: bool(server.sockets))
    states = [server.should_exit]
    if from_thread:
        await asyncio.to_thread(stop)
    else:
        stop()
    await serving
    assert [*states, server.should_exit] == [False, True]
    with pytest.raises(ValueError, match="a stop cannot be taken back"):
        server.should_exit = False


async def test_should_exit_before_the_start_is_a_server_that_does_not_start() -> None:
    server = new_server(nothing, lifespan="off")
    server.should_exit = True
    await server.serve(handle_signals=False)
    assert not server.worker.connections
