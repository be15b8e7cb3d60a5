"""What a worker is at one moment: what is open, what waits, and the counters of its topics."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from wsgate.brokers.broker import BrokerState
from wsgate.metrics import families as f
from wsgate.metrics.families import Family
from wsgate.metrics.readings import Readings
from wsgate.server.iteration import AT_ONCE
from wsgate.server.worker_state import read_state
from wsgate.topics.counts import SLOW_SUBSCRIBER, Counts


def fake_websocket(*, is_slow: bool = False, to_app: int = 0, to_client: int = 0) -> Any:
    gate = SimpleNamespace(is_shut=is_slow)
    return SimpleNamespace(gate=gate, waiting_messages=(to_app, to_client))


def fake_worker(**parts: Any) -> Any:
    """Return a worker without anything, but for these parts."""
    topics = SimpleNamespace(local_topics=[], counts=Counts(), broker_state=BrokerState())
    empty: dict[str, Any] = {
        "connections": [],
        "exchanges": {},
        "websockets": {},
        "admission": SimpleNamespace(refused_total=0),
        "topics": topics,
    }
    return SimpleNamespace(**{**empty, **parts})


def values(readings: Readings, family: Family) -> dict[tuple[str, ...], float]:
    """Return the numbers of a family by the values of their labels."""
    return {
        tuple(labels.values()): value
        for one in readings.samples()
        for name, labels, value in one.values
        if name == family.name
    }


async def test_the_bytes_of_all_write_buffers_are_added() -> None:
    connections = [SimpleNamespace(unsent_bytes=size) for size in (0, 1000, 24)]
    readings = await read_state(fake_worker(connections=connections))
    assert values(readings, f.WRITE_BUFFER) == {(): 1024}
    assert values(readings, f.CONNECTIONS) == {(): 3}


async def test_queues_and_slow_consumers() -> None:
    websockets = [
        fake_websocket(),
        fake_websocket(is_slow=True, to_client=7),
        fake_websocket(is_slow=True, to_client=2),
        fake_websocket(to_app=3),
    ]
    readings = await read_state(fake_worker(websockets=dict(enumerate(websockets))))
    assert values(readings, f.SLOW) == {(): 2}
    assert values(readings, f.QUEUED) == {("receive",): 3, ("outlet",): 9}


async def test_calls_of_the_app_and_refused_connections() -> None:
    worker = fake_worker(
        exchanges=dict.fromkeys("abc"),
        websockets={"d": fake_websocket()},
        admission=SimpleNamespace(refused_total=5),
    )
    readings = await read_state(worker)
    assert values(readings, f.CALLS) == {("http",): 3, ("websocket",): 1}
    assert values(readings, f.CONNECTIONS_REFUSED) == {(): 5}


async def test_topics_and_their_counters() -> None:
    worker = fake_worker()
    worker.topics.local_topics = [range(3), range(1)]  # as many subscribers
    counts = worker.topics.counts
    counts.published, counts.delivered, counts.closed_slow = 4, 5, 6
    counts.recovered, counts.incomplete = 7, 8
    readings = await read_state(worker)
    assert values(readings, f.TOPICS) == {(): 2}
    assert values(readings, f.SUBSCRIPTIONS) == {(): 4}
    assert values(readings, f.PUBLISHED) == {(): 4}
    assert values(readings, f.DELIVERED) == {(): 5}
    assert values(readings, f.CLOSED_SLOW) == {(): 6}
    assert values(readings, f.RECOVERIES) == {("true",): 7, ("false",): 8}


async def test_drops_are_there_before_they_happen_and_brokers_have_further_causes() -> None:
    worker = fake_worker()
    none = {("slow subscriber",): 0.0, ("slow listener",): 0.0, ("error",): 0.0}
    assert values(await read_state(worker), f.DROPPED) == none
    worker.topics.counts.dropped.update({SLOW_SUBSCRIBER: 2, "hub": 1})
    found = values(await read_state(worker), f.DROPPED)
    assert found == {**none, ("slow subscriber",): 2, ("hub",): 1}


@pytest.mark.parametrize(
    ("state", "is_up", "lag"),
    [
        (BrokerState(), 1, {}),
        (BrokerState(lag=0.25, reconnects=3), 1, {(): 0.25}),
        (BrokerState(away_since=0.0, reconnects=3), 0, {}),
    ],
)
async def test_the_broker(state: BrokerState, is_up: int, lag: dict[Any, float]) -> None:
    worker = fake_worker()
    worker.topics.broker_state = state
    readings = await read_state(worker)
    assert values(readings, f.BROKER_UP) == {(): is_up}
    assert values(readings, f.BROKER_LAG) == lag
    assert values(readings, f.BROKER_RECONNECTS) == {(): state.reconnects}


async def test_the_loop_runs_in_between_for_many_connections() -> None:
    iterations = 0

    async def count_iterations() -> None:
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    many = [SimpleNamespace(unsent_bytes=1) for _ in range(4 * AT_ONCE)]
    websockets = {number: fake_websocket(to_app=1) for number in range(3 * AT_ONCE)}
    worker = fake_worker(connections=many, websockets=websockets)
    worker.topics.local_topics = [range(1)] * (2 * AT_ONCE)
    counting = asyncio.create_task(count_iterations())
    before = iterations  # an eager task has begun
    readings = await read_state(worker)
    counting.cancel()
    assert iterations - before == 4 + 3 + 2
    assert values(readings, f.WRITE_BUFFER) == {(): 4 * AT_ONCE}
    assert values(readings, f.SUBSCRIPTIONS) == {(): 2 * AT_ONCE}
