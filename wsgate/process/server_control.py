"""The commands of the control socket for a server without workers."""

import os
import threading
import time
from collections.abc import AsyncGenerator

from wsgate._version import __version__
from wsgate.metrics.samples import json_parts
from wsgate.process import commands, metering
from wsgate.process.commands import Arguments, CommandRefused, Part, Table
from wsgate.process.server import Server
from wsgate.process.server_commands import (
    METRICS,
    SERVER_COMMANDS,
    TOPICS,
    list_connections,
    list_topics,
    meter_of,
    seconds_away,
    show_stack,
    stack_part,
    topic_limit_of,
)
from wsgate.process.topic_totals import TopicTotals
from wsgate.server.stacks import thread_stack
from wsgate.supervision import ONE_PROCESS


class ServerControl:
    """Executes the commands for one server, which counts as its only worker.

    It is made in the thread of the event loop.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.began_at = time.monotonic()
        self._thread = threading.get_ident()

    def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        """Yield the parts of the answer. Raises CommandRefused."""
        if name in _FOR_WORKERS:
            raise CommandRefused(f"{name} is for workers: {ONE_PROCESS}")
        if name in _OWN:
            return commands.parts_of(_OWN, self, name, arguments)
        return commands.parts_of(SERVER_COMMANDS, self.server, name, arguments)

    def answer_blocked(self, name: str, arguments: Arguments) -> list[Part]:
        """Return the answer while the event loop is blocked. Thread-safe. Raises CommandRefused."""
        if name != "stack":
            raise CommandRefused("the event loop is blocked: `wsgate ctl stack` shows by what")
        _check_worker(arguments)
        stack = thread_stack(self._thread)
        return [stack_part(os.getpid(), stack, is_blocked=True), {"unanswered": []}]


def _check_worker(arguments: Arguments) -> None:
    """Raise CommandRefused if the argument worker names another process."""
    worker = commands.number(arguments, "worker", 1, commands.MOST)
    if worker not in (None, 1, os.getpid()):
        raise CommandRefused(f"there is no worker {worker}")


async def _status(control: ServerControl, _: Arguments) -> AsyncGenerator[Part]:
    """Describe the server."""
    server, age = control.server, round(time.monotonic() - control.began_at, 3)
    yield {
        "server": {
            "version": __version__,
            "pid": os.getpid(),
            "state": server.state,
            "uptime": age,
            "target": 1,
            "listening": server.names,
            "next_start": None,
        },
        "workers": [
            {
                "number": 1,
                "pid": os.getpid(),
                "state": server.state,
                "age": age,
                "connections": len(server.worker.connections),
                "lag": round(server.worker.lag, 6),
                "version": __version__,
                "broker_away": seconds_away(server.worker.topics.broker_state.away_since),
            }
        ],
    }


async def _list_connections(control: ServerControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """List the connections, as a supervisor does."""
    _check_worker(arguments)
    async for part in list_connections(control.server, arguments):
        yield part


async def _list_topics(control: ServerControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """List the topics, as a supervisor does."""
    totals = TopicTotals()
    async for part in list_topics(control.server, arguments):
        totals.add(part)
    for part in totals.parts(topic_limit_of(arguments), []):
        yield part


async def _show_stack(control: ServerControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Show what the event loop does, as a supervisor does."""
    _check_worker(arguments)
    async for part in show_stack(control.server, arguments):
        yield part
    yield {"unanswered": []}


async def _read_metrics(control: ServerControl, _: Arguments) -> AsyncGenerator[Part]:
    """Yield the metrics of the server, in parts."""
    server = control.server
    meter = meter_of(server)
    samples = await metering.read_server_samples(server.worker, meter, server.state)
    for part in json_parts(samples):
        yield {"samples": part}


_OWN: Table[ServerControl] = {
    "status": _status,
    "connections": _list_connections,
    TOPICS: _list_topics,
    "stack": _show_stack,
    METRICS: _read_metrics,
}
_FOR_WORKERS = {"restart", "scale", "drain"}
