import asyncio
import contextlib
import functools
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint

from wsgate import loggers
from wsgate.diagnosis import short_repr
from wsgate.errors import ConfigError
from wsgate.loading import complete, load

Write = Callable[[str, str], str]
JSON = json.__file__
APP = "async def app(scope, receive, send): pass\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that writes modules; they are unloaded after the test."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_module(name: str, source: str) -> str:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return str(path)

    return write_module


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


def load_error(*args: Any, **kwargs: Any) -> str:
    """Return the text of the error of `load`."""
    with pytest.raises(ConfigError) as raised:
        load(*args, **kwargs)
    text = str(raised.value)
    assert "\n" not in text
    return text


@contextlib.contextmanager
def captured(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let records of wsgate reach `caplog`, whatever other tests have set up."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logging.getLogger("wsgate"), "propagate", True)
        monkeypatch.setattr(logging.getLogger("wsgate"), "level", logging.INFO)
        yield


# -- modules, attributes and folders ---------------------------------------------------------------


def test_app_is_returned_unchanged() -> None:
    assert load(app) is app


def test_factory_is_called() -> None:
    assert load(lambda: app, factory=True) is app


def test_module_and_attribute(write: Write) -> None:
    write("wsg_plain", APP + "def make(): return app")
    assert load("wsg_plain:app") is sys.modules["wsg_plain"].app
    assert load("wsg_plain:make", factory=True) is sys.modules["wsg_plain"].app


def test_dots_in_module_and_attribute(write: Write) -> None:
    write("wsg_folder.inner", f"class web:\n    class v1:\n        {APP}")
    assert load("wsg_folder.inner:web.v1.app") is sys.modules["wsg_folder.inner"].web.v1.app


@pytest.mark.parametrize("folder", ["deep", Path("deep")])
def test_app_dir_is_searched_first(
    folder: str | Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("wsg_twice", "raise RuntimeError('the wrong one')")
    write("deep.wsg_twice", APP)
    monkeypatch.chdir(tmp_path)
    assert load("wsg_twice:app", app_dir=folder) is sys.modules["wsg_twice"].app
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


def test_empty_app_dir_is_the_current_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    load(app, app_dir="")
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


def test_missing_app_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert (
        load_error(app, app_dir="wsg_no/where")
        == "--app-dir wsg_no/where: No such file or directory"
    )
    (tmp_path / "loop").symlink_to("loop")
    assert "Too many levels of symbolic links" in load_error(app, app_dir=str(tmp_path / "loop"))


def test_current_folder_may_be_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    assert load_error(app, app_dir="") == "--app-dir .: No such file or directory"


# -- not found -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ":", "module", "module:", ":app", ".inner:app", "a..b:app", "a.:app", " "]
)
def test_malformed_name(name: str) -> None:
    assert load_error(name) == f'"{name}" is not of the form "module:attribute"'


@pytest.mark.parametrize(
    "name", ["wsg_nowhere", "wsg_nowhere.inner", "json.wsg_nowhere", " json", "json ", "json.py"]
)
def test_missing_module(name: str) -> None:
    hint = "; did you mean json:app?" if name.endswith(".py") else ""
    assert load_error(f"{name}:app") == f'could not import module "{name}": no such module{hint}'


@pytest.mark.parametrize(
    "attribute", ["app", "loads.app", "app.loads", "loads.", "loads..x", "loads ", "loads:app"]
)
def test_missing_attribute(attribute: str) -> None:
    # The path helps those who meant their own json.py.
    assert (
        load_error(f"json:{attribute}") == f'attribute "{attribute}" not found in "json" ({JSON})'
    )


def test_missing_attribute_of_a_module_without_a_file(write: Write, tmp_path: Path) -> None:
    write("wsg_space.inner", APP)
    assert load_error("sys:app") == 'attribute "app" not found in "sys"'
    assert load_error("wsg_space:app") == (
        f'attribute "app" not found in "wsg_space" ({tmp_path / "wsg_space"})'
    )


def test_attribute_of_a_module_with_getattr(write: Write) -> None:
    path = write(
        "wsg_lazy",
        "def __getattr__(name):\n"
        "    if name == 'missing':\n"
        "        raise AttributeError(name)\n"
        "    if name == 'exits':\n"
        "        raise SystemExit('no settings')\n"
        "    return None.app\n",
    )
    assert load_error("wsg_lazy:missing") == f'attribute "missing" not found in "wsg_lazy" ({path})'
    assert load_error("wsg_lazy:exits") == (
        f'could not read "wsg_lazy:exits": SystemExit: no settings ({path}, line 5)'
    )
    assert load_error("wsg_lazy:app") == (
        "could not read \"wsg_lazy:app\": AttributeError: 'NoneType' object has no attribute 'app' "
        f"({path}, line 6)"
    )


# -- modules that fail -----------------------------------------------------------------------------


def import_error(write: Write, name: str, source: str) -> str:
    """Return the error of a module's import without its start, its path replaced by FILE."""
    path = write(name, source)
    text = load_error(f"{name}:app")
    start = f'could not import "{name}": '
    assert text.startswith(start)
    return text.removeprefix(start).replace(path, "FILE")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "\nimport wsg_nowhere",
            "ModuleNotFoundError: No module named 'wsg_nowhere' (FILE, line 2)",
        ),
        (
            "def f():\n    raise ValueError('one\\n  two')\nf()",
            "ValueError: one two (FILE, line 2)",
        ),
        ("e = KeyError('x')\ne.add_note('a note')\nraise e", "KeyError: 'x' (FILE, line 3)"),
        ("raise ValueError", "ValueError (FILE, line 1)"),
        ("raise ValueError('')", "ValueError (FILE, line 1)"),
        ("\nx = = 1", "SyntaxError: invalid syntax (FILE, line 2)"),
        ("\neval('= 1')", "SyntaxError: invalid syntax (FILE, line 2)"),
        ("\nraise SyntaxError('of mine')", "SyntaxError: of mine (FILE, line 2)"),
        ("import sys\nsys.exit()", "SystemExit (FILE, line 2)"),
        ("import sys\nsys.exit('no settings')", "SystemExit: no settings (FILE, line 2)"),
        (
            "import asyncio\nraise asyncio.CancelledError",
            "asyncio.exceptions.CancelledError (FILE, line 2)",
        ),
        (
            "class Odd(Exception):\n    def __str__(self): raise RuntimeError\nraise Odd",
            "wsg_fails.Odd: <exception str() failed> (FILE, line 3)",
        ),
        (
            "import tempfile\ndef f():\n    tempfile.mkstemp(dir='/wsg/nowhere')\nf()",
            "FileNotFoundError: [Errno 2] No such file or directory: PATH (FILE, line 3)",
        ),
        (
            (
                "from dataclasses import dataclass\n"
                "@dataclass\n"
                "class Settings:\n"
                "    port: int\n"
                "    def __post_init__(self): int(self.port)\n"
                "Settings('x')"
            ),
            "ValueError: invalid literal for int() with base 10: 'x' (FILE, line 5)",
        ),
        (
            (
                "from dataclasses import dataclass, field\n"
                "@dataclass\n"
                "class Settings:\n"
                "    port: int = field(default_factory=dict().popitem)\n"
                "Settings()"
            ),
            "KeyError: 'popitem(): dictionary is empty' (FILE, line 5)",
        ),
    ],
)
def test_module_that_raises(write: Write, source: str, line: str) -> None:
    text = import_error(write, "wsg_fails", source)
    assert re.sub(r"'/wsg/nowhere/\w+'", "PATH", text) == line


def test_error_in_the_standard_library_is_placed_in_the_module(write: Write) -> None:
    text = import_error(
        write, "wsg_reads", "import json\ndef f():\n    return json.loads('[')\nf()\n"
    )
    assert text == (
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 2 (char 1) (FILE, line 3)"
    )


def test_error_in_another_module_of_the_user(write: Write) -> None:
    other = write("wsg_other", "def f(): raise ValueError('x')\n")
    assert import_error(write, "wsg_uses", "import wsg_other\nwsg_other.f()") == (
        f"ValueError: x ({other}, line 1)"
    )


@pytest.mark.parametrize("site", ["site-packages", "dist-packages"])
def test_error_in_an_installed_package(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path / site)
    installed = write(f"{site}/wsg_library", "def f(): raise ValueError('x')\n")
    assert import_error(write, "wsg_uses", "import wsg_library\n\nwsg_library.f()") == (
        "ValueError: x (FILE, line 3)"
    )
    # An app may be installed too, as in a container.
    own = write(f"{site}/wsg_app/main", "from wsg_library import f\n\n\nf()")
    assert load_error("wsg_app.main:app") == (
        f'could not import "wsg_app.main": ValueError: x ({own}, line 4)'
    )
    # If no line is the user's, the innermost line is shown.
    code = "def make():\n    from wsg_library import f\n    f()\n"
    namespace: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(code, "<made>", "exec"), namespace)
    assert load_error(namespace["make"], factory=True) == (
        f"the app's factory failed: ValueError: x ({installed}, line 1)"
    )


def test_circular_import(write: Write) -> None:
    views = write("wsg_views", "\nfrom wsg_circle import app")
    text = import_error(write, "wsg_circle", "import wsg_views\n")
    assert text.startswith(
        "ImportError: cannot import name 'app' from partially initialized module"
    )
    assert text.endswith(f"({views}, line 2)")


def test_exception_group_is_shown_with_its_first_exception(write: Write) -> None:
    source = "def f(): raise KeyError('x')\ntry:\n    f()\nexcept KeyError as e:\n    error = e\n"
    start = "ExceptionGroup: two (2 sub-exceptions): ExceptionGroup: one (1 sub-exception): "
    group = "raise ExceptionGroup('two', [ExceptionGroup('one', [{}]), OSError()])"
    assert import_error(write, "wsg_group", source + group.format("error")) == (
        f"{start}KeyError: 'x' (FILE, line 1)"
    )
    assert import_error(write, "wsg_fresh", source + group.format("KeyError('y')")) == (
        f"{start}KeyError: 'y' (FILE, line 6)"
    )


def test_cause_is_the_exception_of_the_module(write: Write) -> None:
    write("wsg_cause", "raise ValueError('x')")
    with pytest.raises(ConfigError) as raised:
        load("wsg_cause:app")
    assert repr(raised.value.__cause__) == "ValueError('x')"


# -- objects that are not apps ---------------------------------------------------------------------


class Unreadable:
    """An app without a readable repr and signature."""

    @property
    def __signature__(self) -> object:
        raise RuntimeError("not yet")

    def __repr__(self) -> str:
        raise RuntimeError("not yet")

    async def __call__(self, *args: Any) -> None:
        """Do nothing."""


def wsgi(environ: Any, start_response: Any) -> None:
    """Serve WSGI."""


class Instances:
    """A class whose instances are apps; its constructor needs an argument."""

    def __init__(self, database: object) -> None:
        self.database = database

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""


def test_object_that_is_not_callable(write: Write) -> None:
    write("wsg_none", "app = None\nnumbers = list(range(100))")
    assert load_error("string:digits") == "\"string:digits\" is '0123456789', not an ASGI app"
    assert load_error("wsg_none:app") == '"wsg_none:app" is None, not an ASGI app'
    assert load_error("wsg_none:app", factory=True) == '"wsg_none:app" is None, not an ASGI app'
    assert re.fullmatch(
        r'"wsg_none:numbers" is \[0, 1, .{90,100}\.\.\., .+', load_error("wsg_none:numbers")
    )
    assert load_error(7) == "the app is 7, not an ASGI app"
    assert load_error(None) == "the app is None, not an ASGI app"
    assert load_error(pytest) == f"the app is {pytest!r}, not an ASGI app"


def test_repr_that_raises() -> None:
    class Odd(Unreadable):
        __call__ = None  # type: ignore[assignment]

    assert short_repr(Odd()) == f"<{Odd.__qualname__}>"


def with_two(one: Any, two: Any, *, three: Any) -> None:
    """Take no three arguments."""


def test_callable_with_other_arguments(write: Write) -> None:
    reason = "it cannot be called with (scope, receive, send)"
    assert load_error(with_two) == f"the app is {with_two!r}, not an ASGI app: {reason}"
    reason += "; a WSGI app needs --interface wsgi"
    assert load_error(wsgi) == f"the app is {wsgi!r}, not an ASGI app: {reason}"
    assert load_error(lambda: wsgi, factory=True) == (
        f"the app's factory returned {wsgi!r}, not an ASGI app: {reason}"
    )
    assert load_error(Instances) == (
        f"the app is {Instances!r}, not an ASGI app: an instance of the class may be one"
    )


# -- factories -------------------------------------------------------------------------------------


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def adapted(function: Callable[[], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        function()

    return answer


class Simple:
    """A class whose instances are apps; its constructor needs no argument."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    def make(self) -> "Simple":
        return self


class Lax(Simple):
    """A class whose instances are apps; its constructor accepts three arguments."""

    def __init__(self, one: object = 1, two: object = 2, three: object = 3) -> None:
        self.settings = one, two, three


class Endpoint:
    """A class that is an app, like Starlette's HTTPEndpoint."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        pass

    def __await__(self) -> Generator[Any, None, None]:
        yield


def make(*, debug: bool = False) -> Any:
    return app


def with_star_args(*args: Any) -> Any:
    return app(*args)


def ambiguous(scope: Any = None, receive: Any = None, send: Any = None) -> Any:
    return app(scope, receive, send)


DETECTED = (
    "ASGI app factory detected: calling it to get the app. "
    "Set --factory (factory=True) to make this explicit."
)


@pytest.mark.parametrize(
    "factory",
    [
        make,
        lambda: app,
        functools.partial(lambda made: made, app),
        functools.cache(make),
        decorated(make),
        Simple().make,
        Simple,
        Lax,
        decorated(Simple),
    ],
)
def test_factory_is_recognized(factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    with captured(caplog):
        made: Any = load(factory)
    assert made is app or isinstance(made, Simple)
    assert caplog.messages == [DETECTED]


@pytest.mark.parametrize(
    "given",
    [
        app,
        Simple(),
        Simple().__call__,
        Endpoint,
        functools.partial(app),
        functools.partial(lambda debug, *args: app(*args), True),
        with_star_args,
        ambiguous,
        decorated(app),
        adapted(lambda: "answer"),
        Unreadable(),
    ],
)
def test_app_is_not_called_as_a_factory(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    with captured(caplog):
        assert load(given) is given
        assert load(lambda: given, factory=True) is given
    assert caplog.messages == []


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_apps_of_frameworks_are_recognized(kind: type[Starlette]) -> None:
    whole = kind()
    assert load(whole) is whole
    assert load(whole.router) is whole.router
    assert load(lambda: whole) is whole
    assert isinstance(load(kind), kind)
    assert load(HTTPEndpoint) is HTTPEndpoint  # a class, whose instances are awaited


def test_factory_in_a_module_is_recognized(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("wsg_makes", APP + "def make(): return app")
    with captured(caplog):
        assert load("wsg_makes:make") is sys.modules["wsg_makes"].app
    assert caplog.messages == [DETECTED]


def test_factory_that_returns_no_app() -> None:
    assert load_error("gc:collect", factory=True).startswith("the app's factory returned ")
    assert load_error(lambda: None) == "the app's factory returned None, not an ASGI app"
    assert load_error(lambda: make).startswith(
        f"the app's factory returned {make!r}, not an ASGI app: "
    )


def test_factory_that_raises(write: Write) -> None:
    path = write("wsg_factory", "def make():\n    raise LookupError('no settings')")
    assert load_error("wsg_factory:make", factory=True) == (
        f"the app's factory failed: LookupError: no settings ({path}, line 2)"
    )


def test_factory_that_exits(write: Write) -> None:
    path = write("wsg_ends", "import sys\ndef make():\n    sys.exit(0)")
    assert (
        load_error("wsg_ends:make") == f"the app's factory failed: SystemExit: 0 ({path}, line 3)"
    )


def test_factory_that_needs_arguments_is_not_placed_in_code_of_wsgate() -> None:
    text = load_error("wsgate.loading:load", factory=True)
    assert text == (
        "the app's factory failed: TypeError: load() missing 1 required positional argument: 'app'"
    )


# -- async factories -------------------------------------------------------------------------------


async def make_later() -> Any:
    await asyncio.sleep(0)
    return app


def make_a_future() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result(app)
    return future


async def later_error(factory: Any) -> str:
    """Return the text of the error of an async factory."""
    made = load(factory, factory=True)
    with pytest.raises(ConfigError) as raised:
        await complete(made)
    return str(raised.value)


async def test_complete_returns_an_app_unchanged() -> None:
    assert await complete(app) is app


@pytest.mark.parametrize("factory", [True, False])
@pytest.mark.parametrize(
    "given", [make_later, make_a_future, decorated(make_later), functools.partial(make_later)]
)
async def test_async_factory_is_awaited(given: Any, factory: bool) -> None:
    assert await complete(load(given, factory=factory)) is app


async def test_app_that_is_awaitable_is_not_awaited() -> None:
    class Both(Simple):
        def __await__(self) -> Generator[Any, None, None]:
            yield

    both = Both()
    assert load(lambda: both, factory=True) is both


async def test_async_factory_that_returns_no_app() -> None:
    async def nothing() -> None:
        """Make nothing."""

    assert await later_error(nothing) == "the app's factory returned None, not an ASGI app"


async def test_async_factory_that_raises(write: Write) -> None:
    path = write(
        "wsg_later",
        "import asyncio, json\n"
        "async def read():\n"
        "    json.loads('[')\n"
        "async def make():\n"
        "    async with asyncio.TaskGroup() as group:\n"
        "        group.create_task(read())\n",
    )
    assert await later_error("wsg_later:make") == (
        "the app's factory failed: "
        "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): "
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 2 (char 1) "
        f"({path}, line 3)"
    )


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
async def test_async_factory_that_exits_or_is_cancelled(error: type[BaseException]) -> None:
    async def fails() -> None:
        raise error

    text = await later_error(fails)
    assert re.fullmatch(rf"the app's factory failed: \S*{error.__name__} \(.+\)", text)


async def test_cancellation_of_complete_is_passed_on() -> None:
    started = asyncio.Event()

    async def hangs() -> Any:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(complete(load(hangs, factory=True)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_failing_log_handler_does_not_prevent_loading(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the disk is gone")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    monkeypatch.setattr(loggers.error, "_is_reported", False)
    handler, logger = Failing(), logging.getLogger("wsgate.error")
    logger.addHandler(handler)
    try:
        assert load(lambda: app) is app  # with a warning that it is a factory
    finally:
        logger.removeHandler(handler)
    assert "a handler or filter of wsgate.error fails: OSError: the disk" in capfd.readouterr().err


# -- interfaces ------------------------------------------------------------------------------------

ASGI_2_DETECTED = (
    "ASGI 2 app detected. Set --interface asgi2 (interface='asgi2') to make this explicit."
)


def asgi2(scope: Any) -> Callable[..., Any]:
    """Serve ASGI 2."""

    async def instance(receive: Any, send: Any) -> None:
        scope["called"] = receive, send

    return instance


class Asgi2:
    """A class that is an ASGI 2 app."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        self.scope["called"] = receive, send


def other_argument(config: Any) -> Any:
    return asgi2


async def was_called(app: Any) -> bool:
    """Call an app, and return whether it was called with its arguments."""

    async def receive() -> Any: ...
    async def send(message: Any) -> None: ...

    scope: dict[str, Any] = {"asgi": {}}
    await app(scope, receive, send)
    return bool(scope["called"] == (receive, send))


@pytest.mark.parametrize("given", [asgi2, Asgi2, functools.partial(asgi2)])
async def test_an_asgi2_app_is_recognized(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    with captured(caplog):
        assert await was_called(load(given))
        assert await was_called(load(lambda: given, factory=True))
    assert caplog.messages == [ASGI_2_DETECTED, ASGI_2_DETECTED]


@pytest.mark.parametrize("given", [asgi2, Asgi2, functools.partial(asgi2)])
async def test_an_asgi2_app_can_be_named(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def make_later() -> Any:
        return given

    with captured(caplog):
        assert await was_called(load(given, interface="asgi2"))
        assert await was_called(load(lambda: given, factory=True, interface="asgi2"))
        made = load(make_later, factory=True, interface="asgi2")
        assert await was_called(await complete(made))
    assert caplog.messages == []


def test_another_name_of_the_argument_needs_the_option() -> None:
    def made(connection: Any) -> None:
        """Return nothing."""

    given: Any = made
    assert load_error(given).endswith("; an ASGI 2 app needs --interface asgi2")
    load(given, interface="asgi2")


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("wsg_a.py:app", "wsg_a:app"),
        ("wsg_a/wsg_b:app.x", "--app-dir wsg_a wsg_b:app.x"),
        ("/wsg_a/wsg_b.py:app", "--app-dir /wsg_a wsg_b:app"),
        ("./wsg_a:app", "--app-dir . wsg_a:app"),
        ("wsg_a/wsg_b.py", "--app-dir wsg_a wsg_b:app"),
    ],
)
def test_the_name_of_a_file_suggests_that_of_its_module(name: str, suggested: str) -> None:
    assert load_error(name).endswith(f"; did you mean {suggested}?")


@pytest.mark.parametrize("given", [other_argument, Instances, wsgi, lambda scope, more: None])
def test_other_callables_are_not_taken_for_asgi2_apps(given: Any) -> None:
    assert "not an ASGI app: " in load_error(given)


def test_an_asgi2_app_is_none_of_asgi3() -> None:
    assert "it cannot be called with (scope, receive, send)" in load_error(asgi2, interface="asgi3")
    assert load_error(app, interface="asgi2") == (
        f"the app is {app!r}, not an app for --interface asgi2: it cannot be called with (scope)"
    )


def test_a_wsgi_app_has_to_be_named() -> None:
    given: Any = wsgi
    made: Any = load(given, interface="wsgi")
    assert inspect.iscoroutinefunction(made)
    assert load_error(app, interface="wsgi") == (
        f"the app is {app!r}, not an app for --interface wsgi: "
        "it cannot be called with (environ, start_response)"
    )
    assert load_error(7, interface="wsgi") == "the app is 7, not an ASGI app"


def test_an_app_of_a_named_interface_is_not_called_as_a_factory() -> None:
    def lax(*arguments: Any) -> Any:
        raise AssertionError

    load(lax, interface="wsgi")
    load(lax, interface="asgi2")
