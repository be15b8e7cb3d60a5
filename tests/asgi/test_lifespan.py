from typing import Any

import pytest

from wsgate.asgi.lifespan import Life, State
from wsgate.errors import IllegalMessage

STARTED = {"type": "lifespan.startup.complete"}
NOT_STARTED = {"type": "lifespan.startup.failed", "message": "no database"}
STOPPED = {"type": "lifespan.shutdown.complete"}
NOT_STOPPED = {"type": "lifespan.shutdown.failed", "message": "a lock is held"}
MESSAGES = [STARTED, NOT_STARTED, STOPPED, NOT_STOPPED]


def life_in(state: State) -> Life:
    life = Life()
    assert life.state is State.STARTING
    life.state = state
    return life


def test_a_whole_life() -> None:
    life = Life()
    assert (life.state, life.is_running) == (State.STARTING, False)
    life.send(STARTED)
    assert (life.state, life.is_running) == (State.RUNNING, True)
    life.stop()
    assert (life.state, life.is_running) == (State.STOPPING, False)
    life.send(STOPPED)
    assert (life.state, life.is_running) == (State.STOPPED, False)
    assert life.failure == ""


def test_a_startup_that_fails_says_why() -> None:
    life = Life()
    life.send(NOT_STARTED)
    assert (life.state, life.failure) == (State.FAILED, "no database")


def test_a_shutdown_that_fails_says_why() -> None:
    life = life_in(State.STOPPING)
    life.send(NOT_STOPPED)
    assert (life.state, life.failure) == (State.FAILED, "a lock is held")


@pytest.mark.parametrize(
    ("message", "failure"), [({}, ""), ({"message": ""}, ""), ({"message": 7}, "7")]
)
def test_the_message_of_a_failure_is_optional(message: dict[str, Any], failure: str) -> None:
    life = Life()
    life.send({"type": "lifespan.startup.failed", **message})
    assert (life.state, life.failure) == (State.FAILED, failure)


LEGAL = {
    (State.STARTING, "lifespan.startup.complete"),
    (State.STARTING, "lifespan.startup.failed"),
    (State.STOPPING, "lifespan.shutdown.complete"),
    (State.STOPPING, "lifespan.shutdown.failed"),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("message", [*MESSAGES, {"type": "http.response.start"}, {}])
def test_every_other_message_is_illegal_and_changes_nothing(
    state: State, message: dict[str, Any]
) -> None:
    life = life_in(state)
    if (state, message.get("type")) in LEGAL:
        life.send(message)
        assert life.state is not state
        return
    with pytest.raises(IllegalMessage) as raised:
        life.send(message)
    assert str(raised.value) == (
        f"{message.get('type')!r} cannot be sent in the state {state.value}"
    )
    assert (life.state, life.failure) == (state, "")
