"""Applies a configuration of `logging` that the operator has written."""

import configparser
import copy
import io
import json
import logging.config
import os
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from wsgate import loggers
from wsgate.diagnosis import error_line
from wsgate.errors import ConfigError
from wsgate.text_file import read_text

# A configuration for uvicorn names its loggers and formatters. Those of wsgate have the same jobs.
_LOGGERS = {
    "uvicorn": "wsgate",
    "uvicorn.error": "wsgate.error",
    "uvicorn.access": "wsgate.access",
}
_FORMATTERS = {
    "uvicorn.logging.ColourizedFormatter": "wsgate.logging.DefaultFormatter",
    "uvicorn.logging.DefaultFormatter": "wsgate.logging.DefaultFormatter",
    "uvicorn.logging.AccessFormatter": "wsgate.logging.AccessFormatter",
}


def apply(config: object, *, level: str | None = None, use_colors: bool | None = None) -> None:
    """Configure `logging`.

    Args:
        config: a mapping for `dictConfig`; a path of such a mapping in JSON, YAML or TOML, or of
            a file for `fileConfig`; a `RawConfigParser`, or an open file of that format.
        level: of the two loggers, None for that of the configuration.
        use_colors: for the formatters of `wsgate.logging`, None for theirs.

    Raises:
        ConfigError: it cannot be read or applied.
    """
    name = f" {os.fspath(config)}" if isinstance(config, (str, os.PathLike)) else ""
    try:
        taken = _apply(_read(config), use_colors)
    except Exception as error:  # the factories that it names may raise anything
        reason = _reason(error)
        raise ConfigError(f"--log-config{name}: {reason}", setting="log_config") from error
    if level is not None:
        loggers.set_level(level)
    if taken:
        loggers.error.warning(
            "The log configuration names loggers of uvicorn: %s. Its settings are used for %s",
            ", ".join(taken),
            ", ".join(_LOGGERS[one] for one in taken),
        )


def _reason(error: BaseException) -> str:
    """Return an error in one line, with its cause: dictConfig names only what it was doing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    cause = error.__cause__
    text = " ".join(str(error).split()) if isinstance(error, ValueError) else error_line(error)
    return text if cause is None else f"{text}: {error_line(cause)}"


# -- reading ---------------------------------------------------------------------------------------


def _read(config: object) -> Mapping[str, Any] | configparser.RawConfigParser:
    if isinstance(config, (str, os.PathLike)):
        return _read_file(os.fspath(config))
    if isinstance(config, configparser.RawConfigParser):  # a mapping, too
        return copy.deepcopy(config)  # it is going to be changed
    if isinstance(config, Mapping):
        return config
    if isinstance(config, io.TextIOBase):
        return _parse_ini(config.read())
    raise ValueError("it is neither a mapping nor a path")


def _read_file(path: str) -> Mapping[str, Any] | configparser.RawConfigParser:
    text = read_text(path)
    content: object
    if path.endswith(".json"):
        content = json.loads(text)
    elif path.endswith((".yaml", ".yml")):
        content = _parse_yaml(text)
    elif path.endswith(".toml"):
        content = tomllib.loads(text)
    else:
        return _parse_ini(text)
    if not isinstance(content, Mapping):
        raise ValueError("it is not a mapping")  # noqa: TRY004  # it is the content of a file
    return content


def _parse_yaml(text: str) -> object:
    try:
        import yaml  # noqa: PLC0415  # it is optional
    except ImportError:
        raise ValueError("PyYAML is missing: pip install 'wsgate[yaml]'") from None
    return yaml.safe_load(text)


def _parse_ini(text: str) -> configparser.RawConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser


# -- applying --------------------------------------------------------------------------------------


def _apply(
    config: Mapping[str, Any] | configparser.RawConfigParser, use_colors: bool | None
) -> list[str]:
    """Apply a configuration; return the loggers of uvicorn whose settings are used for ours."""
    if isinstance(config, configparser.RawConfigParser):
        taken = _translate_ini(config)
        logging.config.fileConfig(config, disable_existing_loggers=False)
        return taken
    translated, taken = _translate(config, use_colors)
    logging.config.dictConfig(translated)
    return taken


def _translate(
    config: Mapping[str, Any], use_colors: bool | None
) -> tuple[dict[str, Any], list[str]]:
    """Return a configuration with loggers and formatters of ours, and the loggers as in `_apply`.

    Loggers of uvicorn stay: apps may use them.
    """
    translated = dict(config)
    if isinstance(formatters := config.get("formatters"), Mapping):
        translated["formatters"] = {
            name: _translate_formatter(one, use_colors) for name, one in formatters.items()
        }
    taken: list[str] = []
    if isinstance(named := config.get("loggers"), Mapping):
        taken = _taken(named)
        translated["loggers"] = {**named, **{_LOGGERS[one]: named[one] for one in taken}}
    return translated, taken


def _taken(names: Mapping[str, object]) -> list[str]:
    """Return the loggers of uvicorn, unless there are loggers of ours."""
    if any(name.partition(".")[0] == "wsgate" for name in names):
        return []
    return [name for name in _LOGGERS if name in names]


def _translate_formatter(formatter: object, use_colors: bool | None) -> object:
    if not isinstance(formatter, Mapping):
        return formatter
    translated: MutableMapping[str, Any] = dict(formatter)
    for key in formatter.keys() & {"()", "class"}:
        translated[key] = _FORMATTERS.get(_dotted(formatter[key]), formatter[key])
    if use_colors is not None and _dotted(translated.get("()")).startswith("wsgate.logging."):
        translated["use_colors"] = use_colors
    return translated


def _dotted(factory: object) -> str:
    if isinstance(factory, type):
        return f"{factory.__module__}.{factory.__qualname__}"
    return str(factory)


def _translate_ini(parser: configparser.RawConfigParser) -> list[str]:
    """Change a configuration as `_translate` does; return the same loggers."""
    for section in parser.sections():
        factory = parser.get(section, "class", raw=True, fallback="")
        if section.startswith("formatter_") and factory in _FORMATTERS:
            parser.set(section, "class", _FORMATTERS[factory])
    keys = dict(_loggers_of_ini(parser))
    taken = _taken(keys)
    for name in taken:
        section = f"logger_{_LOGGERS[name]}"
        parser.add_section(section)
        for option, value in parser.items(f"logger_{keys[name]}", raw=True):
            parser.set(section, option, value)
        parser.set(section, "qualname", _LOGGERS[name])
    if taken:
        named = [parser.get("loggers", "keys"), *(_LOGGERS[one] for one in taken)]
        parser.set("loggers", "keys", ",".join(named))
    return taken


def _loggers_of_ini(parser: configparser.RawConfigParser) -> Iterator[tuple[str, str]]:
    """Yield the name of each logger with its key."""
    for key in parser.get("loggers", "keys", fallback="").split(","):
        name = parser.get(f"logger_{key.strip()}", "qualname", raw=True, fallback="")
        if name:
            yield name, key.strip()
