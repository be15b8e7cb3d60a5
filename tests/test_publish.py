"""The arguments of `wsgate publish`. What it publishes: tests/topics/test_publisher.py."""

import logging
import re

import pytest
from click.testing import CliRunner, Result

from tests.harness.processes import program
from wsgate import publish

URL = "redis://a"


@pytest.fixture(autouse=True)
def keep_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "disable", lambda: None)


def invoke(*words: str, variable: str | None = None, stdin: bytes = b"") -> Result:
    env = {publish.VARIABLE: variable}
    return CliRunner().invoke(publish.main, words, env=env, input=stdin)


@pytest.mark.parametrize(
    ("words", "variable", "error"),
    [
        ([], URL, "TOPIC and TEXT are needed"),
        (["room"], URL, "TOPIC and TEXT are needed"),
        ([URL, "room"], URL, "TOPIC and TEXT are needed"),
        (["local:/a", "room"], URL, "TOPIC and TEXT are needed"),
        (["", "room", "text"], URL, "the URL is empty"),
        ([URL, "room", "two", "words"], None, "too many arguments: a TEXT with spaces needs"),
        (["room", "text"], None, "the URL is missing: give it, or set WSGATE_TOPICS"),
        (["room", "text"], "", "the URL is missing: give it, or set WSGATE_TOPICS"),
    ],
)
def test_wrong_arguments_are_an_error_that_says_so(
    words: list[str], variable: str | None, error: str
) -> None:
    result = invoke(*words, variable=variable)
    assert result.exit_code == 2
    assert f"Error: {error}" in result.stderr


@pytest.mark.parametrize(
    ("words", "variable", "error"),
    [
        (["room", "text"], "redis://a:x", "WSGATE_TOPICS: malformed address"),
        (["redis:news", "text"], "redis://a:x", "WSGATE_TOPICS: malformed address"),
        (["room", "text"], "memory:", "WSGATE_TOPICS: memory: cannot be published to"),
        (["redis://a:x", "room", "text"], URL, "malformed address"),
        ([URL, "room", "-"], None, "standard input is not UTF-8, from byte 2 on"),
    ],
)
def test_an_error_names_its_source(words: list[str], variable: str | None, error: str) -> None:
    result = invoke(*words, variable=variable, stdin=b"a\xff")
    assert result.exit_code == 1
    assert re.match(f"Error: {error}.*\n$", result.stderr)


async def test_a_standard_input_that_is_closed_is_an_error() -> None:
    close = "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = ("-m", "wsgate", "publish", URL, "room", "-")
    async with program("-c", close, *words) as process:
        assert await process.ended() == 1
        assert process.log == ["Error: there is no standard input"]
