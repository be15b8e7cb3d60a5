"""Numbers of things as text."""

import pytest

from wsgate.quantities import count


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 app calls"), (1, "1 app call"), (2, "2 app calls")]
)
def test_one_is_singular(number: int, text: str) -> None:
    assert count(number, "app call") == text
