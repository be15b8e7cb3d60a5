"""The settings of a program with several workers, of its reload, and of its control socket."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from wsgate.errors import ConfigError
from wsgate.settings import Bound, accept_aliases, setting, settings_of

MOST_WORKERS = 64
AUTO = "auto"
ONE_PROCESS = "the server runs in one process; start it with --workers 2 or more, or auto"

WORKERS = "Workers"
RELOAD = "Reload"
CONTROL = "Control"
_VARIABLE = "WEB_CONCURRENCY"  # which uvicorn and gunicorn read
_DIGITS = re.compile("[0-9]{1,6}")


def _is_worker_count(text: str) -> bool:
    return text == AUTO or (_DIGITS.fullmatch(text) is not None and 1 <= int(text) <= MOST_WORKERS)


_COUNT = Bound(f"a number from 1 to {MOST_WORKERS}, or auto", _is_worker_count)


def _text_of_count(value: object) -> object:
    """Return a number as text. 0 is 1, as in uvicorn: no process besides the one that serves."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number else value
    return "1" if text == "0" else text


def _path_or_none(value: object) -> object:
    return None if value == "" else value


@accept_aliases
@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """The settings of the supervisor of workers. They belong to `wsgate.run` and the command."""

    # -- workers -------------------------------------------------------------------------------

    workers: str | None = setting(
        None,
        group=WORKERS,
        help="Number of worker processes, which share the listening sockets, up to "
        f"{MOST_WORKERS}. `auto` is one for each processor that this process may use, by its "
        "affinity and its cgroup. 1 and 0 are one process without a supervisor: nothing restarts "
        'or replaces it. The app must be given as "module:attribute".',
        default_text=f"the variable {_VARIABLE}, or 1",
        shared_variable=_VARIABLE,
        check=_COUNT,
        normalize=_text_of_count,
    )
    preload: bool = setting(
        False,
        group=WORKERS,
        help="Import the app once and fork the workers from that process, so that they share its "
        "memory. A restart imports it anew. Only on Linux.",
    )
    restart_parallel: bool = setting(
        False,
        group=WORKERS,
        help="Replace all workers at the same time on a restart (SIGHUP), instead of one after the "
        "other: quicker, with twice the memory for a while.",
    )
    timeout_worker_healthcheck: float = setting(
        5.0,
        group=WORKERS,
        help="Seconds for which a worker's event loop may be blocked. Then the stack of its main "
        "thread is logged, and if the loop does not run again within a second, the worker is "
        "killed and replaced. With `--reload` only the stack is logged.",
        unit="seconds",
        above=0,
    )
    worker_max_rss: int | None = setting(
        None,
        group=WORKERS,
        help="Resident memory in MiB with which a worker is replaced, after a new one is ready.",
        unit="MiB",
        default_text="no limit",
        above=0,
    )
    worker_max_lifetime: float = setting(
        0.0,
        group=WORKERS,
        help="Seconds after which a worker is replaced, once a new one is ready; up to a tenth "
        "more or less, so that workers that started together are not replaced together. 0 is no "
        "limit.",
        unit="seconds",
        minimum=0,
    )

    # -- reload --------------------------------------------------------------------------------

    reload: bool = setting(
        False,
        group=RELOAD,
        help="Restart the server when a file has changed. The socket stays open meanwhile: clients "
        "wait, and WebSockets are closed with 1012 (service restart). For development; it needs "
        "`pip install 'wsgate[reload]'`.",
    )
    reload_dirs: Sequence[str] = setting(
        (),
        group=RELOAD,
        help="Folder to watch, with those in it; may be given several times.",
        default_text="the current folder",
        option="--reload-dir",
        repeated=True,
    )
    reload_includes: Sequence[str] = setting(
        (),
        group=RELOAD,
        help="Pattern of the names of files whose change restarts the server, besides `*.py`, such "
        "as `*.html`; or a folder to watch. May be given several times. A name without wildcards, "
        "such as `.env`, counts although `.*` is ignored by default.",
        default_text="*.py",
        option="--reload-include",
        repeated=True,
    )
    reload_excludes: Sequence[str] = setting(
        (),
        group=RELOAD,
        help="Pattern of the names of files whose change is ignored, or a folder to leave out; may "
        "be given several times. Goes before `--reload-include`.",
        default_text=".*, *.py[cod], *.sw?, *~",
        option="--reload-exclude",
        repeated=True,
    )
    reload_delay: float = setting(
        0.25,
        group=RELOAD,
        help="Seconds within which further changes belong to the same restart.",
        unit="seconds",
        above=0,
    )

    # -- control -------------------------------------------------------------------------------

    control_socket: str | os.PathLike[str] | None = setting(
        None,
        group=CONTROL,
        help="Path of a Unix socket for `wsgate ctl`, with which the owner of the process lists "
        "workers and connections, restarts, scales, closes connections and sets the level of the "
        "log. Its file has the mode 600. An empty path is none.",
        normalize=_path_or_none,
    )

    def __post_init__(self) -> None:
        for one in SUPERVISION_SETTINGS:
            one.validate(getattr(self, one.name))
        if self.reload and self.workers not in (None, "1"):
            raise ConfigError("--reload and --workers cannot be used together", setting="reload")
        if self.reload and self.preload:
            raise ConfigError("--reload and --preload cannot be used together", setting="reload")

    @property
    def needs_supervisor(self) -> bool:
        """Whether there is something to supervise: one worker needs nobody."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """The name of the setting that needs a supervisor; None if none does."""
        for name in ("reload", "preload", "worker_max_rss", "worker_max_lifetime"):
            if getattr(self, name):
                return name
        return None if self.worker_count == "1" else "workers"

    @property
    def reason_text(self) -> str:
        """That setting as the operator has written it: an option, or the variable of workers."""
        name = self.reason or "workers"
        is_variable = name == "workers" and self.workers is None
        return f"{_VARIABLE}={self.worker_count}" if is_variable else f"--{name.replace('_', '-')}"

    @property
    def without_effect(self) -> list[str]:
        """What is set and has no effect: a line for each, for the log."""
        given = [one for one in SUPERVISION_SETTINGS if getattr(self, one.name) != one.default]
        texts = [
            f"{one.option} has no effect without --reload"
            for one in given
            if one.group == RELOAD and not self.reload
        ]
        if self.restart_parallel and (self.reload or not self.needs_supervisor):
            texts.append(f"--restart-parallel has no effect: {self._one_worker}")
        if self.reload and self.workers is None and self.worker_count != "1":
            texts.append(f"{_VARIABLE}={self.worker_count} has no effect: {self._one_worker}")
        return texts

    @property
    def _one_worker(self) -> str:
        return "--reload has one worker" if self.reload else ONE_PROCESS

    @property
    def worker_count(self) -> str:
        """The setting of workers, else the variable's: a number, or "auto"."""
        if self.workers is not None:
            return self.workers
        value = str(_WORKERS.shared_value(os.environ) or "1")
        if not _is_worker_count(value):
            raise ConfigError(f"{_VARIABLE}={value!r} must be {_COUNT.wanted}", setting="workers")
        return value


SUPERVISION_SETTINGS = settings_of(Supervision)
(_WORKERS,) = (one for one in SUPERVISION_SETTINGS if one.name == "workers")
