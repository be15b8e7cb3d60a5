"""Whether a server is ready, from the answer to the command `status`."""

from collections.abc import Mapping
from typing import Any

_SERVING = {"ready", "restarting"}
_READY_WORKERS = {"ready", "outdated"}  # one that is outdated serves until its successor is ready


def reasons_not_ready(status: Mapping[str, Any], broker_grace: float) -> list[str]:
    """Return why a server should get no new clients; nothing if it is ready.

    Args:
        status: The answer to `status`.
        broker_grace: Seconds for which the broker of topics may be out of reach.
    """
    state = status["server"]["state"]
    if state not in _SERVING:
        return [f"the server is {state}"]
    ready = [one for one in status["workers"] if one["state"] in _READY_WORKERS]
    if not ready:
        return ["no worker is ready"]
    # The broker counts as out of reach if it is for all: one worker may just connect again.
    away = min(one["broker_away"] or 0.0 for one in ready)
    if away > broker_grace:
        return [f"the broker of topics has been out of reach for {away:.0f} s"]
    return []
