"""The configuration file: the values of settings in TOML, each with its line."""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from wsgate.errors import ConfigError
from wsgate.settings import Kind, Setting, name_of, parse_pair, suggestion
from wsgate.text_file import read_text

FILE = "wsgate.toml"
PROJECT = "pyproject.toml"
_PROJECT_TABLE = ("tool", "wsgate")

# How tomllib ends the text of an error: "Invalid value (at line 2, column 8)".
_POSITION = re.compile(
    r"(?P<reason>.*) \(at (line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL
)


class ConfigFile:
    """The settings of one file.

    Attributes:
        path: as it was named.
        values: the values, by the names of the settings.
    """

    def __init__(self, path: str, text: str, settings: Iterable[Setting]) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self._text = text
        self._table = _PROJECT_TABLE if Path(path).name == PROJECT else ()
        self._settings = {key: one for one in settings for key in one.keys}
        self._keys: dict[str, str] = {}  # as written, by the names of the settings

    def read(self) -> bool:
        """Read the values; return False if the file has no table of settings.

        Raises:
            ConfigError: the file is not TOML, a key is no setting, or a value cannot be used.
        """
        table = _table_of(self._parse(), self._table)
        for key, value in (table or {}).items():
            self._set(key, value)
        return table is not None

    def place(self, name: str) -> str:
        """Return where a setting is: "wsgate.toml:3"."""
        return self._place_of_key(self._keys[name])

    def error_text(self, error: ConfigError, name: str) -> str:
        """Return the text of an error with its place, and the key instead of the option."""
        key, option = self._keys[name], self._settings[name].option
        text = str(error)
        if text.startswith(option):
            text = key + text.removeprefix(option)
        return str(self._error(key, text))

    def _parse(self) -> Mapping[str, Any]:
        try:
            return tomllib.loads(self._text)
        except RecursionError:
            raise ConfigError(f"{self.path}: it is nested too deeply") from None
        except ValueError as error:  # also a number with too many digits for Python
            found = _POSITION.fullmatch(str(error))
            if found is None:
                raise ConfigError(f"{self.path}: {error}") from None
            line = found["line"] or self._text.count("\n") + 1
            raise ConfigError(f"{self.path}:{line}: {found['reason']}") from None

    def _set(self, key: str, value: object) -> None:
        setting = self._settings.get(name_of(key))
        if setting is None:
            shown = key if key.isprintable() else repr(key)
            names = {name: one.option[2:] for name, one in self._settings.items()}
            hint = suggestion(name_of(key), names)
            raise self._error(key, f"there is no setting {shown}{hint}")
        if earlier := self._keys.get(setting.name):
            place = self._place_of_key(earlier)
            raise self._error(key, f"{key} sets the same as {earlier} in {place}")
        self._keys[setting.name] = key
        try:
            converted = setting.convert(_convert(setting, value))
            _check_type(setting, value, converted)
            setting.validate(converted)
        except ConfigError as error:
            raise ConfigError(self.error_text(error, setting.name)) from None
        self.values[setting.name] = converted

    def _error(self, key: str, reason: str) -> ConfigError:
        return ConfigError(f"{self._place_of_key(key)}: {reason}")

    def _place_of_key(self, key: str) -> str:
        return f"{self.path}:{self._lines[key]}"

    @cached_property
    def _lines(self) -> dict[str, int]:
        return _lines_of_keys(self._text, self._table)


def find(settings: Sequence[Setting]) -> ConfigFile | None:
    """Return the file of the current folder: wsgate.toml, or pyproject.toml with [tool.wsgate].

    Raises:
        ConfigError: as in `read`.
    """
    for name in (FILE, PROJECT):
        if os.path.isfile(name):  # noqa: PTH113  # pathlib's raises in a folder without permission
            file = ConfigFile(name, _read_text(name, name), settings)
            if file.read():
                return file
    return None


def read(path: str, settings: Sequence[Setting]) -> ConfigFile:
    """Return the settings of a file; in a pyproject.toml those of [tool.wsgate].

    Raises:
        ConfigError: the file cannot be read, or as in `ConfigFile.read`. The text starts with the
            file and, if it could be read, the line.
    """
    named = f"--config {path}"
    file = ConfigFile(path, _read_text(path, named), settings)
    if not file.read():
        missing = f"{named}: there is no table [{'.'.join(_PROJECT_TABLE)}]"
        raise ConfigError(missing, setting="config")
    return file


def _read_text(path: str, named: str) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{named}: {reason}", setting="config") from None


# -- values ----------------------------------------------------------------------------------------


def _convert(setting: Setting, value: object) -> object:
    """Return a value as Python programs give it: headers in pairs, permissions as a number."""
    if setting.kind is Kind.PERMISSIONS:
        return _permissions(setting, value)
    if setting.kind is Kind.PAIRS:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list):
            return [_pair(setting, text) if isinstance(text, str) else text for text in texts]
    return value


def _check_type(setting: Setting, value: object, converted: object) -> None:
    """Raise ConfigError, in the words of TOML, for a value of another type."""
    if setting.choices or setting.has_type(converted):
        return
    shown = "" if setting.secret else _not_given(value)
    raise ConfigError(f"{setting.option} must be {_FORMS[setting.kind]}{shown}")


_FORMS = {
    Kind.WHOLE_NUMBER: "a whole number without quotes",
    Kind.NUMBER: "a number without quotes",
    Kind.SWITCH: "true or false, without quotes",
    Kind.TEXT: "a string in quotes",
    Kind.PATH: "a path in quotes",
    Kind.TEXTS: 'a string, or a list of strings such as ["a", "b"]',
    Kind.PAIRS: '"NAME: VALUE", or a list of such strings',
}
_LONGEST_SHOWN = 60


def _not_given(value: object) -> str:
    """Return the end of an error, with the value as TOML has it if that is short."""
    if isinstance(value, dict):
        return ", not a table"
    if not isinstance(value, (str, bool, int, float)):
        return "" if isinstance(value, list) else f", not a {type(value).__name__}"
    shown = json.dumps(value)
    return f", not {shown}" if len(shown) <= _LONGEST_SHOWN else ""


def _pair(setting: Setting, text: str) -> tuple[str, str]:
    try:
        return parse_pair(text)
    except ConfigError as error:
        raise ConfigError(f"{setting.option}: {error}") from None


def _permissions(setting: Setting, value: object) -> int:
    # tomllib does not say whether a number was written as 660 or as 0o660.
    try:
        if isinstance(value, str):
            return int(value, 8)
    except ValueError:
        pass
    raise ConfigError(f'{setting.option} must be octal digits in quotes, such as "660"')


# -- tables and lines ------------------------------------------------------------------------------


def _table_of(content: object, path: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the table at a path, None if there is none."""
    for key in path:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else None


def _lines_of_keys(text: str, table: Sequence[str]) -> dict[str, int]:
    """Return the keys of a table, each with the first line that sets it.

    Args:
        text: valid TOML. The statements in it are the fewest lines that are TOML on their own: what
            is cut within a value is not.
        table: the path of the table.
    """
    lines: dict[str, int] = {}
    current: tuple[str, ...] = ()
    statement, first = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        first = first if statement else number
        statement += line + "\n"
        try:
            content: object = tomllib.loads(statement)
        except ValueError:
            continue
        if statement.lstrip().startswith("["):
            current = _path_of_header(content)
        else:
            for key in reversed(current):
                content = {key: content}
        statement = ""
        for key in _table_of(content, table) or ():
            lines.setdefault(key, first)
    return lines


def _path_of_header(content: object) -> tuple[str, ...]:
    """Return the path of a table from the content of its header alone."""
    path: list[str] = []
    while content:
        if isinstance(content, list):  # an array of tables
            content = content[0]
        else:
            assert isinstance(content, dict)
            ((key, content),) = content.items()
            path.append(key)
    return tuple(path)
