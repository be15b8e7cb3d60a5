"""One worker process, as the supervisor sees it: starts it, hears from it, ends it."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.metrics.samples import Samples, read_part
from wsgate.observe.log_format import escape
from wsgate.process import assignment as assignments
from wsgate.process.assignment import Assignment
from wsgate.process.channel import CHANNEL_TIMEOUT, Channel, Line, failure_of
from wsgate.process.launchers import Launcher
from wsgate.process.questions import Asker
from wsgate.process.spawn import STACK_SIGNAL

if TYPE_CHECKING:
    import subprocess

    from wsgate.errors import ConfigError, StartupFailed

_MAX_STACK = 65_536  # bytes of a stack that are read
STACK_TIMEOUT = 2.0  # seconds to wait for a stack


class State(Enum):
    """What a worker does.

    STARTING: It imports the app. READY: It serves. STOPPING: It was asked to stop. ENDED: Its
    process has ended.
    """

    STARTING = auto()
    READY = auto()
    STOPPING = auto()
    ENDED = auto()


class WorkerHandle:
    """A worker process. Its owner starts it, and calls `ended` when it has reaped it.

    Args:
        row: Its row of the scoreboard.
        now: Time of the supervisor's clock in seconds.
        lifetime: For how many seconds it may serve, infinity for no limit.
        on_change: Called when the worker is ready, or has said why it cannot start.

    Attributes:
        pid: Its process id; None until it is known.
        state: What it does.
        changed_at: When it changed to that, in seconds of the supervisor's clock.
        is_outdated: A new one should take its place.
        names: The addresses that it serves, once it is ready.
        version: Its version of wsgate, once it is ready.
        asker: Asks it for commands.
        failure: Why it could not start; None if it has not said so.
        status: Its exit status, or minus the signal that ended it; None while it runs.
        signs_of_life: What the scoreboard said of its event loop at the last check.
        seen_at: When that was different last.
        is_lost: Its channel has ended, and there is no process with its id, or the id is unknown.
        stack_asked_at: When it was asked for its stack; None if it was not.
        was_killed: The supervisor has ended it at once.
        on_reconnect: Called with the ids of two connections if a client of another worker has
            connected again to it: that of the previous one, and that of the new one.
        last_samples: Its metrics at its end; empty until it has sent them.
    """

    def __init__(
        self, row: int, now: float, lifetime: float, on_change: Callable[[], object]
    ) -> None:
        self.row = row
        self.lifetime = lifetime
        self.pid: int | None = None
        self.state = State.STARTING
        self.started_at = self.changed_at = now
        self.is_outdated = False
        self.names: list[str] = []
        self.version: str | None = None
        self.asker = Asker(self._send)
        self.failure: ConfigError | StartupFailed | None = None
        self.status: int | None = None
        self.signs_of_life: list[int] = []
        self.seen_at = now
        self.is_lost = False
        self.stack_asked_at: float | None = None
        self.was_killed = False
        self.on_reconnect: Callable[[str, str], object] = _do_nothing
        self.last_samples: list[Samples] = []
        self._partial_samples: list[Samples] = []  # the last ones, until they are complete
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._unsent: list[Line] = []  # until there is a channel
        self._listening: asyncio.Task[None] | None = None
        self._stacks = -1
        self._stack: asyncio.Future[list[str]] | None = None  # for those who wait for it

    def __str__(self) -> str:
        """Return how the log names it."""
        return "A worker" if self.pid is None else f"Worker {self.pid}"

    # -- start -------------------------------------------------------------------------------------

    def start(self, launcher: Launcher, assign: Callable[[int], Assignment]) -> None:
        """Start the process.

        Args:
            launcher: Makes the process.
            assign: Returns its assignment; the argument is the pipe for its stack.

        Raises:
            ConfigError: A setting cannot be passed to another process.
            OSError: The process cannot be started.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
            own, their_end = map(undo.enter_context, socket.socketpair())
            theirs.enter_context(their_end)
            self._stacks, stacks = os.pipe()
            undo.callback(os.close, self._stacks)
            theirs.callback(os.close, stacks)
            assignment = assign(stacks)
            packed = assignments.pack(assignment)
            self._process = launcher.launch(their_end, stacks, assignment)
            if self._process is not None:
                self.pid = self._process.pid
            own.sendall(packed)
            undo.pop_all()
        os.set_blocking(self._stacks, False)
        self._listening = asyncio.get_running_loop().create_task(self._listen(own))

    async def _listen(self, sock: socket.socket) -> None:
        self._channel = await Channel.open(sock)
        try:
            for line in self._unsent:
                self._channel.send(line)
            async for line in self._channel.lines():
                self._take(line)
        finally:
            self.asker.close()
            self._channel.close()
            self.is_lost = not self._exists()
            self._on_change()

    def _send(self, line: Line) -> bool:
        """Send the worker a line; return False if it does not read, or is gone."""
        if self._channel is None:
            self._unsent.append(line)
            return True
        if not self._channel.is_readable:
            return False
        self._channel.send(line)
        return True

    def _take(self, line: Line) -> None:
        if "answer" in line:
            self.asker.take(line)
            return
        if "pid" in line:
            self.pid = line["pid"]
            if self.state is State.STOPPING:
                self._signal(signal.SIGTERM)
        elif "ready" in line:
            self.names, self.version = line["ready"], line["version"]
            if self.state is State.STARTING:
                self.stack_asked_at = None
                self._enter(State.READY)
                self.seen_at = self.changed_at
        elif "failed" in line:
            self.failure = failure_of(line)
        elif "reconnected" in line:
            self.on_reconnect(line["reconnected"], line["as"])
            return
        elif "last_samples" in line:
            self._take_last_samples(line)
            return
        self._on_change()

    def _take_last_samples(self, line: Line) -> None:
        self._partial_samples += read_part(line["last_samples"])
        if line["is_last"]:
            self.last_samples = self._partial_samples

    def _enter(self, state: State) -> None:
        self.state = state
        self.changed_at = asyncio.get_running_loop().time()

    # -- end ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask it to stop gracefully."""
        if self.state in (State.STARTING, State.READY):
            self._enter(State.STOPPING)
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, if its process id is known. Safe in a signal handler."""
        self.was_killed = True
        self._signal(signal.SIGKILL)

    def abandon(self) -> None:
        """Close the channel of a worker whose process id is unknown: if it is forked, it ends."""
        if self._listening is not None:
            self._listening.cancel()

    def _exists(self) -> bool:
        if self.pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, 0)
            return True
        return False

    def _signal(self, number: int) -> None:
        if self.status is None and self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, status: int | None) -> None:
        """Record that the process has ended and was reaped.

        Args:
            status: Its exit status, or minus the signal that ended it; None if it is not known.
        """
        self.status = status
        if self._process is not None:
            self._process.returncode = status  # else it warns that the process still runs
        self._enter(State.ENDED)

    async def close(self) -> None:
        """Wait for the last lines of an ended worker, and close what belongs to it."""
        if self._listening is not None:
            await asyncio.wait([self._listening], timeout=CHANNEL_TIMEOUT)
            self._listening.cancel()
        os.close(self._stacks)

    # -- its stack ---------------------------------------------------------------------------------

    def ask_for_stack(self, now: float) -> None:
        """Make it write the stack of its main thread to its pipe."""
        self.stack_asked_at = now
        self._signal(STACK_SIGNAL)

    async def read_stack(self) -> list[str]:
        """Return the stack of its main thread, the innermost call first.

        The worker writes it even if its event loop is blocked. Empty if it does not in time.
        """
        stack = self._stack
        if stack is None:
            stack = self._stack = asyncio.get_running_loop().create_future()
            self._signal(STACK_SIGNAL)
        await asyncio.wait([stack], timeout=STACK_TIMEOUT)
        if stack.done():
            return stack.result()
        if self._stack is stack:
            self._stack = None
        return []

    def take_stack(self) -> None:
        """Give the stack that it has written, if it has, to those who wait, or to the log."""
        with contextlib.suppress(BlockingIOError):
            text = os.read(self._stacks, _MAX_STACK).decode(errors="backslashreplace")
            if not text:  # it has ended
                return
            lines = [escape(line) for line in text.splitlines() if line.strip()]
            if self._stack is not None:
                self._stack.set_result([line.strip() for line in lines if line.startswith(" ")])
                self._stack = None
                if self.stack_asked_at is None:
                    return
            loggers.error.error("%s is here:\n%s", self, "\n".join(lines))


def _do_nothing(_: str, __: str) -> None:
    """Stand in for a supervisor."""
