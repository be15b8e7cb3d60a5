"""What the tests of the server share."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.server.loops import ASYNCIO_LOOPS


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Name the event loops that a test runs on, each in turn: its module's `LOOPS`."""
    module = item.getparent(pytest.Module)
    assert module is not None
    loops: Mapping[str, Callable[[], Any]] = getattr(module.obj, "LOOPS", ASYNCIO_LOOPS)
    return loops
