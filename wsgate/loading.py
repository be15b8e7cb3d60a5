"""Finds the app that "module:attribute" names, with errors that fit on one line."""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from wsgate.errors import ConfigError
from wsgate.types import App


def load(
    app: App | Callable[[], App] | str, *, factory: bool = False, app_dir: str | None = None
) -> App:
    """Return the app.

    app: itself, or "module:attribute" of it, dots in both. factory: call it to get the app.
    app_dir: a folder that modules are looked for in first.
    Raises ConfigError.
    """
    if app_dir is not None:
        sys.path.insert(0, str(Path(app_dir).resolve()))
    found = _found(app) if isinstance(app, str) else app
    if factory:
        found = _made(cast("Callable[[], App]", found))
    if not callable(found):
        raise ConfigError(f"{app!r} is not callable, so it is no ASGI app")
    return cast("App", found)


def _found(name: str) -> Any:
    module_name, colon, attributes = name.partition(":")
    if not (module_name and colon and attributes):
        raise ConfigError(f'"{name}" is not of the form "module:attribute"')
    found: Any = _imported(module_name)
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ConfigError(f'attribute "{attributes}" not found in "{module_name}"') from None
    return found


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(f'could not import module "{name}": there is none') from None
        raise ConfigError(f'could not import "{name}": {_told(error)}') from None
    except Exception as error:
        raise ConfigError(f'could not import "{name}": {_told(error)}') from error


def _made(factory: Callable[[], App]) -> App:
    try:
        return factory()
    except Exception as error:
        raise ConfigError(f"the app's factory failed: {_told(error)}") from error


def _told(error: Exception) -> str:
    """Return an exception in one line, with the place in the app's code that it comes from."""
    # Indented are a SyntaxError's place and what shows it; behind the line may stand notes.
    lines = traceback.format_exception_only(error)
    line = " ".join(next(line for line in lines if not line.startswith("  ")).split())
    if isinstance(error, SyntaxError):
        return f"{line} ({error.filename}, line {error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    place = frames[-1] if frames else None
    return f"{line} ({place.filename}, line {place.lineno})" if place else line
