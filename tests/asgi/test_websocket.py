from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from wsgate.asgi.websocket import (
    DENIAL,
    Accept,
    Close,
    Conversation,
    Deny,
    Refuse,
    State,
    common_payload,
    disconnect_event,
    payload_of,
    receive_event,
)
from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.ws.handshake import Handshake

ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "hello"}
CLOSE = {"type": "websocket.close"}
DENY_START = {"type": DENIAL[0], "status": 401}
DENY_BODY = {"type": DENIAL[1], "body": b"who?"}
MESSAGES = [ACCEPT, SEND, CLOSE, DENY_START, DENY_BODY, {"type": "http.response.start"}, {}]


def conversation(state: State = State.CONNECTING) -> Conversation:
    made = Conversation(Handshake(b"dGhlIHNhbXBsZSBub25jZQ==", ["v2", "v1"], None))
    assert made.state is State.CONNECTING
    made.state = state
    return made


NEXT = {
    (State.CONNECTING, "websocket.accept"): State.OPEN,
    (State.CONNECTING, "websocket.close"): State.CLOSED,
    (State.CONNECTING, "websocket.http.response.start"): State.DENYING,
    (State.DENYING, "websocket.http.response.body"): State.DENYING,
    (State.OPEN, "websocket.send"): State.OPEN,
    (State.OPEN, "websocket.close"): State.CLOSED,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.get("type", "no type"))
def test_every_message_is_checked_in_every_state(state: State, message: dict[str, Any]) -> None:
    talk = conversation(state)
    kind = message.get("type", "")
    if (state, kind) in NEXT:
        talk.handle(message)
        assert talk.state is NEXT[state, kind]
        return
    with pytest.raises(IllegalMessage) as raised:
        talk.handle(message)
    assert str(raised.value) == (
        f"{message.get('type')!r} cannot be sent in the state {state.value}"
    )
    assert talk.state is state


# -- accept ----------------------------------------------------------------------------------------


def test_accept_needs_nothing() -> None:
    assert conversation().handle(ACCEPT) == Accept(None, [])


def test_accept_takes_a_subprotocol_and_headers() -> None:
    wish = conversation().handle(
        ACCEPT | {"subprotocol": "v1", "headers": [(b"Set-Cookie", b"a"), (b"x", b" b ")]}
    )
    assert wish == Accept("v1", [(b"set-cookie", b"a"), (b"x", b"b")])


@pytest.mark.parametrize("headers", [[], [(b"X-Mine", b"a")]], ids=["none", "one"])
@pytest.mark.parametrize("subprotocol", [None, "v1"])
@pytest.mark.parametrize("kind", [list, tuple, iter, deque])
def test_the_headers_of_an_accept_may_be_of_any_kind(
    kind: Any, subprotocol: str | None, headers: list[tuple[bytes, bytes]]
) -> None:
    more = {"subprotocol": subprotocol, "headers": kind(headers)}
    expected = Accept(subprotocol, [(name.lower(), value) for name, value in headers])
    assert conversation().handle(ACCEPT | more) == expected


@pytest.mark.parametrize("subprotocol", [None, "v1"])
@pytest.mark.parametrize("headers", [None, 0, False])
def test_headers_that_are_no_list_raise_even_if_they_are_false(
    headers: object, subprotocol: str | None
) -> None:
    talk = conversation()
    with pytest.raises(InvalidMessage, match="headers are a list of pairs, not"):
        talk.handle(ACCEPT | {"subprotocol": subprotocol, "headers": headers})
    assert talk.state is State.CONNECTING


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"subprotocol": "v3"}, "the subprotocol 'v3' was not offered: ['v2', 'v1']"),
        ({"subprotocol": b"v1"}, "the subprotocol b'v1' was not offered: ['v2', 'v1']"),
        (
            {"headers": [(b"Upgrade", b"websocket")]},
            "the header 'upgrade' is set by the server in an accept",
        ),
        ({"headers": [(b"x", "text")]}, "a header's name and value are bytes, not (b'x', 'text')"),
    ],
)
def test_an_invalid_accept_leaves_the_state(more: dict[str, Any], message: str) -> None:
    talk = conversation()
    with pytest.raises(InvalidMessage) as raised:
        talk.handle(ACCEPT | more)
    assert str(raised.value) == message
    assert talk.state is State.CONNECTING
    assert talk.handle(CLOSE) == Refuse()


# -- send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ({"text": "hällo"}, "hällo"),
        ({"text": ""}, ""),
        ({"text": "a", "bytes": None}, "a"),
        ({"bytes": b"\x00"}, b"\x00"),
        ({"bytes": b""}, b""),
        ({"text": None, "bytes": b"a"}, b"a"),
        ({"bytes": bytearray(b"a")}, b"a"),
        ({"bytes": memoryview(b"a")}, b"a"),
    ],
)
def test_a_send_has_one_payload(message: dict[str, Any], payload: str | bytes) -> None:
    wish = conversation(State.OPEN).handle({"type": "websocket.send", **message})
    assert wish == payload
    assert type(wish) is type(payload)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({}, "websocket.send has exactly one of text and bytes"),
        ({"text": None, "bytes": None}, "websocket.send has exactly one of text and bytes"),
        ({"text": "", "bytes": b""}, "websocket.send has exactly one of text and bytes"),
        ({"text": b"a"}, "text is a str, not bytes"),
        ({"bytes": "a"}, "bytes is bytes, not str"),
        ({"bytes": [1]}, "bytes is bytes, not list"),
    ],
)
def test_an_invalid_payload_raises(message: dict[str, Any], error: str) -> None:
    talk = conversation(State.OPEN)
    with pytest.raises(InvalidMessage) as raised:
        talk.handle({"type": "websocket.send", **message})
    assert str(raised.value) == error
    assert talk.state is State.OPEN
    with pytest.raises(InvalidMessage):
        payload_of(message)


class Text(str):
    __slots__ = ()


class Bytes(bytes):
    __slots__ = ()


class Dict(dict[str, Any]):
    pass


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ({"text": "hällo"}, "hällo"),
        ({"text": ""}, ""),
        ({"text": "a", "bytes": None}, "a"),
        ({"bytes": b"\x00"}, b"\x00"),
        ({"text": None, "bytes": b""}, b""),
    ],
)
def test_a_common_send_has_its_payload(message: dict[str, Any], payload: str | bytes) -> None:
    message = {"type": "websocket.send", **message}
    assert common_payload(message) == payload == payload_of(message)
    assert common_payload(Dict(message)) is None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "websocket.send"},
        {"type": "websocket.close", "text": "a"},
        {"type": None, "text": "a"},
        {"text": "a"},
        SEND | {"bytes": b"a"},
        SEND | {"text": Text("a")},
        SEND | {"text": b"a"},
        SEND | {"text": None},
        SEND | {"text": None, "bytes": Bytes(b"a")},
        SEND | {"text": None, "bytes": bytearray(b"a")},
        SEND | {"text": None, "bytes": memoryview(b"a")},
        SEND | {"text": None, "bytes": "a"},
    ],
)
def test_any_other_message_is_not_common(message: dict[str, Any]) -> None:
    assert common_payload(message) is None


# -- close -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "close"),
    [
        ({}, Close(1000, "")),
        ({"code": 4001}, Close(4001, "")),
        ({"code": 1001, "reason": "bye"}, Close(1001, "bye")),
        ({"reason": None}, Close(1000, "")),
        ({"reason": "x" * 123}, Close(1000, "x" * 123)),
        ({"reason": "é" * 61}, Close(1000, "é" * 61)),
    ],
)
def test_a_close_has_a_code_and_a_reason(message: dict[str, Any], close: Close) -> None:
    assert conversation(State.OPEN).handle(CLOSE | message) == close


@pytest.mark.parametrize("reason", ["x" * 124, "é" * 62, b"bye", 7, "\ud800"])
def test_a_reason_that_is_too_long_raises(reason: object) -> None:
    talk = conversation(State.OPEN)
    with pytest.raises(InvalidMessage) as raised:
        talk.handle(CLOSE | {"reason": reason})
    assert str(raised.value) == "a close reason is text of at most 123 bytes in UTF-8"
    assert talk.state is State.OPEN


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000", None, True])
def test_an_invalid_close_code_raises(code: object) -> None:
    talk = conversation(State.OPEN)
    with pytest.raises(InvalidMessage) as raised:
        talk.handle(CLOSE | {"code": code})
    assert str(raised.value) == f"{code!r} is not a close code that an endpoint may send"
    assert talk.state is State.OPEN


@pytest.mark.parametrize(
    "message", [{"code": 4001, "reason": "no"}, {"reason": [{"type": "missing"}]}, {"code": "no"}]
)
def test_a_close_before_the_accept_refuses(message: dict[str, Any]) -> None:
    talk = conversation()
    assert talk.handle(CLOSE | message) == Refuse()
    assert talk.state is State.CLOSED


# -- denial ----------------------------------------------------------------------------------------


def test_a_denial_passes_the_apps_own_response_on() -> None:
    talk = conversation()
    assert talk.handle(DENY_START) == Deny(DENY_START)
    assert talk.handle(DENY_BODY | {"more_body": True}) == Deny(DENY_BODY | {"more_body": True})
    assert talk.handle(DENY_BODY) == Deny(DENY_BODY)


def denying() -> Conversation:
    talk = conversation()
    talk.handle(DENY_START)
    return talk


def test_a_denial_with_an_invalid_start_can_be_reverted() -> None:
    talk = denying()
    talk.revert_denial()
    assert talk.state is State.CONNECTING
    assert talk.handle(ACCEPT) == Accept(None, [])


def test_a_denial_that_ended_closes_the_conversation() -> None:
    talk = denying()
    talk.end_denial()
    assert talk.state is State.CLOSED
    with pytest.raises(IllegalMessage):
        talk.handle(DENY_BODY)


@pytest.mark.parametrize("state", [State.CONNECTING, State.OPEN, State.CLOSED])
def test_only_a_denial_can_be_reverted_or_ended(state: State) -> None:
    for change in (Conversation.revert_denial, Conversation.end_denial):
        talk = conversation(state)
        with pytest.raises(KeyError):
            change(talk)
        assert talk.state is state


# -- events for the app ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "event"),
    [
        (lambda: receive_event("text"), {"type": "websocket.receive", "text": "text"}),
        (lambda: receive_event(""), {"type": "websocket.receive", "text": ""}),
        (lambda: receive_event(b""), {"type": "websocket.receive", "bytes": b""}),
        (
            lambda: disconnect_event(1001, "away"),
            {"type": "websocket.disconnect", "code": 1001, "reason": "away"},
        ),
    ],
)
def test_an_event_has_the_keys_of_its_kind(
    make: Callable[[], object], event: dict[str, Any]
) -> None:
    assert make() == event
