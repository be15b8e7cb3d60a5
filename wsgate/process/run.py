"""Runs a server: as a whole program (`run`), or within a running event loop (`serve`)."""

import asyncio
import contextlib
import errno
import os
import resource
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, get_args

from wsgate import env_file as variables, loggers, streams, threads
from wsgate.config import Config, Loop
from wsgate.errors import ConfigError, LoopIsRunning, StartupFailed
from wsgate.loading import add_to_path, complete, load
from wsgate.observe import console_log
from wsgate.observe.log_format import indent
from wsgate.observe.message_trace import trace
from wsgate.observe.throttled_log import throttled
from wsgate.process import signals, sockets
from wsgate.process.server import Server
from wsgate.process.systemd import Notifier
from wsgate.server.lifecycle import CANCEL_TIMEOUT
from wsgate.types import App, Factory, Interface

STARTUP_FAILED = 3  # the exit status

_CONSOLE = object()  # the default of log_config; None has another meaning


def run(
    app: App | Factory | str,
    *,
    factory: bool = False,
    app_dir: str | os.PathLike[str] | None = None,
    interface: Interface = "auto",
    env_file: str | os.PathLike[str] | None = None,
    log_config: object = _CONSOLE,
    **options: Any,
) -> None:
    """Serve an app until a signal stops the server; set up the log, signals and the event loop.

    Args:
        app: an ASGI app, or "module:attribute" of one.
        factory: call `app` to get the app, and await the result if it is awaitable.
        app_dir: a folder to search for modules first.
        interface: of the app: "asgi3", "asgi2", "wsgi", or "auto".
        env_file: a file of environment variables to set before the app is imported.
        log_config: a configuration of `logging`: a dict for `dictConfig`, or the path of a JSON,
            YAML or .ini file. None leaves `logging` alone. By default the loggers `wsgate.error`
            and `wsgate.access` write to stderr and stdout.
        options: those of `Config`, also by the names that uvicorn has for them.

    Raises:
        ConfigError: a setting, the app or an address cannot be used.
        LoopIsRunning: it was called in a running event loop.
        SystemExit: with status 3, if the app's lifespan refuses to start.
        KeyboardInterrupt: while the app is imported or made.
    """
    _check_no_running_loop()
    streams.open_missing()
    config = _config_of(interface, options)
    if app_dir is not None:  # now: a configuration of logging may name classes of the app
        add_to_path(app_dir)
    _set_up_log(log_config, config)
    try:
        if env_file is not None:
            variables.load(env_file)
        make_loop = _loop_factory(config.loop)
        with _causes_logged():
            loaded = load(app, factory=factory, interface=interface)
        _raise_file_limit()
        _serve_in_new_loop(make_loop(), loaded, config)
    except StartupFailed as error:
        _log_and_exit(error)
    finally:
        console_log.close()


async def serve(
    app: App | Factory | str,
    *,
    factory: bool = False,
    app_dir: str | os.PathLike[str] | None = None,
    interface: Interface = "auto",
    handle_signals: bool = True,
    **options: Any,
) -> None:
    """Serve an app in the running event loop; logging is left to the caller.

    Args:
        app, factory, app_dir, interface: as for `run`.
        handle_signals: stop on SIGINT and SIGTERM, and raise the signal again afterwards. Has no
            effect outside the main thread.
        options: those of `Config`; `loop` has no effect here.

    Raises:
        ConfigError: a setting, the app or an address cannot be used.
        StartupFailed: the app's lifespan refuses to start.
    """
    config = _config_of(interface, options)
    loaded = await complete(load(app, factory=factory, app_dir=app_dir, interface=interface))
    await Server(_trace_if_logged(loaded), config).serve(handle_signals=handle_signals)


def _config_of(interface: Interface, options: dict[str, Any]) -> Config:
    """Return the settings of the server. WSGI has no WebSockets: handshakes are plain requests."""
    if interface not in get_args(Interface):
        choices = ", ".join(get_args(Interface))
        raise ConfigError(f"--interface must be one of {choices}", setting="interface")
    return Config(**{**options, "ws": "none"} if interface == "wsgi" else options)


def _trace_if_logged(app: App) -> App:
    return trace(app) if loggers.error.logger.isEnabledFor(loggers.TRACE) else app


def _complete_app(loop: asyncio.AbstractEventLoop, loaded: App | Awaitable[App]) -> App:
    """Return the app; run an async factory in the loop."""
    task = loop.create_task(complete(loaded))
    try:
        with _causes_logged():
            return loop.run_until_complete(task)
    except KeyboardInterrupt:
        # The factory may answer its cancellation with an exception. Retrieve it, or asyncio logs
        # that nobody did.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        raise


@contextlib.contextmanager
def _causes_logged() -> Iterator[None]:
    """Log the traceback of an error in the user's code at debug level: its text is one line."""
    try:
        yield
    except ConfigError as error:
        if error.__cause__ is not None:
            loggers.error.debug("The app could not be loaded", exc_info=error.__cause__)
        raise


def _check_no_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LoopIsRunning(
        "run() cannot be called in a running event loop (a notebook has one): "
        "await wsgate.serve(...) there"
    )


def _serve_in_new_loop(
    loop: asyncio.AbstractEventLoop, loaded: App | Awaitable[App], config: Config
) -> None:
    """Serve until a signal stops the server, then close the loop.

    Only after that the program's own handlers get the signal.
    """
    loop.set_exception_handler(_on_loop_error)
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(executor)
    with contextlib.ExitStack() as handlers:
        try:
            notifier = Notifier.from_environment()
            app = _trace_if_logged(_complete_app(loop, loaded))
            server = Server(app, config, notifier=notifier)
            handlers.enter_context(
                signals.handle(
                    loop,
                    server.ask_to_stop,
                    reload=server.reload,
                    reraise=signals.is_host_handler,
                )
            )
            sockets.warn_of_unused(config)
            loop.run_until_complete(server.serve(handle_signals=False))
        finally:
            _close_loop(loop, executor)
            console_log.flush()


def _log_and_exit(error: StartupFailed) -> NoReturn:
    loggers.error.error("%s", indent(str(error).rstrip()))
    loggers.error.error("Application startup failed. Exiting.")
    raise SystemExit(STARTUP_FAILED) from None


def _set_up_log(log_config: object, config: Config) -> None:
    loggers.name_trace_level()
    level, use_colors = config.log_level, config.use_colors
    if log_config is _CONSOLE:
        console_log.configure(level or "info", use_colors=use_colors)
    elif log_config is not None:
        # Most programs do not need `logging.config`, which imports a server and more.
        from wsgate.observe import log_config as own  # noqa: PLC0415

        console_log.remove()
        own.apply(log_config, level=level, use_colors=use_colors)


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems refuse their own hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        throttled.warning("No file descriptor is left to accept a connection (ulimit -n)")
    elif not _is_late_retry(error, context):
        try:
            loop.default_exception_handler(context)
        except Exception as failure:  # noqa: BLE001  # a host's handler of the logger `asyncio`
            text = "An error of the event loop cannot be logged (%r): %s"
            loggers.error.error(text, failure, context.get("message"))


def _is_late_retry(error: object, context: dict[str, Any]) -> bool:
    """Return whether asyncio tried again to accept on a socket that had been closed.

    It does so a second after an accept failed for lack of a file descriptor.
    """
    return isinstance(error, ValueError) and "._start_serving(" in context.get("message", "")


def _loop_factory(name: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    if name in ("asyncio", "none"):
        return asyncio.new_event_loop
    try:
        import uvloop  # noqa: PLC0415  # it is optional
    except ImportError:
        if name == "uvloop":
            raise ConfigError("--loop uvloop: uvloop is not installed", setting="loop") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close_loop(loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Cancel the tasks, end the threads and close the loop.

    Tasks and threads may not end: each wait has a timeout.
    """
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=CANCEL_TIMEOUT))
        _run_with_timeout(loop, loop.shutdown_asyncgens())
        loop.run_until_complete(_shut_down(executor))
    finally:
        loop.close()


def _run_with_timeout(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]
) -> None:
    loop.run_until_complete(asyncio.wait([loop.create_task(coroutine)], timeout=CANCEL_TIMEOUT))


async def _shut_down(executor: ThreadPoolExecutor) -> None:
    """Wait for an executor's threads for `CANCEL_TIMEOUT` seconds: an app may have blocked them.

    `loop.shutdown_default_executor` has no timeout in Python 3.11. Its thread also raises an error
    if the loop is closed before the executor's threads end.
    """
    loop = asyncio.get_running_loop()
    has_ended = asyncio.Event()

    def shut_down() -> None:
        executor.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(has_ended.set)

    threads.daemon_thread(shut_down, "wsgate-executor-end").start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_TIMEOUT):
            await has_ended.wait()
