"""A server in its own process, started from the command line or by a program."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsgate.testing.process import START, STOP, ServerProcess

__all__ = ["ROOT", "START", "STOP", "ServerProcess", "program", "running", "started"]

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def running(app: str, *options: str) -> AsyncIterator[ServerProcess]:
    """Run `wsgate app --port 0 options`, wait until it listens, and kill it at the end."""
    async with started(app, "--port", "0", *options) as server:
        await server.serves()
        yield server


@contextlib.asynccontextmanager
async def started(
    *arguments: str,
    folder: Path = ROOT,
    pass_fds: Sequence[int] = (),
    kind: type["ServerProcess"] = ServerProcess,
) -> AsyncIterator[ServerProcess]:
    """Run `wsgate arguments` in a folder, without waiting until it listens; kill it at the end."""
    command = ("-m", "wsgate", "--app-dir", str(ROOT), *arguments)
    async with program(*command, cwd=folder, pass_fds=pass_fds, kind=kind) as server:
        yield server


@contextlib.asynccontextmanager
async def program(
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    kind: type[ServerProcess] = ServerProcess,
    **options: Any,
) -> AsyncIterator[ServerProcess]:
    """Run Python with arguments; kill the process and its children at the end.

    The process leads its own session and process group and has no terminal.

    Args:
        arguments: Of the interpreter.
        variables: Environment variables besides those of this process.
        kind: The class to return.
        options: Keyword arguments of `asyncio.create_subprocess_exec`.
    """
    # Without coverage, which would make it several times slower than what users run.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    environment |= variables or {}
    common = {"cwd": ROOT, "stdin": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        **{**common, **options},
    )
    server = kind(process)
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await server.ended()
