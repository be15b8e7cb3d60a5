"""Servers for tests: a live one on a free port, and one in memory with a clock turned by hand."""

from wsgate.testing.live import LiveServer, serve
from wsgate.testing.memory import ManualClock, MemoryClient, connect

__all__ = ["LiveServer", "ManualClock", "MemoryClient", "connect", "serve"]
