"""Sets environment variables from a file, as python-dotenv reads it."""

import io
import os
from typing import TYPE_CHECKING

from wsgate.errors import ConfigError
from wsgate.text_file import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dotenv.parser import Binding, Original


def load(path: str | os.PathLike[str]) -> frozenset[str]:
    """Set the variables of a file that do not exist yet.

    Returns:
        The names of those that were set.

    Raises:
        ConfigError: the file cannot be read, a line is malformed, or python-dotenv is not
            installed.
    """
    try:
        from dotenv import load_dotenv  # noqa: PLC0415  # it is optional
        from dotenv.parser import parse_stream  # noqa: PLC0415
    except ImportError:
        raise _error(path, "python-dotenv is missing: pip install 'wsgate[env]'") from None
    try:
        text = read_text(path)
        _check(parse_stream(io.StringIO(text)))
        before = set(os.environ)
        load_dotenv(stream=io.StringIO(text), override=False)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or not UTF-8
        raise _error(path, getattr(error, "strerror", None) or str(error)) from None
    return frozenset(os.environ.keys() - before)


def _check(statements: "Iterable[Binding]") -> None:
    """Raise ValueError for a malformed line: python-dotenv only logs it, without the file."""
    for statement in statements:
        if statement.error:
            raise ValueError(f"line {_line_of(statement.original)} is not NAME=VALUE")


def _line_of(original: "Original") -> int:
    """Return the line of a statement, whose text begins with the blank lines before it."""
    blank = len(original.string) - len(original.string.lstrip())
    return original.line + original.string[:blank].count("\n")


def _error(path: str | os.PathLike[str], reason: str) -> ConfigError:
    return ConfigError(f"--env-file {os.fspath(path)}: {reason}", setting="env_file")
