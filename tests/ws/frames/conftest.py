"""Fixtures for the tests that run over every codec."""

import pytest

from tests.ws.codecs import AGREEMENTS, CODECS, FRESH, TAKEOVER, MakeCodec
from tests.ws.fast_codecs import MAKERS, WsprotoUse
from wsgate.ws.deflate.negotiation import Agreement


@pytest.fixture(scope="module", params=CODECS)
def make(request: pytest.FixtureRequest) -> MakeCodec:
    return CODECS[request.param]


@pytest.fixture(scope="module", params=AGREEMENTS)
def agreement(request: pytest.FixtureRequest) -> Agreement | None:
    return AGREEMENTS[request.param]


@pytest.fixture(scope="module", params=["fresh", "takeover"])
def deflate(request: pytest.FixtureRequest) -> Agreement:
    return FRESH if request.param == "fresh" else TAKEOVER


@pytest.fixture(scope="module", params=MAKERS)
def build(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def wsproto_use(monkeypatch: pytest.MonkeyPatch) -> WsprotoUse:
    return WsprotoUse(monkeypatch)
