"""The line that a graceful shutdown logs while it waits for connections and calls of the app."""

from wsgate.quantities import count

FIRST_REPORT = 1.0  # seconds after "Shutting down"; a shutdown that is faster logs none
REPORT_INTERVAL = 5.0  # seconds between two reports


def progress_report(connections: int, app_calls: int, seconds_left: float) -> str:
    """Return a line such as "Waiting for 2 connections and 1 app call, at most 9 s".

    Args:
        connections: how many are open, WebSockets included.
        app_calls: how many calls of the app have not ended.
        seconds_left: until they are ended by force.
    """
    counts = ((connections, "connection"), (app_calls, "app call"))
    pending = " and ".join(count(number, thing) for number, thing in counts if number)
    return f"Waiting for {pending}, at most {max(0.0, seconds_left):.0f} s"
