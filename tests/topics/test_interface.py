"""What an app uses: where it finds the topics, and how its arguments are checked."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from wsgate import topics
from wsgate.errors import WsgateError
from wsgate.topics.interface import EXTENSION, Extension, Recovered


class Service:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _note(self, *call: Any) -> Any:
        self.calls.append(call)

    async def subscribe(
        self, socket: Any, topic: str, after: str | None, last: int, member: str | None
    ) -> Recovered:
        self._note("subscribe", socket, topic, after, last, member)
        return Recovered(complete=True, count=0)

    async def unsubscribe(self, socket: Any, topic: str) -> None:
        self._note("unsubscribe", socket, topic)

    async def publish(
        self, topic: str, data: str | bytes, id: str | None, excluded: Any, *, is_kept: bool
    ) -> str | None:
        self._note("publish", topic, data, id, excluded, is_kept)
        return id

    def listen(self, owner: Any, topic: str, after: str | None, last: int) -> Any:
        self._note("listen", owner, topic, after, last)

    def subscribers(self, topic: str) -> int:
        return len(topic)

    async def count(self, topic: str) -> int:
        return len(topic)

    async def members(self, topic: str) -> dict[str, int]:
        return {topic: 1}


def scope_with(service: Service, socket: object | None = "socket") -> dict[str, Any]:
    return {"type": "websocket", "extensions": {EXTENSION: Extension(service, "owner", socket)}}


class Connection(Mapping[str, Any]):
    """As Starlette's WebSocket: a mapping that is no dict."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope

    def __getitem__(self, key: str) -> Any:
        return self.scope[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.scope)

    def __len__(self) -> int:
        return len(self.scope)


class Consumer:
    """As a consumer of Channels: an object with a scope."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.scope = scope


# -- of(scope) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [dict, Connection, Consumer, copy.copy, copy.deepcopy])
async def test_topics_are_those_of_a_scope_or_of_an_object_with_one(wrap: Any) -> None:
    service = Service()
    await topics.of(wrap(scope_with(service))).publish("room", "x")
    assert service.calls == [("publish", "room", "x", None, None, True)]


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {EXTENSION: {}}}]
)
def test_another_server_has_no_topics(scope: dict[str, Any]) -> None:
    with pytest.raises(topics.NotAvailable, match="serve the app with wsgate"):
        topics.of(scope)


@pytest.mark.parametrize("wrong", [None, "scope", 5, object()])
def test_anything_else_is_a_wrong_type(wrong: object) -> None:
    with pytest.raises(TypeError, match="takes a scope, or an object with"):
        topics.of(wrong)


def test_the_extension_is_an_empty_dict_for_those_who_print_a_scope() -> None:
    assert scope_with(Service())["extensions"] == {"wsgate.topics": {}}


@pytest.mark.parametrize(
    "error", [topics.NotAvailable, topics.LimitReached, topics.Unavailable, topics.Overrun]
)
def test_all_errors_have_one_base(error: type[Exception]) -> None:
    assert issubclass(error, topics.TopicsError)
    assert issubclass(topics.TopicsError, WsgateError)


# -- arguments -------------------------------------------------------------------------------------


async def test_the_service_gets_checked_arguments() -> None:
    service = Service()
    own = topics.of(scope_with(service))
    await own.subscribe("room")
    await own.subscribe("room", after="", last=None)
    await own.subscribe("room", after="1", last=5, member="ada")
    await own.unsubscribe("room")
    assert await own.publish("room", b"x", id="1", exclude=own, keep=False) == "1"
    own.listen("room", after="1", last=2)
    assert own.subscribers("room") == await own.count("room") == 4
    assert await own.members("room") == {"room": 1}
    assert service.calls == [
        ("subscribe", "socket", "room", None, 0, None),
        ("subscribe", "socket", "room", None, 0, None),
        ("subscribe", "socket", "room", "1", 5, "ada"),
        ("unsubscribe", "socket", "room"),
        ("publish", "room", b"x", "1", "socket", False),
        ("listen", "owner", "room", "1", 2),
    ]


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "count", "members"])
@pytest.mark.parametrize(("name", "error"), [("", ValueError), (5, TypeError), (b"a", TypeError)])
async def test_a_wrong_name_is_refused(method: str, name: Any, error: type[Exception]) -> None:
    service = Service()
    with pytest.raises(error, match="name of a topic"):
        await getattr(topics.of(scope_with(service)), method)(name)
    assert service.calls == []


@pytest.mark.parametrize("method", ["listen", "subscribers"])
def test_a_wrong_name_is_refused_at_once(method: str) -> None:
    with pytest.raises(ValueError, match="must not be longer"):
        getattr(topics.of(scope_with(Service())), method)("x" * 256)


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("", "x"), {}, ValueError),
        (("room", 5), {}, TypeError),
        (("room", bytearray()), {}, TypeError),
        (("room", "\ud800"), {}, ValueError),
        (("room", "x"), {"id": ""}, ValueError),
        (("room", "x"), {"id": 5}, TypeError),
        (("room", "x"), {"id": "x" * 256}, ValueError),
        (("room", "x"), {"exclude": 5}, TypeError),
        (("room", "x"), {"exclude": {}}, ValueError),
    ],
)
async def test_a_wrong_publication_is_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    service = Service()
    with pytest.raises(error):
        await topics.of(scope_with(service)).publish(*arguments, **options)
    assert service.calls == []


@pytest.mark.parametrize("options", [{"after": 1}, {"last": -1}, {"last": 1.5}, {"last": True}])
def test_a_wrong_listener_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        topics.of(scope_with(Service())).listen("room", **options)


# -- the process -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"history": -1}, ValueError),
        ({"history": "5"}, TypeError),
        ({"slow": "never"}, ValueError),
        ({"history": 1, "slow": "drop"}, ValueError),
        ({"announce": 5}, TypeError),
    ],
)
def test_wrong_rules_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        topics.configure("never:*", **options)
    with pytest.raises(ValueError, match="must not be empty"):
        topics.configure("")


def test_without_a_worker_nothing_has_happened() -> None:
    assert topics.stats() == {
        "published": 0,
        "delivered": 0,
        "dropped": {},
        "closed_slow": 0,
        "recovered": 0,
        "incomplete": 0,
    }
