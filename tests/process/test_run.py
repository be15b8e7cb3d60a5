import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.saved_loggers import LOGGERS, saved_loggers
from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError, StartupFailed
from wsgate.observe import console_log
from wsgate.process import event_loop, run as module, worker_process
from wsgate.process.run import run, serve
from wsgate.process.server import Server
from wsgate.process.systemd import Notifier
from wsgate.threads import HANDLED_SIGNALS
from wsgate.types import Receive, Scope, Send


@pytest.fixture(autouse=True)
def _saved_loggers() -> Iterator[None]:
    with saved_loggers():
        yield


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse to start."""
    await send({"type": "lifespan.startup.failed", "message": "no database"})


class Stub:
    """A server that only records how it was called. handlers: of signals, during `serve`."""

    made: "Stub"
    loop: asyncio.AbstractEventLoop
    handle_signals: bool | None = None

    def __init__(self, app: Any, config: Config, *, notifier: Notifier | None = None) -> None:
        self.app, self.config = app, config
        self.notifier = notifier
        self.handlers: list[object] = []
        type(self).made = self

    async def serve(self, *, handle_signals: bool = True) -> None:
        self.handle_signals = handle_signals
        self.handlers = handlers()
        type(self).loop = asyncio.get_running_loop()

    def ask_to_stop(self) -> None:
        """Do nothing: `serve` has ended."""

    def reload(self) -> None:
        """Do nothing: there are no log files."""


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in HANDLED_SIGNALS]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    class Fresh(Stub):
        pass

    monkeypatch.setattr(module, "Server", Fresh)
    monkeypatch.setattr(event_loop, "CANCEL_TIMEOUT", 0.001)
    return Fresh


# -- a whole program -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("asyncio", asyncio.SelectorEventLoop),
        ("none", asyncio.SelectorEventLoop),
        ("uvloop", uvloop.Loop),
    ],
)
def test_run_passes_on_the_app_the_settings_and_the_loop(
    stub: type[Stub], name: str, kind: type
) -> None:
    run(app, loop=name, port=0, ws_max_queue=3)
    assert stub.made.app is app
    assert stub.made.config == Config(loop=name, port=0, ws_max_queue=3)  # type: ignore[arg-type]
    assert isinstance(stub.loop, kind)
    assert stub.loop.is_closed()


def test_run_installs_signal_handlers_while_it_serves(stub: type[Stub]) -> None:
    before = handlers()
    run(app)
    assert not stub.made.handle_signals, "run installs the handlers itself"
    assert not set(stub.made.handlers) & set(before)
    assert handlers() == before


@pytest.mark.parametrize(
    "error", [ConfigError, StartupFailed, OSError, SystemExit, KeyboardInterrupt]
)
def test_run_cleans_up_after_an_exception(stub: type[Stub], error: type[BaseException]) -> None:
    async def serve(self: Stub, **_: Any) -> None:
        stub.loop = asyncio.get_running_loop()
        raise error("no")

    stub.serve = serve  # type: ignore[method-assign]
    before = handlers()
    with pytest.raises((error, SystemExit)):
        run(app)
    assert handlers() == before
    assert stub.loop.is_closed()


def test_run_leaves_the_current_loop_of_the_host_alone(stub: type[Stub]) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        run(app)
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_run_sets_up_the_log(stub: type[Stub], capsys: pytest.CaptureFixture[str]) -> None:
    run(app, log_level="warning", access_log=False)
    logging.getLogger("wsgate.error").warning("logged")
    assert capsys.readouterr() == ("", "WARNING:  logged\n")


def state(logger: logging.Logger) -> tuple[object, ...]:
    return logger.handlers[:], logger.level, logger.propagate, logger.disabled, logger.filters[:]


def test_run_leaves_logging_alone_without_a_log_config(
    stub: type[Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    loggers = [*LOGGERS, logging.getLogger(), logging.getLogger("asyncio")]
    before = [state(logger) for logger in loggers]
    run(app, log_config=None, access_log=True)
    assert [state(logger) for logger in loggers] == before
    assert stub.made.config.access_log
    assert capsys.readouterr() == ("", "")


def test_run_sets_the_level_without_a_log_config(stub: type[Stub]) -> None:
    before = [(logger.handlers[:], logger.propagate) for logger in LOGGERS]
    run(app, log_config=None, log_level="warning")
    for name in ("wsgate.error", "wsgate.access"):
        assert logging.getLogger(name).level == logging.WARNING
    assert logging.getLogger("wsgate").level == logging.NOTSET
    assert [(logger.handlers[:], logger.propagate) for logger in LOGGERS] == before


def test_run_does_not_close_handlers_of_the_host(stub: type[Stub], tmp_path: Path) -> None:
    path = tmp_path / "host.log"
    handler = logging.FileHandler(path)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        run(app)
        assert handler in root.handlers
        logging.getLogger("tests.host").error("a later line")
    finally:
        root.removeHandler(handler)
        handler.close()
    assert path.read_text() == "a later line\n"


ROOT_ONLY = {"version": 1, "disable_existing_loggers": False, "loggers": {"wsgate": {}}}


def test_run_applies_a_configuration_of_logging(
    stub: type[Stub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = {"a": {"class": "logging.StreamHandler"}}
    logger = {"handlers": ["a"], "level": "INFO", "propagate": False}
    config = {**ROOT_ONLY, "handlers": handlers, "loggers": {"wsgate": logger}}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(config))
    for log_config in (config, path, str(path)):
        for level in (None, "error"):
            run(app, log_config=log_config, log_level=level)
            loggers.error.warning("logged")
            assert capsys.readouterr().err == ("" if level else "logged\n")


def test_a_configuration_of_logging_may_name_classes_of_the_app(
    stub: type[Stub],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "wsg_log.py").write_text(
        "import logging\n"
        "class Own(logging.Formatter):\n"
        "    def format(self, record): return 'own ' + record.getMessage()\n"
    )
    config = {
        **ROOT_ONLY,
        "formatters": {"own": {"()": "wsg_log.Own"}},
        "handlers": {"a": {"class": "logging.StreamHandler", "formatter": "own"}},
        "loggers": {"wsgate": {"handlers": ["a"], "propagate": False}},
    }
    run(app, app_dir=tmp_path, log_config=config)
    loggers.error.warning("logged")
    assert capsys.readouterr().err == "own logged\n"
    assert sys.path.count(str(tmp_path)) == 1


def test_a_configuration_replaces_the_handlers_of_an_earlier_run(
    stub: type[Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    run(app)
    run(app, log_config=ROOT_ONLY)
    assert not logging.getLogger("wsgate").handlers
    assert logging.getLogger("wsgate").propagate


@pytest.mark.parametrize("log_config", ["nowhere.ini", {}, object()])
def test_other_values_of_log_config_are_refused(stub: type[Stub], log_config: object) -> None:
    with pytest.raises(ConfigError, match=r"^--log-config") as raised:
        run(app, log_config=log_config)
    assert raised.value.setting == "log_config"


def test_run_sets_variables_before_it_imports_the_app(
    stub: type[Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    (tmp_path / "wsg_env.py").write_text(
        "import os\nvalue = os.environ['WSG_VALUE']\nasync def app(*_): pass\n"
    )
    path = tmp_path / ".env"
    path.write_text("WSG_VALUE=seen\nWSGATE_PORT=nonsense\n")
    run("wsg_env:app", app_dir=tmp_path, env_file=path)
    assert sys.modules["wsg_env"].value == "seen"
    with pytest.raises(ConfigError, match=r"^--env-file nowhere: No such file or directory$"):
        run("wsg_env:app", app_dir=tmp_path, env_file="nowhere")


def test_a_wsgi_app_gets_no_websockets(stub: type[Stub]) -> None:
    def wsgi(environ: Any, start_response: Any) -> list[bytes]:
        return []

    given: Any = wsgi
    made = []
    for served, interface in ((given, "wsgi"), (app, "asgi3")):
        run(served, interface=interface, ws="auto")  # type: ignore[arg-type]  # a str
        made.append(stub.made.config.ws)
    assert made == ["none", "auto"]


@pytest.mark.parametrize("interface", ["asgi", None, 3])
def test_another_interface_is_refused(stub: type[Stub], interface: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        run(app, interface=interface)
    assert str(raised.value) == "--interface must be one of auto, asgi3, asgi2, wsgi"


def test_the_app_is_traced_at_trace_level(
    stub: type[Stub], capsys: pytest.CaptureFixture[str]
) -> None:
    run(app, log_level="debug")
    assert stub.made.app is app
    run(app, log_level="trace")
    assert stub.made.app is not app
    traced: Any = stub.made.app
    asyncio.run(traced({"type": "lifespan"}, None, None))
    assert capsys.readouterr().err.startswith("TRACE:     - ASGI [1] Started scope={'type': ")


def test_run_writes_all_log_lines_before_it_returns(
    stub: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()

    async def serve(self: Stub, **_: Any) -> None:
        loggers.error.warning("logged")
        raise ConfigError("it ends")

    stub.serve = serve  # type: ignore[method-assign]
    with open(writer, "w") as stderr, open(reader, "rb", buffering=0) as read:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", stderr)
        with pytest.raises(ConfigError, match="it ends"):
            run(app)
        assert read.read(1_000) == b"WARNING:  logged\n"
        assert "wsgate-log" not in {thread.name for thread in threading.enumerate()}
        monkeypatch.undo()
        console_log.configure("info")


def test_run_loads_the_app(
    stub: type[Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "wsg_run.py").write_text(
        "async def app(scope, receive, send): pass\n"
        "def make(): return app\n"
        "async def make_later(): return app\n"
    )
    for factory in ("make", "make_later"):
        run(f"wsg_run:{factory}", factory=True, app_dir=str(tmp_path))
        assert stub.made.app is sys.modules["wsg_run"].app


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("no database", "ERROR:    no database\n"),
        ("a traceback:\n  its \x1b[31mlines\n", "ERROR:    a traceback:\n    its \\x1b[31mlines\n"),
        ("", "ERROR:    the application's startup failed\n"),
    ],
)
def test_run_exits_with_status_3_if_the_app_refuses_to_start(
    loop: str, message: str, lines: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed", "message": message})

    with pytest.raises(SystemExit) as raised:
        run(refuses, port=0, loop=loop)
    assert raised.value.code == 3
    out, err = capsys.readouterr()
    assert (out, err) == ("", lines + "ERROR:    Application startup failed. Exiting.\n")


async def test_serve_raises_if_the_app_refuses_to_start() -> None:
    with pytest.raises(StartupFailed, match=r"^no database$"):
        await serve(refuses, port=0)


def test_run_checks_settings_before_it_loads_the_app() -> None:
    with pytest.raises(ConfigError, match="--port"):
        run("nowhere.at.all:app", port=-1)


# -- factories and their errors --------------------------------------------------------------------


def make() -> Any:
    """Make the app. No loop runs: a factory may call `asyncio.run`."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    return app


async def make_later() -> Any:
    await asyncio.sleep(0)
    return app


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("factory", [make, make_later])
def test_run_recognizes_a_factory(
    stub: type[Stub], factory: Any, loop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(factory, loop=loop)
    assert stub.made.app is app
    assert capsys.readouterr().err.startswith("WARNING:  ASGI app factory detected: ")
    run(factory, factory=True, loop=loop)
    assert capsys.readouterr().err == ""


def fails() -> Any:
    raise LookupError("no settings")


async def fails_later() -> Any:
    await asyncio.sleep(0)
    raise LookupError("no settings")


@pytest.mark.parametrize("factory", [fails, fails_later])
def test_traceback_of_a_factory_is_logged_at_debug_level(
    factory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in ("info", "debug"):
        with pytest.raises(ConfigError, match="factory failed: LookupError: no settings"):
            run(factory, factory=True, loop="asyncio", log_level=level)
        lines = capsys.readouterr().err.splitlines()
        if level == "info":
            assert lines == []
        else:
            assert lines[0] == "DEBUG:    The app could not be loaded"
            assert "  Traceback (most recent call last):" in lines
            assert '    raise LookupError("no settings")' in [line[2:] for line in lines]
            assert lines[-1] == "  LookupError: no settings"


def test_async_factory_is_not_called_if_the_loop_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ConfigError, match="uvloop is not installed"):  # and no RuntimeWarning
        run(make_later, factory=True, loop="uvloop")


# -- within a running loop -------------------------------------------------------------------------


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_run_refuses_a_running_loop_before_it_changes_anything(
    stub: type[Stub], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        loggers = logging.root.manager.loggerDict.copy()
        before = [logging.getLogger("wsgate").handlers[:], handlers()]
        with pytest.raises(RuntimeError, match=r"^[^\n]+await wsgate\.serve\(\.\.\.\)") as raised:
            run("wsg_nowhere:app", port=-1)
        assert isinstance(raised.value, ConfigError)
        assert [logging.getLogger("wsgate").handlers, handlers()] == before
        assert logging.root.manager.loggerDict == loggers
        await serve(app, port=0, handle_signals=False)  # as the error says

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert not stub.made.handle_signals


# -- closing the loop ------------------------------------------------------------------------------


def test_remaining_tasks_are_cancelled(stub: type[Stub]) -> None:
    ends: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def serve(self: Stub, **_: Any) -> None:
        tasks.append(asyncio.create_task(left()))
        await asyncio.sleep(0)
        stub.loop = asyncio.get_running_loop()

    stub.serve = serve  # type: ignore[method-assign]
    run(app, loop="asyncio")
    assert ends == ["cancelled"]
    assert tasks[0].cancelled()
    assert stub.loop.is_closed()


def test_run_does_not_wait_for_a_task_that_ignores_its_cancellation(stub: type[Stub]) -> None:
    stubborn: list[asyncio.Task[None]] = []
    may_end: list[asyncio.Future[None]] = []

    async def left() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await may_end[0]

    async def serve(self: Stub, **_: Any) -> None:
        may_end.append(asyncio.get_running_loop().create_future())
        stubborn.append(asyncio.create_task(left()))
        await asyncio.sleep(0)
        stub.loop = asyncio.get_running_loop()

    stub.serve = serve  # type: ignore[method-assign]
    run(app, loop="asyncio")
    assert not stubborn[0].done()
    assert stub.loop.is_closed()
    stubborn[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # its loop is closed


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_run_does_not_wait_for_a_blocked_thread_which_later_ends_silently(
    stub: type[Stub], loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = threading.Event()
    before = set(threading.enumerate())

    async def serve(self: Stub, **_: Any) -> None:
        started = asyncio.Event()
        asyncio.get_running_loop().call_soon(started.set)
        blocking = asyncio.create_task(asyncio.to_thread(may_end.wait))
        await started.wait()
        assert not blocking.done()

    stub.serve = serve  # type: ignore[method-assign]
    run(app, loop=loop)
    threads = set(threading.enumerate()) - before
    assert threads
    may_end.set()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not caplog.records


def test_async_generators_are_closed(stub: type[Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "CANCEL_TIMEOUT", 10)
    kept: list[AsyncIterator[int]] = []
    ends: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            ends.append("ended")

    async def serve(self: Stub, **_: Any) -> None:
        kept.append(numbers())
        await anext(kept[0])

    stub.serve = serve  # type: ignore[method-assign]
    run(app, loop="asyncio")
    assert ends == ["ended"]


def test_error_of_the_server_is_raised_after_the_loop_is_closed(stub: type[Stub]) -> None:
    async def serve(self: Stub, **_: Any) -> None:
        stub.loop = asyncio.get_running_loop()
        raise ConfigError("no place to listen")

    stub.serve = serve  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="no place to listen"):
        run(app)
    assert stub.loop.is_closed()


# -- serve, within another program -----------------------------------------------------------------


@pytest.mark.parametrize("handle_signals", [True, False])
async def test_serve_runs_in_the_current_loop(stub: type[Stub], handle_signals: bool) -> None:
    await serve(app, handle_signals=handle_signals, port=0)
    assert stub.made.app is app
    assert stub.made.config == Config(port=0)
    assert stub.made.handle_signals is handle_signals
    assert stub.loop is asyncio.get_running_loop()


async def test_serve_returns_after_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    started: asyncio.Future[Server] = asyncio.get_running_loop().create_future()

    class Announced(Server):
        async def start(self) -> None:
            await super().start()
            started.set_result(self)

    monkeypatch.setattr(module, "Server", Announced)
    serving = asyncio.create_task(serve(app, handle_signals=False, port=0))
    async with asyncio.timeout(30):
        server = await started
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.ask_to_stop()
        await serving
    assert answer.startswith(b"HTTP/1.1 500 ")  # the app sends nothing


@pytest.mark.parametrize("given", [make_later, lambda: app])
async def test_serve_accepts_a_factory(stub: type[Stub], given: Any) -> None:
    await serve(given, factory=True)
    assert stub.made.app is app
    await serve(given)
    assert stub.made.app is app


async def test_serve_checks_settings_before_it_loads_the_app() -> None:
    with pytest.raises(ConfigError, match="--port"):  # and no RuntimeWarning
        await serve(make_later, factory=True, port=-1)


async def test_serve_searches_the_app_dir(
    stub: type[Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "wsg_serve.py").write_text("async def app(scope, receive, send): pass")
    await serve("wsg_serve:app", app_dir=str(tmp_path))
    assert stub.made.app is sys.modules["wsg_serve"].app


async def test_serve_raises_if_the_app_is_not_found(stub: type[Stub]) -> None:
    with pytest.raises(ConfigError, match="no such module"):
        await serve("wsg_nowhere:app")


# -- uvicorn's name of a setting -------------------------------------------------------------------


def test_name_of_uvicorn_for_a_setting_is_accepted(stub: type[Stub]) -> None:
    run(app, h11_max_incomplete_event_size=5_000, loop="asyncio")
    assert stub.made.config.limit_request_head == 5_000
    run(app, h11_max_incomplete_event_size=None, loop="asyncio")
    assert stub.made.config.limit_request_head == 65_536
    with pytest.raises(ConfigError, match="--limit-request-head"):
        run(app, h11_max_incomplete_event_size=0)


# -- workers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"workers": 2}, "--workers"),
        ({"reload": True}, "--reload"),
        ({"preload": True}, "--preload"),
        ({"worker_max_rss": 100}, "--worker-max-rss"),
    ],
)
def test_workers_need_the_app_as_a_string(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        run(app, log_config=None, **options)
    text = f'{reason} needs the app as "module:attribute": each worker imports it'
    assert str(raised.value) == text
    assert raised.value.setting == reason[2:].replace("-", "_")


def test_the_variable_of_workers_is_named_if_it_is_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with pytest.raises(ConfigError, match=r"^WEB_CONCURRENCY=2 needs the app as "):
        run(app, log_config=None)


async def test_only_a_program_has_workers() -> None:
    text = "^workers must be left out or 1: it is a setting of the command and of wsgate.run"
    with pytest.raises(ConfigError, match=text):
        Config(workers=2)  # type: ignore[call-arg]  # what users try
    with pytest.raises(ConfigError, match=text):
        await serve(app, workers=2)
    others: dict[str, Any] = {
        "preload": True,
        "restart_parallel": True,
        "worker_max_rss": 100,
        "worker_max_lifetime": 60,
        "control_socket": Path("c.sock"),
        "reload": True,
        "reload_dirs": ["src"],
    }
    for name, value in others.items():
        reason = f"^{name} must be left out: it is a setting of the command and of wsgate.run"
        with pytest.raises(ConfigError, match=reason):
            Config(**{name: value})
    Config(preload=False, control_socket=None)  # type: ignore[call-arg]
    Config(workers=1)  # type: ignore[call-arg]
    Config(workers=0)  # type: ignore[call-arg]


def test_run_in_a_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_is_worker", True)
    with pytest.raises(ConfigError) as raised:
        run("main:app", workers=2)
    assert str(raised.value) == (
        "run() was called while a worker imports the app: "
        'put the call under if __name__ == "__main__":'
    )
