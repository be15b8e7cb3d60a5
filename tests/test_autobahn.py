"""The Autobahn Testsuite, without its long groups: every case has to pass."""

import pytest

from conformance import autobahn

pytestmark = pytest.mark.skipif(
    not autobahn.is_available(), reason="needs Docker or the suite's script"
)


async def test_every_short_case_passes() -> None:
    results = await autobahn.run(["*"], list(autobahn.LONG_GROUPS))
    assert len(results) == 247
    assert autobahn.failures(results) == {}
