"""What all tests share."""

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Name each event loop in turn, for tests that start a process."""
    return str(request.param)
