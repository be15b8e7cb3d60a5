"""Servers for tests: one on a free port, and one in memory with a clock that a test sets."""

from wsgate.testing.live import LiveServer, serve
from wsgate.testing.memory import ManualClock, MemoryClient, connect

__all__ = ["LiveServer", "ManualClock", "MemoryClient", "connect", "serve"]
