"""Fixtures of the tests of the server: event loops, parsers, log, twins, and a check for tasks."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.harness.log import LogCapture, capture_log
from tests.harness.loops import pytest_asyncio_loop_factories
from tests.harness.memory import HttpParser
from tests.harness.waiting import nothing_left
from tests.server.twins import TWINS, Twin

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture(scope="module", params=["h11", "fast"])
def http_parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Serve the connections in memory with each HTTP parser in turn."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(HttpParser, "name", request.param)
        yield


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """Capture both logs."""
    with capture_log() as captured:
        yield captured


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Check that no task is left after the test."""
    async with nothing_left():
        yield


@pytest_asyncio.fixture(params=list(TWINS.values()), ids=list(TWINS))
async def twin(request: pytest.FixtureRequest) -> Twin:
    """Return each of the twins of the fast path in turn."""
    return Twin(request.param)


@pytest.fixture
def path(twin: Twin) -> Any:
    """Return the message path of the twin."""
    return twin.path


@pytest.fixture
def batch(twin: Twin) -> Any:
    """Return the write batch of the twin."""
    return twin.batch


@pytest.fixture
def stream(twin: Twin) -> Any:
    """Return the stream of the twin."""
    return twin.stream
