"""Prints the settings for --show-config: each value, and where it is from."""

import json
import re
from collections.abc import Iterable
from typing import Any

from wsgate.errors import one_line
from wsgate.settings import Kind, Setting

_SURROGATE = re.compile(r"[\ud800-\udfff]")  # is a byte that is not UTF-8: PEP 383
_MAX_WIDTH = 40  # columns of a value; a longer one moves its source to the right


def config_text(settings: Iterable[tuple[Setting, Any, str]]) -> str:
    """Return settings, one on each line, as a configuration file that sets the same.

    Args:
        settings: each with its value and where that is from. A setting without a value is in a
            comment, because TOML has no null, and so are a secret, without its value, and a path
            that is not UTF-8, which TOML cannot hold.
    """
    rows = [_row(one, value, origin) for one, value, origin in settings]
    keys = max(len(key) for key, _, _ in rows)
    values = min(_MAX_WIDTH, max(len(value) for _, value, _ in rows))
    return "".join(f"{key:{keys}} = {value:{values}}  # {origin}\n" for key, value, origin in rows)


def _row(setting: Setting, value: object, origin: str) -> tuple[str, str, str]:
    """Return the key, the value and the comment of a line."""
    key, written = setting.option[2:], _written(setting, value)
    is_text = _SURROGATE.search(written) is None
    if value is None or setting.secret or not is_text:
        key = f"#{key}"
    if not is_text:
        origin += "; not UTF-8, so it cannot be set in TOML"
    return key, _printable(written), _printable(one_line(origin))


def _printable(text: str) -> str:
    r"""Return a text with the bytes that are not UTF-8 as in a shell: `\xff`."""
    return _SURROGATE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)


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
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()  # true, false, inf, 1e-05
