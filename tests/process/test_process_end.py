"""What the log says about the end of a process that nobody has asked for."""

import pytest

from wsgate.errors import StartupFailed, WsgateError
from wsgate.process.process_end import ProcessEnd


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (None, 0, "Worker 7 has ended with status 0"),
        (None, 3, "Worker 7 has ended with status 3"),
        (None, -9, "Worker 7 was ended by SIGKILL"),
        (None, -63, "Worker 7 was ended by signal 63"),
        (None, None, "Worker 7 has ended"),
        (StartupFailed("no database"), 3, "Worker 7 could not start: no database"),
        (StartupFailed("a\nb"), None, "Worker 7 could not start: a\n"),
    ],
)
def test_the_text(failure: WsgateError | None, status: int | None, text: str) -> None:
    assert str(ProcessEnd("Worker 7", failure, status, None)).startswith(text)
