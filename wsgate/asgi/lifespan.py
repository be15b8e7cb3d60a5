"""The lifespan state machine: which messages of the app are legal in which state.

Source: ASGI lifespan 2.0.
"""

from enum import Enum

from wsgate.errors import IllegalMessage
from wsgate.types import Message


class State(Enum):
    """The state of the app's lifespan."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_NEXT = {
    (State.STARTING, "lifespan.startup.complete"): State.RUNNING,
    (State.STARTING, "lifespan.startup.failed"): State.FAILED,
    (State.STOPPING, "lifespan.shutdown.complete"): State.STOPPED,
    (State.STOPPING, "lifespan.shutdown.failed"): State.FAILED,
}


class Life:
    """The lifespan of one app.

    state: the current state. failure: the app's message if the state is FAILED.
    """

    def __init__(self) -> None:
        self.state = State.STARTING
        self.failure = ""

    @property
    def is_running(self) -> bool:
        """Whether the startup is complete and no shutdown has started."""
        return self.state is State.RUNNING

    def stop(self) -> None:
        """Begin the shutdown."""
        self.state = State.STOPPING

    def send(self, message: Message) -> None:
        """Process a message from the app.

        Raises:
            IllegalMessage: The message is not allowed in this state.
        """
        kind = message.get("type")
        state = _NEXT.get((self.state, str(kind)))
        if state is None:
            raise IllegalMessage(kind, self.state.value)
        self.state = state
        if state is State.FAILED:
            self.failure = str(message.get("message", ""))
