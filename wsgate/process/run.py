"""A server as a whole program, and as a call within another one."""

import asyncio
import contextlib
import errno
import resource
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from wsgate import loggers, streams, threads
from wsgate.config import Config, Loop
from wsgate.errors import ConfigError, LoopIsRunning, StartupFailed
from wsgate.loading import complete, load
from wsgate.observe import console_log
from wsgate.observe.log_format import indent
from wsgate.observe.throttled_log import throttled
from wsgate.process import signals
from wsgate.process.server import LAST_WORD, Server
from wsgate.types import App, Factory

STARTUP_FAILED = 3  # the exit status

_CONSOLE = object()  # the default of log_config, which None is not


def run(
    app: App | Factory | str,
    *,
    factory: bool = False,
    app_dir: str | None = None,
    log_config: object = _CONSOLE,
    **options: Any,
) -> None:
    """Serve an app until a signal stops it; set up the log, the signals and the event loop.

    app: an ASGI app, or "module:attribute" of one. factory: call it to get the app; what it returns
    is awaited if it is awaitable. app_dir: where modules are looked for first. log_config: None
    leaves all of `logging` as it is; by default the server's own loggers write to stdout and
    stderr. options: those of `Config`.
    Raises ConfigError (LoopIsRunning within a running loop), and SystemExit with status 3 if the
    app's lifespan refuses to start. KeyboardInterrupt passes while the app is imported or made.
    """
    _refuse_running_loop()
    streams.open_missing()
    config = _config(options)
    _set_up_log(log_config, config)
    try:
        make_loop = _loop_factory(config.loop)
        with _log_causes():
            loaded = load(app, factory=factory, app_dir=app_dir)
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
    app_dir: str | None = None,
    handle_signals: bool = True,
    **options: Any,
) -> None:
    """Serve an app within the running event loop; the log is the caller's.

    app, factory, app_dir: as for `run`. options: those of `Config`; its `loop` has no meaning here.
    Raises ConfigError and StartupFailed.
    """
    config = _config(options)
    loaded = await complete(load(app, factory=factory, app_dir=app_dir))
    await Server(loaded, config).serve(handle_signals=handle_signals)


def _config(options: dict[str, Any]) -> Config:
    """Return the settings, one of which may come under the name that uvicorn gives it."""
    size = options.pop("h11_max_incomplete_event_size", None)
    if size is not None:  # None is uvicorn's default
        options["limit_request_head"] = size
    return Config(**options)


def _complete_in(loop: asyncio.AbstractEventLoop, loaded: App | Awaitable[App]) -> App:
    """Await what an async factory makes."""
    task = loop.create_task(complete(loaded))
    try:
        with _log_causes():
            return loop.run_until_complete(task)
    except KeyboardInterrupt:
        # The factory may answer its cancellation with an error, which nobody else retrieves.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        raise


@contextlib.contextmanager
def _log_causes() -> Iterator[None]:
    """Log the traceback of an error in the user's code at debug level: its text is one line."""
    try:
        yield
    except ConfigError as error:
        if error.__cause__ is not None:
            loggers.error.debug("The app could not be loaded", exc_info=error.__cause__)
        raise


def _refuse_running_loop() -> None:
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
    """Serve; a program's own handlers learn of the signal that ended it once the loop is closed."""
    loop.set_exception_handler(_on_loop_error)
    executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(executor)
    with contextlib.ExitStack() as handlers:
        try:
            server = Server(_complete_in(loop, loaded), config)
            handlers.enter_context(
                signals.handle(loop, server.ask_to_stop, reraise=signals.is_host_handler)
            )
            loop.run_until_complete(server.serve(handle_signals=False))
        finally:
            _close(loop, executor)
            console_log.flush()


def _log_and_exit(error: StartupFailed) -> NoReturn:
    loggers.error.error("%s", indent(str(error).rstrip()))
    loggers.error.error("Application startup failed. Exiting.")
    raise SystemExit(STARTUP_FAILED) from None


def _set_up_log(log_config: object, config: Config) -> None:
    if log_config is _CONSOLE:
        console_log.configure(config.log_level)
    elif log_config is not None:
        raise ConfigError("log_config must be None, which leaves logging alone, or not be given")


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets this process have: each connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems refuse what they have offered
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        throttled.warning("No file descriptor is left to accept a connection (ulimit -n)")
    elif not _is_late_retry(error, context):
        try:
            loop.default_exception_handler(context)
        except Exception as failure:  # noqa: BLE001  # the host's handler of the logger asyncio
            text = "An error of the event loop cannot be logged (%r): %s"
            loggers.error.error(text, failure, context.get("message"))


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
            raise ConfigError("--loop uvloop: uvloop is not installed", setting="loop") from None
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _close(loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Close the loop behind tasks that may ignore their cancellation: each wait has a bound."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_WORD))
        _bounded(loop, loop.shutdown_asyncgens())
        loop.run_until_complete(_end_threads(executor))
    finally:
        loop.close()


def _bounded(loop: asyncio.AbstractEventLoop, end: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(asyncio.wait([loop.create_task(end)], timeout=LAST_WORD))


async def _end_threads(executor: ThreadPoolExecutor) -> None:
    """Wait for an executor's threads, which an app may have left blocked.

    `loop.shutdown_default_executor` knows no bound in Python 3.11, nor a loop that is closed
    meanwhile: it fails in its thread, later.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def shut_down() -> None:
        executor.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ended.set)

    threads.daemon_thread(shut_down, "wsgate-executor-end").start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORD):
            await ended.wait()
