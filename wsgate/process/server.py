"""The server: opens the sockets, handles signals, and runs a worker."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol

from wsgate import loggers
from wsgate.config import Config
from wsgate.observe import log_files
from wsgate.process import signals, sockets
from wsgate.process.systemd import Notifier
from wsgate.server.lifecycle import CANCEL_TIMEOUT, Lifecycle, SocketOwner
from wsgate.server.siblings import Siblings
from wsgate.server.worker import Worker
from wsgate.types import App

# Seconds that a stop may take after its timeouts: for apps and tasks that ignore a cancellation.
_CANCELLATIONS = 7.0


class ServerSockets(SocketOwner, Protocol):
    """The listening sockets of a server, and their owner."""

    sockets: list[socket.socket]


class Server:
    """A server for one app in the running event loop.

    `serve` starts, waits and stops; `start` and `stop` do it separately.

    Args:
        app: The app.
        config: The settings, the defaults if None.
        clock: Returns a monotonic time in seconds; tests pass a fake clock.
        notifier: Reports start and stop to systemd; by default nothing is reported.
        siblings: The other workers that serve the same sockets; None if there are none.

    Attributes:
        names: The addresses that it listens on, once it has started.

    Raises:
        ConfigError: A setting is invalid.
    """

    def __init__(
        self,
        app: App,
        config: Config | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        notifier: Notifier | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.config = config or Config()
        self.worker = Worker(app, self.config, clock, siblings)
        self._notifier = notifier or Notifier()
        self._sockets: ServerSockets = sockets.OpenSockets()
        self._lifecycle = Lifecycle(self.worker)
        self._is_running = False
        self.names: list[str] = []
        self._stop_requested = asyncio.Event()
        self.worker.ask_to_stop = self.ask_to_stop

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets; empty before `start`."""
        return self._sockets.sockets

    @property
    def state(self) -> str:
        """What it does: "starting", "ready" or "stopping"."""
        if self._stop_requested.is_set():
            return "stopping"
        return "ready" if self._is_running else "starting"

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        Args:
            handle_signals: Install signal handlers; at the end restore the previous handlers and
                raise the received signals again. Only in the main thread.

        Raises:
            ConfigError: A socket cannot be opened.
            StartupFailed: The app's startup failed.
        """
        loop = asyncio.get_running_loop()
        handling = signals.handle(loop, self.ask_to_stop, reload=self.reload)
        with handling if handle_signals else contextlib.nullcontext():
            try:
                if await self._start_unless_stopped():
                    await self._stop_requested.wait()
            finally:
                await self.stop()

    async def _start_unless_stopped(self) -> bool:
        """Start; return False if a stop was requested before the start was complete."""
        start = asyncio.create_task(self.start())
        requested = asyncio.create_task(self._stop_requested.wait())
        try:
            await asyncio.wait([start, requested], return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return False
            start.result()
            return True
        finally:
            requested.cancel()
            start.cancel()
            await asyncio.wait([start, requested])

    async def start(self) -> None:
        """Open the sockets, start the app, and accept connections.

        Raises:
            ConfigError: A socket cannot be opened, or a certificate cannot be used.
            StartupFailed: The app's startup failed.
        """
        self._sockets = self._open_sockets()
        try:
            await self._lifecycle.start(self.sockets)
        except BaseException:
            self._sockets.withdraw()
            self._lifecycle.close_listeners()
            self._sockets.close()
            await asyncio.sleep(0)
            await self._lifecycle.abandon()
            raise
        self._is_running = True
        self.names = [listener.description for listener in self._lifecycle.listeners]
        self._announce()

    def _open_sockets(self) -> ServerSockets:
        return sockets.open_sockets(self.config)

    def _announce(self) -> None:
        """Let the operator and systemd know that connections are accepted."""
        for name in self.names:
            loggers.error.info("wsgate running on %s (Press CTRL+C to quit)", name)
        self._notifier.ready(self._lifecycle.names)

    def _announce_stop(self) -> None:
        loggers.error.info("Shutting down")
        self._notifier.stopping(stop_seconds(self.config))

    def _announce_end(self) -> None:
        loggers.error.info("Stopped")
        self._notifier.close()

    def ask_to_stop(self) -> None:
        """Stop `serve` gracefully; returns at once. Not thread-safe."""
        self._stop_requested.set()

    def reload(self) -> None:
        """Reopen the log files, read the certificates anew, and report that to systemd.

        Open connections stay as they are. Not thread-safe.
        """
        with self._notifier.reloading():
            log_files.reopen()  # those that were moved: further servers of the process find none
            if self._is_running and self.worker.certificates is not None:
                self.worker.certificates.reload()

    async def stop(self) -> None:
        """Stop accepting, wait for running requests within the timeout, and shut the app down."""
        if self._is_running:
            self._is_running = False
            self._announce_stop()
            try:
                await self._lifecycle.stop(self._sockets)
            finally:
                self._announce_end()


def longest_stop(config: Config) -> float:
    """Return how many seconds a stop may take.

    After the drain, requests and the lifespan's shutdown have the graceful timeout each.
    """
    graceful = max(config.timeout_graceful_shutdown, CANCEL_TIMEOUT)
    return config.drain_seconds + 2 * graceful + _CANCELLATIONS


def stop_seconds(config: Config) -> float | None:
    """Return what systemd is told about that: None without a drain, for systemd's default."""
    return longest_stop(config) if config.drain_seconds else None
