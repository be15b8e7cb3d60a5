"""The commands that one server executes: alone, or as a worker for its supervisor."""

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from ipaddress import ip_network
from typing import TYPE_CHECKING, get_args

from wsgate import loggers
from wsgate.config import LogLevel
from wsgate.metrics.samples import json_parts
from wsgate.observe import log_files
from wsgate.process import commands, metering
from wsgate.process.commands import Arguments, CommandRefused, Part, Table
from wsgate.server import live_view, stacks
from wsgate.server.close_request import AlreadyClosing, CloseRequest
from wsgate.server.connection_list import ConnectionList, Filters
from wsgate.server.topic_list import TopicList

if TYPE_CHECKING:
    from wsgate.metrics.meter import Meter
    from wsgate.process.server import Server

MOST_LISTED = 10**9  # the largest limit of a list
MOST_TOPICS = 1_000  # the largest limit of a list of topics
TOPICS_LISTED = 50  # without a limit
MOST_TASKS = 100  # whose stacks are shown


class ServerCommands:
    """Executes the commands of this module for a supervisor.

    Args:
        server: The server.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server

    def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        """Yield the parts of the answer. Raises CommandRefused."""
        return commands.parts_of(_WORKER_COMMANDS, self._server, name, arguments)


# -- connections -----------------------------------------------------------------------------------


async def list_connections(server: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Yield pages of connections, and then how many there are.

    Arguments: path, a pattern; address, of a client or a network; limit, 0 for all.
    """
    connections, listed = ConnectionList(server.worker, filters_of(arguments)), 0
    async for page in connections.pages(limit_of(arguments)):
        listed += len(page)
        yield {"connections": page}
    yield {"total": connections.total, "listed": listed, "unanswered": []}


def limit_of(arguments: Arguments) -> int | None:
    """Return how many connections are to be listed, None for all: without a limit, or with 0."""
    return commands.number(arguments, "limit", 0, MOST_LISTED) or None


def filters_of(arguments: Arguments) -> Filters:
    """Return the filters that a list of connections has."""
    address = commands.text(arguments, "address")
    path = commands.text(arguments, "path")
    if address is None:
        return Filters(path)
    try:
        return Filters(path, ip_network(address, strict=False))
    except ValueError:
        raise CommandRefused(f"{address!r} is neither an address nor a network") from None


async def close_connection(server: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Close a connection: an open WebSocket with a Close frame, any other at once.

    Arguments: id, of the connection; code and reason, of the Close frame.
    """
    request = close_request_of(arguments)
    name = commands.required(commands.text(arguments, "id"), "id")
    connection = server.worker.find_connection(name)
    if connection is None:
        raise unknown_id(name)
    try:
        yield {"closed": name, "code": request.close(connection)}
    except AlreadyClosing:
        raise CommandRefused(f"{name} is already closing") from None


def close_request_of(arguments: Arguments) -> CloseRequest:
    """Return what a Close frame is to contain. Raises CommandRefused."""
    code = commands.number(arguments, "code", 0, commands.MOST)
    reason = commands.text(arguments, "reason") or ""
    request = CloseRequest(reason=reason) if code is None else CloseRequest(code, reason)
    if (problem := request.problem) is not None:
        raise CommandRefused(problem)
    return request


def unknown_id(name: str) -> CommandRefused:
    """Return the refusal of an id that no open connection has."""
    return CommandRefused(f"there is no connection {name!r}")


async def note_reconnect(server: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Note that a client has connected again to another worker.

    Arguments: previous and connection, the ids of its connections.
    """
    reconnects = server.worker.reconnects
    if reconnects is not None:
        yield {"noted": reconnects.note_reconnect(arguments["previous"], arguments["connection"])}


# -- topics ----------------------------------------------------------------------------------------


async def list_topics(server: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Yield pages of the topics with the most subscribers on this worker, and then its totals.

    Arguments: topic, a pattern; limit.
    """
    topics = TopicList()
    await topics.read(server.worker, topic_pattern_of(arguments), topic_limit_of(arguments))
    for page in topics.pages(server.worker):
        yield {"worker": os.getpid(), "topics": page}
    yield {
        "worker": os.getpid(),
        "total": topics.total,
        "listed": topics.listed,
        "subscriptions": topics.subscriptions,
    }


def topic_pattern_of(arguments: Arguments) -> str | None:
    """Return the pattern of the topics that are listed, None for all. Raises CommandRefused."""
    return commands.text(arguments, "topic")


def topic_limit_of(arguments: Arguments) -> int:
    """Return how many topics are listed. Raises CommandRefused."""
    return commands.number(arguments, "limit", 1, MOST_TOPICS) or TOPICS_LISTED


# -- what the event loop does ----------------------------------------------------------------------


async def show_stack(_: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Yield what the event loop does now. Argument: tasks, to have where its tasks wait."""
    stack = await stacks.loop_stack()
    if not arguments.get("tasks"):
        yield stack_part(os.getpid(), stack)
        return
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    shown = [
        (one.get_name(), stacks.task_stack(one)) for one in itertools.islice(tasks, MOST_TASKS)
    ]
    yield stack_part(os.getpid(), stack) | {"tasks": len(tasks)}
    for name, calls in shown:
        yield {"worker": os.getpid(), "task": name, "stack": calls}


def stack_part(process: int, stack: list[str], *, is_blocked: bool = False) -> Part:
    """Return the part of an answer that has the stack of an event loop's thread."""
    return {"worker": process, "blocked": is_blocked, "stack": stack, "tasks": None}


# -- monitoring -----------------------------------------------------------------------------------


def meter_of(server: "Server") -> "Meter":
    """Return the meter of a server. Raises CommandRefused if it has none."""
    if (meter := server.worker.meter) is None:
        raise CommandRefused("there are no metrics: start the server with --metrics")
    return meter


def seconds_away(away_since: float | None) -> float | None:
    """Return for how many seconds a broker is away, None if it is there."""
    if away_since is None:
        return None
    return round(max(asyncio.get_running_loop().time() - away_since, 0.0), 3)


async def read_metrics(server: "Server", _: Arguments) -> AsyncGenerator[Part]:
    """Yield what this worker has counted, in parts."""
    for part in json_parts(await metering.read_samples(server.worker, meter_of(server))):
        yield {"worker": os.getpid(), "samples": part, "is_last": False}
    yield {"worker": os.getpid(), "samples": [], "is_last": True}


async def read_live(server: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Yield what happens now. Argument: since, by pid of a worker, the last end that is known."""
    since = arguments.get("since")
    known = since.get(str(os.getpid()), 0) if isinstance(since, dict) else 0
    meter = meter_of(server)
    yield await live_view.read_live(server.worker, meter, known if isinstance(known, int) else 0)


# -- the log ---------------------------------------------------------------------------------------


async def set_log_level(_: "Server", arguments: Arguments) -> AsyncGenerator[Part]:
    """Set the level of the log. Argument: level."""
    level = log_level_of(arguments)
    loggers.set_level(level)
    yield {"log_level": level}


def log_level_of(arguments: Arguments) -> LogLevel:
    """Return the level that is asked for. Raises CommandRefused."""
    level = commands.required(commands.text(arguments, "level"), "level").lower()
    levels: tuple[LogLevel, ...] = get_args(LogLevel)
    for known in levels:
        if level == known:
            return known
    raise CommandRefused(f"{level!r} is not a level: one of {', '.join(levels)}")


async def reopen_logs(_: "Server", __: Arguments) -> AsyncGenerator[Part]:
    """Reopen the log files that were moved."""
    yield {"reopened": log_files.reopen_moved()}


TOPICS = "topics"
LIVE = "live"
METRICS = "metrics"
REOPEN_LOGS = "reopen-logs"
RECONNECTED = "reconnected"
SERVER_COMMANDS: Table["Server"] = {
    "connections": list_connections,
    "close": close_connection,
    "stack": show_stack,
    "log-level": set_log_level,
    LIVE: read_live,
}
_WORKER_COMMANDS = {
    **SERVER_COMMANDS,
    TOPICS: list_topics,
    REOPEN_LOGS: reopen_logs,
    METRICS: read_metrics,
    RECONNECTED: note_reconnect,
}
