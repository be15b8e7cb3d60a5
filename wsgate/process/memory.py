"""How much memory a process has."""

import contextlib
import resource
from pathlib import Path


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes; 0 if it is not known."""
    with contextlib.suppress(OSError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    return 0
