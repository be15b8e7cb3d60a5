"""Options of uvicorn that wsgate only answers: each error says what to use instead.

They are accepted with the values that ask for nothing: programs pass on their own settings, such as
`reload=False`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wsgate.settings import Bound, setting, settings_of

T = TypeVar("T")

_BY_RUN = "it is a setting of the command and of wsgate.run()"


def _is_default(value: object) -> bool:
    return not value


def _answered(
    default: T,
    instead: str,
    *,
    wanted: str = "left out",
    allows: Callable[[object], bool] = _is_default,
    option: str = "",
    repeated: bool = False,
) -> T:
    """Declare an option. instead: completes "--reload must be left out: ..."."""
    check = Bound(f"{wanted}: {instead}", allows)
    return setting(default, group="", help=instead, check=check, option=option, repeated=repeated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The options, each with its answer."""

    http2: bool | None = _answered(
        False, "a proxy in front speaks HTTP/2 with its clients, and HTTP/1.1 with wsgate"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramOnly:
    """The settings of `Supervision`, for a server in a program's own event loop.

    They are keywords only, so the errors have their names in Python.
    """

    workers: int | None = _answered(
        None,
        _BY_RUN,
        wanted="left out or 1",
        allows=lambda number: number in (0, 1),  # which is 1, too
        option="workers",
    )
    preload: bool | None = _answered(False, _BY_RUN, option="preload")
    restart_parallel: bool | None = _answered(False, _BY_RUN, option="restart_parallel")
    worker_max_rss: int | None = _answered(None, _BY_RUN, option="worker_max_rss")
    worker_max_lifetime: float | None = _answered(0.0, _BY_RUN, option="worker_max_lifetime")
    control_socket: str | os.PathLike[str] | None = _answered(  # noqa: RUF009  # it is a field
        None, _BY_RUN, option="control_socket"
    )
    reload: bool | None = _answered(False, _BY_RUN, option="reload")
    reload_dirs: Sequence[str] | None = _answered(
        None, _BY_RUN, option="reload_dirs", repeated=True
    )
    reload_includes: Sequence[str] | None = _answered(
        None, _BY_RUN, option="reload_includes", repeated=True
    )
    reload_excludes: Sequence[str] | None = _answered(
        None, _BY_RUN, option="reload_excludes", repeated=True
    )
    reload_delay: float | None = _answered(
        0.25,
        _BY_RUN,
        wanted="left out or 0.25",
        allows=lambda seconds: seconds == _RELOAD_DELAY,
        option="reload_delay",
    )
    timeout_worker_healthcheck: float | None = setting(
        5.0, group="", help=_BY_RUN, unit="seconds", above=0
    )


_RELOAD_DELAY = 0.25  # uvicorn's default

ANSWERS = settings_of(Answers)
