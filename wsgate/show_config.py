"""Prints the settings for --show-config: each value, and where it is from."""

import json
from collections.abc import Iterable
from typing import Any

from wsgate.settings import Kind, Setting

_MAX_WIDTH = 40  # columns of a value; a longer one moves its source to the right


def config_text(settings: Iterable[tuple[Setting, Any, str]]) -> str:
    """Return settings, one on each line, as a configuration file that sets the same.

    Args:
        settings: each with its value and where that is from. A setting without a value is in a
            comment, because TOML has no null, and so is a secret, without its value.
    """
    rows = [(_key(one, value), _written(one, value), origin) for one, value, origin in settings]
    keys = max(len(key) for key, _, _ in rows)
    values = min(_MAX_WIDTH, max(len(value) for _, value, _ in rows))
    return "".join(f"{key:{keys}} = {value:{values}}  # {origin}\n" for key, value, origin in rows)


def _key(setting: Setting, value: object) -> str:
    key = setting.option[2:]
    return key if value is not None and not setting.secret else f"#{key}"


def _written(setting: Setting, value: Any) -> str:
    if value is None:
        return "none"
    if setting.secret:
        return "(not shown)"
    if setting.kind is Kind.PERMISSIONS:
        return f'"{value:o}"'
    if setting.kind is Kind.PAIRS:
        value = [f"{name}: {content}" for name, content in value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return _toml(value)


def _toml(value: object) -> str:
    if isinstance(value, str):  # TOML escapes as JSON does, and DEL besides
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a path that is no text
    return str(value).lower()  # true, false, inf, 1e-05
