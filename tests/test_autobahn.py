"""The Autobahn Testsuite, all but its long groups, with nothing but OK and INFORMATIONAL."""

import pytest

from conformance import autobahn

pytestmark = pytest.mark.skipif(
    not autobahn.is_available(), reason="neither the suite's script nor docker is here"
)


async def test_every_case_is_strict() -> None:
    results = await autobahn.run(["*"], list(autobahn.SHORT))
    assert len(results) == 247
    assert autobahn.shortfalls(results) == {}
