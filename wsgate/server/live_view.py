"""What an operator sees live of one worker: the latest ends, busy topics and slow readers."""

import heapq
from typing import TYPE_CHECKING, Any

from wsgate.server.connection_list import LONGEST_PATH, address_text, item_of, path_text
from wsgate.server.iteration import each

if TYPE_CHECKING:
    from wsgate.metrics.meter import Ended, Meter
    from wsgate.server.worker import Worker

MOST_TOPICS = 10
MOST_READERS = 10


async def read_live(worker: "Worker", meter: "Meter", since: int) -> dict[str, Any]:
    """Return what happens on a worker now, and which WebSockets have ended.

    Args:
        worker: The worker.
        meter: Its meter.
        since: The number of the latest end that is known; 0 for none.
    """
    ended = [one for one in meter.ended if one.number > since]
    topics = worker.topics
    return {
        "worker": worker.process,
        "number": meter.ended[-1].number if meter.ended else 0,
        "closes": [_describe(worker.process, one) for one in ended],
        "topics": [
            {**busy._asdict(), "subscribers": topics.subscribers(busy.topic)}
            for busy in meter.activity.busiest(MOST_TOPICS)
        ],
        "slow": await _slowest(worker),
    }


def _describe(process: int, ended: "Ended") -> dict[str, Any]:
    event = ended.event
    return {
        "at": round(ended.at, 3),
        "worker": process,
        "connection": event.connection,
        "client": None if event.client is None else address_text(*event.client),
        "path": path_text(event.target.partition(b"?")[0])[:LONGEST_PATH],
        "code": event.code,
        "reason": event.reason,
        "initiator": event.initiator,
        "cause": event.cause.value,
        "sentence": event.sentence,
        "duration": round(event.duration, 3),
        "received_messages": event.received_messages,
        "sent_messages": event.sent_messages,
    }


async def _slowest(worker: "Worker") -> list[dict[str, Any]]:
    """Return the connections for which most bytes wait."""
    waiting = [
        (unsent, id(one), one)
        async for one in each(worker.connections)
        if (unsent := one.unsent_bytes)
    ]
    slowest = heapq.nlargest(MOST_READERS, waiting)
    return [item_of(worker, one, one.info()) for *_, one in slowest if one in worker.connections]
