"""Each broker keeps the promises that wsgate.testing.brokers checks."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from tests.harness.brokers import PRESENCE
from tests.harness.hubs import machine
from tests.harness.redis import redis_server
from wsgate.brokers.local.broker import LocalBroker
from wsgate.brokers.memory import MemoryBroker
from wsgate.brokers.redis.broker import RedisBroker
from wsgate.brokers.redis.url import parse_redis_url
from wsgate.testing.brokers import Check, Make, checks
from wsgate.topics import presence

TIMEOUT = 30.0
MAX_BYTES = 2**20


class LoopScheduler:
    """Calls a broker when something is due, by timers of the loop."""

    def schedule(self, item: MemoryBroker, at: float) -> None:
        if at < math.inf:
            asyncio.get_running_loop().call_at(at, self._check, item)

    def _check(self, item: MemoryBroker) -> None:
        self.schedule(item, item.check(asyncio.get_running_loop().time()))


def make_memory() -> MemoryBroker:
    return MemoryBroker(asyncio.get_running_loop().time, LoopScheduler(), MAX_BYTES)


@pytest_asyncio.fixture
async def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Return what makes a broker of a carrier."""
    monkeypatch.setattr(presence, "GRACE", PRESENCE.grace)
    match cast("str", request.param):
        case "memory":
            yield make_memory
        case "local":
            async with machine(tmp_path) as own:
                yield lambda: LocalBroker(lambda: str(own.path), TIMEOUT, MAX_BYTES)
        case _:
            async with redis_server(tmp_path) as server:
                url = parse_redis_url(server.url)
                yield lambda: RedisBroker(
                    url, publish_timeout=TIMEOUT, max_bytes=MAX_BYTES, presence=PRESENCE
                )


CASES = [
    *(("memory", check) for check in checks(workers=1)),
    *(("local", check) for check in checks()),
    *(("redis", check) for check in checks()),
]


@pytest.mark.parametrize(
    ("make", "check"), CASES, indirect=["make"], ids=[f"{n}-{c.__name__}" for n, c in CASES]
)
async def test_a_broker_keeps_the_promises(make: Make, check: Check) -> None:
    await check(make)
