"""Imports run one way, and protocol code imports no asyncio, socket or clock."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wsgate"

# The files that anything may import: they import nothing of wsgate but each other.
LEAVES = {"errors", "types", "bounded_cache", "quantities", "_version"}
# Which rooms each room may import from, besides itself and the leaves.
ALLOWED: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "fields": set(),
    "diagnosis": set(),
    "streams": set(),
    "threads": set(),
    "loggers": {"streams", "diagnosis"},
    "text_file": set(),
    "interfaces": set(),
    "loading": {"diagnosis", "loggers", "interfaces"},
    "settings": set(),
    "answers": {"settings"},
    "supervision": {"settings"},
    "foreign_options": set(),
    # Of brokers the grammar of their URLs, of metrics that of their address.
    "config": {"settings", "answers", "brokers", "metrics"},
    "env_file": {"text_file"},
    "config_file": {"settings", "text_file"},
    "environment": {"settings", "config_file"},
    "show_config": {"settings"},
    "logging": {"observe"},
    "printing": set(),
    # A client of its own: it knows nothing of the server but its control socket.
    "ctl": {"printing"},
    # Of brokers the grammar of their URLs.
    "publish": {"printing", "topics", "brokers"},
    # The protocols do not know each other: they meet in `asgi` and `server`.
    "http": {"fields"},
    "ws": {"fields"},
    # Whom to trust, and what a proxy says; the server applies it.
    "proxies": {"fields"},
    "asgi": {"fields", "http", "ws"},
    # It knows no protocol above it, and no connection.
    "tls": {"config"},
    # It publishes by way of a small interface, and knows no connection.
    "topics": {"ws"},
    # They carry publications, and know neither sockets of clients nor their protocols.
    "brokers": {"topics", "loggers", "observe", "loading", "diagnosis"},
    # It receives events and knows nothing of the protocols and the server.
    "observe": {"loggers", "streams", "threads", "diagnosis", "text_file"},
    # It counts events, and knows neither connections nor protocols.
    "metrics": {"observe", "loggers"},
    # An ASGI app, as the user's own: it knows nothing of the protocols and the server.
    "static": {"fields", "observe"},
    # The ASGI app of the metrics' address: it asks for what it shows, and knows no server.
    "status": {"metrics"},
    "server": {
        *("fields", "http", "ws", "asgi", "tls", "topics", "observe", "config", "proxies"),
        *("static", "brokers", "metrics"),
        *("loggers", "diagnosis", "threads"),
    },
    "process": {
        *("server", "observe", "config", "loading", "loggers", "streams", "threads"),
        *("env_file", "settings", "supervision", "diagnosis", "brokers", "topics"),
        *("metrics", "status"),
    },
    "testing": {
        *("config", "server", "process", "settings", "supervision", "brokers", "topics"),
    },
    "cli": {
        *("settings", "answers", "config", "environment", "process", "wsgate"),
        *("config_file", "env_file", "show_config", "supervision", "foreign_options"),
        *("ctl", "printing", "publish"),
    },
    "__init__": {"config", "process"},
    "__main__": {"cli"},
}
# It is for other programs: the other files of its room do not import it.
PUBLISHER = "topics/publisher.py"
# Within a room: which of its folders may import which, besides itself and the room's own files.
FOLDERS: dict[str, set[str]] = {
    "http/h1": {"http"},
    "ws/deflate": {"ws"},
    "ws/frames": {"ws", "ws/deflate"},
    "brokers/local": {"brokers"},
    "brokers/redis": {"brokers"},
}
WITHOUT_IO = {
    *(*LEAVES, "fields", "http", "ws", "proxies", "asgi", "tls", "topics", "settings", "config"),
    *("answers", "supervision", "metrics"),
}
IO = {"asyncio", "socket", "time", "select", "selectors", "threading", "uvloop", "ssl"}
H11 = {"http/h1/h11_parser.py"}
REDIS = {"brokers/redis/connection.py", "brokers/redis/factory.py"}
# redis-py is optional: only these files are imported when there is no Redis.
WITHOUT_REDIS = {"brokers/redis/factory.py", "brokers/redis/url.py"}
PROMETHEUS = {"metrics/exposition.py"}
WSPROTO = {"ws/frames/wsproto_codec.py", "ws/deflate/wsproto_extension.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def place_of(path: Path) -> str:
    """Return where a file is, relative to the package."""
    return path.relative_to(PACKAGE).as_posix()


def room_of(place: str) -> str:
    return place.split("/", maxsplit=1)[0].removesuffix(".py")


def folder_of(place: str) -> str:
    return place.rpartition("/")[0] or place.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the dotted names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
        names |= names_of(node)
    return names


def names_of(node: ast.AST) -> set[str]:
    """Return the dotted names of what an import imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def places_imported(path: Path) -> set[str]:
    """Return where the modules of wsgate are that a file imports."""
    places = set()
    for name in imported(path):
        package, *parts = name.split(".")
        if package != "wsgate":
            continue
        modules = [PACKAGE.joinpath(*parts[:n]) for n in (len(parts), -1) if parts]
        files = [module.with_suffix(suffix) for module in modules for suffix in (".py", ".c")]
        found = [file for file in files if file.is_file()]
        places.add(place_of(found[0]) if found else parts[0] if parts else package)
    return places


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(place_of(path))
    more = {"brokers"} if place_of(path) == PUBLISHER else set()
    found = {room_of(place) for place in places_imported(path)}
    assert found <= ALLOWED[room] | {room} | LEAVES | more


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_folders_of_a_room_import_one_way(path: Path) -> None:
    place = place_of(path)
    room, folder = room_of(place), folder_of(place)
    folders = {folder_of(other) for other in places_imported(path) if room_of(other) == room}
    # Modules that are not in a subfolder may import from all subfolders of the room.
    assert folders <= {folder} | FOLDERS.get(folder, {folder, *FOLDERS})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_io_below_the_server(path: Path) -> None:
    if room_of(place_of(path)) in WITHOUT_IO and place_of(path) != PUBLISHER:
        allowed = {"ssl"} if room_of(place_of(path)) == "tls" else set()  # over memory
        assert not {name.split(".")[0] for name in imported(path)} & IO - allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
@pytest.mark.parametrize(
    ("library", "places"),
    [("wsproto", WSPROTO), ("h11", H11), ("redis", REDIS), ("prometheus_client", PROMETHEUS)],
)
def test_one_place_knows_a_library(path: Path, library: str, places: set[str]) -> None:
    if library in {name.split(".")[0] for name in imported(path)}:
        assert place_of(path) in places


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_redis_is_imported_lazily(path: Path) -> None:
    place = place_of(path)
    if place.startswith("brokers/redis") and place not in WITHOUT_REDIS:
        return
    at_import = {name for node in eager(ast.parse(path.read_text())) for name in names_of(node)}
    lazy = {name for name in at_import if name.startswith("wsgate.brokers.redis.")}
    allowed = {"wsgate." + one.removesuffix(".py").replace("/", ".") for one in WITHOUT_REDIS}
    assert {name for name in lazy if not name.startswith(tuple(allowed))} == set()


def eager(tree: ast.AST) -> list[ast.AST]:
    """Return the imports that are carried out when a module is imported."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.append(node)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            found += eager(node)
    return found


def test_protocols_do_not_know_each_other() -> None:
    assert "ws" not in ALLOWED["http"]
    assert "http" not in ALLOWED["ws"]


def test_every_room_has_its_rule() -> None:
    assert len(FILES) > 30
    assert {room_of(place_of(path)) for path in FILES} <= set(ALLOWED)
