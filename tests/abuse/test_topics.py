"""Floods of topics, by an app that does whatever its clients say: the limits of the settings."""

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from tests.abuse.conftest import Measured
from tests.abuse.harness import PROMPT, Target
from tests.harness.client import text_frame
from tests.harness.tcp import TcpClient

MIB = 2**20
PER_CONNECTION, TOPICS = 5_000, 8_000
HISTORY, OUTLET = MIB, 64 * 1024
APP = "tests.apps.abuse_topics:app"
OPTIONS = (
    *("--topics-max", str(TOPICS), "--topics-max-per-connection", str(PER_CONNECTION)),
    *("--topics-history-max-bytes", str(HISTORY), "--topics-max-outlet", str(OUTLET)),
    *("--topics-rule", "h* history=1000000", "--topics", "memory:"),
)
PER_TOPIC = 2_000  # bytes, with a name of 255 bytes and one subscriber
BATCH = 1000  # calls of one message
pytestmark = pytest.mark.asyncio(loop_scope="module")

Call = tuple[str, str | int, Mapping[str, object]]


@pytest.fixture(scope="module")
def loop_name() -> str:
    """Return the name of one event loop: topics do not know which it is."""
    return "asyncio"


async def call(client: TcpClient, calls: Sequence[Call]) -> Counter[str]:
    """Have the app carry out calls; return how often it has raised which error."""
    errors: Counter[str] = Counter()
    for start in range(0, len(calls), BATCH):
        client.send(text_frame(json.dumps(calls[start : start + BATCH])))
        while not (text := await client.read_text()).startswith('{"re"'):
            pass
        errors.update(json.loads(text)["re"])
    return errors


async def test_a_hundred_thousand_names(server: Target, measured: Measured) -> None:
    before = server.watch_memory()
    async with server.opened(target="/topics") as client:
        errors = await call(client, [("subscribe", number, {}) for number in range(100_000)])
        took = await server.echo()
        grown = server.memory().peak - before
        limit = PER_CONNECTION * PER_TOPIC + MIB * 4
        measured(
            "a client that subscribes 100,000 names of 255 bytes in many scripts",
            f"{PER_CONNECTION:,} are accepted, {limit // MIB} MiB; an echo within {PROMPT:g} s",
            f"{100_000 - errors.total():,}, {grown / MIB:.1f} MiB, {took:.2f} s",
        )
        text = f"a connection has {PER_CONNECTION} topics (--topics-max-per-connection)"
        assert errors == {f"LimitReached: {text}": 100_000 - PER_CONNECTION}
        assert grown < limit
        assert took < PROMPT


async def test_more_topics_than_a_worker_may_have(server: Target, measured: Measured) -> None:
    async with server.opened(target="/topics") as first, server.opened(target="/topics") as other:
        names = range(2 * PER_CONNECTION)
        assert not await call(first, [("subscribe", name, {}) for name in names[:PER_CONNECTION]])
        errors = await call(other, [("subscribe", name, {}) for name in names[PER_CONNECTION:]])
        shared = await call(other, [("subscribe", name, {}) for name in names[:BATCH]])
        measured(
            f"two clients that subscribe {2 * PER_CONNECTION:,} topics",
            f"{TOPICS:,} topics; those that others have can still be subscribed",
            f"{2 * PER_CONNECTION - errors.total():,}; {shared.total()} of {BATCH} were refused",
        )
        text = f"LimitReached: a worker has {TOPICS} topics (--topics-max)"
        assert errors == {text: 2 * PER_CONNECTION - TOPICS}
        assert not shared
    async with server.opened(target="/topics") as later:  # all are free again
        await server.until(lambda stats: stats.websockets == 1)
        assert not await call(later, [("subscribe", name, {}) for name in names[:PER_CONNECTION]])


async def test_subscribing_and_unsubscribing_in_a_storm(server: Target, measured: Measured) -> None:
    async with server.opened(target="/topics") as client:
        storm = [
            one
            for number in range(BATCH // 2)
            for one in (("subscribe", number, {"member": f"{number}"}), ("unsubscribe", number, {}))
        ]
        assert not await call(client, storm * 3)
        before = server.watch_memory()
        assert not await call(client, storm * 10)
        took = await server.echo()
        grown = server.memory().peak - before
    measured(
        "5,000 subscriptions that end at once, each of another member",
        f"2 MiB; an echo within {PROMPT:g} s",
        f"{grown / MIB:.1f} MiB, {took:.2f} s",
    )
    assert grown < 2 * MIB
    assert took < PROMPT


async def test_a_history_that_is_flooded(server: Target, measured: Measured) -> None:
    before = server.watch_memory()
    async with server.opened(target="/topics") as client:
        calls: list[Call] = [
            ("publish", f"h {number % 700}", {"data": 8_000}) for number in range(5_000)
        ]
        assert not await call(client, calls)
        errors = await call(client, [("publish", "h", {"data": HISTORY + 1})])
        grown = server.memory().peak - before
        limit = HISTORY + 15 * MIB
        measured(
            f"{5_000 * 8_000 // MIB} MiB of messages for histories of {HISTORY // MIB} MiB in all",
            f"{limit // MIB} MiB; a larger message is LimitReached",
            f"{grown / MIB:.1f} MiB; {errors.total()} was refused",
        )
        (text,) = errors
        assert text.startswith("LimitReached: a message of 1,048,577 bytes is above --topics-")
        assert grown < limit


async def test_recoveries_of_clients_that_do_not_read(server: Target, measured: Measured) -> None:
    count = 20
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(server.opened(target="/topics"))
        calls: list[Call] = [("publish", "h recovered", {"data": 8_000})] * 125
        assert not await call(writer, calls)
        recovery = ("subscribe", "h recovered", {"last": 1000})
        loop = [recovery, ("unsubscribe", "h recovered", {})] * 100
        before = server.watch_memory()
        for _ in range(count):
            client = await stack.enter_async_context(server.opened(target="/topics"))
            client.send(text_frame(json.dumps(loop)))
        for _ in range(20):  # while all of them wait
            assert not await call(writer, calls[:5])
        took = await server.echo()
        grown = (server.memory().peak - before) / count
    limit = 2 * 64 * 1024 + OUTLET + 2 * 64 * 1024
    measured(
        f"{count} clients that recover 1 MiB a hundred times, and do not read",
        f"{limit // 1024} KiB each; an echo within {PROMPT:g} s",
        f"{grown / 1024:.0f} KiB each, {took:.2f} s",
    )
    assert grown < limit
    assert took < PROMPT


async def test_subscribers_that_do_not_read(server: Target, measured: Measured) -> None:
    count = 50
    async with contextlib.AsyncExitStack() as stack:
        writer = await stack.enter_async_context(server.opened(target="/topics"))
        before = server.watch_memory()
        for _ in range(count):
            client = await stack.enter_async_context(server.opened(target="/topics"))
            await call(client, [("subscribe", "plain", {})])
        for _ in range(100):
            assert not await call(writer, [("publish", "plain", {"data": 20_000})] * 10)
        took = await server.echo()
        grown = (server.memory().peak - before) / count
    limit = 2 * 64 * 1024 + OUTLET + 2 * 64 * 1024
    measured(
        f"{count} subscribers that do not read 20 MiB of a plain topic",
        f"{limit // 1024} KiB each; an echo within {PROMPT:g} s",
        f"{grown / 1024:.0f} KiB each, {took:.2f} s",
    )
    assert grown < limit
    assert took < PROMPT
