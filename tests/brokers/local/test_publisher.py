"""Publishing to the hub from another program: `Publisher("local:/path")`."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.hubs import Machine, listen
from tests.harness.log import capture_log
from tests.harness.waiting import until
from wsgate.topics import LimitReached, Publisher, SyncPublisher, Unavailable


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "hub.sock")
    try:
        async with asyncio.timeout(60):
            yield machine
    finally:
        await machine.stop()


def url_of(machine: Machine) -> str:
    return f"local:{machine.path}"


async def test_subscribers_get_what_is_published(machine: Machine) -> None:
    await machine.start_hub()
    worker = await machine.worker("room", "plain")
    async with Publisher(url_of(machine)) as publisher:
        assert await publisher.publish("room", "kept", id="1") == "1"
        made = await publisher.publish("room", b"bytes")
        assert made is not None
        assert await publisher.publish("room", "live", keep=False) is None
        assert await publisher.publish("plain", "plain", id="2") is None
    await worker.has("room", "kept", b"bytes", "live")
    await worker.has("plain", "plain")
    assert [one.id for one in worker.worker.publications] == ["1", made, None, None]
    missed = await worker.broker.missed("room", "1", 0)
    assert [(one.id, one.data) for one in missed.publications] == [(made, b"bytes")]


async def test_an_id_that_the_history_holds_is_one_message(machine: Machine) -> None:
    await machine.start_hub()
    worker = await machine.worker("room")
    async with Publisher(url_of(machine)) as publisher:
        for _ in range(2):
            assert await publisher.publish("room", "once", id="1") == "1"
        await publisher.publish("room", "next", id="2")
    await worker.has("room", "once", "next")


async def test_a_message_that_is_too_large(machine: Machine) -> None:
    await machine.start_hub(max_bytes=100)
    await machine.worker("room")
    async with Publisher(url_of(machine)) as publisher:
        with pytest.raises(LimitReached, match="above the limit"):
            await publisher.publish("room", "x" * 101)


async def test_a_publish_waits_for_the_hub_and_the_rules_of_a_worker(machine: Machine) -> None:
    async with Publisher(url_of(machine), timeout=30) as publisher:
        waiting = asyncio.ensure_future(publisher.publish("room", "early", id="1"))
        await machine.start_hub()
        worker = await machine.worker()
        assert await waiting == "1"
        missed = await worker.broker.missed("room", None, 9)
        assert [one.data for one in missed.publications] == ["early"]


async def fails(machine: Machine, reason: str) -> None:
    """Check that a publish fails, and for this reason after an attempt to connect has failed."""
    text = re.escape(f"the topics hub did not answer within 0.05 s{reason}")
    with capture_log() as log:
        async with Publisher(url_of(machine), timeout=0.05) as publisher:
            await until(lambda: log.warnings or not reason)
            with pytest.raises(Unavailable, match=f"^{text}$"):
                await publisher.publish("room", "text")


async def test_a_path_where_nothing_listens_is_named(machine: Machine) -> None:
    await fails(machine, f": nothing listens at {machine.path}")
    listen(machine.path).close()  # as a server that was killed: the file is left
    await fails(machine, f": nothing listens at {machine.path}")


async def test_a_hub_that_says_nothing_is_no_wrong_path(machine: Machine) -> None:
    with listen(machine.path):
        await fails(machine, "")


async def test_without_async(machine: Machine) -> None:
    await machine.start_hub()
    worker = await machine.worker("room")

    def publish() -> str | None:
        with SyncPublisher(url_of(machine)) as publisher:
            return publisher.publish("room", "text", id="1")

    assert await asyncio.to_thread(publish) == "1"
    await worker.has("room", "text")
