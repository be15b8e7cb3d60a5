"""Clients that lose their network while servers restart; `make bench` has 2,000 of them."""

import asyncio
import signal
from functools import partial
from pathlib import Path

from benchmarks import jitter
from tests.harness.processes import ServerProcess, running
from tests.harness.redis import redis_server

APP = "benchmarks.jitter_app:app"
# Clients that are silent never answer a Close, and a worker that stops waits for them.
STOP = ("--timeout-graceful-shutdown", "0.2")
WORKERS = ("--workers", "2", "--no-access-log", "--restart-parallel")
PLAN = jitter.Plan(clients=100, messages=40, interval=0.05, up=(0.1, 1.0), down=(0.05, 0.5))
START = 60.0  # seconds until four workers have started on a loaded machine


async def restart(server: ServerProcess) -> None:
    """Restart the workers."""
    server.signal(signal.SIGHUP)
    await server.logged("Restarted 2 workers", START)


def check(found: dict[str, float]) -> None:
    """Check that every client has every message once, and was told so."""
    assert found["reconnects"] > PLAN.clients
    assert (found["delivered_percent"], found["failures"]) == (100, 0), found


async def test_over_redis_nothing_is_missing_and_nothing_comes_twice(tmp_path: Path) -> None:
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    async with redis_server(tmp_path, *durable) as redis:

        async def restart_redis() -> None:
            await redis.kill()
            await redis.start()

        async with (
            running(APP, "--no-access-log", *STOP, "--topics", redis.url) as one,
            running(APP, *WORKERS, *STOP, "--topics", redis.url) as two,
        ):
            events: jitter.Events = {10: partial(restart, two), 20: restart_redis}
            check(await jitter.run(PLAN, [one.port, two.port], events))


async def test_over_the_hub_nothing_is_missing_and_nothing_comes_twice() -> None:
    async with running(APP, *WORKERS, *STOP, "--topics", "local:") as server:
        machine = jitter.Machine(server.port, server.pid, 2)
        check(await asyncio.to_thread(jitter.measure, PLAN, [machine], None))
