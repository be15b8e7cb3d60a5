"""A program: the app that it serves, and what is set up before the app is imported."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from enum import Enum

from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.loading import complete, load
from wsgate.observe import console_log
from wsgate.observe.message_trace import trace
from wsgate.types import App, Factory, Interface


class DefaultLog(Enum):
    """The default of `log_config`; None has another meaning."""

    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What `wsgate.run` is called with; its parameters have the same names."""

    app: App | Factory | str
    factory: bool
    interface: Interface
    log_config: object
    config: Config

    def set_up_log(self) -> None:
        """Configure the loggers. Raises ConfigError for a bad configuration."""
        loggers.name_trace_level()
        level, use_colors = self.config.log_level, self.config.use_colors
        self._check_formats()
        if self.log_config is DefaultLog.CONSOLE:
            self._set_up_console()
        elif self.log_config is not None:
            # Most programs do not need `logging.config`, which imports a server and more.
            from wsgate.observe import log_config as own  # noqa: PLC0415

            console_log.remove()
            own.apply(self.log_config, level=level, use_colors=use_colors)
        elif level is not None:
            loggers.set_level(level)

    def _check_formats(self) -> None:
        """Refuse formats that have no effect, because another configuration has its own."""
        if self.log_config is DefaultLog.CONSOLE:
            return
        if self.config.log_format != "text":
            kind = f"wsgate.logging.{self.config.log_format.capitalize()}Formatter"
            text = f"--log-format must be alone: a log_config has {kind} for it"
            raise ConfigError(text, setting="log_format")
        if self.config.access_log_format is not None:
            text = (
                "--access-log-format must be alone: "
                "a log_config has wsgate.logging.AccessLineFormatter for it"
            )
            raise ConfigError(text, setting="access_log_format")

    def _set_up_console(self) -> None:
        config = self.config
        try:
            console_log.configure(
                config.log_level or "info",
                use_colors=config.use_colors,
                log_format=config.log_format,
                access_format=config.access_log_format,
            )
        except ValueError as error:
            text = f"--access-log-format: {error}"
            raise ConfigError(text, setting="access_log_format") from None

    def load(self) -> App | Awaitable[App]:
        """Import the app. Raises ConfigError; its cause is the exception of the user's code."""
        with _causes_logged():
            return load(self.app, factory=self.factory, interface=self.interface)


def complete_app(loop: asyncio.AbstractEventLoop, loaded: App | Awaitable[App]) -> App:
    """Return the app that `load` has returned; run an async factory in the loop.

    Raises:
        ConfigError: The factory failed.
    """
    task = loop.create_task(complete(loaded))
    try:
        with _causes_logged():
            return trace_if_logged(loop.run_until_complete(task))
    except KeyboardInterrupt:
        # The factory may answer its cancellation with an exception. Retrieve it, or asyncio logs
        # that nobody did.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        raise


def trace_if_logged(app: App) -> App:
    """Return the app, with its messages logged if the level of the log is "trace"."""
    return trace(app) if loggers.error.logger.isEnabledFor(loggers.TRACE) else app


@contextlib.contextmanager
def _causes_logged() -> Iterator[None]:
    """Log the traceback of an error in the user's code at debug level: its text is one line."""
    try:
        yield
    except ConfigError as error:
        if error.__cause__ is not None:
            loggers.error.debug("The app could not be loaded", exc_info=error.__cause__)
        raise
