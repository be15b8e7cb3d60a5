"""A server as a whole program, and as a call within another one."""

import asyncio
import contextlib
import errno
import resource
from collections.abc import Callable, Coroutine
from typing import Any

from wsgate.config import Config, Loop
from wsgate.errors import ConfigError
from wsgate.loading import load
from wsgate.server import logs, streams
from wsgate.server.server import LAST_WORD, Server
from wsgate.types import App

_CONSOLE = object()  # the default of log_config, which None is not


def run(
    app: App | Callable[[], App] | str,
    *,
    factory: bool = False,
    app_dir: str | None = None,
    log_config: object = _CONSOLE,
    **options: Any,
) -> None:
    """Serve an app until SIGINT or SIGTERM; set up the log and the event loop.

    app: an ASGI app, or "module:attribute" of one. factory: call it to get the app. app_dir: where
    modules are looked for first. log_config: None leaves all of `logging` as it is; by default the
    server's own loggers write to stdout and stderr. options: those of `Config`.
    Raises ConfigError and StartupFailed.
    """
    streams.open_missing()
    config = _config(options)
    _set_up_log(log_config, config)
    try:
        loaded = load(app, factory=factory, app_dir=app_dir)
        _raise_file_limit()
        loop = _loop_factory(config.loop)()
        loop.set_exception_handler(_on_loop_error)
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(_served(loaded, config))
        finally:
            _close(loop)
    finally:
        logs.end()


async def serve(app: App | str, *, handle_signals: bool = True, **options: Any) -> None:
    """Serve an app within the running event loop; the log is the caller's.

    options: those of `Config`; its `loop` has no meaning here. Raises ConfigError and
    StartupFailed.
    """
    await Server(load(app), _config(options)).serve(handle_signals=handle_signals)


def _config(options: dict[str, Any]) -> Config:
    """Return the settings, one of which may come under the name that uvicorn gives it."""
    if "h11_max_incomplete_event_size" in options:
        options["limit_request_head"] = options.pop("h11_max_incomplete_event_size")
    return Config(**options)


def _set_up_log(log_config: object, config: Config) -> None:
    if log_config is _CONSOLE:
        logs.configure(config.log_level, access_log=config.access_log)
    elif log_config is not None:
        raise ConfigError("log_config must be None, which leaves logging alone, or not be given")


async def _served(app: App, config: Config) -> None:
    await Server(app, config).serve()


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems refuse what they have offered
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        logs.throttled.warning("No file descriptor is left to accept a connection (ulimit -n)")
    elif not _is_late_retry(error, context):
        try:
            loop.default_exception_handler(context)
        except Exception as failure:  # noqa: BLE001  # the host's handler of the logger asyncio
            text = "An error of the event loop cannot be logged (%r): %s"
            logs.error.error(text, failure, context.get("message"))


def _is_late_retry(error: object, context: dict[str, Any]) -> bool:
    """Tell whether asyncio tries to accept again, a second later, on what was closed meanwhile."""
    return isinstance(error, ValueError) and "._start_serving(" in context.get("message", "")


def _loop_factory(name: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415  # only where it is asked for and there
    except ImportError:
        if name == "uvloop":
            raise ConfigError("--loop uvloop: uvloop is not installed") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop behind tasks that may ignore their cancellation: each wait has a bound."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_WORD))
        _bounded(loop, loop.shutdown_asyncgens())
        _bounded(loop, loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _bounded(loop: asyncio.AbstractEventLoop, end: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(asyncio.wait([loop.create_task(end)], timeout=LAST_WORD))
