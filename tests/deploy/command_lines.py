"""The command lines of wsgate in the docs and in the examples of a deployment."""

import configparser
import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.harness.processes import ROOT
from tests.harness.proxies import EXAMPLES

PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").rglob("*.md")})
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]*\bwsgate [^`\n]+)`")
_REDIRECTION = re.compile(r"\s\d*>>?\s*\S+")


def arguments(line: str) -> list[str]:
    """Return the arguments of wsgate in a line of a shell; none if it does not start wsgate."""
    lexer = shlex.shlex(_REDIRECTION.sub("", line), posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = list(lexer)
    programs = [i for i, word in enumerate(words) if re.fullmatch(r"(\S*/)?wsgate", word)]
    # `pip install wsgate`, `Running wsgate 0.1`: no app and no option follows.
    if not programs or not _is_argument(words[programs[0] + 1 :]):
        return []
    rest = words[programs[0] + 1 :]
    return list(itertools.takewhile(lambda word: word.strip("&|;"), rest))


def _is_argument(words: list[str]) -> bool:
    return bool(words) and bool(re.match(r"--[a-z]|[\w.]+:\w+$", words[0]))


def of_page(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each command in a page: in its shell snippets, and in its text."""
    text = page.read_text()
    for snippet in _SHELL.findall(text):
        for line in snippet.replace("\\\n", " ").splitlines():
            yield from filter(None, [arguments(line)])
    for line in _INLINE.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield from filter(None, [arguments(line)])


def of_units() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the arguments of each systemd service."""
    for path in sorted((EXAMPLES / "systemd").glob("*.service")):
        yield path.name, arguments(unit(path)["Service"]["ExecStart"].replace("%i", "8000"))


def unit(path: Path) -> configparser.ConfigParser:
    """Return the sections of a unit."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as Python documents it
    parser.read(path)
    return parser


def of_image(folder: Path = EXAMPLES / "docker") -> list[str]:
    """Return the arguments of the CMD of a folder's Dockerfile."""
    commands = re.findall(r"(?m)^CMD (\[.*\])$", (folder / "Dockerfile").read_text())
    (command,) = map(json.loads, commands)
    assert command[0] == "wsgate"
    return list(command[1:])


def of_pod() -> list[str]:
    """Return the arguments of the container of the Kubernetes Deployment."""
    command = container()["command"]
    assert command[0] == "wsgate"
    return list(command[1:])


def container() -> dict[str, Any]:
    """Return the container of the Kubernetes Deployment."""
    (found,) = manifest("deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def manifest(name: str) -> dict[str, Any]:
    """Return a manifest of Kubernetes."""
    return dict(yaml.safe_load((EXAMPLES / "kubernetes" / f"{name}.yaml").read_text()))
