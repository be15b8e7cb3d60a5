"""One server process for each module of the abuse tests, checked after each test.

A module may set `APP` (default: the app of tests/apps/abuse.py) and `OPTIONS`, a tuple of command
line options, and override the fixture `loop_name` if one event loop is enough.
"""

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.abuse.harness import Target, run_target

Measured = Callable[[str, object, object], None]

# The state of a process is read from /proc, which only Linux has.
collect_ignore_glob = [] if Path("/proc/self/clear_refs").exists() else ["test_*.py"]


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Return the name of the server's event loop."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, loop_name: str, fast_path: bool
) -> AsyncIterator[Target]:
    """Run the module's app in one process for all its tests."""
    app = getattr(request.module, "APP", "tests.apps.abuse:app")
    options = getattr(request.module, "OPTIONS", ())
    async with run_target(loop_name, *options, app=app) as target:
        yield target


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def released(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Check the server after each test: everything released, well-behaved clients served."""
    if "server" not in request.fixturenames:
        yield
        return
    target: Target = request.getfixturevalue("server")
    yield
    await target.check_released()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Return a function that writes `(abuse, bound, value)` to $WSGATE_ABUSE_RESULTS as JSON."""
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
