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

from wsgate import loggers
from wsgate.errors import ConfigError, WsgateError
from wsgate.process import assignment as assignments
from wsgate.process.assignment import Assignment
from wsgate.process.channel import CHANNEL_TIMEOUT, Channel, Line, failure_of
from wsgate.process.preloader import ORDER
from wsgate.process.process_end import ProcessEnd
from wsgate.process.program import Program
from wsgate.process.spawn import spawn

if TYPE_CHECKING:
    import subprocess

SLOW_START = 30.0  # seconds after which the log says that a process still starts
_PR_SET_CHILD_SUBREAPER = 36  # from linux/prctl.h


class Launcher(Protocol):
    """Makes worker processes. It may have processes of its own to do so."""

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

    def take_ends(self) -> list[ProcessEnd]:
        """Return the ends of its own processes that nobody has asked for, each once."""

    def kill(self) -> None:
        """End its own processes at once. Safe in a signal handler."""

    def close(self) -> None:
        """End its own processes, and start no further ones."""

    @property
    def has_ended(self) -> bool:
        """Whether none of its own processes is left."""


class SpawnLauncher:
    """Starts a new interpreter for each worker, which imports the app anew."""

    is_ready = has_ended = True

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

    def take_ends(self) -> list[ProcessEnd]:
        """Return none: all its processes are workers."""
        return []

    def kill(self) -> None:
        """Do nothing: all its processes are workers."""

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
        self._ending: set[_Preloader] = set()  # whose end is expected
        self._ends: list[ProcessEnd] = []

    @property
    def is_ready(self) -> bool:
        """Whether there is a process to fork from, and no newer one is about to be ready."""
        return self._current is not None and self._next is None

    @property
    def has_ended(self) -> bool:
        """Whether no process to fork from is left."""
        return not self._all()

    def _all(self) -> list["_Preloader"]:
        return [one for one in (self._current, self._next, *self._ending) if one is not None]

    def prepare(self) -> None:
        """Start a process to fork from, unless there is one or one is starting."""
        if self._current is None and self._next is None:
            self.renew()

    def renew(self) -> None:
        """Start a process that imports the app anew. Raises OSError if that is not possible."""
        self._end(self._next)
        self._next = None
        self._next = _Preloader(self._program, self._descriptors, self._changed)

    def _changed(self, preloader: "_Preloader") -> None:
        if preloader is self._next:
            self._take_next(preloader)
        if preloader.is_over:
            self._ending.discard(preloader)
        self._on_change()

    def _take_next(self, preloader: "_Preloader") -> None:
        """Fork from the newest process if it is ready; keep the old one if it has failed."""
        if preloader.is_ready:
            self._end(self._current)
            self._current, self._next = preloader, None
        elif preloader.failure is not None or preloader.is_over:
            self._ends.append(preloader.end())
            self._next = None
            self._ending.add(preloader)  # it exits because of its failure

    def _end(self, preloader: "_Preloader | None") -> None:
        if preloader is not None:
            preloader.kill()
            self._ending.add(preloader)

    def launch(
        self,
        channel: socket.socket,
        stacks: int,
        assignment: Assignment,  # noqa: ARG002  # the worker reads it itself
    ) -> "subprocess.Popen[bytes] | None":
        """Have a worker forked."""
        assert self._current is not None  # it is ready
        self._current.fork(channel, stacks)
        return None

    def take_end(self, pid: int, status: int) -> None:
        """Note that a process has ended, which may be one to fork from."""
        for preloader in self._all():
            if preloader.pid == pid:
                preloader.record_end(status)
                if preloader is self._current:
                    self._ends.append(preloader.end())
                    self._current = None
                    self._ending.add(preloader)

    def take_ends(self) -> list[ProcessEnd]:
        """Return the ends of processes to fork from that nobody has asked for, each once."""
        ends, self._ends = self._ends, []
        return ends

    def kill(self) -> None:
        """End the processes to fork from at once. Safe in a signal handler."""
        for preloader in self._all():
            preloader.kill()

    def close(self) -> None:
        """End the processes to fork from, and start no further ones."""
        self.kill()
        self._ending.update(self._all())
        self._current = self._next = None


class _Preloader:
    """A process to fork from, as the supervisor sees it.

    Args:
        program: What it imports.
        descriptors: Those that it inherits.
        on_change: Called with it when it is ready, has failed, or is over.

    Attributes:
        is_ready: It can fork.
        ready_at: When it became ready, in seconds of the loop's clock.
        failure: Why it could not start, if it has said so.
        status: Its exit status, or minus the signal that ended it; None while it runs.
        is_over: It has ended, and all that it has written was read.
    """

    def __init__(
        self,
        program: Program,
        descriptors: list[int],
        on_change: Callable[["_Preloader"], object],
    ) -> None:
        self.is_ready = self.is_over = False
        self.ready_at = 0.0
        self.failure: WsgateError | None = None
        self.status: int | None = None
        self._on_change = on_change
        packed = assignments.pack_program(program)
        with contextlib.ExitStack() as undo:
            self._sock, their_end = map(undo.enter_context, socket.socketpair())
            reading = undo.enter_context(self._sock.dup())
            self._process = spawn("preloader", their_end, descriptors)
            undo.pop_all()
        their_end.close()
        self.pid = self._process.pid
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.sendall(packed)
        self._loop = asyncio.get_running_loop()
        self._listening = self._loop.create_task(self._listen(reading))
        self._slow = self._loop.call_later(SLOW_START, self._warn)
        self._closing: asyncio.Task[None] | None = None

    async def _listen(self, sock: socket.socket) -> None:
        channel = await Channel.open(sock)
        try:
            async for line in channel.lines():
                self._take(line)
        finally:
            channel.close()

    def _warn(self) -> None:
        text = "The process of --preload has been starting for %.0f s"
        loggers.error.warning(text, SLOW_START)

    def _take(self, line: Line) -> None:
        self._slow.cancel()
        if "failed" in line:
            self.failure = failure_of(line)
        elif "ready" in line and self.status is None:  # else it has ended already
            self.is_ready, self.ready_at = True, self._loop.time()
        self._on_change(self)

    def end(self) -> ProcessEnd:
        """Return how it has ended, or why it is about to end."""
        served = self._loop.time() - self.ready_at if self.is_ready else None
        return ProcessEnd("The process of --preload", self.failure, self.status, served)

    def fork(self, channel: socket.socket, stacks: int) -> None:
        """Have a worker forked, with these descriptors. Nothing happens if it has just ended."""
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._sock, [ORDER], [channel.fileno(), stacks])

    def kill(self) -> None:
        """End it at once, also if it is stopped. Safe in a signal handler."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def record_end(self, status: int) -> None:
        """Record that the process has ended and was reaped."""
        self.status = status
        self._process.returncode = status  # else it warns that the process still runs
        self._slow.cancel()
        self._closing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        """Read what it has written before its end, and close the channel."""
        await asyncio.wait([self._listening], timeout=CHANNEL_TIMEOUT)
        self._listening.cancel()
        self._sock.close()
        self.is_over = True
        self._on_change(self)


def _become_subreaper() -> None:
    """Become the parent of workers whose own parent has ended."""
    if sys.platform != "linux":
        raise ConfigError("--preload needs Linux", setting="preload")
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise ConfigError(f"--preload: {os.strerror(number)}", setting="preload")
