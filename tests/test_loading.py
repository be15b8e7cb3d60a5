import asyncio
import contextlib
import functools
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
    """Write modules whose names no other test has, and forget them afterwards."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(name: str, source: str) -> str:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        return str(path)

    return written


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


def told(*args: Any, **kwargs: Any) -> str:
    """Return what `load` says of an app that it cannot load."""
    with pytest.raises(ConfigError) as raised:
        load(*args, **kwargs)
    text = str(raised.value)
    assert "\n" not in text
    return text


@contextlib.contextmanager
def following(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Have `caplog` see our log, whatever other tests have set up."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logging.getLogger("wsgate"), "propagate", True)
        monkeypatch.setattr(logging.getLogger("wsgate"), "level", logging.INFO)
        yield


# -- found -----------------------------------------------------------------------------------------


def test_an_app_is_itself() -> None:
    assert load(app) is app


def test_a_factory_makes_the_app() -> None:
    assert load(lambda: app, factory=True) is app


def test_a_module_and_its_attribute(write: Write) -> None:
    write("wsg_plain", APP + "def make(): return app")
    assert load("wsg_plain:app") is sys.modules["wsg_plain"].app
    assert load("wsg_plain:make", factory=True) is sys.modules["wsg_plain"].app


def test_dots_on_both_sides(write: Write) -> None:
    write("wsg_folder.inner", f"class web:\n    class v1:\n        {APP}")
    assert load("wsg_folder.inner:web.v1.app") is sys.modules["wsg_folder.inner"].web.v1.app


def test_a_folder_is_looked_in_first(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("wsg_twice", "raise RuntimeError('the wrong one')")
    write("deep.wsg_twice", APP)
    monkeypatch.chdir(tmp_path)
    assert load("wsg_twice:app", app_dir="deep") is sys.modules["wsg_twice"].app
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


def test_the_folder_of_the_command_line_is_the_present_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    load(app, app_dir="")
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


def test_a_folder_that_there_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert told(app, app_dir="wsg_no/where") == "--app-dir wsg_no/where: No such file or directory"
    (tmp_path / "loop").symlink_to("loop")
    assert "Too many levels of symbolic links" in told(app, app_dir=str(tmp_path / "loop"))


def test_the_present_folder_may_be_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    assert told(app, app_dir="") == "--app-dir .: No such file or directory"


# -- not found -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", ":", "module", "module:", ":app", ".inner:app", "a..b:app", "a.:app", " "]
)
def test_what_is_no_name(name: str) -> None:
    assert told(name) == f'"{name}" is not of the form "module:attribute"'


@pytest.mark.parametrize(
    "name", ["wsg_nowhere", "wsg_nowhere.inner", "json.wsg_nowhere", " json", "json ", "json.py"]
)
def test_a_module_that_there_is_not(name: str) -> None:
    assert told(f"{name}:app") == f'could not import module "{name}": there is none'


@pytest.mark.parametrize(
    "attribute", ["app", "loads.app", "app.loads", "loads.", "loads..x", "loads ", "loads:app"]
)
def test_an_attribute_that_there_is_not(attribute: str) -> None:
    # The file tells who meant their own json.py.
    assert told(f"json:{attribute}") == f'attribute "{attribute}" not found in "json" ({JSON})'


def test_an_attribute_of_a_module_that_is_no_file(write: Write, tmp_path: Path) -> None:
    write("wsg_space.inner", APP)
    assert told("sys:app") == 'attribute "app" not found in "sys"'
    assert told("wsg_space:app") == (
        f'attribute "app" not found in "wsg_space" ({tmp_path / "wsg_space"})'
    )


def test_an_attribute_whose_module_makes_it(write: Write) -> None:
    path = write(
        "wsg_lazy",
        "def __getattr__(name):\n"
        "    if name == 'missing':\n"
        "        raise AttributeError(name)\n"
        "    if name == 'exits':\n"
        "        raise SystemExit('no settings')\n"
        "    return None.app\n",
    )
    assert told("wsg_lazy:missing") == f'attribute "missing" not found in "wsg_lazy" ({path})'
    assert told("wsg_lazy:exits") == (
        f'could not read "wsg_lazy:exits": SystemExit: no settings ({path}, line 5)'
    )
    assert told("wsg_lazy:app") == (
        "could not read \"wsg_lazy:app\": AttributeError: 'NoneType' object has no attribute 'app' "
        f"({path}, line 6)"
    )


# -- modules that fail -----------------------------------------------------------------------------


def failed(write: Write, name: str, source: str) -> str:
    """Return what is told of a module that fails, behind its name and with its file as FILE."""
    path = write(name, source)
    text = told(f"{name}:app")
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
def test_a_module_that_fails(write: Write, source: str, line: str) -> None:
    text = failed(write, "wsg_fails", source)
    assert re.sub(r"'/wsg/nowhere/\w+'", "PATH", text) == line


def test_an_error_within_a_library_is_placed_in_the_module(write: Write) -> None:
    text = failed(write, "wsg_reads", "import json\ndef f():\n    return json.loads('[')\nf()\n")
    assert text == (
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 2 (char 1) (FILE, line 3)"
    )


def test_an_error_within_what_the_module_imports(write: Write) -> None:
    other = write("wsg_other", "def f(): raise ValueError('x')\n")
    assert failed(write, "wsg_uses", "import wsg_other\nwsg_other.f()") == (
        f"ValueError: x ({other}, line 1)"
    )


@pytest.mark.parametrize("site", ["site-packages", "dist-packages"])
def test_an_error_within_what_is_installed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path / site)
    installed = write(f"{site}/wsg_library", "def f(): raise ValueError('x')\n")
    assert failed(write, "wsg_uses", "import wsg_library\n\nwsg_library.f()") == (
        "ValueError: x (FILE, line 3)"
    )
    # An app may be installed too, as in a container.
    own = write(f"{site}/wsg_app/main", "from wsg_library import f\n\n\nf()")
    assert told("wsg_app.main:app") == (
        f'could not import "wsg_app.main": ValueError: x ({own}, line 4)'
    )
    # If no line is the user's, the innermost one is told.
    code = "def make():\n    from wsg_library import f\n    f()\n"
    namespace: dict[str, Any] = {"__name__": "elsewhere"}
    exec(compile(code, "<made>", "exec"), namespace)
    assert told(namespace["make"], factory=True) == (
        f"the app's factory failed: ValueError: x ({installed}, line 1)"
    )


def test_modules_that_import_each_other(write: Write) -> None:
    views = write("wsg_views", "\nfrom wsg_circle import app")
    text = failed(write, "wsg_circle", "import wsg_views\n")
    assert text.startswith(
        "ImportError: cannot import name 'app' from partially initialized module"
    )
    assert text.endswith(f"({views}, line 2)")


def test_a_group_tells_the_first_of_its_errors(write: Write) -> None:
    source = "def f(): raise KeyError('x')\ntry:\n    f()\nexcept KeyError as e:\n    error = e\n"
    start = "ExceptionGroup: two (2 sub-exceptions): ExceptionGroup: one (1 sub-exception): "
    group = "raise ExceptionGroup('two', [ExceptionGroup('one', [{}]), OSError()])"
    assert failed(write, "wsg_group", source + group.format("error")) == (
        f"{start}KeyError: 'x' (FILE, line 1)"
    )
    assert failed(write, "wsg_fresh", source + group.format("KeyError('y')")) == (
        f"{start}KeyError: 'y' (FILE, line 6)"
    )


def test_the_whole_of_an_error_is_its_cause(write: Write) -> None:
    write("wsg_cause", "raise ValueError('x')")
    with pytest.raises(ConfigError) as raised:
        load("wsg_cause:app")
    assert repr(raised.value.__cause__) == "ValueError('x')"


# -- no app ----------------------------------------------------------------------------------------


class Unreadable:
    """Neither a name nor a signature."""

    @property
    def __signature__(self) -> object:
        raise RuntimeError("not yet")

    def __repr__(self) -> str:
        raise RuntimeError("not yet")

    async def __call__(self, *args: Any) -> None:
        """Do nothing."""


def wsgi(environ: Any, start_response: Any) -> None:
    """Serve what is no ASGI."""


class Instances:
    """A class of apps that need something."""

    def __init__(self, database: object) -> None:
        self.database = database

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""


def test_what_cannot_be_called(write: Write) -> None:
    write("wsg_none", "app = None\nnumbers = list(range(100))")
    assert told("string:digits") == "\"string:digits\" is '0123456789', not an ASGI app"
    assert told("wsg_none:app") == '"wsg_none:app" is None, not an ASGI app'
    assert told("wsg_none:app", factory=True) == '"wsg_none:app" is None, not an ASGI app'
    assert re.fullmatch(
        r'"wsg_none:numbers" is \[0, 1, .{90,100}\.\.\., .+', told("wsg_none:numbers")
    )
    assert told(7) == "the app is 7, not an ASGI app"
    assert told(None) == "the app is None, not an ASGI app"
    assert told(pytest) == f"the app is {pytest!r}, not an ASGI app"


def test_what_cannot_be_shown() -> None:
    class Odd(Unreadable):
        __call__ = None  # type: ignore[assignment]

    assert short_repr(Odd()) == f"<{Odd.__qualname__}>"


def test_what_takes_other_arguments(write: Write) -> None:
    wanted = "it cannot be called with (scope, receive, send)"
    assert told(wsgi) == f"the app is {wsgi!r}, not an ASGI app: {wanted}"
    assert told(lambda: wsgi, factory=True) == (
        f"the app's factory returned {wsgi!r}, not an ASGI app: {wanted}"
    )
    assert told(Instances) == (
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
    """Instances are apps and need nothing."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Do nothing."""

    def make(self) -> "Simple":
        return self


class Lax(Simple):
    """Instances are apps; what they take is what a connection has, in number."""

    def __init__(self, one: object = 1, two: object = 2, three: object = 3) -> None:
        self.settings = one, two, three


class Endpoint:
    """A class that is an app, as Starlette's HTTPEndpoint."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        pass

    def __await__(self) -> Generator[Any, None, None]:
        yield


def make(*, debug: bool = False) -> Any:
    return app


def gathered(*args: Any) -> Any:
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
def test_a_factory_is_recognised(factory: Any, caplog: pytest.LogCaptureFixture) -> None:
    with following(caplog):
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
        gathered,
        ambiguous,
        decorated(app),
        adapted(lambda: "answer"),
        Unreadable(),
    ],
)
def test_an_app_is_not_taken_for_a_factory(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    with following(caplog):
        assert load(given) is given
        assert load(lambda: given, factory=True) is given
    assert caplog.messages == []


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_the_apps_of_frameworks_are_known(kind: type[Starlette]) -> None:
    whole = kind()
    assert load(whole) is whole
    assert load(whole.router) is whole.router
    assert load(lambda: whole) is whole
    assert isinstance(load(kind), kind)
    assert load(HTTPEndpoint) is HTTPEndpoint  # a class, whose instances are awaited


def test_a_factory_in_a_module_is_recognised(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write("wsg_makes", APP + "def make(): return app")
    with following(caplog):
        assert load("wsg_makes:make") is sys.modules["wsg_makes"].app
    assert caplog.messages == [DETECTED]


def test_a_factory_that_makes_no_app() -> None:
    assert told("gc:collect", factory=True).startswith("the app's factory returned ")
    assert told(lambda: None) == "the app's factory returned None, not an ASGI app"
    assert told(lambda: make).startswith(f"the app's factory returned {make!r}, not an ASGI app: ")


def test_a_factory_that_fails(write: Write) -> None:
    path = write("wsg_factory", "def make():\n    raise LookupError('no settings')")
    assert told("wsg_factory:make", factory=True) == (
        f"the app's factory failed: LookupError: no settings ({path}, line 2)"
    )


def test_a_factory_that_ends_the_program(write: Write) -> None:
    path = write("wsg_ends", "import sys\ndef make():\n    sys.exit(0)")
    assert told("wsg_ends:make") == f"the app's factory failed: SystemExit: 0 ({path}, line 3)"


def test_a_factory_that_wants_arguments_is_not_placed_in_our_code() -> None:
    text = told("wsgate.loading:load", factory=True)
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


async def told_later(factory: Any) -> str:
    """Return what is said of an async factory that makes no app."""
    made = load(factory, factory=True)
    with pytest.raises(ConfigError) as raised:
        await complete(made)
    return str(raised.value)


async def test_what_is_complete_stays_as_it_is() -> None:
    assert await complete(app) is app


@pytest.mark.parametrize("factory", [True, False])
@pytest.mark.parametrize(
    "given", [make_later, make_a_future, decorated(make_later), functools.partial(make_later)]
)
async def test_an_async_factory_is_awaited(given: Any, factory: bool) -> None:
    assert await complete(load(given, factory=factory)) is app


async def test_an_app_that_could_be_awaited_as_well_is_an_app() -> None:
    class Both(Simple):
        def __await__(self) -> Generator[Any, None, None]:
            yield

    both = Both()
    assert load(lambda: both, factory=True) is both


async def test_an_async_factory_that_makes_no_app() -> None:
    async def nothing() -> None:
        """Make nothing."""

    assert await told_later(nothing) == "the app's factory returned None, not an ASGI app"


async def test_an_async_factory_that_fails(write: Write) -> None:
    path = write(
        "wsg_later",
        "import asyncio, json\n"
        "async def read():\n"
        "    json.loads('[')\n"
        "async def make():\n"
        "    async with asyncio.TaskGroup() as group:\n"
        "        group.create_task(read())\n",
    )
    assert await told_later("wsg_later:make") == (
        "the app's factory failed: "
        "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): "
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 2 (char 1) "
        f"({path}, line 3)"
    )


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
async def test_an_async_factory_that_gives_up(error: type[BaseException]) -> None:
    async def fails() -> None:
        raise error

    text = await told_later(fails)
    assert re.fullmatch(rf"the app's factory failed: \S*{error.__name__} \(.+\)", text)


async def test_a_cancelled_call_is_cancelled() -> None:
    started = asyncio.Event()

    async def hangs() -> Any:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(complete(load(hangs, factory=True)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_log_handler_that_fails_does_not_stop_the_start(
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
