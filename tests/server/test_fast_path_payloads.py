"""A message of an app has the same effect on the compiled, the Python and the slow path."""

import contextlib
import enum
import re
from array import array
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.frames import CLOSE, ServerFrame
from tests.harness.client import DEFLATE
from tests.harness.memory import opened
from wsgate.errors import IllegalMessage, InvalidMessage
from wsgate.server.fast_path import PlainMessagePath
from wsgate.server.websocket import WebSocket

Outcome = tuple[type[BaseException], str] | None
SEND = "websocket.send"


class Text(str):
    """A text, and not str exactly."""

    __slots__ = ()


class Choice(str, enum.Enum):  # noqa: UP042  # a StrEnum prints as its value
    """Members that are texts, and print as something else."""

    GREEN = "grün"


class Octets(bytes):
    """As plain as bytes, and not bytes exactly."""


class Dictionary(dict[str, Any]):
    """A dict, and not dict exactly."""


class Silent(dict[str, Any]):
    """A dict whose methods hide what C finds in it."""

    def get(self, key: str, default: Any = None) -> Any:
        return SEND if key == "type" else default


class Name(str):
    """A key or a type that equals a str, and is another class."""

    __slots__ = ()


MISSING = object()
# Each makes a new value, because a path may use it up.
VALUES: dict[str, Callable[[], Any]] = {
    "missing": lambda: MISSING,
    "None": lambda: None,
    "text": lambda: "grüß",
    "ascii": lambda: "hello",
    "empty text": lambda: "",
    "long text": lambda: "hello, " * 400,
    "surrogate": lambda: "a\ud800",
    "text subclass": lambda: Text("grüß"),
    "text enumeration": lambda: Choice.GREEN,
    "bytes": lambda: b"\x00\xff",
    "empty bytes": lambda: b"",
    "long bytes": lambda: b"hello, " * 400,
    "bytes subclass": lambda: Octets(b"\x00\xff"),
    "bytearray": lambda: bytearray(b"\x00\xff"),
    "memoryview": lambda: memoryview(b"\x00\xff"),
    "strided memoryview": lambda: memoryview(b"abcdef")[::2],
    "memoryview of numbers": lambda: memoryview(array("I", [1, 2])),
    "array": lambda: array("b", [1, 2]),
    "int": lambda: 7,
    "zero": lambda: 0,
    "list": lambda: [1, 2],
}
TEXTS = st.sampled_from(["text", "ascii", "long text", "missing", "None"] * 3 + list(VALUES))
BYTES = st.sampled_from(["missing", "None"] * 6 + list(VALUES))
DATA = st.sampled_from(["bytes", "long bytes", "missing", "None"] * 3 + list(VALUES))
KINDS: dict[str, Any] = {
    "str": SEND,
    "equal str": str(SEND.encode(), "ascii"),
    "subclass": Name(SEND),
    "bytes": SEND.encode(),
    "None": None,
    "other": "websocket.accept",
    "list": [],
}
MAPPINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dict": dict,
    "subclass": Dictionary,
    "UserDict": UserDict,
    "silent": Silent,
    "keys of a subclass": lambda items: {Name(key): value for key, value in items.items()},
    "with more": lambda items: {**items, "more": 1, "code": 7},
}


class Sent(NamedTuple):
    """What an app sends, by the names of its parts."""

    text: str = "missing"
    data: str = "missing"
    kind: str = "str"
    mapping: str = "dict"

    def made(self) -> Any:
        items = {
            "type": KINDS[self.kind],
            "text": VALUES[self.text](),
            "bytes": VALUES[self.data](),
        }
        there = {key: value for key, value in items.items() if value is not MISSING}
        return MAPPINGS[self.mapping](there)


SENT = st.one_of(
    st.builds(Sent, TEXTS, BYTES, st.just("str"), st.just("dict")),
    st.builds(Sent, BYTES, DATA, st.just("str"), st.just("dict")),
    st.builds(Sent, TEXTS, BYTES, st.sampled_from(list(KINDS)), st.sampled_from(list(MAPPINGS))),
)


@contextlib.contextmanager
def way(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if name == "plain":
            monkeypatch.setattr(WebSocket, "put", PlainMessagePath.put, raising=False)
            monkeypatch.setattr(WebSocket, "send", PlainMessagePath.send, raising=False)
        elif name == "slow":
            monkeypatch.setattr(WebSocket, "put", lambda *_: False, raising=False)
            monkeypatch.setattr(WebSocket, "send", PlainMessagePath.send, raising=False)
        yield


WAYS = ("compiled", "plain", "slow")


async def played(messages: list[Sent], *headers: str) -> tuple[list[Outcome], list[ServerFrame]]:
    """Return how each `send` ended, and the frames that reached the client."""
    received: list[ServerFrame] = []
    async with opened(*headers) as ws:
        outcomes = [await outcome(ws.call.send, message.made()) for message in messages]
        await ws.call.send({"type": "websocket.close"})
        while not received or received[-1].opcode != CLOSE:
            received.append(await ws.read_frame())
    return outcomes, received


async def outcome(send: Any, message: Any) -> Outcome:
    try:
        await send(message)
    except (InvalidMessage, IllegalMessage) as error:
        return type(error), re.sub(r"0x[0-9a-f]+", "0x", str(error))
    return None


@settings(max_examples=60)
@given(st.lists(SENT, min_size=1, max_size=5), st.booleans())
@example([Sent("text enumeration"), Sent("text subclass"), Sent("surrogate"), Sent("ascii")], True)
@example([Sent("text", "None"), Sent("None", "bytes"), Sent("None", "None"), Sent()], False)
@example([Sent("empty text", "empty bytes"), Sent("zero"), Sent("None", "zero")], False)
@example([Sent("text", mapping="subclass"), Sent("text", mapping="silent")], False)
async def test_fast_and_slow_path_do_the_same(messages: list[Sent], has_deflate: bool) -> None:
    headers = [DEFLATE] if has_deflate else []
    played_so = []
    for name in WAYS:
        with way(name):
            played_so.append(await played(messages, *headers))
    assert played_so[1:] == played_so[:-1]


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(
    ("sent", "payload"),
    [
        (Sent("text enumeration"), "grün".encode()),
        (Sent("text subclass"), "grüß".encode()),
        (Sent("None", "bytes subclass"), b"\x00\xff"),
        (Sent("None", "bytearray"), b"\x00\xff"),
        (Sent("None", "strided memoryview"), b"ace"),
        (Sent("None", "memoryview of numbers"), array("I", [1, 2]).tobytes()),
        (Sent("empty text", "None"), b""),
        (Sent("None", "empty bytes"), b""),
        (Sent("text", mapping="UserDict"), "grüß".encode()),
        (Sent("text", kind="subclass"), "grüß".encode()),
    ],
    ids=str,
)
async def test_valid_messages_are_valid_on_each_path(name: str, sent: Sent, payload: bytes) -> None:
    with way(name):
        outcomes, received = await played([sent])
    assert outcomes == [None]
    assert received[0].payload == payload


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(
    "sent",
    [
        Sent(),
        Sent("None", "None"),
        Sent("text", "bytes"),
        Sent("empty text", "empty bytes"),
        Sent("bytes"),
        Sent("None", "text"),
        Sent("surrogate"),
        Sent("None", "array"),
        Sent("None", "zero"),
        Sent("zero"),
    ],
    ids=str,
)
async def test_invalid_messages_are_invalid_on_each_path(name: str, sent: Sent) -> None:
    with way(name):
        outcomes, received = await played([sent, Sent("ascii")])
    assert outcomes[0] is not None
    assert outcomes[0][0] is InvalidMessage
    assert [frame.payload for frame in received[:-1]] == [b"hello"]
