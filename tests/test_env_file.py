import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsgate import env_file
from wsgate.errors import ConfigError


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore the environment after a test."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        env_file.load(path)
    assert raised.value.setting == "env_file"
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(f"--env-file {path}: ")


def test_variables_are_set_and_named(path: Path) -> None:
    path.write_text("# a comment\nWSG_ONE=1\nexport WSG_TWO='a b' # more\n\nWSG_THREE=\"$\"\n")
    assert env_file.load(str(path)) == {"WSG_ONE", "WSG_TWO", "WSG_THREE"}
    assert [os.environ[f"WSG_{name}"] for name in ("ONE", "TWO", "THREE")] == ["1", "a b", "$"]


def test_variables_that_exist_are_not_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSG_ONE", "mine")
    monkeypatch.setenv("WSG_EMPTY", "")
    path.write_text("WSG_ONE=1\nWSG_EMPTY=2\nWSG_TWO=${WSG_ONE}\n")
    assert env_file.load(path) == {"WSG_TWO"}
    assert os.environ["WSG_ONE"] == os.environ["WSG_TWO"] == "mine"
    assert os.environ["WSG_EMPTY"] == ""


def test_a_file_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    assert error_of(path) == "No such file or directory"
    path.mkdir()
    assert error_of(path) == "Is a directory"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"A=1\n\xff", "line 2 is not UTF-8"),
        (b"WSG_NUL=a\x00b\n", "embedded null byte"),
        (b"# one\nWSG_ONE=1\n\n\n=2\nWSG_TWO=2\n", "line 5 is not NAME=VALUE"),
        (b"WSG_ONE=1\r\nthis is garbage\r\n", "line 2 is not NAME=VALUE"),
        (b"WSG_ONE='no end\nWSG_TWO=2\n", "line 1 is not NAME=VALUE"),
    ],
)
def test_a_file_that_cannot_be_used(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    before = dict(os.environ)
    assert error_of(path) == reason
    assert dict(os.environ) == before, "nothing is set by half"


def test_the_extra_is_named_if_the_library_is_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)
    path.write_text("A=1\n")
    assert error_of(path) == "python-dotenv is missing: pip install 'wsgate[env]'"
