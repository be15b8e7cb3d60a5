"""Servers for tests: live on a free port, with workers, and in memory with a clock of the test."""

from wsgate.testing.live import LiveServer, serve
from wsgate.testing.memory import ManualClock, MemoryClient, connect
from wsgate.testing.workers import WorkersServer, workers

__all__ = [
    "LiveServer",
    "ManualClock",
    "MemoryClient",
    "WorkersServer",
    "connect",
    "serve",
    "workers",
]
