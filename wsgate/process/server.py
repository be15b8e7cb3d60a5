"""A server: owns the sockets and the signals, and runs a worker on them."""

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
    """A server for one app, inside the running event loop.

    `await serve()` does everything; `start` and `stop` are its parts.
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

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets it listens on; none before it starts."""
        return self._sockets.sockets

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        handle_signals: install signal handlers, restore the previous ones at the end, and raise
        again what arrived; this is for the main thread alone.
        Raises ConfigError if it cannot listen, StartupFailed if the app refuses to start.
        """
        handling = signals.handle(asyncio.get_running_loop(), self.ask_to_stop)
        with handling if handle_signals else contextlib.nullcontext():
            try:
                if await self._started():
                    await self._stop_requested.wait()
            finally:
                await self.stop()

    async def _started(self) -> bool:
        """Start; returns False if that was given up because a stop was requested meanwhile."""
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
        """Bind, start the app, and accept connections. Raises as `serve`."""
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
        """Have `serve` stop gracefully."""
        self._stop_requested.set()

    async def stop(self) -> None:
        """Accept no more, let what is under way end within its time, shut the app down."""
        if self._is_running:
            self._is_running = False
            await self._lifecycle.stop(self._sockets, takes_backlog=self.config.fd is None)
