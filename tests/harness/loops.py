"""The event loops that tests run on; from Python 3.12 on also with eager tasks."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop

Factory = Callable[[], Any]


def eager(factory: Factory) -> Factory:
    """Return a factory of loops whose tasks start inside `create_task`."""

    def make() -> Any:
        loop = factory()
        loop.set_task_factory(EAGER)
        return loop

    return make


LOOPS: dict[str, Factory] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
EAGER: Any = getattr(asyncio, "eager_task_factory", None)  # None before Python 3.12
if EAGER is not None:
    LOOPS["asyncio-eager"] = eager(asyncio.new_event_loop)
    # The eager factory of Python 3.13.0 to 3.13.2 rejects an argument that uvloop passes.
    if sys.version_info < (3, 13) or "eager_start" in inspect.signature(EAGER).parameters:
        LOOPS["uvloop-eager"] = eager(uvloop.new_event_loop)
ASYNCIO_LOOPS = {name: factory for name, factory in LOOPS.items() if "asyncio" in name}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Return the event loops to run a test on: `LOOPS` of its module, by default asyncio's."""
    module = item.getparent(pytest.Module)
    assert module is not None
    loops: Mapping[str, Callable[[], Any]] = getattr(module.obj, "LOOPS", ASYNCIO_LOOPS)
    return loops
