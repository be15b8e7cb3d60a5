"""How a process has ended, as text."""

import pytest

from wsgate.process.process_end import text_of_end


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "has ended with status 0"),
        (3, "has ended with status 3"),
        (None, "has ended with status None"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_the_end_is_named(status: int | None, text: str) -> None:
    assert text_of_end(status) == text
