import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsgate.errors import ConfigError
from wsgate.loading import load

Write = Callable[[str, str], str]


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


# -- found -----------------------------------------------------------------------------------------


def test_an_app_is_itself() -> None:
    assert load(app) is app


def test_a_factory_makes_the_app() -> None:
    assert load(lambda: app, factory=True) is app


def test_a_module_and_its_attribute(write: Write) -> None:
    write("wsg_plain", "def app(): pass\ndef make(): return app")
    assert load("wsg_plain:app").__name__ == "app"
    assert load("wsg_plain:make", factory=True) is load("wsg_plain:app")


def test_dots_on_both_sides(write: Write) -> None:
    write("wsg_folder.inner", "class web:\n    class v1:\n        def app(): pass")
    assert load("wsg_folder.inner:web.v1.app").__qualname__ == "web.v1.app"


def test_a_folder_is_looked_in_first(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("wsg_twice", "raise RuntimeError('the wrong one')")
    write("deep.wsg_twice", "def app(): pass")
    monkeypatch.chdir(tmp_path)
    assert load("wsg_twice:app", app_dir="deep").__name__ == "app"
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


def test_the_folder_of_the_command_line_is_the_present_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    load(app, app_dir="")
    assert sys.path[0] == str(tmp_path.resolve() / "deep")


# -- not found -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ":", "module", "module:", ":app"])
def test_what_is_no_name(name: str) -> None:
    assert told(name) == f'"{name}" is not of the form "module:attribute"'


@pytest.mark.parametrize("name", ["wsg_nowhere", "wsg_nowhere.inner", "json.wsg_nowhere"])
def test_a_module_that_there_is_not(name: str) -> None:
    assert told(f"{name}:app") == f'could not import module "{name}": there is none'


@pytest.mark.parametrize("attribute", ["app", "loads.app", "app.loads", "loads."])
def test_an_attribute_that_there_is_not(attribute: str) -> None:
    assert told(f"json:{attribute}") == f'attribute "{attribute}" not found in "json"'


def test_a_module_that_needs_one_that_there_is_not(write: Write) -> None:
    path = write("wsg_needs", "\nimport wsg_nowhere")
    assert told("wsg_needs:app") == (
        'could not import "wsg_needs": '
        f"ModuleNotFoundError: No module named 'wsg_nowhere' ({path}, line 2)"
    )


def test_a_module_that_fails(write: Write) -> None:
    path = write("wsg_fails", "def f():\n    raise ValueError('one\\n  two')\nf()")
    assert told("wsg_fails:app") == (
        f'could not import "wsg_fails": ValueError: one two ({path}, line 2)'
    )


def test_a_note_on_a_failure_does_not_hide_it(write: Write) -> None:
    path = write("wsg_notes", "error = KeyError('x')\nerror.add_note('a note')\nraise error")
    assert (
        told("wsg_notes:app") == f"could not import \"wsg_notes\": KeyError: 'x' ({path}, line 3)"
    )


def test_a_module_with_a_syntax_error(write: Write) -> None:
    path = write("wsg_syntax", "\nx = = 1")
    assert told("wsg_syntax:app") == (
        f'could not import "wsg_syntax": SyntaxError: invalid syntax ({path}, line 2)'
    )


def test_a_relative_module_has_nothing_to_be_relative_to() -> None:
    assert told(".inner:app").startswith('could not import ".inner": TypeError: ')


# -- no app ----------------------------------------------------------------------------------------


def test_what_cannot_be_called() -> None:
    assert told("string:digits") == "'string:digits' is not callable, so it is no ASGI app"
    assert told(7) == "7 is not callable, so it is no ASGI app"


def test_a_factory_that_makes_no_app() -> None:
    assert told("gc:get_count", factory=True) == (
        "'gc:get_count' is not callable, so it is no ASGI app"
    )


def test_a_factory_that_fails(write: Write) -> None:
    path = write("wsg_factory", "def make():\n    raise LookupError('no settings')")
    assert told("wsg_factory:make", factory=True) == (
        f"the app's factory failed: LookupError: no settings ({path}, line 2)"
    )


def test_a_factory_that_wants_arguments_is_not_placed_in_our_code() -> None:
    text = told("wsgate.loading:load", factory=True)
    assert text == (
        "the app's factory failed: TypeError: load() missing 1 required positional argument: 'app'"
    )
