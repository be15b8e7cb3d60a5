"""Fixtures that run a test over each HTTP/1.1 parser, and with any split of the bytes."""

import pytest

from tests.drivers import PARSERS, Chosen
from tests.http.h1.playback import Way


@pytest.fixture(scope="module", params=list(PARSERS.values()), ids=list(PARSERS))
def parser(request: pytest.FixtureRequest) -> None:
    Chosen.parser = request.param


@pytest.fixture(params=Way, ids=lambda way: way.value)
def way(request: pytest.FixtureRequest) -> Way:
    assert isinstance(request.param, Way)
    return request.param


@pytest.fixture(params=[True, False], ids=["whole", "byte by byte"])
def whole(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
