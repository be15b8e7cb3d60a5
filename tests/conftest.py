"""What all tests share."""

import os

import pytest
from hypothesis import HealthCheck, settings

# On a loaded machine an example may take as long as it likes. A run that decides whether a change
# lands repeats itself; elsewhere each run looks for new examples.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    """Name each event loop in turn, for tests that start a process."""
    return str(request.param)
