"""What signals do to a server, to the program around it and to the children of its app."""

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

APP = "tests.apps.signalled:app"
STOPS = [signal.SIGINT, signal.SIGTERM]
both_stops = pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)

# What programs that have wsgate inside them begin with.
HOST = """
import asyncio, logging, os, signal, sys
import uvloop
import wsgate
from tests.apps.signalled import WHO, app, hangs, refuses, say

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
loop_name = sys.argv[1]
new_loop = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}[loop_name]

def learn(number, frame=None):
    say("host learns of", number)

def start(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)
"""


PATIENCE = 4 * STOP  # seconds for a whole test


@contextlib.asynccontextmanager
async def command(loop_name: str, *arguments: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run the command until it serves the app."""
    arguments = ("-m", "wsgate", APP, "--port", "0", "--loop", loop_name, *arguments)
    async with asyncio.timeout(PATIENCE), program(*arguments, **options) as process:
        await process.serves()
        yield process


@contextlib.asynccontextmanager
async def host(loop_name: str, source: str, **options: Any) -> AsyncIterator[ServerProcess]:
    """Run a program that has wsgate inside it."""
    async with (
        asyncio.timeout(PATIENCE),
        program("-c", HOST + source, loop_name, **options) as process,
    ):
        yield process


async def get(process: ServerProcess, path: str) -> str:
    """Return the body of an answer."""
    answer = await asyncio.to_thread(urllib.request.urlopen, process.url + path, timeout=STOP)
    with answer:
        return str(answer.read().decode())


@contextlib.asynccontextmanager
async def asking(process: ServerProcess, path: str) -> AsyncIterator[None]:
    """Have a request under way that is not answered soon."""
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


# -- a stop ----------------------------------------------------------------------------------------


@both_stops
async def test_a_loop_that_waits_for_nothing_else_wakes_up(
    loop_name: str, number: signal.Signals
) -> None:
    # Deadlines wake the loop of a server that has started; so this one has not.
    arguments = ("-m", "wsgate", "tests.apps.signalled:hangs", "--port", "0", "--loop", loop_name)
    async with program(*arguments) as process:
        await process.logged("^starting$")
        process.signal(number)
        assert await process.ended() == 0
        assert process.log == ["starting", "cancelled"]


async def test_a_stop_that_the_program_asks_for_is_no_first_signal(loop_name: str) -> None:
    source = """
async def main():
    signal.signal(signal.SIGTERM, learn)
    server = wsgate.Server(app, wsgate.Config(port=0))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, server.ask_to_stop)
    await server.serve()
    say("over")

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        async with asking(process, "/wait"):
            await process.logged("^waiting$")
            process.signal(signal.SIGUSR2)
            await process.logged("^Shutting down$")
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGUSR1)  # the answer
            assert await process.ended() == 0
    assert process.log[-3:] == ["Stopped", "host learns of 15", "over"]


@both_stops
async def test_all_servers_of_a_program_stop(loop_name: str, number: signal.Signals) -> None:
    source = """
async def main():
    signal.signal(signal.SIGINT, learn)
    signal.signal(signal.SIGTERM, learn)
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
    assert process.log[-2:] == [f"host learns of {number.value}", "over"]


async def test_a_server_that_comes_during_a_stop_stops_too(loop_name: str) -> None:
    source = """
async def first(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await wsgate.serve(hangs, port=0)
    say("second is over")
    await send({"type": "lifespan.shutdown.complete"})

signal.signal(signal.SIGTERM, learn)
start(wsgate.serve(first, port=0))
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal()
        assert await process.ended() == 0
    assert process.log[-3:] == ["second is over", "Stopped", "host learns of 15"]


async def test_a_stop_has_nothing_of_the_context_that_the_signal_came_in(loop_name: str) -> None:
    source = """
class Curious(wsgate.Server):
    def ask_to_stop(self):
        say("stop for", WHO.get())
        super().ask_to_stop()

async def main():
    WHO.set("the host")
    await Curious(app, wsgate.Config(port=0)).serve()

signal.signal(signal.SIGTERM, learn)
start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        await get(process, "/signal")
        assert await process.ended() == 0
    assert count(process, "stop for the host") == 1


# -- a second signal -------------------------------------------------------------------------------


async def signalled_until_it_ends(process: ServerProcess, number: signal.Signals) -> int:
    """Send a signal again and again, for two that come at a time are one; return the status."""
    ended = asyncio.create_task(process.ended())
    while not ended.done():
        with contextlib.suppress(ProcessLookupError):
            # Not by `send_signal`: that may take the exit status away from asyncio's watcher.
            os.kill(process.pid, number)
        await asyncio.wait([ended], timeout=0.01)
    return ended.result()


@pytest.mark.parametrize("path", ["/sleep", "/count"])
@both_stops
async def test_a_second_signal_ends_an_app_that_blocks_the_loop(
    loop_name: str, path: str, number: signal.Signals
) -> None:
    async with command(loop_name) as process, asking(process, path):
        await process.logged("^blocked$")
        assert await signalled_until_it_ends(process, number) == 128 + number
    assert count(process, "WARNING:  Second signal: ending at once") == 1


async def test_a_second_signal_may_be_another_one(loop_name: str) -> None:
    async with command(loop_name) as process, asking(process, "/wait"):
        await process.logged("^waiting$")
        process.signal(signal.SIGINT)
        await process.logged("Shutting down")
        process.signal(signal.SIGTERM)
        assert await process.ended() == 128 + signal.SIGTERM


async def test_a_second_signal_waits_for_no_reader_of_the_log(loop_name: str) -> None:
    read, write = os.pipe()
    arguments = ("-m", "wsgate", APP, "--port", "0", "--loop", loop_name)
    with FileIO(read) as log, FileIO(write, "w"):
        async with program(*arguments, stderr=write) as process:
            process.port = await asyncio.to_thread(port_in, log)
            async with asking(process, "/fill-stderr"):
                await process.logged("^blocked$")
                assert await signalled_until_it_ends(process, signal.SIGTERM) == 128 + 15


def port_in(log: Iterable[bytes]) -> int:
    """Read a log to the line that has the port."""
    matches = (re.search(rb"running on http://127\.0\.0\.1:(\d+)", line) for line in log)
    return int(next(match for match in matches if match)[1])


# -- the program around a server -------------------------------------------------------------------


@both_stops
async def test_handlers_of_the_program_are_back_and_learn_of_the_signal(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
async def main():
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, learn)
    await wsgate.serve(app, port=0)
    say("over", {signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} == {learn})

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        assert await process.ended() == 0
    assert process.log[-3:] == ["Stopped", f"host learns of {number.value}", "over True"]
    assert count(process, f"host learns of {number.value}") == 1


@both_stops
async def test_handlers_that_the_program_gave_its_loop_work_again(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
async def main():
    learned = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, learn, number)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, learned.set)
    await wsgate.serve(app, port=0)
    say("over")
    await learned.wait()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        await process.logged("^over$")
        assert count(process, f"host learns of {number.value}") == 1
        process.signal(number)
        await process.logged(f"^host learns of {number.value}$", times=2)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0
    assert count(process, f"host learns of {number.value}") == 2


async def test_asyncio_run_is_interrupted(loop_name: str) -> None:
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


async def test_a_program_without_a_handler_ends_by_the_signal(loop_name: str) -> None:
    async with host(loop_name, "start(wsgate.serve(app, port=0))") as process:
        await process.serves()
        process.signal(signal.SIGTERM)
        assert await process.ended() == -signal.SIGTERM
    assert process.log[-2:] == ["lifespan shutdown", "Stopped"]


@both_stops
async def test_run_tells_handlers_of_the_program(loop_name: str, number: signal.Signals) -> None:
    source = """
signal.signal(signal.SIGINT, learn)
signal.signal(signal.SIGTERM, learn)
wsgate.run(app, port=0, loop=loop_name)
say("over", {signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} == {learn})
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(number)
        assert await process.ended() == 0
    assert process.log[-2:] == [f"host learns of {number.value}", "over True"]


@both_stops
async def test_run_ends_with_status_0_where_the_program_has_no_handler(
    loop_name: str, number: signal.Signals
) -> None:
    source = """
found = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
for _ in range(2):
    wsgate.run(app, port=0, loop=loop_name)
    say("over", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == found)
"""
    async with host(loop_name, source) as process:
        for times in (1, 2):
            await process.logged("running on", times=times)
            process.signal(number)
        assert await process.ended() == 0
    assert count(process, "over True") == 2


@pytest.mark.parametrize("outer", ["asyncio", "uvloop"])
async def test_run_tells_a_loop_of_the_program_that_stands_still(
    loop_name: str, outer: str
) -> None:
    source = f"""
other = {{"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}}["{outer}"]()
learned = asyncio.Event()
other.run_until_complete(asyncio.sleep(0))
other.add_signal_handler(signal.SIGTERM, learn, "SIGTERM")
other.add_signal_handler(signal.SIGUSR1, learned.set)
wsgate.run(app, port=0, loop=loop_name)
say("over")
other.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
other.run_until_complete(learned.wait())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert process.log[-2:] == ["over", "host learns of SIGTERM"]


async def test_signals_that_were_ignored_are_taken_over(loop_name: str) -> None:
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


async def test_a_handler_that_others_install_meanwhile_stays(loop_name: str) -> None:
    source = """
async def main():
    server = wsgate.Server(app, wsgate.Config(port=0))
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0)
    signal.signal(signal.SIGTERM, learn)
    server.ask_to_stop()
    await serving
    say("over", signal.getsignal(signal.SIGTERM) is learn)

start(main())
"""
    async with host(loop_name, source) as process:
        assert await process.ended() == 0
    assert process.log[-1] == "over True"


# -- children --------------------------------------------------------------------------------------


async def test_a_child_of_a_program_with_a_loop_s_handler_can_be_terminated(loop_name: str) -> None:
    # What `add_signal_handler` leaves in a child does nothing: it has neither descriptor nor loop.
    source = """
async def main():
    learned = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, learned.set)
    await wsgate.serve(app, port=0)
    await learned.wait()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        assert await get(process, "/terminate") == "-15"
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


@pytest.mark.parametrize("path", ["/terminate", "/terminate-of-thread"])
async def test_a_child_that_the_app_terminates_ends_alone(loop_name: str, path: str) -> None:
    async with command(loop_name) as process, connect(process.ws_url) as websocket:
        assert await get(process, path) == str(-signal.SIGTERM)
        await websocket.send("still here?")
        assert await websocket.recv() == "still here?"
        assert not any("Shutting down" in line for line in process.log)
        await websocket.close()
        process.signal()
        assert await process.ended() == 0


async def test_a_signal_that_reaches_a_child_as_it_starts_is_not_lost(loop_name: str) -> None:
    async with command(loop_name) as process:
        assert await get(process, "/terminate-many") == "200"


@pytest.mark.parametrize("path", ["/child", "/child-of-thread"])
async def test_a_signal_to_the_group_ends_the_child_and_stops_the_server(
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


async def test_a_child_may_serve_too(loop_name: str) -> None:
    async with command(loop_name) as process:
        child = int(await get(process, "/serve"))
        await process.logged("running on", times=2)
        os.kill(child, signal.SIGTERM)
        await process.logged("lifespan shutdown")
        await get(process, "/log")  # the parent serves on
        process.signal()
        assert await process.ended() == 0
    assert count(process, "child 0") == 1


async def test_an_app_may_start_programs(loop_name: str) -> None:
    async with command(loop_name) as process:
        assert await get(process, "/subprocess") == "0"


# -- SIGHUP ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal() -> Iterator[tuple[FileIO, FileIO]]:
    """Open a terminal; return its own side, and the one that programs have."""
    ours, theirs = pty.openpty()
    with FileIO(ours) as near, FileIO(theirs) as far:
        yield near, far


async def test_a_hangup_of_a_terminal_is_a_stop(loop_name: str) -> None:
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
    """Run a server in a terminal that has hung up, while a request waits for SIGUSR1."""
    with terminal() as (_, theirs):
        async with command(loop_name, stdin=theirs) as process, asking(process, "/wait"):
            await process.logged("^waiting$")
            process.signal(signal.SIGHUP)
            await process.logged("Shutting down")
            yield process


# The shell sends one to its jobs, and the kernel another when the shell has gone. A session that
# ends sends SIGTERM after it: clients are still to have their Close.
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_a_signal_after_a_hangup_is_no_second_one(loop_name: str, number: int) -> None:
    async with hung_up(loop_name) as process:
        process.signal(number)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0


async def test_the_second_signal_after_a_hangup_ends_at_once(loop_name: str) -> None:
    async with hung_up(loop_name) as process:
        process.signal(signal.SIGINT)
        process.signal(signal.SIGTERM)  # another number, so that the two are not merged
        assert await process.ended() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


async def test_a_terminal_that_closes_is_a_stop(loop_name: str) -> None:
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


async def test_a_hangup_that_is_ignored_at_a_terminal_stays_ignored(loop_name: str) -> None:
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


async def test_a_program_at_a_terminal_learns_of_the_hangup(loop_name: str) -> None:
    source = """
signal.signal(signal.SIGHUP, learn)
start(wsgate.serve(app, port=0))
"""
    with terminal() as (_, theirs):
        async with host(loop_name, source, stdin=theirs) as process:
            await process.serves()
            process.signal(signal.SIGHUP)
            assert await process.ended() == 0
    assert process.log[-2:] == ["Stopped", "host learns of 1"]


async def test_without_a_terminal_a_hangup_opens_log_files_anew(
    loop_name: str, tmp_path: Path
) -> None:
    source = """
log = logging.FileHandler(sys.argv[2])
logging.getLogger("app").addHandler(log)
signal.signal(signal.SIGHUP, learn)
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
        assert count(process, "host learns of 1") == 2


async def test_a_loop_s_own_handler_learns_of_each_hangup(loop_name: str) -> None:
    source = """
async def main():
    server = wsgate.Server(app, wsgate.Config(port=0))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, learn, "SIGHUP")
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.ask_to_stop)
    await server.serve()

start(main())
"""
    async with host(loop_name, source) as process:
        await process.serves()
        for times in (1, 2):
            process.signal(signal.SIGHUP)
            await process.logged("^Log files reopened: 0$", times=times)
        await process.logged("^host learns of SIGHUP$", times=2)
        process.signal(signal.SIGUSR1)
        assert await process.ended() == 0
    assert count(process, "host learns of SIGHUP") == 2


@contextlib.asynccontextmanager
async def connected(process: ServerProcess) -> AsyncIterator[ClientConnection]:
    await process.serves()
    async with connect(process.ws_url) as websocket:
        yield websocket


# -- what is left alone ----------------------------------------------------------------------------


def test_a_handler_of_c_code_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    getsignal = signal.getsignal
    before = [getsignal(signal.SIGTERM), getsignal(signal.SIGHUP)]
    monkeypatch.setattr(
        signal, "getsignal", lambda n: None if n == signal.SIGTERM else getsignal(n)
    )
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop), signals.handle(loop, lambda: None):
        assert getsignal(signal.SIGTERM) is before[0]
        assert getsignal(signal.SIGHUP) is not before[1]
    assert [getsignal(signal.SIGTERM), getsignal(signal.SIGHUP)] == before
