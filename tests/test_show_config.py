import os
import tomllib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate.config import SETTINGS
from wsgate.settings import Setting
from wsgate.show_config import config_text

BY_NAME = {one.name: one for one in SETTINGS}


def row(name: str, value: Any, origin: str = "default") -> tuple[Setting, Any, str]:
    return BY_NAME[name], value, origin


def test_columns_are_aligned() -> None:
    rows = [row("port", 9000, "wsgate.toml:1"), row("ws_max_size", 1), row("uds", None)]
    assert config_text(rows) == (
        "port        = 9000  # wsgate.toml:1\n"
        "ws-max-size = 1     # default\n"
        "#uds        = none  # default\n"
    )


def test_a_long_value_moves_only_its_own_line() -> None:
    rows = [row("root_path", "/" + "a" * 100), row("port", 1)]
    first, second = config_text(rows).splitlines()
    assert first.endswith('a"  # default')
    assert second == f"port      = {1:<40}  # default"


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("host", "::1", '"::1"'),
        ("root_path", '/"\\\n\x7fé', '"/\\"\\\\\\n\\u007fé"'),
        ("access_log", False, "false"),
        ("ws_ping_timeout", 20.0, "20.0"),
        ("ws_ping_timeout", float("inf"), "inf"),
        ("uds_perms", 0o660, '"660"'),
        ("headers", (("X-A", "b"), ("X-C", "d:e")), '["X-A: b", "X-C: d:e"]'),
        ("headers", (), "[]"),
        ("ws_origins", ["none"], '["none"]'),
    ],
)
def test_a_value_is_written_in_toml(name: str, value: Any, written: str) -> None:
    text = config_text([row(name, value)])
    assert f" = {written}" in text
    tomllib.loads(text)


@pytest.mark.parametrize("name", ["uds", "ssl_ca_certs", "host"])
def test_a_path_that_is_not_utf8_is_in_a_comment(name: str) -> None:
    path = os.fsdecode(b"a\xff\n\xc3\xa9")
    value = path if name == "ssl_ca_certs" else (path, "b")
    text = config_text([row("port", 1), row(name, value, "command line")])
    assert tomllib.loads(text) == {"port": 1}
    line = text.splitlines()[1]
    assert line.startswith(f"#{name.replace('_', '-')} ")
    assert r'"a\xff\né"' in line
    assert line.endswith("# command line; not UTF-8, so it cannot be set in TOML")


@pytest.mark.parametrize("file", ["a\nport = 2.toml", "a\x1b[31m\x7f.toml", "a\udcff.toml"])
def test_the_name_of_a_file_stays_in_its_comment(file: str) -> None:
    text = config_text([row("port", 1, f"{file}:1")])
    assert text.encode().isascii()
    assert text.count("\n") == 1
    assert tomllib.loads(text) == {"port": 1}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_can_be_read_again(text: str) -> None:
    assert tomllib.loads(config_text([row("root_path", text)])) == {"root-path": text}
