"""The task of the app's lifespan: starts before the first connection, ends after the last."""

import asyncio
import contextvars
from typing import Any, cast

from wsgate import loggers
from wsgate.asgi.lifespan import Life, State
from wsgate.asgi.scope import Extensions, lifespan_scope
from wsgate.config import Lifespan as Mode
from wsgate.diagnosis import error_line
from wsgate.errors import StartupFailed
from wsgate.observe.log_format import escape
from wsgate.types import App, Message


class Lifespan:
    """One app's lifespan.

    mode: "off" does not call the app; "on" requires lifespan support; "auto" serves an app without
    it, too. state: filled by the app, copied into the scope of every connection. extensions: of
    its scope. variables: the context variables that the app's startup has set, None if the startup
    is not complete.
    """

    def __init__(self, app: App, mode: Mode, state: dict[str, Any], extensions: Extensions) -> None:
        self._app = app
        self._extensions = extensions
        self._mode = mode
        self._state = state
        self._life = Life()
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._has_received = False
        self._error: BaseException | None = None
        self.variables: contextvars.Context | None = None

    async def start(self) -> None:
        """Run the app's startup.

        Raises:
            StartupFailed: With the app's message, or the reason why there is none.
        """
        if self._mode == "off":
            return
        self._events.put_nowait("lifespan.startup")
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._changed.set())
        try:
            await self._wait_while(State.STARTING)
        except asyncio.CancelledError:
            await self.abandon()
            raise
        if self._life.state is State.FAILED:
            await self.abandon()
            raise StartupFailed(self._life.failure or "the application's startup failed")
        if self._life.state is State.STARTING:
            self._report_missing()

    def _report_missing(self) -> None:
        """Log that the app has no lifespan, or that it ended during startup.

        Raises:
            StartupFailed: The mode is "on".
        """
        error = self._error
        if self._mode == "on":
            if error is not None:
                loggers.error.error("Exception in 'lifespan' protocol", exc_info=error)
            if error is not None and self._has_received:
                raise StartupFailed(f"the application's startup failed: {error_line(error)}")
            raise StartupFailed("the application has no lifespan, which --lifespan on asks for")
        if error is None:
            return
        if self._has_received:  # an app that calls `receive` supports lifespan
            reason = error_line(error)
            loggers.error.warning(
                "The application's lifespan ended during startup (%s); serving without it",
                escape(reason),
            )
            loggers.error.debug("Exception in 'lifespan' protocol", exc_info=error)
        else:
            loggers.error.info("ASGI 'lifespan' protocol appears unsupported.")

    async def stop(self, seconds: float) -> None:
        """Run the app's shutdown, if its startup was complete.

        Args:
            seconds: Time for the shutdown; then an error is logged and the task is cancelled.
        """
        if self._task is None or self._task.done() or not self._life.is_running:
            return
        self._life.stop()
        self._events.put_nowait("lifespan.shutdown")
        try:
            async with asyncio.timeout(seconds):
                await self._wait_while(State.STOPPING)
        except TimeoutError:
            loggers.error.error("Application shutdown did not end within %.1f s", seconds)
        if self._life.state is State.FAILED:
            loggers.error.error("Application shutdown failed. %s", self._life.failure)
        await self.abandon()

    async def abandon(self) -> None:
        """Cancel the task if it has not ended."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    async def _wait_while(self, state: State) -> None:
        """Wait until the lifespan has left a state, or the task has ended."""
        assert self._task is not None  # `start` has created it
        while self._life.state is state and not self._task.done():
            self._changed.clear()
            await self._changed.wait()

    async def _run(self) -> None:
        try:
            await self._app(
                cast("dict[str, Any]", lifespan_scope(self._state, self._extensions)),
                self._receive,
                self._send,
            )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # of the app
            if self._life.state is State.STARTING:
                self._error = error  # handled in `start`
            elif not isinstance(error, asyncio.CancelledError):
                loggers.error.error("Exception in 'lifespan' protocol", exc_info=error)

    async def _receive(self) -> Message:
        event = await self._events.get()
        self._has_received = True
        return {"type": event}

    async def _send(self, message: Message) -> None:
        self._life.send(message)
        if self._life.is_running:
            self.variables = contextvars.copy_context()
        self._changed.set()
