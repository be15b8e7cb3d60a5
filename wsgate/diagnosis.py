"""Summaries of exceptions of the user's code: one line, with the user's line that led to it."""

import importlib
import os
import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

_WSGATE = f"{Path(__file__).parent}{os.sep}"
_INSTALLED = {"site-packages", "dist-packages"}  # the folders of pip and of Debian
_MAX_REPR = 100


class _Place(NamedTuple):
    """A line of code, and the name of its module."""

    file: str
    line: int | None
    module: str = ""


def error_summary(error: BaseException, package: str) -> str:
    """Return an exception in one line, with the place in the user's code that led to it.

    An exception group is followed by its first exception.

    Args:
        error: the exception, with its traceback.
        package: the app's top-level package. Its code is the user's even if it is installed.
    """
    errors = [error]
    while isinstance(errors[-1], BaseExceptionGroup):
        errors.append(errors[-1].exceptions[0])
    text = ": ".join(map(error_line, errors))
    place = next(filter(None, (_place(error, package) for error in reversed(errors))), None)
    return f"{text} ({place.file}, line {place.line})" if place else text


def short_repr(value: object) -> str:
    """Return a value's repr in one line, cut to 100 characters; never raises."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # the user's __repr__ may raise anything
        text = f"<{type(value).__qualname__}>"
    return text if len(text) <= _MAX_REPR else f"{text[: _MAX_REPR - 3]}..."


def error_line(error: BaseException) -> str:
    """Return an exception as the last line of its traceback shows it; never raises."""
    # A SyntaxError's source lines come first and are indented; notes come after the line.
    lines = traceback.format_exception_only(error)
    return " ".join(next(line for line in lines if not line.startswith("  ")).split())


def _place(error: BaseException, package: str) -> _Place | None:
    """Return the user's innermost line, or the innermost line of all if none is the user's."""
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
    """Return whether code has no file: `exec` made it (as in dataclasses), or it is frozen."""
    return file.startswith("<")


def _is_machinery(place: _Place) -> bool:
    """Return whether a line only imports or calls the user's code."""
    return place.file.startswith(("<frozen ", _WSGATE)) or place.file == importlib.__file__


def _is_users(place: _Place, package: str) -> bool:
    if _is_virtual(place.file):
        return False
    if place.module.partition(".")[0] == package:
        return True
    return not (_INSTALLED & {*Path(place.file).parts} or place.file.startswith(_stdlib_folders()))


def _stdlib_folders() -> tuple[str, ...]:
    # The two differ if the interpreter is started through a symbolic link.
    folders = sysconfig.get_path("stdlib"), Path(os.__file__).parent
    return tuple(f"{folder}{os.sep}" for folder in folders)
