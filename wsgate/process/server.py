"""The server: opens the sockets, handles signals, and runs a worker."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

from wsgate.config import Config
from wsgate.process import signals, sockets
from wsgate.server.lifecycle import Lifecycle
from wsgate.server.worker import Worker
from wsgate.types import App


class Server:
    """A server for one app in the running event loop.

    `serve` starts, waits and stops; `start` and `stop` do it separately.

    Args:
        app: The app.
        config: The settings, the defaults if None.
        clock: Returns a monotonic time in seconds; tests pass a fake clock.

    Raises:
        ConfigError: A setting is invalid.
    """

    def __init__(
        self, app: App, config: Config | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or Config()
        self.worker = Worker(app, self.config, clock)
        self._sockets = sockets.OpenSockets()
        self._lifecycle = Lifecycle(self.worker)
        self._is_running = False
        self._stop_requested = asyncio.Event()
        self.worker.ask_to_stop = self.ask_to_stop

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets; empty before `start`."""
        return self._sockets.sockets

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        Args:
            handle_signals: Install signal handlers; at the end restore the previous handlers and
                raise the received signals again. Only in the main thread.

        Raises:
            ConfigError: A socket cannot be opened.
            StartupFailed: The app's startup failed.
        """
        handling = signals.handle(asyncio.get_running_loop(), self.ask_to_stop)
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
            ConfigError: A socket cannot be opened.
            StartupFailed: The app's startup failed.
        """
        self._sockets = sockets.open_sockets(self.config)
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

    def ask_to_stop(self) -> None:
        """Stop `serve` gracefully; returns at once. Not thread-safe."""
        self._stop_requested.set()

    async def stop(self) -> None:
        """Stop accepting, wait for running requests within the timeout, and shut the app down."""
        if self._is_running:
            self._is_running = False
            await self._lifecycle.stop(self._sockets, takes_backlog=self.config.fd is None)
