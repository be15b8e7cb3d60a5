"""Fixtures of all tests, and two options: --fast-path and --compiled."""

import argparse
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# On a loaded machine an example may take any time. CI runs the same examples each time, to be
# reproducible; elsewhere each run generates new examples.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

HERE = Path(__file__).parent
EXTENSIONS = ("wsgate.ws.frames._messages", "wsgate.server._fast_path")
COMPILED = "TESTS_COMPILED"  # the variable with the value of --compiled
# Prefixes of the paths of tests whose servers speak WebSocket: `--fast-path both` runs these with
# both codecs. The tests of the protocol itself always run with every codec.
WEBSOCKETS = (
    *("e2e/test_chat.py", "e2e/test_frameworks.py", "e2e/test_topics.py", "test_autobahn.py"),
    *("examples/test_chat_app.py", "testing/test_memory.py"),
    *(f"abuse/test_{what}.py" for what in ("app", "floods", "frames", "liveness", "policies")),
    "abuse/test_process.py",
    *("process/test_stopping.py", "server/test_fast_path_payloads.py", "server/test_liveness.py"),
    *("server/test_pending_websocket.py", "server/test_websocket"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast-path",
        choices=["on", "off", "both"],
        default="on",
        help="whether servers read and write common frames without wsproto; both: each in turn",
    )
    parser.addoption(
        "--compiled",
        metavar="plain|FOLDER",
        help="the plain twins in the tests' process, or the builds of the extensions in a folder",
    )
    # Not in pytest_configure: before that, pytest imports the conftest.py of the folders that it is
    # given, and with these the server.
    _use_compiled(_chosen_compiled())


def _chosen_compiled() -> str | None:
    """Return the value of --compiled; processes of xdist have it from the first one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--compiled", default=os.environ.get(COMPILED))
    chosen: str | None = parser.parse_known_args()[0].compiled
    if chosen:
        os.environ[COMPILED] = chosen
    return chosen


def _use_compiled(chosen: str | None) -> None:
    if chosen == "plain":
        for module in EXTENSIONS:
            sys.modules[module] = None  # type: ignore[assignment]  # Python refuses to import it
    elif chosen:
        sys.meta_path.insert(0, Builds(Path(chosen)))


class Builds(importlib.abc.MetaPathFinder):
    """Finds the extensions in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """Return where an extension is, None for any other module."""
        if name not in EXTENSIONS:
            return None
        file = self._folder / f"{name.rpartition('.')[2]}.so"
        return importlib.util.spec_from_file_location(name, file)


def pytest_configure() -> None:
    # A background job of a script ignores SIGINT, and nohup ignores SIGHUP; child processes would
    # inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = Path(metafunc.definition.path).relative_to(HERE).as_posix()
    if metafunc.config.getoption("--fast-path") == "both" and path.startswith(WEBSOCKETS):
        paths = ["fast", "wsproto"]
        metafunc.parametrize("fast_path", [True, False], ids=paths, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # A codec knows no event loop: one of the loops runs with both codecs.
    twice = [item for item in items if _runs_on_another_loop(item)]
    if twice:
        config.hook.pytest_deselected(items=twice)
        items[:] = [item for item in items if item not in set(twice)]


def _runs_on_another_loop(item: pytest.Item) -> bool:
    parameters = getattr(item, "callspec", None)
    values = {} if parameters is None else parameters.params
    is_on = values.get("fast_path", True)
    return not is_on and "uvloop" in (values.get("loop_name"), values.get("loop"))


@pytest.fixture(autouse=True)
def _unthrottled() -> None:
    """Have each test log its first line: the log would only count what another test has logged."""
    from wsgate.observe.throttled_log import throttled  # noqa: PLC0415  # as below

    throttled.forget()


@pytest.fixture(scope="module", autouse=True)
def fast_path(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Return whether servers use the fast path: those in this process, and those it starts."""
    is_on = bool(getattr(request, "param", request.config.getoption("--fast-path") != "off"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        if not is_on:
            _switch_off(monkeypatch)
        yield is_on


def _switch_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # The default of Config is not changed, because it is tested.

    from wsgate.server.worker import Worker  # noqa: PLC0415  # not before --compiled is handled

    original = Worker.__init__

    def without(self: Worker, app: Any, config: Any, *args: Any) -> None:
        original(self, app, dataclasses.replace(config, ws_fast_path=False), *args)

    monkeypatch.setattr(Worker, "__init__", without)
    monkeypatch.setenv("WSGATE_WS_FAST_PATH", "false")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Return the name of an event loop, for tests that start a process."""
    return str(request.param)
