"""The event loops that the tests of this folder run on, and how workers are made."""

import pytest

from tests.harness.loops import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture(params=[(), ("--preload",)], ids=["spawn", "preload"])
def launch(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the options for each way in which workers come into being."""
    options: tuple[str, ...] = request.param
    return options
