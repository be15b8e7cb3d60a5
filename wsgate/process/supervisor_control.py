"""The commands of the control socket for a supervisor, with those that its workers answer."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Iterable

from wsgate._version import __version__
from wsgate.metrics.samples import Samples, json_parts, read_part
from wsgate.process import commands
from wsgate.process.commands import Arguments, CommandRefused, Part, Table
from wsgate.process.questions import Gone, NoAnswer
from wsgate.process.server_commands import (
    LIVE,
    METRICS,
    MOST_TOPICS,
    TOPICS,
    close_request_of,
    filters_of,
    limit_of,
    log_level_of,
    seconds_away,
    stack_part,
    topic_limit_of,
    topic_pattern_of,
    unknown_id,
)
from wsgate.process.supervisor import Supervisor
from wsgate.process.topic_totals import TopicTotals
from wsgate.process.worker_handle import State, WorkerHandle
from wsgate.server.connection_ids import parse_id
from wsgate.supervision import MOST_WORKERS

RESTART_TIMEOUT = 600  # seconds that a restart is waited for, unless the command says otherwise
_MOST_SECONDS = 86_400
_MORE_TOPICS = 50  # that each worker lists
_STEP = 1.0  # seconds between two lines during a restart: a client that has left is noticed so


class SupervisorControl:
    """Executes the commands for a server with workers.

    Args:
        supervisor: The supervisor.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.began_at = time.monotonic()

    def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        """Yield the parts of the answer. Raises CommandRefused."""
        return commands.parts_of(_COMMANDS, self, name, arguments)

    def find(self, number: int) -> WorkerHandle:
        """Return the worker with a process id or a number. Raises CommandRefused."""
        workers = self.supervisor.workers
        found = [one for one in workers if number in (one.pid, number_of(one))]
        if not found:
            raise CommandRefused(f"there is no worker {number}")
        if len(found) > 1:
            raise CommandRefused(f"{number} is the number of one worker and the pid of another")
        return found[0]

    def check_running(self) -> None:
        """Raise CommandRefused if the server stops."""
        if self.supervisor.state == "stopping":
            raise CommandRefused("the server stops")

    @property
    def serving(self) -> list[WorkerHandle]:
        """The workers that can answer questions."""
        return [one for one in self.supervisor.workers if one.state in _SERVING]


_SERVING = (State.READY, State.STOPPING)


def number_of(worker: WorkerHandle) -> int:
    """Return the number of a worker: a small one, used again when the worker has ended."""
    return worker.row + 1


# -- the supervisor's own commands -----------------------------------------------------------------


async def _status(control: SupervisorControl, _: Arguments) -> AsyncGenerator[Part]:
    """Describe the server and its workers."""
    supervisor = control.supervisor
    yield {
        "server": {
            "version": __version__,
            "pid": os.getpid(),
            "state": supervisor.state,
            "uptime": round(time.monotonic() - control.began_at, 3),
            "target": supervisor.target,
            "listening": supervisor.names,
            "next_start": round(supervisor.pause, 3) or None,
        },
        "workers": [_describe(supervisor, one) for one in supervisor.workers],
    }


def _describe(supervisor: Supervisor, worker: WorkerHandle) -> Part:
    connections, lag = supervisor.load_of(worker)
    is_outdated = worker.is_outdated and worker.state is State.READY
    return {
        "number": number_of(worker),
        "pid": worker.pid,
        "state": "outdated" if is_outdated else worker.state.name.lower(),
        "age": round(asyncio.get_running_loop().time() - worker.started_at, 3),
        "connections": connections,
        "lag": round(lag, 6),
        "version": worker.version,
        "broker_away": seconds_away(supervisor.broker_away_since(worker)),
    }


async def _restart(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Replace all workers. Arguments: wait, for the end of the restart; timeout, in seconds."""
    control.check_running()
    seconds = commands.number(arguments, "timeout", 1, _MOST_SECONDS) or RESTART_TIMEOUT
    supervisor = control.supervisor
    supervisor.hang_up()
    ended = supervisor.restart_ended
    if ended is None:
        raise CommandRefused("the restart could not begin: the log says why")
    yield {"restarting": supervisor.target}
    if not arguments.get("wait"):
        return
    deadline = time.monotonic() + seconds
    while not ended.done():
        if time.monotonic() >= deadline:
            raise CommandRefused(f"the restart is not complete after {seconds} s; it goes on")
        await asyncio.wait([ended], timeout=min(_STEP, deadline - time.monotonic()))
        yield {"waiting": True}
    if (failure := ended.result()) is not None:
        raise CommandRefused(f"the restart has failed: {failure}")
    yield {"restarted": supervisor.target}


async def _scale(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Change the number of workers. Argument: target."""
    control.check_running()
    if (option := control.supervisor.fixed_by) is not None:
        raise CommandRefused(f"the number of workers is fixed: {option} has one")
    target = commands.required(commands.number(arguments, "target", 1, MOST_WORKERS), "target")
    before = control.supervisor.target
    control.supervisor.scale(target)
    yield {"target": target, "before": before}


async def _drain(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Replace one worker, a new one first. Argument: worker, by its pid or number."""
    control.check_running()
    name = commands.required(commands.number(arguments, "worker", 1, commands.MOST), "worker")
    worker = control.find(name)
    if worker.state is not State.READY:
        raise CommandRefused(f"worker {name} is {worker.state.name.lower()}")
    control.supervisor.replace(worker)
    yield {"draining": worker.pid}


# -- commands that workers answer ------------------------------------------------------------------


async def _list_connections(
    control: SupervisorControl, arguments: Arguments
) -> AsyncGenerator[Part]:
    """List the connections of all workers, or of one. Arguments: worker, and those of a worker."""
    filters_of(arguments)
    limit = limit_of(arguments)
    name = commands.number(arguments, "worker", 1, commands.MOST)
    asked = control.serving if name is None else [control.find(name)]
    total = listed = 0
    unanswered: list[int] = []
    async with contextlib.aclosing(_answers(asked, "connections", arguments, unanswered)) as parts:
        async for part in parts:
            total += part.get("total", 0)
            page = part.get("connections", [])
            if limit is not None:
                page = page[: limit - listed]
            if page:
                listed += len(page)
                yield {"connections": page}
    yield {"total": total, "listed": listed, "unanswered": unanswered}


async def _answers(
    workers: Iterable[WorkerHandle], command: str, arguments: Arguments, unanswered: list[int]
) -> AsyncGenerator[Part]:
    """Ask several workers at once and yield the parts of their answers, worker by worker.

    Args:
        workers: Whom to ask. One without a process id has no connections yet.
        command: For what.
        arguments: Of the command.
        unanswered: Gets the pids of the workers that do not answer, or only in part.
    """
    with contextlib.ExitStack() as asked:
        known = [(one, one.pid) for one in workers if one.pid is not None]
        questions = [(one, pid, one.asker.ask(command, arguments)) for one, pid in known]
        for *_, question in questions:
            asked.callback(question.drop)
        for worker, pid, question in questions:
            try:
                async with contextlib.aclosing(question.parts()) as parts:
                    async for part in parts:
                        yield part
            except Gone:  # it has ended meanwhile, with its connections
                if worker.was_killed:  # because it was blocked: it has not said what it had
                    unanswered.append(pid)
            except NoAnswer:
                unanswered.append(pid)


async def _list_topics(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """List the topics of all workers. Arguments: those of a worker.

    Each worker lists some more: what is in the middle on each may be the first one over all.
    """
    limit = topic_limit_of(arguments)
    asked = {"topic": topic_pattern_of(arguments), "limit": min(limit + _MORE_TOPICS, MOST_TOPICS)}
    totals = TopicTotals()
    unanswered: list[int] = []
    answers = _answers(control.serving, TOPICS, asked, unanswered)
    async with contextlib.aclosing(answers) as parts:
        async for part in parts:
            totals.add(part)
    for part in totals.parts(limit, unanswered):
        yield part


async def _read_metrics(control: SupervisorControl, _: Arguments) -> AsyncGenerator[Part]:
    """Yield the metrics of all workers together, in parts.

    A worker that does not answer counts as it has answered last.
    """
    samples = control.supervisor.samples
    if samples is None:
        raise CommandRefused("there are no metrics: start the server with --metrics")
    asked = {one.pid: one for one in control.serving}
    found: dict[int, list[Samples]] = {}
    async with contextlib.aclosing(_answers(asked.values(), METRICS, {}, [])) as parts:
        async for part in parts:
            pid = part["worker"]
            found.setdefault(pid, []).extend(read_part(part["samples"]))
            if part["is_last"]:
                samples.keep(asked[pid], found[pid])
    for page in json_parts(samples.all(control.supervisor.workers, control.supervisor.target)):
        yield {"samples": page}


async def _read_live(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Yield what happens now in each worker. Argument: since, as of a worker."""
    async with contextlib.aclosing(_answers(control.serving, LIVE, arguments, [])) as parts:
        async for part in parts:
            yield part


async def _show_stacks(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Show what the event loops of all workers do, or that of one. Arguments: worker, tasks.

    A worker that does not answer, or that still starts, is asked by a signal.
    """
    name = commands.number(arguments, "worker", 1, commands.MOST)
    asked = list(control.supervisor.workers) if name is None else [control.find(name)]
    silent: list[int] = []
    async with contextlib.aclosing(_answers(asked, "stack", arguments, silent)) as parts:
        async for part in parts:
            yield part
    blocked = [(pid, one) for one in asked if (pid := one.pid) is not None and pid in silent]
    stacks = await asyncio.gather(*(one.read_stack() for _, one in blocked))
    for (pid, _), stack in zip(blocked, stacks, strict=True):
        if stack:
            silent.remove(pid)
            yield stack_part(pid, stack, is_blocked=True)
    yield {"unanswered": silent}


async def _close(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Pass the command on to the worker that the id names."""
    close_request_of(arguments)
    name = commands.required(commands.text(arguments, "id"), "id")
    parsed = parse_id(name)
    serving = [one for one in control.serving if parsed and one.pid == parsed.process]
    worker = serving[0] if serving else None
    if worker is None:
        raise unknown_id(name)
    unanswered: list[int] = []
    async with contextlib.aclosing(_answers([worker], "close", arguments, unanswered)) as parts:
        async for part in parts:
            yield part
            return
    if unanswered:
        raise CommandRefused(f"worker {worker.pid} does not answer")
    raise unknown_id(name)  # the worker has ended meanwhile


async def _set_log_level(control: SupervisorControl, arguments: Arguments) -> AsyncGenerator[Part]:
    """Set the level of the supervisor and of all workers.

    A worker that starts, or does not answer, sets it as soon as its event loop runs.
    """
    level = log_level_of(arguments)
    supervisor = control.supervisor
    supervisor.set_log_level(level)
    for worker in supervisor.workers:
        if worker.state is State.STARTING:
            worker.asker.tell("log-level", arguments)
    unanswered: list[int] = []
    async with contextlib.aclosing(
        _answers(control.serving, "log-level", arguments, unanswered)
    ) as parts:
        async for _ in parts:
            pass
    for worker in supervisor.workers:
        if worker.pid in unanswered:
            worker.asker.tell("log-level", arguments)
    yield {"log_level": level, "unanswered": unanswered}


_COMMANDS: Table[SupervisorControl] = {
    "status": _status,
    "restart": _restart,
    "scale": _scale,
    "drain": _drain,
    "connections": _list_connections,
    TOPICS: _list_topics,
    "close": _close,
    "stack": _show_stacks,
    METRICS: _read_metrics,
    LIVE: _read_live,
    "log-level": _set_log_level,
}
