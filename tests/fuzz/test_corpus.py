"""The fuzz targets' seeds, and random bytes, held to the same checks in the test run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fuzz import checks, seeds

CHECKS: dict[str, Callable[[bytes], None]] = {
    "http": checks.check_http,
    "codec": checks.check_codec,
    "session": checks.check_session,
}
SEEDS = sorted(path for path in seeds.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_seed_holds(path: Path) -> None:
    CHECKS[path.parent.name](path.read_bytes())


def test_there_are_seeds_for_each_target() -> None:
    assert {path.parent.name for path in SEEDS} == set(CHECKS)


@pytest.mark.parametrize("target", CHECKS)
@given(data=st.binary(max_size=400))
def test_any_bytes_hold(target: str, data: bytes) -> None:
    CHECKS[target](data)
