"""A program: its log, its app, and what an error of the user's code becomes."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import loops
from tests.harness.log import capture_log
from tests.saved_loggers import saved_loggers
from wsgate import loggers
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.observe.access_log import log_event
from wsgate.observe.events import RequestDone
from wsgate.process.program import DefaultLog, Program, complete_app, trace_if_logged
from wsgate.types import App


@pytest.fixture(autouse=True)
def _saved_loggers() -> Iterator[None]:
    with saved_loggers():
        yield


@pytest.fixture(params=list(loops.LOOPS.values()), ids=list(loops.LOOPS))
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = request.param()
    yield made
    made.close()


async def app(*_: Any) -> None:
    """Do nothing."""


def new_program(served: Any = app, *, log_config: object = None, **options: Any) -> Program:
    factory = options.pop("factory", False)
    return Program(
        app=served,
        factory=factory,
        interface="auto",
        log_config=log_config,
        config=Config(**options),
    )


# -- the log ---------------------------------------------------------------------------------------


def test_the_default_log_writes_to_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    new_program(log_config=DefaultLog.CONSOLE, use_colors=False).set_up_log()
    loggers.error.info("hello")
    loggers.error.debug("not shown")
    assert capsys.readouterr().err == "INFO:     hello\n"


@pytest.mark.parametrize("log_config", [DefaultLog.CONSOLE, None, {"version": 1}])
@pytest.mark.parametrize("name", ["log_format", "access_log_format"])
def test_formats_of_lines_are_those_of_the_console_only(
    log_config: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value = {"log_format": "json", "access_log_format": "%(h)s|"}[name]
    program = new_program(log_config=log_config, **{name: value})
    if log_config is not DefaultLog.CONSOLE:
        option = f"--{name.replace('_', '-')}"
        with pytest.raises(ConfigError, match=f"^{option} must be alone: .* wsgate.logging.[JA]"):
            program.set_up_log()
        return
    program.set_up_log()
    log_event(RequestDone(("a", 1), "GET", b"/", "1.1", 200))
    loggers.error.info("hello")
    out, err = capsys.readouterr()
    assert out.startswith('{"time":"' if name == "log_format" else "a|\n")
    assert err.startswith('{"time":"') == (name == "log_format")


def test_an_unknown_placeholder_ends_the_start_and_leaves_the_log() -> None:
    handlers = loggers.access.logger.handlers[:]
    program = new_program(log_config=DefaultLog.CONSOLE, access_log_format="%(zz)s")
    error = r"^--access-log-format: unknown placeholder %\(zz\)s$"
    with pytest.raises(ConfigError, match=error) as raised:
        program.set_up_log()
    assert raised.value.setting == "access_log_format"
    assert loggers.access.logger.handlers == handlers


def test_the_level_is_that_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    new_program(log_config=DefaultLog.CONSOLE, log_level="warning").set_up_log()
    loggers.error.info("not shown")
    assert capsys.readouterr().err == ""


def test_none_leaves_logging_alone() -> None:
    before = logging.getLogger("wsgate").handlers[:]
    new_program(log_config=None).set_up_log()
    assert logging.getLogger("wsgate").handlers == before
    assert logging.getLevelName(loggers.TRACE) == "TRACE"


@pytest.fixture
def _saved_root() -> Iterator[None]:
    """Restore the handlers and the level of the root logger, for the tests after this one."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.setLevel(level)
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)


@pytest.mark.usefixtures("_saved_root")
def test_a_configuration_of_ones_own_is_applied(capsys: pytest.CaptureFixture[str]) -> None:
    new_program(log_config=DefaultLog.CONSOLE).set_up_log()
    handler = {"class": "logging.StreamHandler", "level": "INFO", "stream": "ext://sys.stdout"}
    own = {"handlers": {"own": handler}, "root": {"handlers": ["own"], "level": "INFO"}}
    new_program(log_config={"version": 1, "disable_existing_loggers": False, **own}).set_up_log()
    loggers.error.info("hello")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("hello\n", "")


def test_a_bad_configuration_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--log-config"):
        new_program(log_config={"version": 9}).set_up_log()


# -- the app ---------------------------------------------------------------------------------------


def test_an_app_is_loaded() -> None:
    assert new_program().load() is app
    assert new_program("tests.process.test_program:app").load().__qualname__ == "app"  # type: ignore[union-attr]


def test_an_async_factory_runs_in_the_loop(loop: asyncio.AbstractEventLoop) -> None:
    async def make() -> App:
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        return app

    assert complete_app(loop, new_program(make, factory=True).load()) is app


def test_an_app_that_is_complete_is_returned(loop: asyncio.AbstractEventLoop) -> None:
    assert complete_app(loop, app) is app


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_an_error_of_the_users_code_is_one_line_and_its_traceback_for_debugging(
    loop: asyncio.AbstractEventLoop, level: int
) -> None:
    async def make() -> App:
        raise LookupError("no settings")

    with capture_log() as log:
        logging.getLogger("wsgate.error").setLevel(level)
        with pytest.raises(ConfigError, match="LookupError: no settings"):
            complete_app(loop, new_program(make, factory=True).load())
    assert log.messages(logging.DEBUG) == ["The app could not be loaded"] * (level == logging.DEBUG)


def test_an_error_without_a_cause_has_no_traceback() -> None:
    with capture_log() as log:
        logging.getLogger("wsgate.error").setLevel(logging.DEBUG)
        with pytest.raises(ConfigError):
            new_program("no_colon").load()
    assert log.records == []


def test_an_interrupted_factory(loop: asyncio.AbstractEventLoop) -> None:
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))

    async def make() -> App:
        loop.call_soon(interrupt)
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("answers its cancellation")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete_app(loop, new_program(make, factory=True).load())
    (task,) = asyncio.all_tasks(loop)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    del task
    assert errors == []


# -- the trace -------------------------------------------------------------------------------------


def test_messages_are_traced_at_that_level_only() -> None:
    with capture_log():
        assert trace_if_logged(app) is app
        logging.getLogger("wsgate.error").setLevel(loggers.TRACE)
        assert trace_if_logged(app) is not app
