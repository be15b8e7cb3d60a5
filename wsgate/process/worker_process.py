"""What runs in a worker process: receives its assignment, imports the app and serves it."""

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from wsgate import loggers, streams
from wsgate._version import __version__
from wsgate.errors import ConfigError, StartupFailed, WsgateError
from wsgate.metrics.samples import json_parts
from wsgate.observe import console_log
from wsgate.process import assignment as assignments, event_loop, signals
from wsgate.process.assignment import Assignment
from wsgate.process.channel import Channel, Line, failure_line
from wsgate.process.heartbeat import Heartbeat
from wsgate.process.metering import read_samples
from wsgate.process.program import complete_app
from wsgate.process.questions import Answerer
from wsgate.process.row import Row
from wsgate.process.scoreboard import Scoreboard
from wsgate.process.server import Server
from wsgate.process.server_commands import ServerCommands
from wsgate.process.spawn import STACK_SIGNAL
from wsgate.server.connection_ids import parse_id
from wsgate.types import App

_STDERR = 2
_is_worker = False

Load = Callable[[], App | Awaitable[App]]


def is_worker() -> bool:
    """Return whether this process is a worker."""
    return _is_worker


def main(descriptor: int) -> None:
    """Serve what the supervisor asks for, until it asks to stop or ends.

    Args:
        descriptor: Of the channel to the supervisor.
    """
    enter()
    with socket.socket(fileno=descriptor) as sock:
        try:
            assignment = assignments.receive(sock)
        except ConfigError as error:
            report_failure(sock, error)
            sys.exit(error.exit_status)
        if assignment is None:  # the supervisor has ended
            return
        sys.exit(serve(assignment, sock, assignment.program.load))


def enter() -> None:
    """Become a worker, or the process that workers are forked from."""
    global _is_worker  # noqa: PLW0603  # it is a fact about the process
    _is_worker = True
    # A terminal sends it to the supervisor, too. SIG_IGN would be inherited by the app's children.
    signal.signal(signal.SIGINT, _do_nothing)
    # The operator may send it to all processes of the service.
    signal.signal(signal.SIGUSR1, _do_nothing)
    signal.signal(STACK_SIGNAL, signal.SIG_IGN)  # until there is a handler
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGUSR1, STACK_SIGNAL])
    _keep_descriptors()


def _keep_descriptors() -> None:
    """Let the app's child processes inherit none of the supervisor's descriptors.

    A child with a listening socket would keep the port in use after the stop.
    """
    for path in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            if int(path.name) > _STDERR:
                os.set_inheritable(int(path.name), False)


def serve(assignment: Assignment, sock: socket.socket, load: Load) -> int:
    """Serve until the supervisor asks to stop or ends.

    Args:
        assignment: What to serve.
        sock: The channel to the supervisor.
        load: Returns the app, or an awaitable of it.

    Returns:
        The exit status.
    """
    faulthandler.register(STACK_SIGNAL, file=assignment.stacks, all_threads=False)
    streams.open_missing()
    try:
        assignment.program.set_up_log()
        _serve(assignment, sock, load)
    except (ConfigError, StartupFailed) as error:
        report_failure(sock, error)
        return error.exit_status
    finally:
        console_log.close()
    return 0


def _do_nothing(*_: object) -> None:
    """Take a signal without an effect."""


def report_failure(sock: socket.socket, error: WsgateError) -> None:
    """Let the supervisor log why the start failed: it does so once for all workers."""
    sock.setblocking(True)
    with contextlib.suppress(OSError):
        sock.sendall(Channel.encode(failure_line(error)))


def _serve(assignment: Assignment, sock: socket.socket, load: Load) -> None:
    program = assignment.program
    make_loop = event_loop.factory(program.config.loop)
    loaded = load()
    event_loop.raise_file_limit()
    with contextlib.ExitStack() as handlers, event_loop.opened(make_loop) as loop:
        server = WorkerServer(complete_app(loop, loaded), assignment)
        handlers.enter_context(
            signals.handle(
                loop,
                server.ask_to_stop,
                reload=server.reload,
                reraise=signals.is_host_handler,
                second=signals.ignore,
                numbers=[signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1],
            )
        )
        loop.run_until_complete(server.serve_with(sock))


class SharedSockets:
    """The listening sockets of the supervisor, as one worker has them.

    Args:
        assignment: Has their descriptors.
        board: Says whether the whole server stops.
    """

    def __init__(self, assignment: Assignment, board: Scoreboard) -> None:
        by_descriptor = {fd: socket.socket(fileno=fd) for fd in assignment.sockets}
        self.sockets = list(by_descriptor.values())
        self._inherited = [by_descriptor[fd] for fd in assignment.inherited]
        self._board = board
        self._is_abandoned = False

    def abandon(self) -> None:
        """Treat this as the end of the whole server, because the supervisor has ended."""
        self._is_abandoned = True

    @property
    def goes_on(self) -> bool:
        """Whether other workers go on accepting."""
        return not (self._is_abandoned or self._board.is_final)

    @property
    def inherited(self) -> list[socket.socket]:
        """The sockets whose backlog is left to others: all, until the whole server stops."""
        return self.sockets if self.goes_on else self._inherited

    def withdraw(self) -> None:
        """Do nothing: the supervisor removes the files of Unix sockets."""

    def close(self) -> None:
        """Close this process's descriptors; the supervisor and other workers have their own."""
        for sock in self.sockets:
            sock.close()


class WorkerServer(Server):
    """The server of a worker process: on shared sockets, for the supervisor.

    Args:
        app: The app.
        assignment: What else there is to know.
    """

    def __init__(self, app: App, assignment: Assignment) -> None:
        board = Scoreboard(assignment.scoreboard)
        self._row = Row(board, assignment.row, assignment.count)
        super().__init__(
            app, assignment.program.config, other_workers=self._row, hub=assignment.hub
        )
        self._shared = SharedSockets(assignment, board)
        self._heartbeat = Heartbeat(
            self._row, assignment.beat, lambda: self.worker.topics.broker_state.away_since
        )
        self._channel: Channel | None = None
        self._answerer = Answerer(ServerCommands(self), self._answer)
        self.worker.ask_to_stop = self._row.report_expired  # a new worker is started first
        if self.worker.reconnects is not None:
            self.worker.reconnects.notify_others = self._report_reconnect

    async def serve_with(self, sock: socket.socket) -> None:
        """Serve until SIGTERM, or until the supervisor has ended.

        Args:
            sock: The channel to the supervisor.
        """
        self._channel = await Channel.open(sock.dup())
        listening = asyncio.create_task(self._listen(self._channel))
        self._heartbeat.start()
        try:
            await self.serve(handle_signals=False)
        finally:
            self._heartbeat.stop()
            listening.cancel()
            await asyncio.wait([listening])
            await self._answerer.close()
            await self._send_last_samples(self._channel)
            await self._channel.close_flushed()

    async def _send_last_samples(self, channel: Channel) -> None:
        """Send what was counted since the supervisor has asked, so that nothing is lost."""
        if (meter := self.worker.meter) is not None:
            for part in json_parts(await read_samples(self.worker, meter)):
                channel.send({"last_samples": part, "is_last": False})
            channel.send({"last_samples": [], "is_last": True})

    async def _listen(self, channel: Channel) -> None:
        """Answer the supervisor's questions. Stop when the channel ends: it is gone."""
        async for line in channel.lines():
            self._answerer.take(line)
        loggers.error.error("The supervisor has ended: stopping")
        self._shared.abandon()
        self.ask_to_stop()

    def _answer(self, line: Line) -> None:
        assert self._channel is not None  # it has brought the question
        self._channel.send(line)

    def _report_reconnect(self, previous: str, connection_id: str) -> None:
        """Let the supervisor notify the worker of the previous connection, if it is another one."""
        parsed = parse_id(previous)
        if parsed is not None and parsed.process != os.getpid() and self._channel is not None:
            self._channel.send({"reconnected": previous, "as": connection_id})

    def _open_sockets(self) -> SharedSockets:
        return self._shared

    def _make_status_server(self) -> None:
        """Return None: the supervisor has one."""
        return

    def _announce(self) -> None:
        assert self._channel is not None  # opened before the start
        self._channel.send({"ready": self.names, "version": __version__})

    def _announce_stop(self) -> None:
        loggers.error.debug("Worker %d: shutting down", os.getpid())

    def _announce_end(self) -> None:
        loggers.error.debug("Worker %d: stopped", os.getpid())
