"""A supervisor that restarts its worker when a file has changed, for development."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from wsgate import loggers
from wsgate.brokers import urls
from wsgate.errors import ConfigError
from wsgate.observe.log_format import escape
from wsgate.process.process_end import ProcessEnd
from wsgate.process.program import Program
from wsgate.process.supervisor import Supervisor
from wsgate.process.systemd import Notifier
from wsgate.process.worker_handle import State, WorkerHandle
from wsgate.supervision import Supervision

_INCLUDED = ("*.py",)
_EXCLUDED = (".*", "*.py[cod]", "*.sw?", "*~")
_WILDCARDS = frozenset("*?[")  # a pattern without these names a file, such as .env
_STEP = 50  # milliseconds without a further change after which the changes are reported
_SHOWN = 3  # names of changed files in the log


class ReloadingSupervisor(Supervisor):
    """Runs one worker, and a new one after each change.

    If a worker cannot start or crashes, the next one is started after the next change.

    Args:
        program: What it serves.
        settings: What to watch.
        notifier: Reports start and stop to systemd.

    Raises:
        ConfigError: A folder cannot be watched, or watchfiles is not installed.
    """

    default_topics = urls.MEMORY  # as without a supervisor
    fixed_by = "--reload"
    _about_blocked = ""

    def __init__(self, program: Program, settings: Supervision, notifier: Notifier) -> None:
        config = dataclasses.replace(program.config, drain_seconds=0.0)
        super().__init__(dataclasses.replace(program, config=config), settings, notifier)
        self.target = 1
        self._watched = WatchedFiles(settings)
        self._delay = settings.reload_delay
        self._awaits_change = False

    async def serve(self) -> None:
        """Run the worker until `stop`, and a new one after each change."""
        watching = asyncio.create_task(self._watch(_import_watchfiles()))
        try:
            await super().serve()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, watchfiles: Any) -> None:
        folders = ", ".join(escape(str(folder)) for folder in self._watched.folders)
        loggers.error.info("Watching for changes in %s", folders)
        try:
            await self._reload_on_changes(watchfiles)
        except Exception as error:  # noqa: BLE001  # such as a limit of the system
            loggers.error.error("Changes are not noticed any more: %s", escape(str(error)))

    async def _reload_on_changes(self, watchfiles: Any) -> None:
        async for changes in watchfiles.awatch(
            *self._watched.folders,
            watch_filter=lambda _, path: self._watched.matches(Path(path)),
            debounce=max(int(self._delay * 1000), _STEP),
            step=_STEP,
        ):
            self._reload(sorted({path for _, path in changes}))

    def _reload(self, paths: Sequence[str]) -> None:
        """Replace the worker at once: the old one stops while the new one starts."""
        names = ", ".join(escape(_relative(path)) for path in paths[:_SHOWN])
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        loggers.error.info("%s%s changed: reloading", names, more)
        if self._is_stopping:
            return
        self._replace_all()
        for worker in self._in(State.READY, outdated=True):
            worker.stop()

    def _replace_all(self) -> None:
        self._awaits_change = False
        super()._replace_all()

    def _may_start(self, missing: int, starting: int, outdated: int) -> int:
        del starting, outdated  # the new worker does not wait for the old one's end
        return 0 if self._awaits_change or self._closing else max(missing, 0)

    def _end_blocked(self, worker: WorkerHandle) -> None:
        """Do nothing: it may wait for its developer, at a breakpoint."""

    def _judge(self, end: ProcessEnd) -> None:
        self._awaits_change = True
        self._end_restart(str(end))
        loggers.error.error("%s", end)
        loggers.error.info("Waiting for a change")


class WatchedFiles:
    """Which files are watched.

    Args:
        settings: The folders and patterns.

    Raises:
        ConfigError: A folder does not exist.

    Attributes:
        folders: The folders to watch.
    """

    def __init__(self, settings: Supervision) -> None:
        included, patterns = _split(settings.reload_includes)
        self.folders = [_folder(path) for path in settings.reload_dirs or (".",)]
        self.folders += [path for path in included if not self._contains(path)]
        self._included = (*_INCLUDED, *patterns)
        self._named = [one for one in patterns if not _WILDCARDS.intersection(one)]
        self._left_out, self._excluded = _split(settings.reload_excludes)
        self._excluded_by_default = [one for one in _EXCLUDED if one not in patterns]

    def _contains(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.folders)

    def matches(self, path: Path) -> bool:
        """Return whether a change of this file restarts the server."""
        if any(path.is_relative_to(folder) for folder in self._left_out):
            return False
        if self._is_excluded(path, self._excluded):
            return False
        if any(path.match(name) for name in self._named):
            return True
        if self._is_excluded(path, self._excluded_by_default):
            return False
        return any(path.match(pattern) for pattern in self._included)

    def _is_excluded(self, path: Path, patterns: Sequence[str]) -> bool:
        """Return whether a pattern fits the path, or one name in it below the watched folder."""
        inside = next((f for f in self.folders if path.is_relative_to(f)), None)
        parts = path.relative_to(inside).parts if inside is not None else (path.name,)
        return any(
            path.match(pattern) or any(fnmatch(part, pattern) for part in parts)
            for pattern in patterns
        )


def _split(values: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the folders and the patterns among values."""
    folders = [Path(value).resolve() for value in values if Path(value).is_dir()]
    return folders, [value for value in values if not Path(value).is_dir()]


def _folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(f"--reload-dir {path}: no such folder", setting="reload_dirs")
    return folder.resolve()


def _relative(path: str) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path


def _import_watchfiles() -> Any:
    try:
        import watchfiles  # noqa: PLC0415  # it is optional
    except ImportError:
        raise ConfigError(
            "--reload needs watchfiles: pip install 'wsgate[reload]'", setting="reload"
        ) from None
    return watchfiles
