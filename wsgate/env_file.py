"""Sets environment variables from a file, as python-dotenv reads it."""

import io
import os

from wsgate.errors import ConfigError
from wsgate.text_file import read_text


def load(path: str | os.PathLike[str]) -> frozenset[str]:
    """Set the variables of a file that do not exist yet.

    Returns:
        The names of those that were set.

    Raises:
        ConfigError: the file cannot be read, or python-dotenv is not installed.
    """
    try:
        from dotenv import load_dotenv  # noqa: PLC0415  # it is optional
    except ImportError:
        raise _error(path, "python-dotenv is missing: pip install 'wsgate[env]'") from None
    try:
        text = read_text(path)
        before = set(os.environ)
        load_dotenv(stream=io.StringIO(text), override=False)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or not UTF-8
        raise _error(path, getattr(error, "strerror", None) or str(error)) from None
    return frozenset(os.environ.keys() - before)


def _error(path: str | os.PathLike[str], reason: str) -> ConfigError:
    return ConfigError(f"--env-file {os.fspath(path)}: {reason}", setting="env_file")
