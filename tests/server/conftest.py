"""What the tests of the server share."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Name the event loops that a test runs on, each in turn: its module's `LOOPS`, or asyncio."""
    module = item.getparent(pytest.Module)
    assert module is not None
    loops: Mapping[str, Callable[[], Any]]
    loops = getattr(module.obj, "LOOPS", {"asyncio": asyncio.new_event_loop})
    return loops
