"""Which files a reload watches, and what a change does."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.harness.log import capture_log
from tests.harness.waiting import until
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import reloader as module
from wsgate.process.program import Program
from wsgate.process.reloader import ReloadingSupervisor, WatchedFiles
from wsgate.process.systemd import Notifier
from wsgate.process.worker_handle import WorkerHandle
from wsgate.supervision import Supervision


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with some others in it the current one."""
    for name in ("app/templates", "other", "data", ".git", "outside"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def matching(*names: str, **options: Any) -> list[str]:
    """Return the files whose change is noticed; names are relative to the current folder."""
    watched = WatchedFiles(Supervision(**options))
    return [name for name in names if watched.matches(Path(name).absolute())]


# -- folders ---------------------------------------------------------------------------------------


def test_by_default_the_current_folder_is_watched(folder: Path) -> None:
    assert WatchedFiles(Supervision()).folders == [folder]


def test_the_folders_that_are_given_are_watched(folder: Path) -> None:
    watched = WatchedFiles(Supervision(reload_dirs=["app", "other"]))
    assert watched.folders == [folder / "app", folder / "other"]


def test_an_included_folder_is_watched_unless_it_is_already(folder: Path) -> None:
    options = {"reload_dirs": ["app"], "reload_includes": ["app/templates", "data", "*.html"]}
    assert WatchedFiles(Supervision(**options)).folders == [folder / "app", folder / "data"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["missing", "app/file"])
def test_a_folder_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / "app/file").touch()
    with pytest.raises(ConfigError) as raised:
        WatchedFiles(Supervision(reload_dirs=["app", name]))
    assert str(raised.value) == f"--reload-dir {name}: no such folder"
    assert raised.value.setting == "reload_dirs"


def test_a_folder_that_is_a_link_is_watched_where_it_is(folder: Path) -> None:
    (folder / "link").symlink_to("other")
    watched = WatchedFiles(Supervision(reload_dirs=["link"]))
    assert watched.folders == [folder / "other"]
    assert watched.matches(folder / "other/a.py")


# -- patterns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_noticed"),
    [
        ("main.py", True),
        ("app/main.py", True),
        ("app/templates/deep/x.py", True),
        ("page.html", False),
        ("main.pyc", False),
        (".hidden.py", False),
        (".git/hook.py", False),
        (".venv/lib/x.py", False),
        ("main.py~", False),
        ("main.py.swp", False),
        ("py", False),
    ],
)
def test_which_changes_are_noticed_by_default(name: str, is_noticed: bool) -> None:
    assert matching(name) == [name] * is_noticed


def test_the_name_of_a_folder_above_does_not_matter(folder: Path) -> None:
    (folder / ".hidden/app").mkdir(parents=True)
    watched = WatchedFiles(Supervision(reload_dirs=[".hidden/app"]))
    assert watched.matches(folder / ".hidden/app/main.py")
    assert not watched.matches(folder / ".hidden/app/.cache/main.py")


def test_included_patterns_come_besides_python_files() -> None:
    found = matching("a.py", "a.html", "app/b.html", "a.css", reload_includes=["*.html"])
    assert found == ["a.py", "a.html", "app/b.html"]


def test_a_pattern_with_a_folder() -> None:
    names = ("a.html", "app/templates/a.html", "app/a.html")
    assert matching(*names, reload_includes=["templates/*.html"]) == [names[1]]


def test_an_included_pattern_that_is_excluded_by_default() -> None:
    assert matching(".env", ".other", reload_includes=[".*"]) == [".env", ".other"]
    assert matching(".env", reload_includes=[".e*"]) == [], "only the same pattern counts"


@pytest.mark.parametrize("name", [".env", ".config/app.toml", "data/backup~"])
def test_a_file_that_is_included_by_its_name_is_noticed_although_its_like_are_not(
    name: str,
) -> None:
    assert matching(name, ".other", "other~", reload_includes=[name]) == [name]


def test_a_file_that_is_included_by_its_name_can_be_excluded() -> None:
    for excluded in (".env", ".e*", "app/.*", "app"):
        found = matching("app/.env", reload_includes=[".env"], reload_excludes=[excluded])
        assert found == [], excluded


@pytest.mark.parametrize("pattern", ["app/*", "app/*.py", "./app/*"])
def test_an_excluded_pattern_with_a_folder(pattern: str) -> None:
    names = ("a.py", "app/a.py", "other/a.py", "app/templates/a.py")
    found = matching(*names, reload_excludes=[pattern])
    assert found == ["a.py", "other/a.py", "app/templates/a.py"]


def test_excluded_patterns_go_before_included_ones() -> None:
    options = {"reload_includes": ["*.html"], "reload_excludes": ["test_*", "*.html"]}
    names = ("a.py", "test_a.py", "a.html", "test_folder/a.py")
    assert matching(*names, **options) == ["a.py"]


def test_an_excluded_folder_is_left_out() -> None:
    names = ("app/a.py", "data/a.py", "data/deep/a.py", "database/a.py")
    assert matching(*names, reload_excludes=["data"]) == ["app/a.py", "database/a.py"]


def test_a_file_outside_of_all_folders_is_known_by_its_name(folder: Path) -> None:
    watched = WatchedFiles(Supervision(reload_dirs=["app"]))
    assert watched.matches(folder / "outside/a.py")
    assert not watched.matches(folder / "outside/.a.py")


# -- the supervisor --------------------------------------------------------------------------------


class Watch:
    """Stands in for watchfiles. changes: what it reports. options: how it was called."""

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Any] = asyncio.Queue()
        self.folders: tuple[Path, ...] = ()
        self.options: dict[str, Any] = {}

    async def awatch(self, *folders: Path, **options: Any) -> AsyncIterator[set[tuple[int, str]]]:
        self.folders, self.options = folders, options
        while (change := await self.changes.get()) is not None:
            if isinstance(change, Exception):
                raise change
            yield {(1, path) for path in change}


class Recorded(ReloadingSupervisor):
    """A supervisor that starts nothing. reloads: how often a worker would be replaced."""

    reloads = 0

    def _replace_all(self) -> None:
        self.reloads += 1


def new_supervisor(**options: Any) -> Recorded:
    program = Program(
        app="main:app",
        factory=False,
        interface="auto",
        log_config=None,
        config=Config(drain_seconds=9),
    )
    return Recorded(program, Supervision(reload=True, **options), Notifier())


async def test_a_change_is_logged_and_replaces_the_worker(folder: Path) -> None:
    supervisor, watch = new_supervisor(reload_delay=0.5), Watch()
    with capture_log() as log:
        watching = asyncio.create_task(supervisor._watch(watch))
        many = [f"{folder}/app/{name}.py" for name in "edcba"]
        for number, paths in enumerate((many[:1], many, ["/elsewhere/a\nb.py"]), 1):
            watch.changes.put_nowait(paths)
            await until(lambda number=number: supervisor.reloads == number)  # type: ignore[misc]
        watch.changes.put_nowait(None)
        await watching
    assert log.messages(20) == [
        f"Watching for changes in {folder}",
        "app/e.py changed: reloading",
        "app/a.py, app/b.py, app/c.py and 2 more changed: reloading",
        r"/elsewhere/a\nb.py changed: reloading",
    ]
    assert watch.folders == (folder,)
    assert (watch.options["debounce"], watch.options["step"]) == (500, 50)
    assert watch.options["watch_filter"](1, f"{folder}/a.py")
    assert not watch.options["watch_filter"](1, f"{folder}/a.txt")


async def test_a_short_delay_is_not_shorter_than_a_step() -> None:
    supervisor, watch = new_supervisor(reload_delay=0.001), Watch()
    watch.changes.put_nowait(None)
    await supervisor._watch(watch)
    assert watch.options["debounce"] == 50


async def test_a_watch_that_fails_is_logged_once() -> None:
    supervisor, watch = new_supervisor(), Watch()
    watch.changes.put_nowait(OSError(28, "OS file watch limit reached"))
    with capture_log() as log:
        await supervisor._watch(watch)
    assert log.errors == [
        "Changes are not noticed any more: [Errno 28] OS file watch limit reached"
    ]


def test_a_signal_does_not_change_the_number_of_workers() -> None:
    supervisor = new_supervisor()
    with capture_log() as log:
        supervisor.scale(2)
    assert supervisor.target == 1
    assert log.warnings == ["The number of workers stays: --reload has one"]


def test_a_reload_has_one_worker_and_no_drain() -> None:
    supervisor = new_supervisor()
    assert supervisor.target == 1
    assert supervisor._program.config.drain_seconds == 0


def test_a_worker_that_is_blocked_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, killed = new_supervisor(), False
    worker = WorkerHandle(0, 0.0, math.inf, lambda: None)

    def kill() -> None:
        nonlocal killed
        killed = True

    monkeypatch.setattr(worker, "kill", kill)
    supervisor._board = cast("Any", SimpleNamespace(get=lambda *_: 1))
    with capture_log() as log:
        for now in (0.0, 10.0, 20.0):
            supervisor._check_beat(worker, now)
    assert log.errors == ["A worker has been blocked for 10.0 s"]
    assert not killed, "it may be at a breakpoint"


async def test_watchfiles_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ConfigError) as raised:
        await new_supervisor().serve()
    assert str(raised.value) == "--reload needs watchfiles: pip install 'wsgate[reload]'"
    assert raised.value.setting == "reload"


def test_watchfiles_that_is_installed_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "watchfiles", fake)
    assert module._import_watchfiles() is fake
