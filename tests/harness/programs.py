"""Other programs that tests start: found where they are installed, skipped by name where not."""

import os
import shutil
from typing import NoReturn

import pytest

# Where Debian has servers, which is not in the path of every user.
_PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin:/usr/local/bin"


def find_program(part: str, *names: str) -> str:
    """Return the path of a program; skip the test if it is not installed.

    Args:
        part: What .ci/install-PART installs, such as "redis".
        names: Of the program, the first one that is found counts.
    """
    found = next(filter(None, (shutil.which(name, path=_PATH) for name in names)), None)
    return found or give_up(part, f"needs {names[0]}: run .ci/install-{part}")


def give_up(part: str, reason: str) -> NoReturn:
    """Skip the test; fail it where the part is required, as in .ci/run."""
    if os.environ.get(f"TEST_{part.upper()}") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
