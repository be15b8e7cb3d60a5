"""The lifecycle of one worker: start the app, accept connections, stop gracefully."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Collection, Sequence
from typing import Protocol

from wsgate import loggers
from wsgate.errors import ConfigError
from wsgate.observe.events import ServerStarted, ServerStopped, ServerStopping
from wsgate.observe.shutdown_log import FIRST_REPORT, REPORT_INTERVAL, progress_report
from wsgate.observe.throttled_log import throttled
from wsgate.quantities import count
from wsgate.server.balance import Balance
from wsgate.server.connection_ids import ConnectionIds
from wsgate.server.deadlines import TICK, do_nothing
from wsgate.server.lifespan import Lifespan
from wsgate.server.listener import ACCEPT_ITERATIONS, Listener
from wsgate.server.watchdog import Watchdog
from wsgate.server.worker import Worker
from wsgate.topics.interface import EXTENSION

DRAIN_STEP = 0.02  # seconds between two groups of WebSockets that a drain closes
CANCEL_TIMEOUT = 1.0  # seconds for cancelled calls and their clients; for aborted transports


class SocketOwner(Protocol):
    """The owner of a worker's listening sockets."""

    @property
    def inherited(self) -> Collection[socket.socket]:
        """The sockets that another process may accept connections on as well."""

    @property
    def goes_on(self) -> bool:
        """Whether another worker accepts connections on them after this one has stopped."""

    def withdraw(self) -> None:
        """Remove the files of Unix sockets, so that new clients do not find them."""

    def close(self) -> None:
        """Close the sockets."""


class Lifecycle:
    """Starts and stops one worker within the running event loop.

    Args:
        worker: The worker.
        watchdog: Watches the loop; None for a new one.
    """

    def __init__(self, worker: Worker, watchdog: Watchdog | None = None) -> None:
        self.worker = worker
        self.listeners: list[Listener] = []
        self._lifespan = Lifespan(
            worker.app,
            worker.config.lifespan,
            worker.state,
            {EXTENSION: worker.topics.extension(None)},
        )
        self._watchdog = watchdog or Watchdog()
        self._balance = Balance(worker, self.listeners)
        self._timer: asyncio.TimerHandle | None = None
        self.names: tuple[str, ...] = ()  # of the listeners that accept connections

    @property
    def _app_timeout(self) -> float:
        return max(self.worker.config.timeout_graceful_shutdown, CANCEL_TIMEOUT)

    # -- start -------------------------------------------------------------------------------------

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Start the app, then accept connections.

        Args:
            sockets: Bound sockets. The caller owns and closes them.

        Raises:
            ConfigError: A certificate cannot be used, or a socket cannot listen.
            StartupFailed: The app's startup failed.

        After an exception call `abandon`.
        """
        worker = self.worker
        worker.process = os.getpid()  # the worker may have been created before a fork
        worker.connection_ids = ConnectionIds(worker.process)
        worker.trust_named_sockets(sockets)
        if worker.certificates is not None:
            worker.certificates.load()
            worker.deadlines.schedule(worker.certificates, worker.clock())
        await worker.topics.start()
        await self._lifespan.start()
        if self._lifespan.variables is not None:
            worker.inherit(self._lifespan.variables)
        self.listeners = [Listener(worker, sock) for sock in sockets]
        for listener in self.listeners:
            await _listen(listener, worker.config.backlog)
        self._watchdog.start()
        worker.deadlines.hasten = self._hasten_tick
        self._tick()
        self.names = tuple(listener.name for listener in self.listeners)
        self._balance = Balance(worker, self.listeners)
        worker.admission.on_change = self._balance.connections_changed
        worker.other_workers.report_accepting(accepting=True)
        self._notify(ServerStarted)

    def _notify(self, kind: type[ServerStarted | ServerStopping | ServerStopped]) -> None:
        if observers := self.worker.observers:
            observers.notify(kind(self.names))

    def close_listeners(self) -> None:
        """Stop listening."""
        for listener in self.listeners:
            listener.close()

    async def abandon(self) -> None:
        """Shut the app down after a failed start."""
        self.worker.topics.end_listeners()
        await self._lifespan.stop(self._app_timeout)
        await self.worker.topics.stop()

    def _tick(self) -> None:
        pause = TICK
        try:
            pause = self.worker.tick()
            if blocked := self.worker.blocked:
                self._watchdog.report_blocked(blocked)
        except Exception:  # noqa: BLE001  # the other connections must be served
            loggers.error.exception("A deadline could not be processed; the others go on")
        self._set_timer(pause)

    def _hasten_tick(self) -> None:
        """Call `_tick` earlier: a deadline is before the next call."""
        self._set_timer(self.worker.hasten_tick())

    def _set_timer(self, pause: float) -> None:
        worker, planned = self.worker, self._timer
        self._watchdog.beat(pause)
        # This may be called within an app's `send`: not in its context, and it may be at its
        # recursion limit, so the timer before is cancelled last.
        self._timer = worker.loop.call_later(pause, self._tick, context=worker.variables)
        if planned is not None:
            planned.cancel()

    def _stop_ticking(self) -> None:
        assert self._timer is not None  # a worker that runs has one
        self.worker.deadlines.hasten = do_nothing
        self._timer.cancel()
        self._watchdog.stop()

    # -- stop --------------------------------------------------------------------------------------

    async def stop(self, owner: SocketOwner) -> None:
        """Stop gracefully: stop accepting, drain, cancel what is left, and shut the app down.

        Args:
            owner: Closes the listening sockets.
        """
        self._notify(ServerStopping)
        worker = self.worker
        worker.is_replaced = worker.opens_websockets = owner.goes_on
        await self._stop_accepting(owner)
        worker.stopping = True
        for connection in list(worker.connections):
            connection.stop()
        await self._drain(worker.config.drain_seconds)
        if not await self._wait_until_idle(worker.config.timeout_graceful_shutdown):
            await self._cancel_rest()
        self._stop_ticking()
        worker.topics.end_listeners()
        await self._lifespan.stop(self._app_timeout)
        await worker.topics.stop()
        throttled.report_all()
        self._notify(ServerStopped)

    async def _stop_accepting(self, owner: SocketOwner) -> None:
        """Stop accepting; serve the connections of the backlog and the requests already sent.

        The backlog of an inherited socket is left to another process that has it, such as the next
        one that systemd starts.
        """
        self._balance.stop()
        self.worker.other_workers.report_accepting(accepting=False)
        for listener in self.listeners:
            listener.stop_accepting()
        await _set_up_accepted()
        own = [item for item in self.listeners if item.sock not in owner.inherited]
        waiting = [(item, item.take_backlog()) for item in own]
        # No loop iteration from here to the close: more connections could arrive in it.
        owner.withdraw()
        self.close_listeners()
        owner.close()
        for listener, accepted in waiting:
            for sock in accepted:
                await listener.serve_accepted(sock)
        await _set_up_accepted()

    async def _drain(self, seconds: float) -> None:
        """Close the WebSockets spread over some seconds, so that they do not reconnect together.

        Only open ones: a handshake that is not decided has got its 503 at the stop, or if the
        worker is replaced, the WebSocket is closed as soon as it is open.
        """
        waiting = [one for one in self.worker.websockets.values() if one.is_open]
        loop = self.worker.loop
        started_at, closed = loop.time(), 0
        while closed < len(waiting) and self.worker.connections:
            share = (loop.time() - started_at) / seconds if seconds else 1.0
            end = min(len(waiting), int(len(waiting) * share) + 1)
            for websocket in waiting[closed:end]:
                websocket.drain()
            closed = end
            if closed < len(waiting):
                await asyncio.sleep(DRAIN_STEP)

    async def _wait_until_idle(self, seconds: float) -> bool:
        """Wait for all connections and app calls to end; return whether they did.

        Logs at intervals what is still running.
        """
        worker = self.worker
        now = worker.loop.time()
        deadline, report_at = now + seconds, now + FIRST_REPORT
        while not worker.is_idle:  # at least one loop iteration: apps receive their disconnect
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadline, report_at)):
                    await worker.ended.wait()
            now = worker.loop.time()
            if now >= deadline:
                break
            if now >= report_at and not worker.is_idle:
                report_at = now + REPORT_INTERVAL
                connections, calls = len(worker.connections), len(worker.tasks)
                loggers.error.info(progress_report(connections, calls, deadline - now))
        return worker.is_idle

    async def _cancel_rest(self) -> None:
        """Cancel the app calls and abort the connections that are left."""
        worker, tasks = self.worker, self.worker.tasks
        loggers.error.warning(
            "Timeout graceful shutdown exceeded: cancelling %s, dropping %s",
            count(len(tasks), "app call"),
            count(len(worker.connections), "connection"),
        )
        for task in tasks:
            task.cancel("the server stops")
        if tasks:
            deadline = worker.loop.time() + CANCEL_TIMEOUT
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT)
            # An abort drops what is not flushed, and resets the connection if the client still
            # sends: it would not see its 503. So it has the rest of the time to read and close.
            await self._wait_until_idle(deadline - worker.loop.time())
        for connection in list(worker.connections):
            connection.abort()
        await self._wait_until_idle(CANCEL_TIMEOUT)
        if left := len(worker.tasks):
            loggers.error.error("App calls that ignore their cancellation: %d", left)


async def _listen(listener: Listener, backlog: int) -> None:
    try:
        await listener.start(backlog)
    except OSError as error:  # the address has been taken, or an inherited socket is in use
        reason = error.strerror or error
        raise ConfigError(f"cannot listen on {listener.name}: {reason}") from None


async def _set_up_accepted() -> None:
    """Let the loop set up accepted connections and read their first bytes."""
    for _ in range(ACCEPT_ITERATIONS):
        await asyncio.sleep(0)
