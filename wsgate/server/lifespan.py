"""The task of the app's lifespan: started before the first connection, ended after the last."""

import asyncio
import contextvars
from typing import Any, cast

from wsgate import loggers
from wsgate.asgi.lifespan import Life, State
from wsgate.asgi.scope import lifespan_scope
from wsgate.config import Lifespan as Mode
from wsgate.diagnosis import error_line
from wsgate.errors import StartupFailed
from wsgate.observe.log_format import escape
from wsgate.types import App, Message


class Lifespan:
    """One app's lifespan.

    mode: "off" calls nothing; "on" takes an app without lifespan for one that failed; "auto" goes
    on without. state: what the app puts there reaches the scope of every connection. variables: the
    context variables with which the app's startup was complete, None without a lifespan.
    """

    def __init__(self, app: App, mode: Mode, state: dict[str, Any]) -> None:
        self._app = app
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
        """Start the app. Raises StartupFailed with the app's own message."""
        if self._mode == "off":
            return
        self._events.put_nowait("lifespan.startup")
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(lambda _: self._changed.set())
        try:
            await self._change(State.STARTING)
        except asyncio.CancelledError:
            await self.abandon()
            raise
        if self._life.state is State.FAILED:
            await self.abandon()
            raise StartupFailed(self._life.failure or "the application's startup failed")
        if self._life.state is State.STARTING:
            self._continue_without()

    def _continue_without(self) -> None:
        """Say once that the app has no lifespan, or that it broke off. Raises StartupFailed."""
        error = self._error
        if self._mode == "on":
            if error is not None:
                loggers.error.error("Exception in 'lifespan' protocol", exc_info=error)
            if error is not None and self._has_received:
                raise StartupFailed(f"the application's startup failed: {error_line(error)}")
            raise StartupFailed("the application has no lifespan, which --lifespan on asks for")
        if error is None:
            return
        if self._has_received:  # an app that asks what is wanted has a lifespan
            reason = error_line(error)
            loggers.error.warning(
                "The application's lifespan ended during startup (%s); serving without it",
                escape(reason),
            )
            loggers.error.debug("Exception in 'lifespan' protocol", exc_info=error)
        else:
            loggers.error.info("ASGI 'lifespan' protocol appears unsupported.")

    async def stop(self, seconds: float) -> None:
        """Shut the app down, if it came up, and give it some seconds for it."""
        if self._task is None or self._task.done() or not self._life.is_running:
            return
        self._life.stop()
        self._events.put_nowait("lifespan.shutdown")
        try:
            async with asyncio.timeout(seconds):
                await self._change(State.STOPPING)
        except TimeoutError:
            loggers.error.error("Application shutdown did not end within %.1f s", seconds)
        if self._life.state is State.FAILED:
            loggers.error.error("Application shutdown failed. %s", self._life.failure)
        await self.abandon()

    async def abandon(self) -> None:
        """Cancel what is left of the task."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    async def _change(self, state: State) -> None:
        """Wait until the app's life leaves a state, or its task ends."""
        assert self._task is not None  # start has made it
        while self._life.state is state and not self._task.done():
            self._changed.clear()
            await self._changed.wait()

    async def _run(self) -> None:
        try:
            await self._app(
                cast("dict[str, Any]", lifespan_scope(self._state)), self._receive, self._send
            )
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # it ends alone
            if self._life.state is State.STARTING:
                self._error = error  # start() decides what it means
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
