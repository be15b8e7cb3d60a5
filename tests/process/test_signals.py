"""The effects of signals on a server, on the program around it and on children of the app."""

import asyncio
import contextlib
import os
import pty
import re
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.harness.processes import STOP, ServerProcess, program
from wsgate.process import signals
from wsgate.threads import HANDLED_SIGNALS

APP = "tests.apps.signalled:app"
STOPS = [signal.SIGINT, signal.SIGTERM]
both_stops = pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)

# The start of programs that contain a server.
HOST = """
import asyncio, logging, os, signal, sys
import uvloop
import wsgate
from tests.apps.signalled import WHO, app, hangs, refuses, say

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
loop_name = sys.argv[1]
new_loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[loop_name]

def on_signal(number, frame=None):
    say("host handles", number)

def start(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)
"""


TEST_TIMEOUT = 4 * STOP  # seconds


@contextlib.asynccontextmanager
async def command(loop_name: str, *arguments: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run the command until it serves the app."""
    arguments = ("-m", "wsgate", APP, "--port", "0", "--loop", loop_name, *arguments)
    async with asyncio.timeout(TEST_TIMEOUT), program(*arguments, **options) as process:
        await process.serves()
        yield process


@contextlib.asynccontextmanager
async def host(loop_name: str, source: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run a program that contains a server."""
    async with (
        asyncio.timeout(TEST_TIMEOUT),
        program("-c", HOST + source, loop_name, **options) as process,
    ):
        yield process


async def get(process: ServerProcess, path: str) -> str:
    """Return the body of the response."""
    answer = await asyncio.to_thread(urllib.request.urlopen, process.url + path, timeout=STOP)
    with answer:
        return str(answer.read().decode())


@contextlib.asynccontextmanager
async def requesting(process: ServerProcess, path: str) -> AsyncIterator[None]:
    """Keep a request open that is not answered soon."""
    _, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def count(process: ServerProcess, line: str) -> int:
    return process.log.count(line)


# -- graceful stop ---------------------------------------------------------------------------------


@both_stops
async def test_signal_wakes_an_idle_loop(loop_name: str, number: signal.Signals) -> None:
    # The loop of a started server wakes up for its deadlines; this one has not started yet.
    arguments = ("-m", "wsgate", "tests.apps.signalled:hangs", "--port", "0", "--loop", loop_name)
    async with program(*arguments) as process:
        await process.logged("^starting$")
        process.signal(number)
        assert await process.ended() == 0
        assert process.log == ["starting", "cancelled"]


async def test_stop_by_the_program_does_not_count_as_a_first_signal(loop_name: str) -> None:
    source = """
async def main():
    signal.signal(signal.SIGTERM, on_signal)
    server = wsgate.Server(app, wsgate.Config(port=0))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, server.ask_to_stop)
    await server.serve()
    say("over")

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        async with requesting(process, "/wait"):
            await process.logged("^waiting$")
            process.signal(signal.SIGUSR2)
            await process.logged("^Shutting down$")
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGUSR1)  # the app answers
            assert await process.ended() == 0
    assert process.log[-3:] == ["Stopped", "host handles 15", "over"]


@both_stops
async def test_all_servers_of_a_program_stop(loop_name: str, number: signal.Signals) -> None:
    source = """
async def main():
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    await asyncio.gather(wsgate.serve(app, port=0), wsgate.serve(app, port=0))
    say("over")

start(main())
"""
    async with host(loop_name, source) as process:
        await process.logged("running on", times=2)
        process.signal(number)
        assert await process.ended() == 0
    assert count(process, "lifespan shutdown") == 2
    assert count(process, "Stopped") == 2
    assert process.log[-2:] == [f"host handles {number.value}", "over"]


async def test_server_started_during_a_stop_stops_too(loop_name: str) -> None:
    source = """
async def first(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await wsgate.serve(hangs, port=0)
    say("second is over")
    await send({"type": "lifespan.shutdown.complete"})

signal.signal(signal.SIGTERM, on_signal)
start(wsgate.serve(first, port=0))
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal()
        assert await process.ended() == 0
    assert process.log[-3:] == ["second is over", "Stopped", "host handles 15"]


async def test_stop_does_not_run_in_the_context_of_the_interrupted_code(loop_name: str) -> None:
    source = """
class Reporting(wsgate.Server):
    def ask_to_stop(self):
        say("stop for", WHO.get())
        super().ask_to_stop()

async def main():
    WHO.set("the host")
    await Reporting(app, wsgate.Config(port=0)).serve()

signal.signal(signal.SIGTERM, on_signal)
start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        await get(process, "/signal")
        assert await process.ended() == 0
    assert count(process, "stop for the host") == 1


# -- second signal ---------------------------------------------------------------------------------


async def signal_until_end(process: ServerProcess, number: signal.Signals) -> int:
    """Send a signal repeatedly, because two at once are merged; return the exit status."""
    ended = asyncio.create_task(process.ended())
    while not ended.done():
        with contextlib.suppress(ProcessLookupError):
            # Not `send_signal`, which may take the exit status away from asyncio's watcher.
            os.kill(process.pid, number)
        await asyncio.wait([ended], timeout=0.01)
    return ended.result()


@pytest.mark.parametrize("path", ["/sleep", "/count"])
@both_stops
async def test_second_signal_ends_a_process_whose_loop_is_blocked(
    loop_name: str, path: str, number: signal.Signals
) -> None:
    async with command(loop_name) as process, requesting(process, path):
        await process.logged("^blocked$")
        assert await signal_until_end(process, number) == 128 + number
    assert count(process, "WARNING:  Second signal: ending at once") == 1


async def test_second_signal_may_differ_from_the_first(loop_name: str) -> None:
    async with command(loop_name) as process, requesting(process, "/wait"):
        await process.logged("^waiting$")
        process.signal(signal.SIGINT)
        await process.logged("Shutting down")
        process.signal(signal.SIGTERM)
        assert await process.ended() == 128 + signal.SIGTERM


async def test_second_signal_does_not_wait_for_a_reader_of_stderr(loop_name: str) -> None:
    read, write = os.pipe()
    arguments = ("-m", "wsgate", APP, "--port", "0", "--loop", loop_name)
    with FileIO(read) as log, FileIO(write, "w"):
        async with program(*arguments, stderr=write) as process:
            process.port = await asyncio.to_thread(port_in, log)
            async with requesting(process, "/fill-stderr"):
                await process.logged("^blocked$")
                assert await signal_until_end(process, signal.SIGTERM) == 128 + 15


def port_in(log: Iterable[bytes]) -> int:
    """Read a log up to the line with the port; return the port."""
    matches = (re.search(rb"running on http://127\.0\.0\.1:(\d+)", line) for line in log)
    return int(next(match for match in matches if match)[1])


# -- the program around a server -------------------------------------------------------------------


@both_stops
async def test_handlers_of_the_program_are_restored_and_called(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
async def main():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    await wsgate.serve(app, port=0)
    say("over", {signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} == {on_signal})

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        assert await process.ended() == 0
    assert process.log[-3:] == ["Stopped", f"host handles {number.value}", "over True"]
    assert count(process, f"host handles {number.value}") == 1


@both_stops
async def test_handlers_of_the_loop_are_restored_and_called(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
async def main():
    called = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, called.set)
    await wsgate.serve(app, port=0)
    say("over")
    await called.wait()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        await process.logged("^over$")
        assert count(process, f"host handles {number.value}") == 1
        process.signal(number)
        await process.logged(f"^host handles {number.value}$", times=2)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0
    assert count(process, f"host handles {number.value}") == 2


async def test_asyncio_runner_is_interrupted(loop_name: str) -> None:
    source = """
try:
    start(wsgate.serve(app, port=0))
except KeyboardInterrupt:
    say("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(signal.SIGINT)
        assert await process.ended() == 0
    assert process.log[-3:] == ["lifespan shutdown", "Stopped", "interrupted True"]


async def test_program_without_a_handler_is_ended_by_the_signal(loop_name: str) -> None:
    async with host(loop_name, "start(wsgate.serve(app, port=0))") as process:
        await process.serves()
        process.signal(signal.SIGTERM)
        assert await process.ended() == -signal.SIGTERM
    assert process.log[-2:] == ["lifespan shutdown", "Stopped"]


@both_stops
async def test_run_calls_handlers_of_the_program_after_the_stop(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
signal.signal(signal.SIGINT, on_signal)
signal.signal(signal.SIGTERM, on_signal)
wsgate.run(app, port=0, loop=loop_name)
say("over", {signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} == {on_signal})
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        assert await process.ended() == 0
    assert process.log[-2:] == [f"host handles {number.value}", "over True"]


@both_stops
async def test_run_returns_if_the_program_has_no_handler(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
previous = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
for _ in range(2):
    wsgate.run(app, port=0, loop=loop_name)
    say("over", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == previous)
"""
    async with host(loop_name, source) as process:
        for times in (1, 2):
            await process.logged("running on", times=times)
            process.signal(number)
        assert await process.ended() == 0
    assert count(process, "over True") == 2


@pytest.mark.parametrize("outer", ["asyncio", "uvloop"])
async def test_run_calls_handlers_of_a_loop_that_is_not_running(loop_name: str, outer: str) -> None:
    source = f"""
other = {{"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}}["{outer}"]()
called = asyncio.Event()
other.run_until_complete(asyncio.sleep(0))
other.add_signal_handler(signal.SIGTERM, on_signal, "SIGTERM")
other.add_signal_handler(signal.SIGUSR1, called.set)
wsgate.run(app, port=0, loop=loop_name)
say("over")
other.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
other.run_until_complete(called.wait())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert process.log[-2:] == ["over", "host handles SIGTERM"]


async def test_ignored_sigterm_is_handled_while_a_server_runs(loop_name: str) -> None:
    source = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
start(wsgate.serve(app, port=0))
say("over", signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert process.log[-2:] == ["Stopped", "over True"]


async def test_handler_installed_meanwhile_is_kept(loop_name: str) -> None:
    source = """
async def main():
    server = wsgate.Server(app, wsgate.Config(port=0))
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0)
    signal.signal(signal.SIGTERM, on_signal)
    server.ask_to_stop()
    await serving
    say("over", signal.getsignal(signal.SIGTERM) is on_signal)

start(main())
"""
    async with host(loop_name, source) as process:
        assert await process.ended() == 0
    assert process.log[-1] == "over True"


# -- child processes -------------------------------------------------------------------------------


async def test_child_of_a_program_with_a_handler_of_its_loop_can_be_terminated(
    loop_name: str,
) -> None:
    # A handler of `add_signal_handler` would do nothing in a child: it has neither the wakeup
    # descriptor nor a running loop.
    source = """
async def main():
    called = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, called.set)
    await wsgate.serve(app, port=0)
    await called.wait()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        assert await get(process, "/terminate") == "-15"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


@pytest.mark.parametrize("path", ["/terminate", "/terminate-of-thread"])
async def test_terminated_child_does_not_stop_the_server(loop_name: str, path: str) -> None:
    async with command(loop_name) as process, connect(process.ws_url) as websocket:
        assert await get(process, path) == str(-signal.SIGTERM)
        await websocket.send("still here?")
        assert await websocket.recv() == "still here?"
        assert not any("Shutting down" in line for line in process.log)
        await websocket.close()
        process.signal()
        assert await process.ended() == 0


async def test_signal_to_a_child_that_just_started_is_not_lost(loop_name: str) -> None:
    async with command(loop_name) as process:
        assert await get(process, "/terminate-many") == "200"


@pytest.mark.parametrize("path", ["/child", "/child-of-thread"])
async def test_signal_to_the_process_group_ends_the_child_and_stops_the_server(
    loop_name: str, path: str
) -> None:
    async with command(loop_name) as process, connect(process.ws_url) as websocket:
        await get(process, path)
        os.killpg(process.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        assert websocket.close_code == 1012
        assert await process.ended() == 0
    assert count(process, "child -15") == 1
    assert count(process, "lifespan shutdown") == 1


async def test_child_may_run_a_server(loop_name: str) -> None:
    async with command(loop_name) as process:
        child = int(await get(process, "/serve"))
        await process.logged("running on", times=2)
        os.kill(child, signal.SIGTERM)
        await process.logged("lifespan shutdown")
        await get(process, "/log")  # the parent still serves
        process.signal()
        assert await process.ended() == 0
    assert count(process, "child 0") == 1


async def test_app_may_start_programs(loop_name: str) -> None:
    async with command(loop_name) as process:
        assert await get(process, "/subprocess") == "0"


# -- SIGHUP ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal() -> Iterator[tuple[FileIO, FileIO]]:
    """Open a terminal; return the terminal's side and the programs' side."""
    ours, theirs = pty.openpty()
    with FileIO(ours) as near, FileIO(theirs) as far:
        yield near, far


async def test_sighup_from_a_terminal_stops_the_server(loop_name: str) -> None:
    with terminal() as (_, theirs):
        async with command(loop_name, stdin=theirs) as process, connect(process.ws_url) as one:
            process.signal(signal.SIGHUP)
            with pytest.raises(ConnectionClosed):
                await one.recv()
            assert one.close_code == 1012
            assert await process.ended() == 0
    assert count(process, "lifespan shutdown") == 1


@contextlib.asynccontextmanager
async def hung_up(loop_name: str) -> AsyncIterator[ServerProcess]:
    """Run a server that is stopping after SIGHUP, while a request waits for SIGUSR1."""
    with terminal() as (_, theirs):
        async with command(loop_name, stdin=theirs) as process, requesting(process, "/wait"):
            await process.logged("^waiting$")
            process.signal(signal.SIGHUP)
            await process.logged("Shutting down")
            yield process


# The shell sends SIGHUP to its jobs, and the kernel sends another one when the shell is gone. A
# session that ends sends SIGTERM after it. Clients must still get their Close frames.
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_signal_after_sighup_does_not_count_as_a_second_one(
    loop_name: str, number: int
) -> None:
    async with hung_up(loop_name) as process:
        process.signal(number)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0


async def test_second_signal_after_sighup_ends_the_process(loop_name: str) -> None:
    async with hung_up(loop_name) as process:
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)  # a different one, so that the two are not merged
        assert await process.ended() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


async def test_closed_terminal_stops_the_server(loop_name: str) -> None:
    source = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
wsgate.run(app, port=0, loop=loop_name)
"""
    with terminal() as (ours, theirs):
        async with host(loop_name, source, stdin=theirs) as process:
            await process.serves()
            theirs.close()
            ours.close()
            assert await process.ended() == 0
    assert count(process, "lifespan shutdown") == 1


async def test_ignored_sighup_does_not_stop_a_server_at_a_terminal(loop_name: str) -> None:
    source = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
wsgate.run(app, port=0, loop=loop_name)
say("ignored", signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)
"""
    with terminal() as (_, theirs):
        async with host(loop_name, source, stdin=theirs) as process:
            await process.serves()
            process.signal(signal.SIGHUP)
            await process.logged("Log files reopened: 0")
            process.signal()
            assert await process.ended() == 0
    assert process.log[-1] == "ignored True"


async def test_handler_of_sighup_is_called_after_the_stop(loop_name: str) -> None:
    source = """
signal.signal(signal.SIGHUP, on_signal)
start(wsgate.serve(app, port=0))
"""
    with terminal() as (_, theirs):
        async with host(loop_name, source, stdin=theirs) as process:
            await process.serves()
            process.signal(signal.SIGHUP)
            assert await process.ended() == 0
    assert process.log[-2:] == ["Stopped", "host handles 1"]


async def test_sighup_without_a_terminal_reopens_log_files(loop_name: str, tmp_path: Path) -> None:
    source = """
log = logging.FileHandler(sys.argv[2])
logging.getLogger("app").addHandler(log)
signal.signal(signal.SIGHUP, on_signal)
start(wsgate.serve(app, port=0))
"""
    path, moved = tmp_path / "app.log", tmp_path / "app.log.1"
    async with (
        program("-c", HOST + source, loop_name, str(path)) as process,
        connected(process) as websocket,
    ):
        await get(process, "/log")
        path.rename(moved)
        process.signal(signal.SIGHUP)
        await process.logged("^Log files reopened: 1$")
        process.signal(signal.SIGHUP)
        await process.logged("^Log files reopened: 0$")
        await get(process, "/log")
        assert moved.read_text() == path.read_text() == "a line of the app\n"
        await websocket.send("still here?")
        assert await websocket.recv() == "still here?"
        assert count(process, "host handles 1") == 2


async def test_sighup_handler_of_the_loop_is_called_each_time(loop_name: str) -> None:
    source = """
async def main():
    server = wsgate.Server(app, wsgate.Config(port=0))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal, "SIGHUP")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.ask_to_stop)
    await server.serve()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        for times in (1, 2):
            process.signal(signal.SIGHUP)
            await process.logged("^Log files reopened: 0$", times=times)
        await process.logged("^host handles SIGHUP$", times=2)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0
    assert count(process, "host handles SIGHUP") == 2


# -- SIGUSR1 ---------------------------------------------------------------------------------------


async def test_sigusr1_reopens_log_files_and_disconnects_nobody(
    loop_name: str, tmp_path: Path
) -> None:
    source = """
log = logging.FileHandler(sys.argv[2])
logging.getLogger("app").addHandler(log)
signal.signal(signal.SIGUSR1, on_signal)
wsgate.run(app, port=0, loop=loop_name)
"""
    path, moved = tmp_path / "app.log", tmp_path / "app.log.1"
    with terminal() as (_, theirs):  # where SIGHUP would stop it
        async with (
            program("-c", HOST + source, loop_name, str(path), stdin=theirs) as process,
            connected(process) as websocket,
        ):
            await get(process, "/log")
            path.rename(moved)
            process.signal(signal.SIGUSR1)
            await process.logged("Log files reopened: 1$")
            process.signal(signal.SIGUSR1)
            await process.logged("Log files reopened: 0$")
            await get(process, "/log")
            assert moved.read_text() == path.read_text() == "a line of the app\n"
            await websocket.send("still here?")
            assert await websocket.recv() == "still here?"
            assert count(process, f"host handles {signal.SIGUSR1}") == 2


# -- SIGTTIN and SIGTTOU ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
async def test_scaling_without_workers_is_one_warning(
    loop_name: str, number: signal.Signals
) -> None:
    async with command(loop_name) as process, connect(process.ws_url) as websocket:
        process.signal(number)
        found = await process.logged(f"{number.name} is for workers")
        assert found.string == (
            f"WARNING:  {number.name} is for workers: the server runs in one process; start it "
            "with --workers 2 or more, or auto"
        )
        process.signal(number)
        await websocket.send("still here?")
        assert await websocket.recv() == "still here?"
        process.signal()
        assert await process.ended() == 0
        assert len([line for line in process.log if "is for workers" in line]) == 1


async def test_a_handler_of_the_program_for_scaling_stays(loop_name: str) -> None:
    source = """
signal.signal(signal.SIGTTIN, on_signal)
wsgate.run(app, port=0, loop=loop_name)
say("restored", signal.getsignal(signal.SIGTTOU) == signal.SIG_DFL)
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(signal.SIGTTIN)
        await process.logged(f"^host handles {int(signal.SIGTTIN)}$")
        process.signal()
        assert await process.ended() == 0
    assert process.log[-1] == "restored True"


@contextlib.asynccontextmanager
async def connected(process: ServerProcess) -> AsyncIterator[ClientConnection]:
    await process.serves()
    async with connect(process.ws_url) as websocket:
        yield websocket


# -- handlers of C code ----------------------------------------------------------------------------


def test_handler_of_c_code_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    getsignal = signal.getsignal
    before = [getsignal(signal.SIGTERM), getsignal(signal.SIGHUP)]
    monkeypatch.setattr(
        signal, "getsignal", lambda n: None if n == signal.SIGTERM else getsignal(n)
    )
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop), signals.handle(loop, lambda: None, reload=lambda: None):
        assert getsignal(signal.SIGTERM) is before[0]
        assert getsignal(signal.SIGHUP) is not before[1]
    assert [getsignal(signal.SIGTERM), getsignal(signal.SIGHUP)] == before


# -- what a server chooses -------------------------------------------------------------------------


class Chooses:
    """A server that records what is called. calls: in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def handled(self, **options: Any) -> contextlib.AbstractContextManager[None]:
        """Handle signals, and raise none of them again."""
        return signals.handle(
            asyncio.get_running_loop(),
            lambda: self.calls.append("stop"),
            reload=lambda: self.calls.append("reload"),
            reraise=lambda _: False,
            **options,
        )


async def test_a_second_signal_does_what_the_server_says() -> None:
    one, other = Chooses(), Chooses()
    with one.handled(second=one.calls.append), other.handled(second=signals.ignore):
        signal.raise_signal(signal.SIGTERM)
        assert one.calls == other.calls == [], "it is called in the loop"
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        assert one.calls == ["stop", signal.SIGINT], "it is called in the handler"
        await asyncio.sleep(0)
        assert other.calls == ["stop", "stop"]


async def test_only_the_signals_that_the_server_names_are_handled() -> None:
    before = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    server = Chooses()
    with server.handled(numbers=[signal.SIGTERM]):
        changed = [n for n, handler in before.items() if signal.getsignal(n) != handler]
        assert changed == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        assert server.calls == ["stop"]
    assert {number: signal.getsignal(number) for number in before} == before


async def test_one_of_the_servers_reopens_the_log() -> None:
    one, other = Chooses(), Chooses()
    with (
        one.handled(reopen=lambda: one.calls.append("reopen")),
        other.handled(reopen=lambda: other.calls.append("reopen")),
    ):
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)
        assert (one.calls, other.calls) == (["reopen"], [])


async def test_a_hangup_reloads_as_often_as_it_arrives() -> None:
    server = Chooses()
    with server.handled(numbers=[signal.SIGHUP]):
        if server.calls or any(map(os.isatty, range(3))):
            pytest.skip("at a terminal it stops the server")
        for _ in range(2):
            signal.raise_signal(signal.SIGHUP)
            await asyncio.sleep(0)
        assert server.calls == ["reload", "reload"]
