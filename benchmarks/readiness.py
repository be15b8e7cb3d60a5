"""Which processes of a server serve: asked over connections that are open at the same time."""

import contextlib
import http.client

ASKED = 32  # connections; a worker that is alone with all of them gives the others time to accept
ANSWER_SECONDS = 5.0


def serving_pids(port: int) -> set[int]:
    """Return the ids of the processes that answer a request of /pid; empty if one has failed."""
    connections = [
        http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS) for _ in range(ASKED)
    ]
    with contextlib.ExitStack() as stack:
        for connection in connections:
            stack.callback(connection.close)
        try:
            for connection in connections:
                connection.request("GET", "/pid")
            return {int(connection.getresponse().read()) for connection in connections}
        except (OSError, http.client.HTTPException, ValueError):
            return set()
