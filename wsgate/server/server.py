"""One server: listen, accept, stop."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator

from wsgate.config import Config
from wsgate.server import logs, sockets
from wsgate.server.connection import Connection
from wsgate.server.context import Context
from wsgate.server.lifespan import Lifespan
from wsgate.types import App

LAST_WORD = 1.0  # seconds for tasks that were cancelled, and for transports that were aborted


class Server:
    """A server for one app, inside the running event loop.

    `await serve()` does it all; `start`, `wait_stopped` and `stop` are its parts. sockets: those it
    listens on, once started.
    """

    def __init__(
        self, app: App, config: Config | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or Config()
        self.context = Context(app, self.config, clock)
        self.sockets: list[socket.socket] = []
        self._lifespan = Lifespan(app, self.config.lifespan, self.context.state)
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stop_asked = asyncio.Event()

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        Raises ConfigError where it cannot listen, StartupFailed where the app refuses to start.
        """
        await self.start()
        with self._signals() if handle_signals else contextlib.nullcontext():
            await self._stop_asked.wait()
            await self.stop()

    # -- start -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, start the app, and accept connections. Raises as `serve`."""
        self.sockets = sockets.listen(self.config)
        try:
            await self._lifespan.start()
            for sock in self.sockets:
                self._servers.append(await self._accept_on(sock))
        except BaseException:
            await self._close_sockets()
            raise
        self._tick()
        for sock in self.sockets:
            logs.error.info("wsgate running on %s (Press CTRL+C to quit)", sockets.name_of(sock))

    async def _accept_on(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        create = loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = loop.create_unix_server  # type: ignore[assignment]  # the same arguments here
        return await create(
            lambda: Connection(self.context), sock=sock, backlog=self.config.backlog
        )

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.context.tick(), self._tick)

    # -- stop ------------------------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Have `serve` stop gracefully."""
        self._stop_asked.set()

    async def stop(self) -> None:
        """Accept no more, let what is under way end within its time, shut the app down."""
        logs.error.info("Shutting down")
        self.context.stopping = True
        await self._close_sockets()
        for connection in list(self.context.connections):
            connection.driver.stop()
        if not await self._ended_within(self.config.timeout_graceful_shutdown):
            await self._cut()
        if self._timer is not None:
            self._timer.cancel()
        await self._lifespan.stop()
        logs.error.info("Stopped")

    async def _close_sockets(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for sock in self.sockets:
            sock.close()
        if self.config.uds is not None and self.sockets:
            sockets.remove(self.config.uds)
        # A connection that the kernel had accepted already is told to the loop within a turn.
        await asyncio.sleep(0)

    async def _ended_within(self, seconds: float) -> bool:
        """Wait for all connections and apps to end; tell whether they did."""
        context = self.context
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while context.connections or context.tasks:
                    await context.ended.wait()
        return not (context.connections or context.tasks)

    async def _cut(self) -> None:
        """End by force what did not end in time."""
        context = self.context
        logs.error.warning(
            "Timeout graceful shutdown exceeded: cancelling %d app calls, dropping %d connections",
            len(context.tasks),
            len(context.connections),
        )
        for task in list(context.tasks):
            task.cancel("the server stops")
        if context.tasks:
            await asyncio.wait(list(context.tasks), timeout=LAST_WORD)
        for connection in list(context.connections):
            connection.abort()
        await self._ended_within(LAST_WORD)
        if context.tasks:
            logs.error.error("%d app calls ignore their cancellation", len(context.tasks))

    # -- signals ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on the first SIGINT or SIGTERM, end the process at once on the second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self._stop_asked.is_set():
            logs.error.warning("Second signal: ending at once")
            sys.stdout.flush()
            os._exit(128 + number)
        self.ask_to_stop()
