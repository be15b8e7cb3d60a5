"""What the tests of this folder share: the event loops that they run on."""

from tests.harness.loops import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
