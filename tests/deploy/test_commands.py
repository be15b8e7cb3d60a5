"""Each command line of wsgate in the docs and the examples is accepted by its option parser."""

import contextlib
import re
from collections.abc import Iterator

import click
import pytest

from tests.deploy.command_lines import PAGES, arguments, of_image, of_page, of_pod, of_units
from tests.harness.processes import ROOT
from tests.harness.proxies import EXAMPLES
from wsgate import cli
from wsgate.config import SETTINGS, Config


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield each place and the arguments of the command there."""
    for page in PAGES:
        for number, found in enumerate(of_page(page), start=1):
            yield f"{page.relative_to(ROOT)}-{number}", found
    yield from of_units()
    yield "Dockerfile", of_image()
    yield "deployment.yaml", of_pod()


COMMANDS = dict(commands())


def parse(words: list[str]) -> Config:
    """Return the settings that a command line makes.

    Raises:
        click.ClickException: An option does not exist, or cannot be parsed.
        wsgate.ConfigError: A value is out of bounds.
    """
    context = cli.main.make_context("wsgate", list(words))
    return Config(**{setting.name: context.params[setting.name] for setting in SETTINGS})


@pytest.mark.parametrize("place", COMMANDS)
def test_a_command_line_is_accepted(place: str) -> None:
    words = COMMANDS[place]
    with contextlib.suppress(click.exceptions.Exit):  # --help and --version
        parse(words)


@pytest.mark.parametrize("words", [["main:app", "--prot", "1"], ["main:app", "--port", "x"]])
def test_a_wrong_command_line_is_not(words: list[str]) -> None:
    with pytest.raises(click.ClickException):
        parse(words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wsgate main:app --port 8000 & old=$!", ["main:app", "--port", "8000"]),
        ("PORT=1 /srv/venv/bin/wsgate main:app   # a comment", ["main:app"]),
        ("docker run IMAGE wsgate main:app --host 0.0.0.0", ["main:app", "--host", "0.0.0.0"]),
        ("wsgate --version | cat", ["--version"]),
        ("wsgate main:app 2>> error.log >access.log", ["main:app"]),
        ("pip install wsgate", []),
        ("pip install git+https://github.com/wsgate/wsgate", []),
        ("Running wsgate 0.1", []),
        ("cat main.py", []),
    ],
)
def test_commands_are_found_in_lines_of_a_shell(line: str, expected: list[str]) -> None:
    assert arguments(line) == expected


def test_commands_are_found_in_the_pages() -> None:
    places = {place.rpartition("-")[0] for place in COMMANDS}
    assert {"README.md", "docs/signals.md", "docs/deployment.md"} <= places


def test_variables_of_the_examples_exist() -> None:
    known = {variable for setting in SETTINGS for variable in setting.variables}
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"\bWSGATE_\w+", path.read_text())}
    assert named
    assert named <= known
