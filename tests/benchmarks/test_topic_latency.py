"""The measurement of messages from one worker to another."""

import asyncio

import pytest

from benchmarks import topic_latency
from tests.harness.processes import running


async def test_a_message_goes_from_one_worker_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_latency, "MESSAGES", 20)
    async with running("benchmarks.app:app", "--workers", "2", "--no-access-log") as server:
        found = await asyncio.to_thread(topic_latency.measure, server.port)
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]


async def test_a_server_without_topics_is_a_failure() -> None:
    with pytest.raises(topic_latency.Failed, match="no answer: ConnectionRefusedError"):
        await asyncio.to_thread(topic_latency.measure, 1)
