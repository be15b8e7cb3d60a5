"""Memory and time of many topics and subscriptions in one worker, without its sockets.

    python -m benchmarks.subscriptions

It prints one line of JSON with the figures.
"""

import asyncio
import contextvars
import gc
import json
import os
import statistics
import time
from collections.abc import Coroutine, Iterable
from typing import Any

import uvloop

from benchmarks.measure import resident_bytes
from wsgate import Config
from wsgate.brokers.memory import MemoryBroker
from wsgate.server.topic_service import TopicService

TOPICS = 100_000
EACH = 5  # subscriptions to each topic
FEW = 1000  # subscriptions
SOCKETS = 1000
PROBES = 1000

# The further columns of the table, by the key in the results.
COLUMNS = {
    "topic_bytes": "Bytes for a topic with one",
    "more_bytes": "For one more",
    "silent_bytes": "For a topic without any",
    "subscribe_us": f"To subscribe, us, at {FEW:,}",
    "subscribe_last_us": f"At {TOPICS * EACH:,}",
    "unsubscribe_us": f"To unsubscribe, us, at {FEW:,}",
    "unsubscribe_last_us": f"At {TOPICS * EACH:,}",
}


class Socket:
    """Stands in for an open WebSocket."""

    def check_can_subscribe(self) -> None:
        """Allow it."""


class Never:
    """A scheduler of a broker that has nothing to do later."""

    def schedule(self, item: MemoryBroker, at: float) -> None:
        """Do nothing."""


def pairs() -> list[tuple[Socket, str]]:
    """Return who subscribes what: each topic has one subscriber before any has two."""
    sockets = [Socket() for _ in range(SOCKETS)]
    names = [f"room:{number}" for number in range(TOPICS)]
    return [
        (sockets[(number * EACH + turn) % SOCKETS], name)
        for turn in range(EACH)
        for number, name in enumerate(names)
    ]


async def measure() -> dict[str, float]:
    """Return the figures."""
    loop = asyncio.get_running_loop()
    broker = MemoryBroker(loop.time, Never(), max_bytes=2**28)
    service = TopicService(Config(), broker, contextvars.copy_context)
    await service.start()
    todo = pairs()
    rest = _resident()
    await _subscribe(service, todo[:FEW])
    few = await _probe(service)
    await _subscribe(service, todo[FEW:TOPICS])
    one_each = _resident()
    await _subscribe(service, todo[TOPICS:])
    all_there = _resident()
    many = await _probe(service)
    before = _resident()
    for number in range(TOPICS):
        await service.publish(f"silent:{number}", "", None, None, is_kept=True)
    silent = _resident()
    await service.stop()
    return {
        "bytes": round((all_there - rest) / len(todo)),
        "topic_bytes": round((one_each - rest) / TOPICS),
        "more_bytes": round((all_there - one_each) / (len(todo) - TOPICS)),
        "silent_bytes": round((silent - before) / TOPICS),
        "subscribe_us": few[0],
        "subscribe_last_us": many[0],
        "unsubscribe_us": few[1],
        "unsubscribe_last_us": many[1],
    }


async def _subscribe(service: TopicService, todo: Iterable[tuple[Socket, str]]) -> None:
    for socket, topic in todo:
        await service.subscribe(socket, topic, None, 0, None)  # type: ignore[arg-type]


async def _probe(service: TopicService) -> tuple[float, float]:
    """Subscribe a socket to topics that others have, and unsubscribe it.

    Returns:
        Microseconds for each, the medians.
    """
    socket: Any = Socket()
    topics = [f"room:{number}" for number in range(PROBES)]
    subscribing = [
        await _timed(service.subscribe(socket, topic, None, 0, None)) for topic in topics
    ]
    unsubscribing = [await _timed(service.unsubscribe(socket, topic)) for topic in topics]
    return _median(subscribing), _median(unsubscribing)


async def _timed(work: Coroutine[Any, Any, object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def _median(times: list[float]) -> float:
    return round(statistics.median(times) * 1e6, 2)


def _resident() -> int:
    gc.collect()
    return resident_bytes([os.getpid()])


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure())))
