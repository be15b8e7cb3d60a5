"""What the page of the metrics' address shows of a server that is not there."""

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from wsgate.metrics import families as f
from wsgate.metrics.readings import Readings
from wsgate.metrics.samples import Samples
from wsgate.status.source import Part


class StagedSource:
    """Answers as a server with so many workers, connections and closes would.

    Attributes:
        connections: How many are open.
        sent_a_second: Messages that are sent.
        lags: How often the event loop was late by at most so many seconds, by these seconds.
    """

    def __init__(self, connections: int = 0, closes: int = 0, workers: int = 1) -> None:
        self.connections = connections
        self.sent_a_second = 0.0
        self.lags: Mapping[str, float] = {}
        self._closes = closes
        self._workers = workers

    async def ask(self, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Part]:
        """Yield the answer to a command in one part."""
        if command == "status":
            yield self._status()
        elif command == "metrics":
            yield {"samples": self._samples()}
        elif command == "live":
            yield self._live(arguments["since"])
        elif command == "connections":
            count = self.connections if arguments.get("path") is None else 0
            listed = min(count, arguments["limit"])
            yield {"connections": [_connection(number) for number in range(listed)], "total": count}

    def _status(self) -> Part:
        server = {"state": "ready", "uptime": 90.5, "target": self._workers}
        return {"server": server, "workers": [_worker(n + 1) for n in range(self._workers)]}

    def _samples(self) -> list[Samples]:
        readings = Readings()
        readings.set(f.CLOSED, self._closes, code="1001", initiator="client", cause="client_closed")
        for number in range(self._workers):
            readings.set(f.CONNECTIONS, self.connections / self._workers, worker=str(number + 1))
        readings.set(f.MESSAGES, self.sent_a_second * time.time(), direction="sent")
        return [*readings.samples(), self._lag_samples()]

    def _lag_samples(self) -> Samples:
        name = f.LAG.name
        bounds = [*map(str, f.LAG.bounds), "+Inf"]
        values = [
            (f"{name}_bucket", {"worker": "1", "le": le}, self.lags.get(le, 0.0)) for le in bounds
        ]
        return Samples(name, "histogram", f.LAG.help, "", values)

    def _live(self, since: Mapping[str, int]) -> Part:
        known = since.get("1", 0)
        closes = [_close(number) for number in range(known, self._closes)]
        return {
            "worker": 1,
            "number": self._closes,
            "closes": closes,
            "topics": [{"topic": "t" * 200, "publishes": 1.5, "deliveries": 3e6, "subscribers": 9}],
            "slow": [_connection(0)],
        }


def _worker(number: int) -> Part:
    return {
        "number": number,
        "pid": 1000 + number,
        "state": "ready",
        "age": 90.5,
        "connections": 156,
        "lag": 0.0004,
        "version": "1.0",
        "broker_away": None,
    }


def _connection(number: int) -> Part:
    return {
        "id": f"1001-{number}",
        "worker": 1001,
        "address": f"[2001:db8::{number}]:54321",
        "type": "websocket",
        "path": "/path" * 40,
        "age": 90_000.5,
        "round_trip": 0.0301,
        "received_messages": 1_000_000,
        "received_bytes": 10**9,
        "sent_messages": 0,
        "sent_bytes": 0,
        "unsent_bytes": 70_000,
    }


def _close(number: int) -> Part:
    return {
        "at": 1e9 + number,
        "worker": 1001,
        "connection": f"1001-{number}",
        "client": None,
        "path": "/path" * 40,
        "code": 1001,
        "reason": "r" * 120,
        "initiator": "client",
        "cause": "client_closed",
        "sentence": "the client sent a Close frame",
        "duration": 3600.0,
        "received_messages": 1,
        "sent_messages": 2,
    }
