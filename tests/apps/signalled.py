"""The app of the signal tests: prints its state, blocks the loop, and forks."""

import asyncio
import contextvars
import logging
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import wsgate

CHILDREN: list[Any] = []
WHO = contextvars.ContextVar("WHO", default="nobody")
fork = multiprocessing.get_context("fork")


def say(*what: object) -> None:
    # In one write: `print` makes two, and a line of the watchdog's thread can come in between.
    sys.stdout.write(" ".join(map(str, what)) + "\n")
    sys.stdout.flush()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        text = await CALLS[scope["path"]]()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(text).encode()})


async def live(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    for child in CHILDREN:
        child.join()
        say("child", child.exitcode)
    say("lifespan shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    """Never complete the startup."""
    say("starting")
    try:
        await asyncio.Event().wait()
    finally:
        say("cancelled")


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    """Fail the startup as Starlette does: with a traceback as the message."""
    message = "Traceback:\n  line 1\nno \x1b[31mdatabase\n"
    await send({"type": "lifespan.startup.failed", "message": message})


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


# -- what a request does ---------------------------------------------------------------------------


async def sleep() -> None:
    say("blocked")
    time.sleep(60)  # noqa: ASYNC251  # as many apps do


async def count() -> None:
    say("blocked")
    while True:
        pass


async def fill_stderr() -> None:
    """Fill the pipe of stderr until a write would block."""
    while select.select([], [2], [], 0)[1]:
        os.write(2, b"x" * 4096)
    await sleep()


async def wait() -> None:
    """Respond when the process has received SIGUSR1."""
    say("waiting")
    woken = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, woken.set)
    await woken.wait()


async def start_child() -> int:
    return start(time.sleep, 60)


async def start_child_in_thread() -> int:
    return await asyncio.to_thread(start, time.sleep, 60)


def start(target: Callable[..., object], *arguments: object) -> int:
    child = fork.Process(target=target, args=arguments)
    CHILDREN.append(child)
    child.start()
    assert child.pid is not None
    return child.pid


async def terminate_child() -> int | None:
    return await terminated(await start_child())


async def terminate_child_of_thread() -> int | None:
    return await terminated(await start_child_in_thread())


async def terminated(_: int) -> int | None:
    child = CHILDREN.pop()
    child.terminate()
    await asyncio.to_thread(child.join, 30)
    status: int | None = child.exitcode
    child.kill()
    return status


async def terminate_many() -> int:
    """Terminate children right after their fork; return how many of them SIGTERM ended."""
    ended = 0
    for _ in range(200):
        pid = os.fork()
        if not pid:
            time.sleep(30)  # noqa: ASYNC251  # in the child
            os._exit(0)
        os.kill(pid, signal.SIGTERM)
        ended += os.waitpid(pid, 0)[1] == signal.SIGTERM  # noqa: ASYNC222  # soon or never
    return ended


async def serve_in_child() -> int:
    return start(serve_alone)


def serve_alone() -> None:
    CHILDREN.clear()
    wsgate.run(app, port=0)


async def signal_amid() -> None:
    """Receive a signal in the context of this call."""
    WHO.set("a request")
    signal.raise_signal(signal.SIGTERM)


async def log() -> None:
    logging.getLogger("app").warning("a line of the app")


async def run_subprocess() -> int:
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()


CALLS: dict[str, Callable[[], Any]] = {
    "/sleep": sleep,
    "/count": count,
    "/fill-stderr": fill_stderr,
    "/wait": wait,
    "/child": start_child,
    "/child-of-thread": start_child_in_thread,
    "/terminate": terminate_child,
    "/terminate-of-thread": terminate_child_of_thread,
    "/terminate-many": terminate_many,
    "/serve": serve_in_child,
    "/signal": signal_amid,
    "/log": log,
    "/subprocess": run_subprocess,
}
