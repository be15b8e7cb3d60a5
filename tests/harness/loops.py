"""The event loops that tests run on, each in turn; from Python 3.12 on with eager tasks, too."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uvloop

Factory = Callable[[], Any]


def eager(factory: Factory) -> Factory:
    """Return a factory of loops whose tasks start within `create_task`."""

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
    # uvloop passes arguments that the factory of Python 3.13.0 to 3.13.2 refuses.
    if sys.version_info < (3, 13) or "eager_start" in inspect.signature(EAGER).parameters:
        LOOPS["uvloop-eager"] = eager(uvloop.new_event_loop)
ASYNCIO_LOOPS = {name: factory for name, factory in LOOPS.items() if "asyncio" in name}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Name the event loops that a test runs on, each in turn: its module's `LOOPS`."""
    module = item.getparent(pytest.Module)
    assert module is not None
    loops: Mapping[str, Callable[[], Any]] = getattr(module.obj, "LOOPS", ASYNCIO_LOOPS)
    return loops
