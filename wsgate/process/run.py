"""Runs a server: as a whole program (`run`), or within a running event loop (`serve`)."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, NoReturn, get_args

from wsgate import env_file as variables, loggers, streams
from wsgate.brokers import urls
from wsgate.config import Config
from wsgate.errors import ConfigError, LoopIsRunning, StartupFailed
from wsgate.loading import add_to_path, complete, load
from wsgate.observe import console_log
from wsgate.observe.log_format import indent
from wsgate.process import control_socket, event_loop, signals, sockets, worker_process
from wsgate.process.blocked_control import Answer
from wsgate.process.commands import Commands
from wsgate.process.program import DefaultLog, Program, complete_app, trace_if_logged
from wsgate.process.reloader import ReloadingSupervisor
from wsgate.process.server import Server
from wsgate.process.server_control import ServerControl
from wsgate.process.status_server import StatusServer
from wsgate.process.supervisor import Supervisor
from wsgate.process.supervisor_control import SupervisorControl
from wsgate.process.systemd import Notifier
from wsgate.settings import names_of
from wsgate.supervision import SUPERVISION_SETTINGS, Supervision
from wsgate.types import App, Factory, Interface


def run(
    app: App | Factory | str,
    *,
    factory: bool = False,
    app_dir: str | os.PathLike[str] | None = None,
    interface: Interface = "auto",
    env_file: str | os.PathLike[str] | None = None,
    log_config: object = DefaultLog.CONSOLE,
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
            YAML, TOML or .ini file. None leaves `logging` alone, apart from `log_level`. By default
            the loggers `wsgate.error` and `wsgate.access` write to stderr and stdout.
        options: those of `Config` and `Supervision`, also by the names that uvicorn has for them.

    Raises:
        ConfigError: a setting, the app or an address cannot be used.
        LoopIsRunning: it was called in a running event loop.
        SystemExit: with status 3, if the app's lifespan refuses to start.
        KeyboardInterrupt: while the app is imported or made.
    """
    _check_no_running_loop()
    if worker_process.is_worker():
        raise ConfigError(
            "run() was called while a worker imports the app: "
            'put the call under if __name__ == "__main__":'
        )
    streams.open_missing()
    supervision, options = _split(options)
    program = Program(
        app=app,
        factory=factory,
        interface=interface,
        log_config=log_config,
        config=_config_of(interface, options),
    )
    if app_dir is not None:  # now: a configuration of logging may name classes of the app
        add_to_path(app_dir)
    program.set_up_log()
    try:
        if env_file is not None:
            variables.load(env_file)
        for text in supervision.without_effect:
            loggers.error.warning("%s", text)
        if supervision.needs_supervisor:
            _supervise(program, supervision)
        else:
            _serve_in_new_loop(program, supervision.control_socket)
    except StartupFailed as error:
        _log_and_exit(error)
    finally:
        console_log.close()


def _split(options: dict[str, Any]) -> tuple[Supervision, dict[str, Any]]:
    """Return the settings of the supervisor, and the options that are left for the server."""
    names = names_of(SUPERVISION_SETTINGS)
    own = {name: value for name, value in options.items() if name in names}
    return Supervision(**own), {n: value for n, value in options.items() if n not in names}


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
    await Server(trace_if_logged(loaded), config).serve(handle_signals=handle_signals)


def _config_of(interface: Interface, options: dict[str, Any]) -> Config:
    """Return the settings of the server. WSGI has no WebSockets: handshakes are plain requests."""
    if interface not in get_args(Interface):
        choices = ", ".join(get_args(Interface))
        raise ConfigError(f"--interface must be one of {choices}", setting="interface")
    return Config(**{**options, "ws": "none"} if interface == "wsgi" else options)


def _check_no_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LoopIsRunning(
        "run() cannot be called in a running event loop (a notebook has one): "
        "await wsgate.serve(...) there"
    )


def _serve_in_new_loop(program: Program, control: str | os.PathLike[str] | None) -> None:
    """Serve until a signal stops the server, then close the loop.

    Only after that the program's own handlers get the signal.

    Args:
        program: What to serve.
        control: The path of the control socket, None without one.
    """
    config = program.config
    make_loop = event_loop.factory(config.loop)
    loaded = program.load()
    event_loop.raise_file_limit()
    with contextlib.ExitStack() as handlers, event_loop.opened(make_loop) as loop:
        notifier = Notifier.from_environment()
        server = Server(complete_app(loop, loaded), config, notifier=notifier)
        handlers.enter_context(
            signals.handle(
                loop, server.ask_to_stop, reload=server.reload, reraise=signals.is_host_handler
            )
        )
        handlers.enter_context(signals.refuse_scaling(loop))
        sockets.warn_of_unused(config)
        serving = server.serve(handle_signals=False)
        commands = ServerControl(server)
        loop.run_until_complete(_with_control(serving, control, commands, commands.answer_blocked))


def _supervise(program: Program, settings: Supervision) -> None:
    """Run workers until a signal stops them.

    Args:
        program: What the workers serve.
        settings: How many there are, and when they are replaced.

    Raises:
        ConfigError: A setting, the app or an address cannot be used.
        StartupFailed: The workers cannot start.
    """
    if not isinstance(program.app, str):
        raise ConfigError(
            f'{settings.reason_text} needs the app as "module:attribute": each worker imports it',
            setting=settings.reason,
        )
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("run() with workers takes signals: call it in the main thread")
    event_loop.factory(program.config.loop)  # raises what each worker would
    event_loop.raise_file_limit()
    with contextlib.ExitStack() as handlers, event_loop.opened(asyncio.new_event_loop) as loop:
        kind = ReloadingSupervisor if settings.reload else Supervisor
        supervisor = kind(program, settings, Notifier.from_environment())
        handlers.enter_context(
            signals.handle(
                loop,
                supervisor.stop,
                reload=supervisor.hang_up,
                reopen=supervisor.reopen_logs,
                reraise=signals.is_host_handler,
                second=supervisor.end_at_once,
            )
        )
        sockets.warn_of_unused(program.config)
        _warn_of_separate_topics(program.config, supervisor.target)
        commands = SupervisorControl(supervisor)
        serving = supervisor.serve()
        if program.config.metrics is not None:
            serving = _with_status(serving, program.config, commands)
        loop.run_until_complete(_with_control(serving, settings.control_socket, commands))


def _warn_of_separate_topics(config: Config, workers: int) -> None:
    if config.topics == urls.MEMORY and workers > 1:
        loggers.error.warning(
            "--topics memory: with %d workers: each has topics of its own, so what one publishes "
            "does not reach the subscribers of the others (--topics local: joins them)",
            workers,
        )


async def _with_status(
    serving: Coroutine[Any, Any, None], config: Config, commands: Commands
) -> None:
    """Serve, with the address of the metrics from before the start until after the stop."""
    with contextlib.closing(serving):  # in case the address cannot be opened
        status = StatusServer(config, commands)
        await status.start()
        try:
            await serving
        finally:
            await status.stop()


async def _with_control(
    serving: Coroutine[Any, Any, None],
    path: str | os.PathLike[str] | None,
    commands: Commands,
    when_blocked: Answer | None = None,
) -> None:
    """Serve, with a control socket from before the start until after the stop."""
    with contextlib.closing(serving):  # in case the control socket cannot be opened
        async with control_socket.opened(path, commands, when_blocked):
            await serving


def _log_and_exit(error: StartupFailed) -> NoReturn:
    loggers.error.error("%s", indent(str(error).rstrip()))
    loggers.error.error("Application startup failed. Exiting.")
    raise SystemExit(error.exit_status) from None
