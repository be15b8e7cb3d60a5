"""Imports run one way, and no room below `server` knows asyncio, a socket or a clock."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wsgate"

# Which rooms each room may import from, besides itself.
ALLOWED = {
    "_version": set(),
    "errors": set(),
    "types": set(),
    "config": {"errors"},
    "diagnosis": set(),
    "streams": set(),
    "loggers": {"streams", "diagnosis"},
    "loading": {"errors", "types", "diagnosis", "loggers"},
    "protocol": {"errors", "types"},
    "asgi": {"errors", "types", "protocol"},
    "server": {
        *("errors", "types", "protocol", "asgi", "config", "loading", "_version"),
        *("diagnosis", "streams", "loggers"),
    },
    "testing": {"errors", "types", "config", "server"},
    "environment": {"errors"},
    "cli": {"errors", "config", "environment", "server", "wsgate"},
    "__init__": {"_version", "config", "errors", "server"},
    "__main__": {"cli"},
}
WITHOUT_IO = {"protocol", "asgi", "errors", "types", "config", "_version"}
IO = {"asyncio", "socket", "time", "select", "selectors", "threading", "uvloop", "ssl"}
H11 = {"protocol/http1_h11.py"}
WSPROTO = {"protocol/codec_wsproto.py", "protocol/deflate.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the dotted names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    own = [name.split(".") for name in imported(path) if name.split(".")[0] == "wsgate"]
    rooms = {parts[1] if len(parts) > 1 else parts[0] for parts in own}
    assert rooms <= ALLOWED[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_io_below_the_server(path: Path) -> None:
    if room_of(path) in WITHOUT_IO:
        assert not {name.split(".")[0] for name in imported(path)} & IO


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
@pytest.mark.parametrize(("parser", "places"), [("wsproto", WSPROTO), ("h11", H11)])
def test_one_place_knows_a_parser(path: Path, parser: str, places: set[str]) -> None:
    if parser in {name.split(".")[0] for name in imported(path)}:
        assert str(path.relative_to(PACKAGE)) in places


def test_the_package_is_looked_at() -> None:
    assert len(FILES) > 30
    assert {room_of(path) for path in FILES} <= set(ALLOWED)
