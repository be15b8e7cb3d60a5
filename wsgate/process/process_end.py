"""How a process has ended, as text for the log."""

import signal


def text_of_end(status: int | None) -> str:
    """Return the end of a sentence about a process.

    Args:
        status: Its exit status, or minus the signal that ended it; None if nobody knows.
    """
    if status is None or status >= 0:
        return f"has ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}"
