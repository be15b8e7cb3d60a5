"""What the abuse suite shares: one server process for a module, and a look at it after each test.

A module may set `APP` (default: the app of tests/apps/abuse.py) and `OPTIONS`, a tuple of command
line options, and override the fixture `loop_name` where one event loop is enough.
"""

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.abuse.harness import Target, targeted

Measured = Callable[[str, object, object], None]

# What a process holds is read from Linux's /proc.
collect_ignore_glob = [] if Path("/proc/self/clear_refs").exists() else ["test_*.py"]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Name the server's event loop: both in turn."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, loop_name: str, fast_path: bool
) -> AsyncIterator[Target]:
    """Run the module's app in a process for all its tests, with its options and either codec."""
    app = getattr(request.module, "APP", "tests.apps.abuse:app")
    options = getattr(request.module, "OPTIONS", ())
    async with targeted(loop_name, *options, app=app) as target:
        yield target


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def calm(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """See after each test with `server` that nothing is left and that good clients are served."""
    if "server" not in request.fixturenames:
        yield
        return
    target: Target = request.getfixturevalue("server")
    yield
    await target.calm()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Record `(abuse, bound, what was measured)`: a line of JSON in $WSGATE_ABUSE_RESULTS."""
    file = os.environ.get("WSGATE_ABUSE_RESULTS")

    def record(abuse: str, bound: object, value: object) -> None:
        row = {
            "test": request.node.nodeid.rpartition("/")[2],
            "abuse": abuse,
            "bound": str(bound),
            "measured": str(value),
        }
        print(json.dumps(row, ensure_ascii=False))  # noqa: T201  # shown with pytest -rP
        if file:
            with Path(file).open("a", encoding="utf-8") as results:
                results.write(json.dumps(row, ensure_ascii=False) + "\n")

    return record
