"""The fuzz targets' seeds, and random bytes, held to the same checks in the test run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from fuzz import checks, proxy_checks, seeds

CHECKS: dict[str, Callable[[bytes], None]] = {
    "http": checks.check_http,
    "codec": checks.check_codec,
    "session": checks.check_session,
    "proxy_header": proxy_checks.check_proxy_header,
    "forwarded": proxy_checks.check_forwarded,
}
SEEDS = sorted(path for path in seeds.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_seed_passes_the_checks(path: Path) -> None:
    CHECKS[path.parent.name](path.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {path.parent.name for path in SEEDS} == set(CHECKS)


@pytest.mark.parametrize("target", CHECKS)
@given(data=st.binary(max_size=400))
def test_any_bytes_pass_the_checks(target: str, data: bytes) -> None:
    CHECKS[target](data)
