import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from wsgate import config_file
from wsgate.answers import ANSWERS
from wsgate.config import PROGRAM_SETTINGS, SETTINGS
from wsgate.config_file import ConfigFile, find, read
from wsgate.errors import ConfigError
from wsgate.settings import Setting

ALL = (*SETTINGS, *PROGRAM_SETTINGS, *ANSWERS)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_text(text: str, name: str = "wsgate.toml") -> ConfigFile:
    Path(name).write_text(text)
    return read(name, ALL)


def values_of(text: str, name: str = "wsgate.toml") -> dict[str, Any]:
    return read_text(text, name).values


def error_of(text: str | bytes, name: str = "wsgate.toml") -> str:
    """Return the error of a file, which is one line."""
    path = Path(name)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as raised:
        read(name, ALL)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- values ----------------------------------------------------------------------------------------


def test_each_key_sets_a_setting() -> None:
    assert values_of(
        'port = 9000\nlog-level = "debug"\naccess-log = false\nws-ping-timeout = 5'
    ) == {
        "port": 9000,
        "log_level": "debug",
        "access_log": False,
        "ws_ping_timeout": 5,
    }


@pytest.mark.parametrize(
    "key", ["ws-max-size", "ws_max_size", '"ws-max-size"', "ws-max_size", "'ws_max_size'"]
)
def test_a_key_has_hyphens_or_underscores(key: str) -> None:
    assert values_of(f"{key} = 7") == {"ws_max_size": 7}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("h11-max-incomplete-event-size", "limit_request_head"),
        ("h11_max_incomplete_event_size", "limit_request_head"),
        ("limit-request-head", "limit_request_head"),
    ],
)
def test_a_key_may_be_an_alias(key: str, name: str) -> None:
    assert values_of(f"{key} = 7") == {name: 7}


@pytest.mark.parametrize("key", ["header", "headers"])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"X-A: b"', [("X-A", "b")]),
        ('["X-A: b", "X-C:d:e"]', [("X-A", "b"), ("X-C", "d:e")]),
        ('[["X-A", "b"]]', [["X-A", "b"]]),
        ("[]", []),
    ],
)
def test_headers_are_written_as_options(key: str, written: str, value: Any) -> None:
    assert values_of(f"{key} = {written}") == {"headers": value}


def test_permissions_are_octal_digits() -> None:
    assert values_of('uds-perms = "660"') == {"uds_perms": 0o660}


@pytest.mark.parametrize("written", ["660", "0o660", '"9"', "true", '["660"]', '""'])
def test_permissions_that_may_be_decimal_are_refused(written: str) -> None:
    assert error_of(f"uds-perms = {written}") == (
        'wsgate.toml:1: uds-perms must be octal digits in quotes, such as "660"'
    )


def test_lists_are_lists() -> None:
    assert values_of('ws-origins = ["https://a.example", "none"]') == {
        "ws_origins": ("https://a.example", "none")
    }
    for text in (
        'ws-origins = "https://a.example, none"',
        'ws-origins = ["https://a.example", "none"]',
    ):
        assert values_of(text) == {"ws_origins": ("https://a.example", "none")}
    assert values_of('ws-origins = "same"') == {"ws_origins": ("same",)}


def test_the_app_can_be_in_the_file() -> None:
    assert values_of('app = "main:make"\nfactory = true\napp_dir = "src"') == {
        "app": "main:make",
        "factory": True,
        "app_dir": "src",
    }


def test_an_empty_file_sets_nothing() -> None:
    assert values_of("") == values_of("# nothing\n") == {}


def test_a_project_has_its_settings_in_a_table() -> None:
    text = '[project]\nname = "x"\nport = 1\n[tool.wsgate]\nport = 2\n[tool.other]\nport = 3\n'
    assert values_of(text, "pyproject.toml") == {"port": 2}
    assert values_of("tool.wsgate.port = 2", "pyproject.toml") == {"port": 2}
    assert values_of("[tool]\nwsgate = {port = 2}", "pyproject.toml") == {"port": 2}


# -- errors ----------------------------------------------------------------------------------------


LIST = 'a string, or a list of strings such as ["a", "b"]'
PAIRS = '"NAME: VALUE", or a list of such strings'


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("port = 65536", "port must be 0 to 65535"),
        ('port = "9000"', 'port must be a whole number without quotes, not "9000"'),
        ("port = 80.5", "port must be a whole number without quotes, not 80.5"),
        ("port = true", "port must be a whole number without quotes, not true"),
        ("port = {a = 1}", "port must be a whole number without quotes, not a table"),
        ("host = 1979-05-27", f"host must be {LIST}, not a date"),
        ("host = 5", f"host must be {LIST}, not 5"),
        ("host = [5]", f"host must be {LIST}"),
        ("host = {a = 1}", f"host must be {LIST}, not a table"),
        ('access_log = "false"', 'access_log must be true or false, without quotes, not "false"'),
        ("ws-ping-timeout = 0", "ws-ping-timeout must be greater than 0"),
        ("ws-ping-timeout = nan", "ws-ping-timeout must be greater than 0"),
        ('loop = "trio"', "loop must be one of auto, asyncio, uvloop, none"),
        ("ws-origins = 1", f"ws-origins must be {LIST}, not 1"),
        ("ws-idle-timeout = [1]", "ws-idle-timeout must be a number without quotes"),
        ("root-path = 1", "root-path must be a string in quotes, not 1"),
        ("app-dir = 1", "app-dir must be a path in quotes, not 1"),
        ("ssl-keyfile-password = 1", "ssl-keyfile-password must be a string in quotes"),
        ('port = "' + "9" * 99 + '"', "port must be a whole number without quotes"),
        ('header = "x"', "header: 'x' is not of the form NAME:VALUE"),
        ("header = 1", f"header must be {PAIRS}, not 1"),
        ('header = {a = "b"}', f"header must be {PAIRS}, not a table"),
        ("header = [1]", f"header must be {PAIRS}"),
        ("app = 1", "app must be a string in quotes, not 1"),
        (
            "h11_max_incomplete_event_size = 0",
            "h11_max_incomplete_event_size must be greater than 0",
        ),
        ("prot = 1", "there is no setting prot; did you mean port?"),
        ("ws-max-sze = 1", "there is no setting ws-max-sze; did you mean ws-max-size?"),
        ("no-access-log = true", "there is no setting no-access-log; did you mean access-log?"),
        ("version = 1", "there is no setting version; did you mean ssl-version?"),
        ('"a\\nb" = 1', r"there is no setting 'a\nb'"),
        ("[ssl]", "there is no setting ssl"),
    ],
)
def test_a_wrong_value_has_its_file_and_line(line: str, error: str) -> None:
    for before in ("", "\n", '# a\nbacklog = 1\n\nuds = """\n\nport = 1\n"""\n'):
        number = before.count("\n") + 1
        assert error_of(f"{before}{line}\n") == f"wsgate.toml:{number}: {error}"


def test_an_option_that_is_answered_has_its_file_and_line() -> None:
    assert error_of("\nhttp2 = true").startswith("wsgate.toml:2: http2 must be left out: ")
    assert values_of("http2 = false") == {"http2": False}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ws-max-size", "ws_max_size"),
        ("header", "headers"),
        ("limit-request-head", "h11-max-incomplete-event-size"),
    ],
)
def test_two_keys_for_one_setting_are_refused(first: str, second: str) -> None:
    value = '"a: b"' if first == "header" else "1"
    assert error_of(f"{first} = {value}\n{second} = {value}") == (
        f"wsgate.toml:2: {second} sets the same as {first} in wsgate.toml:1"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("port = 1\nport =", "wsgate.toml:2: Invalid value"),
        ("port", "wsgate.toml:1: Expected '=' after a key in a key/value pair"),
        ("port = 1\nport = 2", "wsgate.toml:2: Cannot overwrite a value"),
        ("x = " + "[" * 5000, "wsgate.toml: it is nested too deeply"),
        (b"\n\xff", "--config wsgate.toml: line 2 is not UTF-8"),
        (b"\x00", "wsgate.toml:1: Invalid statement"),
        ("#" * (1024 * 1024 + 1), "--config wsgate.toml: it is larger than 1 MiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_not_toml(text: str | bytes, error: str) -> None:
    assert error_of(text) == error


def test_a_number_with_too_many_digits() -> None:
    assert error_of("port = " + "9" * 5000).startswith("wsgate.toml: Exceeds the limit (4300 ")


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    for name, reason in (("nowhere.toml", "No such file or directory"), (".", "Is a directory")):
        with pytest.raises(ConfigError) as raised:
            read(name, ALL)
        assert str(raised.value) == f"--config {name}: {reason}"
        assert raised.value.setting == "config"


def test_a_project_without_the_table_cannot_be_named() -> None:
    for text in ("", "[tool]\n", "[tool.other]\n", "tool = 1", "[tool]\nwsgate = 1"):
        assert error_of(text, "pyproject.toml") == (
            "--config pyproject.toml: there is no table [tool.wsgate]"
        )


# -- the search ------------------------------------------------------------------------------------


def test_nothing_is_found_in_an_empty_folder() -> None:
    assert find(ALL) is None


def test_the_own_file_goes_before_that_of_the_project(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.wsgate]\nport = 2\n")
    found = find(ALL)
    assert found is not None
    assert (found.path, found.values) == ("pyproject.toml", {"port": 2})
    (folder / "wsgate.toml").write_text("backlog = 1\n")
    found = find(ALL)
    assert found is not None
    assert (found.path, found.values) == ("wsgate.toml", {"backlog": 1})


def test_a_project_without_the_table_is_no_file(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.other]\nport = 2\n")
    assert find(ALL) is None


def test_nothing_is_found_in_a_folder_that_may_not_be_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after `cd /root; sudo -u app wsgate main:app --app-dir /srv/app`."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert find(ALL) is None


def test_a_folder_with_the_name_is_no_file(folder: Path) -> None:
    (folder / "wsgate.toml").mkdir()
    assert find(ALL) is None


@pytest.mark.parametrize("name", ["wsgate.toml", "pyproject.toml"])
def test_a_malformed_file_is_not_ignored(folder: Path, name: str) -> None:
    (folder / name).write_text("a =\n")
    with pytest.raises(ConfigError, match=rf"^{name}:1: Invalid value$"):
        find(ALL)


def test_a_file_that_is_found_and_not_utf8_has_its_name(folder: Path) -> None:
    (folder / "pyproject.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^pyproject\.toml: line 1 is not UTF-8$"):
        find(ALL)


# -- places ----------------------------------------------------------------------------------------

PROJECT = '''\
# port = 1
[[tool.mypy.overrides]]
port = 1
[tool.wsgate]  # port = 2
backlog = 1 # port = 3

header = [
    "port: 4",
    # port = 5
]
"port" = 9000
root-path = """
port = 6
"""
[tool.wsgate.nothing]
port = 7
[tool.other]
text = """[tool.wsgate]
port = 8"""
'''


def test_a_place_is_the_line_on_which_the_key_is_set() -> None:
    lines = config_file._lines_of_keys(PROJECT, ("tool", "wsgate"))
    assert lines == {"backlog": 5, "header": 7, "port": 11, "root-path": 12, "nothing": 15}
    file = read_text(
        PROJECT.replace("root-path = ", "host = ").replace("[tool.wsgate.n", "[n"), "pyproject.toml"
    )
    assert [file.place(name) for name in ("backlog", "headers", "port", "host")] == [
        f"pyproject.toml:{line}" for line in (5, 7, 11, 12)
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tool.wsgate.port = 1", 1),
        ("\r\n[tool]\r\nwsgate.port = 1\r\n", 3),
        ("[tool]\nwsgate = { port = 1 }", 2),
        ("[a]\n[b]\n[tool.'wsgate']\n# x\nport = 1", 5),
        ('["tool"."wsgate"]\nport = 1', 2),
    ],
)
def test_a_table_may_be_written_in_several_ways(text: str, line: int) -> None:
    assert read_text(text, "pyproject.toml").place("port") == f"pyproject.toml:{line}"


def test_the_first_line_of_a_table_in_parts_counts() -> None:
    assert error_of("\n[ssl]\na = 1\n[ssl.more]\nb = 2") == "wsgate.toml:2: there is no setting ssl"


VALUES = st.sampled_from(
    ["1", '"a"', '"""\nb = 1\n[c]\n"""', "'''\n'''", "[\n1, # x\n2]", "{a = 1}", "[]"]
)


@given(st.lists(VALUES, min_size=1), st.sampled_from(["", "[t]\n", "\n# [t]\n[t] # x\n"]))
def test_every_key_is_found_on_its_line(values: list[str], header: str) -> None:
    text, expected = header, {}
    for number, value in enumerate(values):
        expected[f"key{number}"] = text.count("\n") + 1
        text += f"key{number} = {value}\n"
    tomllib.loads(text)
    table = ("t",) if header else ()
    assert config_file._lines_of_keys(text, table) == expected


def test_an_error_that_does_not_name_the_option_keeps_its_text() -> None:
    file = read_text('\napp = "main"\nfd = 0')
    assert file.error_text(ConfigError('"main" is not an app', setting="app"), "app") == (
        'wsgate.toml:2: "main" is not an app'
    )
    assert file.error_text(ConfigError("--fd 0 is not a socket", setting="fd"), "fd") == (
        "wsgate.toml:3: fd 0 is not a socket"
    )


def test_every_setting_has_a_key() -> None:
    def keys(setting: Setting) -> set[str]:
        return {key for key in setting.keys if "-" not in key}

    assert all(setting.name in keys(setting) for setting in ALL)
    every = [key for setting in ALL for key in setting.keys]
    assert len(every) == len(set(every))
