"""The server: opens the sockets, handles signals, and runs a worker."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol, Self

from wsgate import loggers
from wsgate.brokers import urls
from wsgate.config import Config
from wsgate.diagnosis import short_repr
from wsgate.errors import ConfigError, StartupFailed
from wsgate.loggers import EVENT
from wsgate.observe import log_files
from wsgate.observe.events import ServerStarted, ServerStopped, ServerStopping
from wsgate.process import signals, sockets
from wsgate.process.hub_keeper import HubKeeper
from wsgate.process.metering import make_meter
from wsgate.process.systemd import Notifier
from wsgate.server.lifecycle import CANCEL_TIMEOUT, Lifecycle, SocketOwner
from wsgate.server.listener import url_of
from wsgate.server.other_workers import OtherWorkers
from wsgate.server.worker import Worker
from wsgate.types import App

if TYPE_CHECKING:
    from wsgate.process.status_server import StatusServer

# Seconds that a stop may take after its timeouts: for apps and tasks that ignore a cancellation.
_CANCELLATIONS = 7.0


class ServerSockets(SocketOwner, Protocol):
    """The listening sockets of a server, and their owner."""

    sockets: list[socket.socket]


class Server:
    """A server for one app in the running event loop; it runs once.

    `serve` serves until it is asked to stop, `running` while a block of code runs; `start` and
    `stop` do it separately.

    Args:
        app: The app.
        config: The settings, the defaults if None.
        clock: Returns a monotonic time in seconds; tests pass a fake clock.
        notifier: Reports start and stop to systemd; by default nothing is reported.
        other_workers: The other workers that serve the same sockets; None if there are none.
        hub: The path of the topics hub's socket; None if the server starts one, should it need it.

    Attributes:
        names: The addresses that it listens on, once it has started.

    Raises:
        ConfigError: A setting is invalid, or an argument is something else.
    """

    def __init__(
        self,
        app: App,
        config: Config | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        notifier: Notifier | None = None,
        other_workers: OtherWorkers | None = None,
        hub: str | None = None,
    ) -> None:
        _check_arguments(app, config)
        self.config = config or Config()
        self.worker = Worker(app, self.config, clock, other_workers, hub)
        if (meter := make_meter(self.config)) is not None:
            self.worker.count_with(meter)
        has_hub = hub is None and urls.is_local(self.config.topics)
        self._hub = HubKeeper(self.config) if has_hub else None
        self._status: StatusServer | None = None
        self._notifier = notifier or Notifier()
        self._sockets: ServerSockets = sockets.OpenSockets()
        self._lifecycle = Lifecycle(self.worker)
        self._has_started = self._is_running = False
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it runs
        self.names: list[str] = []
        self._stop_requested = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self.worker.ask_to_stop = self.ask_to_stop

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets; empty before `start`."""
        return self._sockets.sockets

    @property
    def urls(self) -> list[str]:
        """The URL of each TCP socket for a client on this machine, such as http://127.0.0.1:8000.

        Unix sockets have none. The URLs of WebSockets begin with ws instead of http.
        """
        scheme = "https" if self.config.has_tls else "http"
        urls = (url_of(sock, scheme) for sock in self.sockets if sock.fileno() >= 0)
        return [url for url in urls if url is not None]

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
        async with self._started(handle_signals=handle_signals) as is_running:
            if is_running:
                await self._stop_requested.wait()

    @contextlib.asynccontextmanager
    async def running(self, *, handle_signals: bool = False) -> AsyncIterator[Self]:
        """Serve while the context lasts.

        At its end the server stops gracefully, also after an exception or a cancellation. If it is
        asked to stop before (`ask_to_stop`, a signal, --limit-max-requests), it does so at once.
        The context is not interrupted then: see `stop_requested` and `is_stopping`.

        Args:
            handle_signals: As for `serve`, but outside the main thread it is an error.

        Yields:
            This server; its sockets accept connections.

        Raises:
            ConfigError: A socket cannot be opened, or signals cannot be handled in this thread.
            StartupFailed: The app's startup failed, or the server was asked to stop before it was
                complete.
            RuntimeError: It has been started before.
        """
        if handle_signals and threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                "running(handle_signals=True) needs the main thread: signals arrive there only"
            )
        async with self._started(handle_signals=handle_signals) as is_running:
            if not is_running:
                raise StartupFailed("the server was asked to stop during its start")
            yield self

    @contextlib.asynccontextmanager
    async def _started(self, *, handle_signals: bool) -> AsyncIterator[bool]:
        """Start, and stop at the end; yield False if a stop was requested during the start."""
        self._check_is_new()
        self._loop = loop = asyncio.get_running_loop()
        handling = signals.handle(loop, self.ask_to_stop, reload=self.reload)
        with handling if handle_signals else contextlib.nullcontext():
            try:
                yield await self._start_unless_stopped()
            finally:
                await self.stop()

    def _check_is_new(self) -> None:
        if self._has_started:
            raise RuntimeError("a server runs once: make another one")

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
            await _end_of(start, requested)

    async def start(self) -> None:
        """Open the sockets, start the app, and accept connections.

        Raises:
            ConfigError: A socket cannot be opened, or a certificate cannot be used.
            StartupFailed: The app's startup failed.
            RuntimeError: It has been started before.
        """
        self._check_is_new()
        self._has_started = True
        await self._start_status()
        try:
            await self._start_worker()
        except BaseException:
            await self._stop_status()
            raise
        self._is_running = True
        self.names = [listener.description for listener in self._lifecycle.listeners]
        self._announce()

    async def _start_worker(self) -> None:
        """Open the sockets, and start the hub and the worker; all is undone if that fails."""
        self._sockets = self._open_sockets()
        try:
            self._start_hub()
            await self._lifecycle.start(self.sockets)
        except BaseException:
            self._sockets.withdraw()
            self._lifecycle.close_listeners()
            self._sockets.close()
            await asyncio.sleep(0)
            await self._lifecycle.abandon()
            await self._stop_hub()
            raise

    def _start_hub(self) -> None:
        if self._hub is not None:
            self._hub.start()
            self.worker.topics_hub = self._hub.path

    async def _stop_hub(self) -> None:
        if self._hub is not None:
            await self._hub.stop()

    def _make_status_server(self) -> "StatusServer | None":
        if self.config.metrics is None:
            return None
        from wsgate.process.server_control import ServerControl  # noqa: PLC0415  # imports this
        from wsgate.process.status_server import StatusServer  # noqa: PLC0415  # rarely needed

        return StatusServer(self.config, ServerControl(self))

    async def _start_status(self) -> None:
        self._status = self._make_status_server()
        if self._status is not None:
            await self._status.start()

    async def _stop_status(self) -> None:
        if self._status is not None:
            await self._status.stop()

    def _open_sockets(self) -> ServerSockets:
        return sockets.open_sockets(self.config)

    def _announce(self) -> None:
        """Let the operator and systemd know that connections are accepted."""
        for name in self.names:
            text = "wsgate running on %s (Press CTRL+C to quit)"
            loggers.error.info(text, name, extra={EVENT: ServerStarted((name,))})
        self._notifier.ready(self._lifecycle.names)

    def _announce_stop(self) -> None:
        loggers.error.info("Shutting down", extra={EVENT: ServerStopping(tuple(self.names))})
        self._notifier.stopping(stop_seconds(self.config))

    def _announce_end(self) -> None:
        loggers.error.info("Stopped", extra={EVENT: ServerStopped(tuple(self.names))})
        self._notifier.close()

    def ask_to_stop(self) -> None:
        """Stop gracefully; returns at once. Not thread-safe."""
        self._stop_requested.set()
        if self._is_running:
            self._is_running = False
            loop, variables = self.worker.loop, self.worker.variables
            self._stopping = loop.create_task(self._stop(), context=variables.copy())

    @property
    def is_stopping(self) -> bool:
        """Whether the server was asked to stop, or has stopped."""
        return self._stop_requested.is_set()

    async def stop_requested(self) -> None:
        """Wait until the server is asked to stop."""
        await self._stop_requested.wait()

    @property
    def should_exit(self) -> bool:
        """Whether a stop was requested. Set it to True to stop, from any thread, as in uvicorn."""
        return self._stop_requested.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if not value and self.should_exit:
            raise ValueError("a stop cannot be taken back")
        if not value:
            return
        if self._loop is None:  # it is not being served
            self.ask_to_stop()
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.ask_to_stop)

    def reload(self) -> None:
        """Reopen the log files, read the certificates anew, and report that to systemd.

        Open connections stay as they are. Not thread-safe.
        """
        with self._notifier.reloading():
            log_files.reopen()  # those that were moved: further servers of the process find none
            if self._is_running and self.worker.certificates is not None:
                self.worker.certificates.reload()

    async def stop(self) -> None:
        """Stop gracefully: stop accepting, wait within the timeout, shut the app down.

        Further calls wait for the same stop. A cancellation does not interrupt it, and is raised
        afterwards. Does nothing if the server was not started.
        """
        if self._is_running:
            self.ask_to_stop()
        if self._stopping is not None:
            await _end_of(self._stopping)
            self._stopping.result()

    async def _stop(self) -> None:
        self._announce_stop()
        try:
            await self._lifecycle.stop(self._sockets)
        finally:
            await self._stop_hub()
            await self._stop_status()
            self._announce_end()


async def _end_of(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the end of tasks; raise a cancellation of the wait after it."""
    cancelled = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:  # scopes of anyio cancel in every loop iteration
            cancelled = error
    for task in tasks:
        task.cancelled() or task.exception()  # retrieved, or asyncio logs that nobody did
    if cancelled is not None:
        raise cancelled


def _check_arguments(app: object, config: object) -> None:
    """Raise ConfigError, with the right call, for what uvicorn's Server or `run` would take."""
    if isinstance(app, Config):
        raise ConfigError("the app is the first argument: wsgate.Server(app, config)")
    if isinstance(app, str):
        raise ConfigError(
            f'wsgate.Server takes the app itself, not "{app}": wsgate.run() and wsgate.serve() '
            "import it"
        )
    if not callable(app):
        raise ConfigError(f"the app is {short_repr(app)}, not an ASGI app")
    if config is not None and not isinstance(config, Config):
        raise ConfigError(f"the settings are a wsgate.Config, not {short_repr(config)}")


def longest_stop(config: Config) -> float:
    """Return how many seconds a stop may take.

    After the drain, requests and the lifespan's shutdown have the graceful timeout each.
    """
    graceful = max(config.timeout_graceful_shutdown, CANCEL_TIMEOUT)
    return config.drain_seconds + 2 * graceful + _CANCELLATIONS


def stop_seconds(config: Config) -> float | None:
    """Return the time that systemd should allow for a stop in seconds; None for its default.

    Without a drain the default is enough.
    """
    return longest_stop(config) if config.drain_seconds else None
