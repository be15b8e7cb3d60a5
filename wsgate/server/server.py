"""One server: listen, accept, stop."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.server import logs, sockets
from wsgate.server.connection import Connection
from wsgate.server.context import Context
from wsgate.server.deadlines import TICK
from wsgate.server.lifespan import Lifespan
from wsgate.server.watchdog import Watchdog
from wsgate.types import App

ACCEPT_AT_ONCE = 16  # connections that are accepted in one turn of the loop
DRAIN_STEP = 0.02  # seconds between the closings of a drain
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
        self._is_running = False
        self._watchdog = Watchdog()
        self._stop_asked = asyncio.Event()

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        Raises ConfigError where it cannot listen, StartupFailed where the app refuses to start.
        """
        with self._signals() if handle_signals else contextlib.nullcontext():
            try:
                if await self._started():
                    await self._stop_asked.wait()
            finally:
                await self.stop()

    # -- start -----------------------------------------------------------------------------------

    async def _started(self) -> bool:
        """Start; False where that was given up because a stop was asked for meanwhile."""
        start = asyncio.create_task(self.start())
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait([start, asked], return_when=asyncio.FIRST_COMPLETED)
            if not start.done():
                return False
            start.result()
            return True
        finally:
            asked.cancel()
            start.cancel()
            await asyncio.wait([start, asked])

    async def start(self) -> None:
        """Bind, start the app, and accept connections. Raises as `serve`."""
        self.sockets = sockets.listen(self.config)
        try:
            await self._lifespan.start()
            for sock in self.sockets:
                await self._accept_on(sock)
        except BaseException:
            await self._close_sockets()
            await self._lifespan.stop(max(self.config.timeout_graceful_shutdown, LAST_WORD))
            raise
        self._is_running = True
        self._watchdog.start()
        self._tick()
        for sock in self.sockets:
            logs.error.info("wsgate running on %s (Press CTRL+C to quit)", sockets.name_of(sock))

    async def _accept_on(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.listen(self.config.backlog)  # by ourselves, for uvloop tells nobody if it fails
            for handle in self._handles(sock):
                self._servers.append(await self._listener(handle))
        except OSError as error:  # another process was quicker, or an inherited socket is in use
            reason = error.strerror or error
            raise ConfigError(f"cannot listen on {sockets.name_of(sock)}: {reason}") from None
        # For the kernel it is the backlog; for asyncio also how many it accepts in one turn, and
        # how often it complains in one turn when there are no more file descriptors.
        sock.listen(self.config.backlog)

    def _handles(self, sock: socket.socket) -> Iterator[socket.socket]:
        """Yield a socket as often as it takes for a turn of the loop to accept many connections.

        uvloop accepts one in a turn on each handle. When everybody comes back at once, a turn that
        takes in sixteen of them costs little more than one that takes in one.
        """
        yield sock
        if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            for _ in range(ACCEPT_AT_ONCE - 1):
                yield sock.dup()

    async def _listener(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        create = loop.create_server
        if sock.family == getattr(socket, "AF_UNIX", None):
            create = loop.create_unix_server  # type: ignore[assignment]  # the same arguments here
        return await create(lambda: Connection(self.context), sock=sock, backlog=ACCEPT_AT_ONCE)

    def _tick(self) -> None:
        self._watchdog.beat()
        loop = asyncio.get_running_loop()
        pause = TICK
        try:
            pause = self.context.tick()
        except Exception:  # noqa: BLE001  # one connection's trouble is not everyone's
            logs.error.exception("A deadline could not be dealt with; the others go on")
        self._timer = loop.call_later(pause, self._tick)

    # -- stop ------------------------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Have `serve` stop gracefully."""
        self._stop_asked.set()

    async def stop(self) -> None:
        """Accept no more, let what is under way end within its time, shut the app down."""
        if not self._is_running:
            return
        self._is_running = False
        logs.error.info("Shutting down")
        self.context.stopping = True
        await self._close_sockets()
        for connection in list(self.context.connections):
            if not connection.is_websocket:
                connection.driver.stop()
        await self._drain(self.config.drain_seconds)
        if not await self._ended_within(self.config.timeout_graceful_shutdown):
            await self._cut()
        assert self._timer is not None  # a server that runs has one
        self._timer.cancel()
        self._watchdog.stop()
        await self._lifespan.stop(max(self.config.timeout_graceful_shutdown, LAST_WORD))
        logs.error.info("Stopped")

    async def _drain(self, seconds: float) -> None:
        """Close the WebSockets, evenly over some seconds, so that they do not come back at once."""
        waiting = [c for c in self.context.connections if c.is_websocket]
        loop = asyncio.get_running_loop()
        begun, closed = loop.time(), 0
        while closed < len(waiting) and self.context.connections:
            share = (loop.time() - begun) / seconds if seconds else 1.0
            due = min(len(waiting), int(len(waiting) * share) + 1)
            for connection in waiting[closed:due]:
                connection.driver.stop()
            closed = due
            if closed < len(waiting):
                await asyncio.sleep(DRAIN_STEP)

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
        """Stop on the first SIGINT or SIGTERM, end the process at once on the second.

        In a thread that is not the main one signals are someone else's.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
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
            logs.flush()
            os._exit(128 + number)
        self.ask_to_stop()
