"""What a worker is at one moment, as samples: what is open, what waits, counters of topics."""

from typing import TYPE_CHECKING

from wsgate.metrics import families as f
from wsgate.metrics.readings import Readings
from wsgate.server.iteration import each
from wsgate.topics.counts import DROP_CAUSES

if TYPE_CHECKING:
    from wsgate.server.topic_service import TopicService
    from wsgate.server.worker import Worker

# Drops are exposed before they happen: else the first increase is not seen.
_NO_DROPS = dict.fromkeys(DROP_CAUSES, 0)


async def read_state(worker: "Worker") -> Readings:
    """Return what a worker is. The event loop runs in between if there are many connections."""
    readings = Readings()
    await _add_waiting(worker, readings)
    readings.set(f.CONNECTIONS, len(worker.connections))
    readings.set(f.CALLS, len(worker.exchanges), type="http")
    readings.set(f.CALLS, len(worker.websockets), type="websocket")
    readings.set(f.CONNECTIONS_REFUSED, worker.admission.refused_total)
    readings.set(f.TOPICS, len(worker.topics.local_topics))
    readings.set(f.SUBSCRIPTIONS, await _count_subscriptions(worker.topics))
    _add_topics(worker.topics, readings)
    return readings


async def _add_waiting(worker: "Worker", readings: Readings) -> None:
    """Add what waits for clients and for the app: summed over some iterations, so not exact."""
    unsent = slow = received = published = 0
    async for connection in each(worker.connections):
        unsent += connection.unsent_bytes
    async for websocket in each(worker.websockets.values()):
        slow += websocket.gate.is_shut
        to_app, to_client = websocket.waiting_messages
        received, published = received + to_app, published + to_client
    readings.set(f.WRITE_BUFFER, unsent)
    readings.set(f.SLOW, slow)
    readings.set(f.QUEUED, received, queue="receive")
    readings.set(f.QUEUED, published, queue="outlet")


async def _count_subscriptions(topics: "TopicService") -> int:
    count = 0
    async for topic in each(topics.local_topics):
        count += len(topic)
    return count


def _add_topics(topics: "TopicService", readings: Readings) -> None:
    counts, broker = topics.counts, topics.broker_state
    readings.set(f.PUBLISHED, counts.published)
    readings.set(f.DELIVERED, counts.delivered)
    for cause, number in {**_NO_DROPS, **counts.dropped}.items():
        readings.set(f.DROPPED, number, cause=cause)
    readings.set(f.CLOSED_SLOW, counts.closed_slow)
    readings.set(f.RECOVERIES, counts.recovered, complete="true")
    readings.set(f.RECOVERIES, counts.incomplete, complete="false")
    readings.set(f.BROKER_UP, int(broker.away_since is None))
    if broker.lag is not None:
        readings.set(f.BROKER_LAG, broker.lag)
    readings.set(f.BROKER_RECONNECTS, broker.reconnects)
