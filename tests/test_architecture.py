"""What docs/architecture.md says about the code is true."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.test_layers import ALLOWED
from wsgate.asgi.http import Response, State

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "wsgate"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
SUFFIXES = {".py", ".pyi", ".c", ".h", ".html", ".typed"}

PATHS = sorted(set(re.findall(r"`((?:[\w.]+/)*\w+\.(?:pyi?|c))`", PAGE)) - {"__init__.py"})
NAMES = sorted(set(re.findall(r"`([\w./]+\.(?:py|c))::([\w.]+)`", PAGE)))


def file_of(path: str) -> Path:
    """Return the file of a path as the page writes it: below wsgate/ or below the root."""
    found = [folder / path for folder in (PACKAGE, ROOT) if (folder / path).is_file()]
    assert found, f"{path} does not exist"
    return found[0]


# -- files and names -------------------------------------------------------------------------------


def test_the_page_names_much_of_the_code() -> None:
    assert len(PATHS) > 30
    assert len(NAMES) > 80


@pytest.mark.parametrize("path", PATHS)
def test_a_file_exists(path: str) -> None:
    assert file_of(path).is_file()


@pytest.mark.parametrize(("path", "name"), NAMES, ids=map("::".join, NAMES))
def test_a_name_exists_in_its_file(path: str, name: str) -> None:
    body = ast.parse(file_of(path).read_text()).body
    for part in name.split("."):
        body = members(body, part)


def members(body: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Return the body of what a module or class defines as `name`; without one it is empty."""
    for statement in body:
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if statement.name == name:
                return statement.body
            if statement.name == "__init__" and f"self.{name} = " in ast.unparse(statement):
                return []
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if name in map(ast.unparse, targets):
                return []
    raise AssertionError(f"{name} is not defined there")


# -- the tree --------------------------------------------------------------------------------------


def files_of_the_tree() -> set[str]:
    """Return the files that the tree lists, relative to wsgate/."""
    tree = PAGE.split("```\nwsgate/\n")[1].split("```")[0]
    files: set[str] = set()
    folders: list[str] = []
    for indent, name in re.findall(r"^((?:  )+)([\w.]+/?)(?= )|^ +\w.*$", tree, re.MULTILINE):
        if not name or len(indent) > 6:
            continue  # the continuation of a description
        folders = folders[: len(indent) // 2 - 1]
        if name.endswith("/"):
            folders.append(name)
        else:
            files.add("".join(folders) + name)
    return files


def files_of_the_package() -> set[str]:
    return {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*")
        if path.suffix in SUFFIXES and not is_docstring_of_a_folder(path)
    }


def is_docstring_of_a_folder(path: Path) -> bool:
    return path.name == "__init__.py" and len(ast.parse(path.read_text()).body) == 1


def test_the_tree_lists_every_file() -> None:
    assert files_of_the_tree() == files_of_the_package()


# -- diagrams --------------------------------------------------------------------------------------


def test_the_diagram_of_rooms_shows_the_import_rules() -> None:
    diagram = PAGE.split("```mermaid\nflowchart TD\n")[1].split("```")[0]
    arrows = {(start, end) for start, end in re.findall(r"(\w+) --> (\w+)", diagram)}
    rooms = {room for arrow in arrows for room in arrow}
    assert len(rooms) >= 9
    assert arrows == {(room, other) for room in rooms for other in ALLOWED[room] & rooms}


def test_the_diagram_of_a_response_shows_its_table() -> None:
    diagram = PAGE.split("    [*] --> WAITING\n")[1].split("```")[0]
    arrows = re.findall(r"(\w+) --> (\w+): ([\w.]+)", diagram)
    assert {(State[start], message) for start, _, message in arrows} == set(Response.HTTP)
    assert {State[end] for _, end, _ in arrows} == set(State)


# -- stations --------------------------------------------------------------------------------------

TABLES = re.findall(
    r"^\*\*([^*]+): (\d+) stations, \d+ functions\.\*\*.*?\n\n(.*?)\n\n",
    PAGE,
    re.MULTILINE | re.DOTALL,
)
LIMITS = {
    "Common path, in": 8,
    "Common path, out": 8,
    "Rare path, in": 12,
    "Rare path, out": 12,
}


@cache
def calls() -> dict[str, list[str]]:
    command = [sys.executable, "-m", "tests.stations"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(run.stdout)
    return found


def test_every_path_has_its_table() -> None:
    assert [name for name, _, _ in TABLES] == list(calls())


@pytest.mark.parametrize(("name", "count", "rows"), TABLES, ids=[name for name, *_ in TABLES])
def test_data_passes_the_stations_in_order(name: str, count: str, rows: str) -> None:
    stations = re.findall(r"^\| (\d+) \| `([^`]+)` \|", rows, re.MULTILINE)
    numbers = dict.fromkeys(int(number) for number, _ in stations)
    assert list(numbers) == list(range(1, int(count) + 1))
    assert len(numbers) <= LIMITS.get(name, 12)
    remaining = iter(calls()[name])
    for _, station in stations:
        assert any(call == station for call in remaining), f"{station} is not reached in its order"
