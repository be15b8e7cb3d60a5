"""The app's life: which lifespan message is legal when, and what each one means.

Source: ASGI lifespan 2.0.
"""

from enum import Enum

from wsgate.errors import IllegalMessage
from wsgate.types import Message


class State(Enum):
    """Where the app's life stands."""

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
    """One app's life. state: where it stands; failure: the app's own message when it FAILED."""

    def __init__(self) -> None:
        self.state = State.STARTING
        self.failure = ""

    @property
    def is_running(self) -> bool:
        """Whether the app has come up and was not asked to stop."""
        return self.state is State.RUNNING

    def stop(self) -> None:
        """Note that the app is asked to shut down."""
        self.state = State.STOPPING

    def send(self, message: Message) -> None:
        """Take a message of the app. Raises IllegalMessage where its state has no place for it."""
        kind = message.get("type")
        state = _NEXT.get((self.state, str(kind)))
        if state is None:
            raise IllegalMessage(kind, self.state.value)
        self.state = state
        if state is State.FAILED:
            self.failure = str(message.get("message", ""))
