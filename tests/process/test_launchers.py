"""The launcher of --preload, with processes that the test plays."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from tests.harness.log import capture_log
from tests.harness.waiting import turns, until
from wsgate.config import Config
from wsgate.errors import ConfigError, StartupFailed
from wsgate.process import launchers
from wsgate.process.channel import Channel, failure_line
from wsgate.process.launchers import ForkLauncher, SpawnLauncher
from wsgate.process.program import Program

PROGRAM = Program(app="main:app", factory=False, interface="auto", log_config=None, config=Config())


class Process:
    """A process to fork from. pid: its id. returncode: as that of `subprocess.Popen`."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.channel = channel

    def write(self, **line: Any) -> None:
        self.channel.sendall(Channel.encode(line))


class World:
    """The processes of a launcher. killed: the ids of those that got SIGKILL."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[Process] = []
        self.killed: list[int] = []
        self.changes = 0
        monkeypatch.setattr(launchers, "spawn", self._spawn)
        monkeypatch.setattr(launchers, "_become_subreaper", lambda: None)
        monkeypatch.setattr(os, "kill", self._kill)
        self.launcher = ForkLauncher(PROGRAM, [], self._changed)

    def _spawn(self, _: str, channel: socket.socket, __: object) -> Process:
        self.processes.append(Process(1_000 + len(self.processes), channel.dup()))
        return self.processes[-1]

    def _kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        self.killed.append(pid)

    def _changed(self) -> None:
        self.changes += 1

    async def start(self) -> Process:
        """Start a process to fork from, which is ready at once."""
        self.launcher.renew()
        process = self.processes[-1]
        process.write(ready=[])
        await until(lambda: self.launcher.is_ready)
        return process

    def end(self, process: Process, status: int) -> None:
        """End a process; the supervisor notices that first."""
        process.channel.close()
        self.launcher.take_end(process.pid, status)

    def ends(self) -> list[str]:
        return [str(end) for end in self.launcher.take_ends()]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(monkeypatch)
    yield world
    world.launcher.close()
    for process in world.processes:
        world.end(process, -signal.SIGKILL)
    await until(lambda: world.launcher.has_ended)
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_reason_is_read_after_the_end_of_its_process(world: World) -> None:
    world.launcher.prepare()
    (process,) = world.processes
    process.write(**failure_line(ConfigError("no such module", setting="app")))
    world.end(process, 1)
    await until(lambda: world.launcher.has_ended)
    (end,) = world.launcher.take_ends()
    assert isinstance(end.failure, ConfigError)
    assert str(end) == "The process of --preload could not start: no such module"
    assert world.ends() == [], "each end is returned once"


async def test_a_process_that_ends_without_a_reason(world: World) -> None:
    world.launcher.prepare()
    world.end(world.processes[0], 7)
    await until(lambda: world.launcher.has_ended)
    (end,) = world.launcher.take_ends()
    assert (str(end), end.served) == ("The process of --preload has ended with status 7", None)
    world.launcher.prepare()
    assert len(world.processes) == 2


async def test_the_end_of_a_process_that_was_ready(world: World) -> None:
    process = await world.start()
    world.end(process, -9)
    assert not world.launcher.is_ready
    (end,) = world.launcher.take_ends()
    assert str(end) == "The process of --preload was ended by SIGKILL"
    assert end.served is not None
    await until(lambda: world.launcher.has_ended)
    assert world.ends() == []
    assert process.returncode == -9
    await world.start()


async def test_a_slow_start_is_a_line_in_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "SLOW_START", 0.0)
    with capture_log() as log:
        world.launcher.renew()
        await until(lambda: log.warnings)
    assert log.warnings == ["The process of --preload has been starting for 0 s"]


async def test_a_newer_process_takes_the_place_of_the_old_one(world: World) -> None:
    old = await world.start()
    new = await world.start()
    assert world.killed == [old.pid]
    world.end(old, -9)
    await until(lambda: not world.launcher._ending)
    assert world.ends() == [], "it was asked for"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert world.launcher.launch(ours, ours.fileno(), cast("Any", None)) is None
        order, descriptors, _, _ = socket.recv_fds(new.channel, 100_000, 2)
        assert order.endswith(b"f")
        assert len(descriptors) == 2
        for descriptor in descriptors:
            os.close(descriptor)


async def test_the_old_process_stays_if_the_newer_one_fails(world: World) -> None:
    await world.start()
    world.launcher.renew()
    new = world.processes[-1]
    assert not world.launcher.is_ready
    new.write(**failure_line(StartupFailed("no database")))
    await until(lambda: world.launcher.is_ready)
    assert world.ends() == ["The process of --preload could not start: no database"]
    world.end(new, 3)
    await until(lambda: not world.launcher._ending)
    assert world.ends() == []
    assert world.killed == []


async def test_a_second_renewal_ends_the_first_one(world: World) -> None:
    for _ in range(3):
        world.launcher.renew()
    assert world.killed == [1_000, 1_001]
    assert not world.launcher.is_ready


async def test_all_are_killed_at_the_end(world: World) -> None:
    await world.start()
    world.launcher.renew()
    world.launcher.close()
    assert sorted(world.killed) == [1_000, 1_001]
    assert not world.launcher.has_ended, "they have not ended yet"
    world.launcher.kill()
    assert sorted(world.killed) == [1_000, 1_000, 1_001, 1_001]
    for process in world.processes:
        world.end(process, -9)
    await until(lambda: world.launcher.has_ended)
    assert world.ends() == []
    world.launcher.kill()
    assert len(world.killed) == 4, "they have ended: their ids may be those of others"


async def test_a_process_that_ends_as_soon_as_it_is_ready(world: World) -> None:
    world.launcher.prepare()
    process = world.processes[0]
    process.write(ready=[])
    world.end(process, -9)  # before the line is read
    await until(lambda: world.launcher.has_ended)
    assert not world.launcher.is_ready
    assert world.ends() == ["The process of --preload was ended by SIGKILL"]


async def test_an_order_to_a_process_that_has_just_ended(world: World) -> None:
    process = await world.start()
    process.channel.close()
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            world.launcher.launch(ours, ours.fileno(), cast("Any", None))
        assert theirs.recv(1) == b"", "nobody has the worker's end"
    world.end(process, -9)
    assert world.ends() == ["The process of --preload was ended by SIGKILL"]


async def test_the_end_of_any_other_process(world: World) -> None:
    await world.start()
    world.launcher.take_end(1, 0)
    assert world.launcher.is_ready
    assert world.ends() == []


def test_without_preload_there_is_nothing_to_end() -> None:
    launcher = SpawnLauncher()
    launcher.prepare()
    launcher.renew()
    launcher.take_end(1, 0)
    launcher.kill()
    launcher.close()
    assert launcher.is_ready
    assert launcher.has_ended
    assert launcher.take_ends() == []
