"""The options of uvicorn that wsgate only answers: each error says what to use instead.

They are accepted with the values that ask for nothing: programs pass on their own settings, such as
`reload=False`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wsgate.settings import Bound, setting, settings_of

T = TypeVar("T")

_RELOAD = (
    "a file watcher restarts the server: pip install watchfiles, then "
    "watchfiles --filter python 'wsgate main:app'"
)


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

    workers: int | None = _answered(
        None,
        "start several processes behind a proxy, or several containers",
        wanted="1",
        allows=lambda number: number == 1,
    )
    reload: bool | None = _answered(False, _RELOAD)
    reload_dirs: Sequence[str] | None = _answered(
        None, _RELOAD + " src", option="--reload-dir", repeated=True
    )
    reload_includes: Sequence[str] | None = _answered(
        None, _RELOAD, option="--reload-include", repeated=True
    )
    reload_excludes: Sequence[str] | None = _answered(
        None, _RELOAD, option="--reload-exclude", repeated=True
    )
    reload_delay: float | None = _answered(
        0.25, _RELOAD, wanted="0.25", allows=lambda seconds: seconds == _RELOAD_DELAY
    )
    http2: bool | None = _answered(
        False, "a proxy in front speaks HTTP/2 with its clients, and HTTP/1.1 with wsgate"
    )
    timeout_worker_healthcheck: float | None = setting(
        5.0,
        group="",
        help="there are no workers whose health could be checked",
        unit="seconds",
        above=0,
    )


_RELOAD_DELAY = 0.25  # uvicorn's default

ANSWERS = settings_of(Answers)
