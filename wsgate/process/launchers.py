"""How the supervisor makes a worker process: a new interpreter, or a fork of one with the app."""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from wsgate.errors import ConfigError, StartupFailed, WsgateError
from wsgate.process import assignment as assignments
from wsgate.process.assignment import Assignment
from wsgate.process.channel import Channel, failure_of
from wsgate.process.preloader import ORDER
from wsgate.process.program import Program
from wsgate.process.spawn import spawn

if TYPE_CHECKING:
    import subprocess

_PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h


class Launcher(Protocol):
    """Makes worker processes."""

    @property
    def is_ready(self) -> bool:
        """Whether `launch` can make one now."""

    def prepare(self) -> None:
        """Get ready, if it is not and is not about to be."""

    def renew(self) -> None:
        """Make later workers with the app's code as it is now."""

    def launch(
        self, channel: socket.socket, stacks: int, assignment: Assignment
    ) -> "subprocess.Popen[bytes] | None":
        """Make a worker process, which waits for its assignment.

        Args:
            channel: The worker's end of its channel.
            stacks: The worker's end of the pipe for its stack.
            assignment: What it will be told.

        Returns:
            The process; None if only the worker itself knows its id.

        Raises:
            OSError: The process cannot be made.
        """

    def take_end(self, pid: int, status: int) -> None:
        """Note that a process has ended; it may be none of this launcher's own."""

    def take_failure(self) -> WsgateError | None:
        """Return why it could not get ready, once; None if it could."""

    def close(self) -> None:
        """End what it has started, workers excepted."""


class SpawnLauncher:
    """Starts a new interpreter for each worker, which imports the app anew."""

    is_ready = True

    def prepare(self) -> None:
        """Do nothing: it is ready."""

    def renew(self) -> None:
        """Do nothing: each worker imports the app anew."""

    def launch(
        self, channel: socket.socket, stacks: int, assignment: Assignment
    ) -> "subprocess.Popen[bytes] | None":
        """Start a worker process."""
        inherited = [stacks, assignment.scoreboard, *assignment.sockets]
        return spawn("worker_process", channel, inherited)

    def take_end(self, pid: int, status: int) -> None:
        """Do nothing: all its processes are workers."""

    def take_failure(self) -> WsgateError | None:
        """Return None: it is always ready."""
        return None

    def close(self) -> None:
        """Do nothing."""


class ForkLauncher:
    """Forks workers from a process that has imported the app (--preload).

    `renew` starts another such process. Until that is ready, and if it cannot import the app, the
    old one stays.

    Args:
        program: What the workers serve.
        descriptors: Those that each worker inherits.
        on_change: Called when it is ready or has failed.

    Raises:
        ConfigError: This is not Linux.
    """

    def __init__(
        self, program: Program, descriptors: list[int], on_change: Callable[[], object]
    ) -> None:
        _become_subreaper()
        self._program = program
        self._descriptors = descriptors
        self._on_change = on_change
        self._current: _Preloader | None = None
        self._next: _Preloader | None = None
        self._failure: WsgateError | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a process to fork from, and no newer one is about to be ready."""
        return self._current is not None and self._next is None

    def prepare(self) -> None:
        """Start a process to fork from, unless there is one or one is starting."""
        if self._current is None and self._next is None:
            self.renew()

    def renew(self) -> None:
        """Start a process that imports the app anew. Raises OSError if that is not possible."""
        if self._next is not None:
            self._next.close()
        self._next = _Preloader(self._program, self._descriptors, self._changed)

    def _changed(self, preloader: "_Preloader") -> None:
        if preloader is not self._next:
            return
        if preloader.is_ready:
            if self._current is not None:
                self._current.close()
            self._current, self._next = preloader, None
        elif preloader.failure is not None:
            self._failure, self._next = preloader.failure, None
        self._on_change()

    def launch(
        self,
        channel: socket.socket,
        stacks: int,
        assignment: Assignment,  # noqa: ARG002  # the worker reads it itself
    ) -> "subprocess.Popen[bytes] | None":
        """Have a worker forked. Raises OSError if the process to fork from has just ended."""
        if self._current is None:
            raise ProcessLookupError("the process of --preload has ended")
        self._current.fork(channel, stacks)
        return None

    def take_end(self, pid: int, status: int) -> None:
        """Note that a process has ended, which may be one to fork from."""
        for preloader in (self._current, self._next):
            if preloader is not None and preloader.pid == pid:
                preloader.reaped(status)
                if preloader is self._current:
                    self._current = None
                else:
                    self._next = None
                    self._failure = StartupFailed("the process of --preload has ended")

    def take_failure(self) -> WsgateError | None:
        """Return why the app could not be imported, once; None if it could."""
        failure, self._failure = self._failure, None
        return failure

    def close(self) -> None:
        """End the processes to fork from."""
        for preloader in (self._current, self._next):
            if preloader is not None:
                preloader.close()
        self._current = self._next = None


class _Preloader:
    """A process to fork from, as the supervisor sees it."""

    def __init__(
        self,
        program: Program,
        descriptors: list[int],
        on_change: Callable[["_Preloader"], object],
    ) -> None:
        self.is_ready = False
        self.failure: WsgateError | None = None
        self._on_change = on_change
        self._sock, their_end = socket.socketpair()
        with their_end:
            self._process = spawn("preloader", their_end, descriptors)
        self.pid = self._process.pid
        self._sock.sendall(assignments.pack_program(program))
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        channel = await Channel.open(self._sock.dup())
        try:
            async for line in channel.lines():
                self.is_ready = self.is_ready or "ready" in line
                if "failed" in line:
                    self.failure = failure_of(line)
                self._on_change(self)
        finally:
            channel.close()

    def fork(self, channel: socket.socket, stacks: int) -> None:
        """Have a worker forked, with these descriptors."""
        socket.send_fds(self._sock, [ORDER], [channel.fileno(), stacks])

    def reaped(self, status: int) -> None:
        """Note that the process has ended."""
        self._process.returncode = status  # else it warns that the process still runs
        self.close()

    def close(self) -> None:
        """Close the channel, and with that end the process."""
        self._listening.cancel()
        self._sock.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)  # it may still import the app
            self._process.returncode = 0  # the supervisor reaps it


def _become_subreaper() -> None:
    """Become the parent of workers whose own parent has ended."""
    if sys.platform != "linux":
        raise ConfigError("--preload needs Linux", setting="preload")
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise ConfigError(f"--preload: {os.strerror(number)}", setting="preload")
