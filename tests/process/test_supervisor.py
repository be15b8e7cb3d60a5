"""The supervisor of workers that the test plays: unknown process ids, ends, pauses."""

import asyncio
import errno
import logging
import math
import os
import re
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.harness.log import LogCapture, capture_log
from tests.harness.waiting import until
from wsgate.config import Config
from wsgate.process.assignment import Assignment, receive
from wsgate.process.channel import Channel
from wsgate.process.launchers import SpawnLauncher
from wsgate.process.process_end import ProcessEnd
from wsgate.process.program import Program
from wsgate.process.scoreboard import Scoreboard, create_file
from wsgate.process.server import longest_stop
from wsgate.process.supervisor import Supervisor
from wsgate.process.systemd import Notifier
from wsgate.process.worker_handle import State, WorkerHandle
from wsgate.supervision import Supervision

PROGRAM = Program(app="main:app", factory=False, interface="auto", log_config=None, config=Config())


class Forks(SpawnLauncher):
    """Forks nothing. orders: the workers' ends of their channels. killed: how often it was."""

    def __init__(self) -> None:
        self.orders: list[socket.socket] = []
        self.killed = 0

    def launch(self, channel: socket.socket, stacks: int, assignment: Assignment) -> None:
        del stacks, assignment
        self.orders.append(channel.dup())

    def kill(self) -> None:
        self.killed += 1


class World:
    """A supervisor whose workers are never forked, and its log."""

    def __init__(self, log: LogCapture, board: Scoreboard) -> None:
        self.log = log
        self.supervisor = Supervisor(PROGRAM, Supervision(workers="2"), Notifier())
        self.launcher = self.supervisor._launcher = cast("Any", Forks())
        self.supervisor._board = board
        self.supervisor._has_served = True

    def start(self) -> WorkerHandle:
        assert self.supervisor._start()
        return self.supervisor.workers[-1]

    async def ended(self) -> None:
        """Wait for the end of all workers."""
        supervisor = self.supervisor
        await until(lambda: all(worker.is_lost for worker in supervisor.workers))
        supervisor._end_lost_workers()
        await asyncio.wait(supervisor._closing)
        assert supervisor.workers == []


@pytest.fixture
async def world() -> AsyncIterator[World]:
    descriptor = create_file(with_addresses=False)
    with capture_log() as log:
        world = World(log, Scoreboard(descriptor))
        yield world
    for sock in world.launcher.orders:
        sock.close()
    os.close(descriptor)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_worker_that_is_not_forked_is_waited_for_no_longer(world: World) -> None:
    one, two = world.start(), world.start()
    now = asyncio.get_running_loop().time()
    await until(lambda: one._channel is not None and two._channel is not None)
    world.supervisor._check_start(one, now + 31)  # it has no stack yet
    world.supervisor._check_forks(now + 29)
    assert world.launcher.killed == 0
    world.supervisor._check_forks(now + 31)
    assert world.launcher.killed == 1
    await world.ended()
    assert world.log.problems == [
        "The process of --preload has not forked a worker for 30 s: it is killed"
    ]
    assert world.supervisor._policy.failures == 0, "its own end counts, once"


async def test_a_worker_that_is_not_forked_is_not_stopped_for_ever(world: World) -> None:
    worker = world.start()
    await until(lambda: worker._channel is not None)
    worker.stop()
    now = asyncio.get_running_loop().time()
    world.supervisor._check_workers()
    assert not worker.is_lost
    world.supervisor._check_stop(worker, now + longest_stop(PROGRAM.config) + 1)
    await world.ended()
    assert world.log.errors == ["A worker does not stop: it is killed"]


async def test_a_worker_that_comes_too_late_ends(world: World) -> None:
    worker = world.start()
    await until(lambda: worker._channel is not None)
    worker.abandon()
    await world.ended()
    (sock,) = world.launcher.orders
    assert receive(sock) is not None
    with pytest.raises(BrokenPipeError):
        sock.sendall(Channel.encode({"pid": 1}))


async def test_the_status_of_a_worker_that_was_reaped_before_its_id_was_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.start()
    (sock,) = world.launcher.orders
    ended = [(2**30, -11), (2**30 + 1, 0)]
    monkeypatch.setattr("wsgate.process.supervisor._ended_children", lambda _: ended)
    world.supervisor._reap()
    assert worker.state is State.STARTING
    sock.sendall(Channel.encode({"pid": 2**30}))
    sock.close()
    await world.ended()
    assert world.log.errors == [f"Worker {2**30} was ended by SIGSEGV"]


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (0, []),
        (-15, []),
        (-9, []),
        (5, ["Worker 7 has ended with status 5 during its stop"]),
        (-11, ["Worker 7 was ended by SIGSEGV during its stop"]),
    ],
)
async def test_a_worker_that_fails_during_its_stop(
    world: World, status: int, lines: list[str]
) -> None:
    worker = world.start()
    worker.state, worker.pid = State.STOPPING, 7
    world.supervisor._end(worker, status)
    world.launcher.orders[0].close()
    await asyncio.wait(world.supervisor._closing)
    assert world.log.errors == lines


async def test_a_restart_does_not_wait_for_the_pause_after_failures(world: World) -> None:
    now = asyncio.get_running_loop().time()
    for _ in range(8):
        world.supervisor._policy.worker_ended(now, 0.0)
    assert world.supervisor._may_start(2, 0, 0) == 0
    world.supervisor.restart()
    assert world.supervisor._may_start(2, 0, 0) == 2


async def test_a_pause_after_failures_is_logged(world: World) -> None:
    supervisor = world.supervisor
    end = ProcessEnd("Worker 7", None, 1, None)
    supervisor._judge(end)
    assert (supervisor.pause, world.log.messages(logging.INFO)) == (0.0, [])
    supervisor._judge(end)
    assert 0 < supervisor.pause <= 0.25
    (line,) = world.log.messages(logging.INFO)
    assert re.fullmatch(r"The next attempt is in 0\.2\d* s", line)


@pytest.mark.parametrize(("target", "nearest"), [(0, 1), (65, 64)])
async def test_a_number_of_workers_out_of_bounds_is_a_warning(
    world: World, target: int, nearest: int
) -> None:
    world.supervisor.scale(target)
    assert world.supervisor.target == nearest
    assert world.log.warnings == ["The number of workers is from 1 to 64"]


async def test_a_stop_without_workers_names_no_number(world: World) -> None:
    world.supervisor.stop()
    assert world.log.messages(logging.INFO) == ["Shutting down"]


# -- a system that refuses another process ---------------------------------------------------------


@pytest.fixture
def refused(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return the world, in which no further process can be started."""

    def launch(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(world.launcher, "launch", launch)
    return world


REFUSED = "the system refuses another process: Resource temporarily unavailable"


async def test_a_restart_that_the_system_refuses_fails(refused: World) -> None:
    supervisor = refused.supervisor
    old = WorkerHandle(0, 0.0, 1.0, lambda: None)
    old.state = State.READY
    supervisor.workers.append(old)
    supervisor.restart()
    ended = supervisor.restart_ended
    assert not supervisor._start()
    assert ended is not None
    assert ended.result() == f"A worker could not start: {REFUSED}; old workers that stay: 1"
    assert refused.log.errors == [
        f"A worker could not start: {REFUSED}",
        "The restart has failed: A worker could not start; old workers that stay: 1",
    ]
    assert not old.is_outdated


async def test_a_restart_without_a_process_of_preload_fails(
    refused: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = refused.supervisor
    old = WorkerHandle(0, 0.0, 1.0, lambda: None)
    old.state = State.READY
    supervisor.workers.append(old)
    supervisor.restart()
    first = supervisor.restart_ended
    monkeypatch.setattr(refused.launcher, "renew", refused.launcher.launch)
    supervisor.restart()
    assert first is not None
    text = f"The process of --preload could not start: {REFUSED}; old workers that stay: 1"
    assert first.result() == text
    assert supervisor.restart_ended is None
    assert not old.is_outdated
    assert refused.log.errors[0] == f"The process of --preload could not start: {REFUSED}"


async def test_a_first_start_that_the_system_refuses_ends_the_server(refused: World) -> None:
    supervisor = refused.supervisor
    supervisor._has_served = False
    assert not supervisor._start()
    assert str(supervisor._error) == REFUSED
    assert supervisor.state == "stopping"
    assert refused.log.errors == []


async def test_the_addresses_are_known_also_while_no_worker_serves(world: World) -> None:
    worker, supervisor = world.start(), world.supervisor
    supervisor.target = 1
    assert supervisor.names == []
    worker.state, worker.names = State.READY, ["http://here"]
    supervisor._act()
    supervisor._end(worker, -9)
    world.launcher.orders[0].close()
    supervisor._policy.next_start = math.inf
    supervisor._act()
    assert supervisor.workers == []
    assert supervisor.names == ["http://here"]
    await asyncio.wait(supervisor._closing)
