"""An exception of the user's code in one line: what it says, and the user's line that led to it."""

import importlib
import os
import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

_OURS = f"{Path(__file__).parent}{os.sep}"
_INSTALLED = {"site-packages", "dist-packages"}  # the folders of pip and of Debian
_MAX_REPR = 100


class _Place(NamedTuple):
    """A line of code, and the module that runs it."""

    file: str
    line: int | None
    module: str = ""


def describe(error: BaseException, package: str) -> str:
    """Return an exception in one line, with the place in the user's code that led to it.

    A group is followed by the first of its exceptions. package: the app's top-level package, whose
    code is the user's even if it is installed.
    """
    errors = [error]
    while isinstance(errors[-1], BaseExceptionGroup):
        errors.append(errors[-1].exceptions[0])
    text = ": ".join(map(one_line, errors))
    place = next(filter(None, (_place(error, package) for error in reversed(errors))), None)
    return f"{text} ({place.file}, line {place.line})" if place else text


def shorten(value: object) -> str:
    """Return a value's repr in one line of bounded length."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # a value of the user's code may raise anything
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= _MAX_REPR else f"{text[: _MAX_REPR - 3]}..."


def one_line(error: BaseException) -> str:
    """Return an exception as the last line of its traceback says it; never raises."""
    # Indented are a SyntaxError's place and what shows it; notes follow the line.
    lines = traceback.format_exception_only(error)
    return " ".join(next(line for line in lines if not line.startswith("  ")).split())


def _place(error: BaseException, package: str) -> _Place | None:
    """Return the last of the user's lines, or the innermost line if none is the user's."""
    if isinstance(error, SyntaxError) and error.filename and not _is_virtual(error.filename):
        return _Place(error.filename, error.lineno)
    frames = (
        _Place(frame.f_code.co_filename, line, str(frame.f_globals.get("__name__")))
        for frame, line in traceback.walk_tb(error.__traceback__)
    )
    places = [place for place in frames if not _is_machinery(place)]
    users = [place for place in places if _is_users(place, package)]
    return next(reversed(users or places), None)


def _is_virtual(file: str) -> bool:
    """Whether there is no such file: code that exec made, as dataclasses do, or frozen modules."""
    return file.startswith("<")


def _is_machinery(place: _Place) -> bool:
    """Whether a line only imports or calls the user's code."""
    return place.file.startswith(("<frozen ", _OURS)) or place.file == importlib.__file__


def _is_users(place: _Place, package: str) -> bool:
    if _is_virtual(place.file):
        return False
    if place.module.partition(".")[0] == package:
        return True
    return not (_INSTALLED & {*Path(place.file).parts} or place.file.startswith(_stdlib()))


def _stdlib() -> tuple[str, ...]:
    # The two differ where the interpreter is reached through links.
    folders = sysconfig.get_path("stdlib"), Path(os.__file__).parent
    return tuple(f"{folder}{os.sep}" for folder in folders)
