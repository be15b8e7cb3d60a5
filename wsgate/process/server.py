"""One server: listen, accept, stop."""

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import signals, sockets
from wsgate.server.connection import Connection
from wsgate.server.deadlines import TICK
from wsgate.server.lifespan import Lifespan
from wsgate.server.watchdog import Watchdog
from wsgate.server.worker import Context
from wsgate.types import App

ACCEPT_AT_ONCE = 16  # connections that are accepted in one turn of the loop
ACCEPT_TURNS = 6  # of the loop, from an accept to the first bytes of the connection, and some more
DRAIN_STEP = 0.02  # seconds between the closings of a drain
LAST_WORD = 1.0  # seconds for tasks that were cancelled, and for transports that were aborted


class Server:
    """A server for one app, inside the running event loop.

    `await serve()` does it all; `start`, `wait_stopped` and `stop` are its parts.
    """

    def __init__(
        self, app: App, config: Config | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config or Config()
        self.context = Context(app, self.config, clock)
        self._listening = sockets.Listening()
        self._lifespan = Lifespan(app, self.config.lifespan, self.context.state)
        self._timer: asyncio.TimerHandle | None = None
        self._is_running = False
        self._watchdog = Watchdog()
        self._stop_asked = asyncio.Event()

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets it listens on; none before it starts."""
        return self._listening.sockets

    async def serve(self, *, handle_signals: bool = True) -> None:
        """Serve until SIGINT, SIGTERM or `ask_to_stop`.

        handle_signals: take signals over, put back what was found, and raise again what came; this
        is for the main thread alone. Raises ConfigError where it cannot listen, StartupFailed where
        the app refuses to start.
        """
        handling = signals.handle(asyncio.get_running_loop(), self.ask_to_stop)
        with handling if handle_signals else contextlib.nullcontext():
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
        self.context.process = os.getpid()  # it may have been made before a fork
        self._listening = sockets.listen(self.config)
        try:
            await self._lifespan.start()
            if self._lifespan.variables is not None:
                self.context.inherit(self._lifespan.variables)
            for sock in self.sockets:
                await self._accept_on(sock)
        except BaseException:
            self._listening.close()
            await asyncio.sleep(0)
            await self._lifespan.stop(max(self.config.timeout_graceful_shutdown, LAST_WORD))
            raise
        self._is_running = True
        self._watchdog.start()
        self._tick()
        for sock in self.sockets:
            loggers.error.info("wsgate running on %s (Press CTRL+C to quit)", sockets.name_of(sock))

    async def _accept_on(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            sock.listen(self.config.backlog)  # by ourselves, for uvloop tells nobody if it fails
            for handle in self._handles(sock):
                self._listening.servers.append(await self._listener(handle))
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
        if sock.family == getattr(socket, "AF_UNIX", None):
            return await self._unix_listener(sock)
        return await loop.create_server(self._connection, sock=sock, backlog=ACCEPT_AT_ONCE)

    async def _unix_listener(self, sock: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        create = functools.partial(loop.create_unix_server, self._connection, sock=sock)
        try:
            # The loop must not remove the file: `Listening` knows whose it is.
            return await create(backlog=ACCEPT_AT_ONCE, cleanup_socket=False)  # type: ignore[call-arg]  # since 3.13
        except TypeError:  # before Python 3.13 a loop has no such argument, and removes nothing
            return await create(backlog=ACCEPT_AT_ONCE)

    def _connection(self) -> Connection:
        return Connection(self.context)

    def _tick(self) -> None:
        self._watchdog.beat()
        loop = asyncio.get_running_loop()
        pause = TICK
        try:
            pause = self.context.tick()
        except Exception:  # noqa: BLE001  # one connection's trouble is not everyone's
            loggers.error.exception("A deadline could not be dealt with; the others go on")
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
        loggers.error.info("Shutting down")
        await self._close_sockets()
        self.context.stopping = True
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
        loggers.error.info("Stopped")

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
        """Accept no more; let those in whom the kernel has accepted, with the requests they sent.

        What waits in the backlog of an inherited socket is for whoever else has that.
        """
        loop = asyncio.get_running_loop()
        self._listening.stop_accepting(loop)
        await self._let_in()
        waiting = self._listening.accept_waiting() if self.config.fd is None else []
        self._listening.close()  # without a turn of the loop in between, in which more could come
        for sock in waiting:
            with contextlib.suppress(OSError):  # the client has left already
                await loop.connect_accepted_socket(self._connection, sock)
        await self._let_in()

    async def _let_in(self) -> None:
        """Have the loop set up what it has accepted, and read what came on it."""
        for _ in range(ACCEPT_TURNS):
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
        loggers.error.warning(
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
            loggers.error.error("%d app calls ignore their cancellation", len(context.tasks))
