"""The keeper of the topics hub: its socket, its process, and the end of both."""

import asyncio
import os
import signal
import stat
import tempfile
from pathlib import Path

import pytest

from tests.harness.hubs import Own
from tests.harness.log import capture_log
from tests.harness.waiting import nothing_left, pause, soon, until
from tests.harness.workers import PATIENCE, is_running
from wsgate.brokers.local import backoff, worker_socket
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import hub_keeper, spawn, topics_hub
from wsgate.process.hub_keeper import HubKeeper


def mode_of(path: Path) -> int:
    """Return the permissions of a file, 0 if there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0


def words_of(pid: int) -> list[str]:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def status_of(pid: int) -> int:
    """Reap a process, as the first process of a container does with all."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_worker_that_has_waited_is_there_before_a_new_hub_names_all() -> None:
    assert backoff.LONGEST_PAUSE < topics_hub.SETTLE_SECONDS


async def test_the_socket_is_there_from_the_start_until_the_stop() -> None:
    async with nothing_left():
        keeper = HubKeeper(Config(topics="local:"))
        keeper.start()
        path = Path(keeper.path)
        assert [mode_of(one) for one in (path, path.parent)] == [0o600, 0o700]
        own = Own(path, PATIENCE, 1000)
        await own.broker.start(own.worker)
        assert (await own.publish("room", "x")).place
        pid = keeper.pid
        assert "topics-hub" in words_of(pid)
        await own.broker.stop()
        await keeper.stop()
        assert not mode_of(path.parent)
        assert not is_running(pid)
        await keeper.stop()


async def test_a_hub_that_dies_is_replaced_and_that_is_one_line() -> None:
    with capture_log() as log:
        keeper = HubKeeper(Config(topics="local:"))
        keeper.start()
        await until(lambda: keeper.pid)
        own = Own(Path(keeper.path), PATIENCE, 1000)
        await own.broker.start(own.worker)
        await own.publish("room", "1")
        os.kill(keeper.pid, signal.SIGKILL)
        await until(lambda: own.broker._link.connection is None)
        await own.publish("room", "2")
        await own.broker.stop()
        await keeper.stop()
    assert log.errors == ["The topics hub was ended by SIGKILL: another one is started"]


async def test_a_signal_to_all_processes_does_not_end_a_hub_that_still_starts() -> None:
    with capture_log() as log:
        keeper = HubKeeper(Config(topics="local:"))
        keeper.start()
        await until(lambda: keeper.pid)
        pid = keeper.pid
        for number in topics_hub.IGNORED:
            os.kill(pid, number)  # its interpreter is being loaded
        own = Own(Path(keeper.path), PATIENCE, 1000)
        await own.broker.start(own.worker)
        await own.publish("room", "1")
        assert keeper.pid == pid
        for number in topics_hub.IGNORED:
            os.kill(pid, number)
        await own.publish("room", "2")
        await own.broker.stop()
        await keeper.stop()
    assert log.errors == []


async def test_a_hub_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_keeper, "_END_TIMEOUT", 0.05)
    keeper = HubKeeper(Config(topics="local:"))
    keeper.start()
    await until(lambda: keeper.pid)
    pid = keeper.pid
    os.kill(pid, signal.SIGSTOP)
    await soon(keeper.stop())
    assert not is_running(pid)


async def test_a_process_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures = [OSError("no process is free")]

    def fail_once(*arguments: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return spawn.spawn(*arguments, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(hub_keeper, "spawn", fail_once)
    with capture_log() as log:
        keeper = HubKeeper(Config(topics="local:"))
        keeper.start()
        await until(lambda: keeper.pid)
        await keeper.stop()
    assert log.errors == ["The topics hub cannot be started: no process is free"]


async def test_a_status_that_was_reaped_elsewhere_is_taken() -> None:
    with capture_log() as log:
        keeper = HubKeeper(Config(topics="local:"))
        keeper.start()
        await until(lambda: keeper.pid)
        pid = keeper.pid
        os.kill(pid, signal.SIGKILL)
        keeper.take_end(status_of(pid))
        async with asyncio.timeout(PATIENCE):
            while keeper.pid in (0, pid):
                await pause(0.01)
        await keeper.stop()
    assert log.errors == ["The topics hub was ended by SIGKILL: another one is started"]


@pytest.mark.parametrize("path", ["/missing/hub.sock", "/a\0b", "/dev/null"])
async def test_a_path_that_cannot_be_used_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match="--topics") as raised:
        HubKeeper(Config(topics=f"local:{path}")).start()
    assert raised.value.setting == "topics"


async def test_a_path_must_leave_room_for_the_sockets_of_the_workers() -> None:
    path = "/" + "x" * 91
    with pytest.raises(ConfigError, match="the path has 92 bytes, and may have 91"):
        HubKeeper(Config(topics=f"local:{path}")).start()


async def test_the_files_of_workers_that_were_killed_are_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "hub.sock")
    former, killed = (worker_socket.path_of(path, f"{pid:x}-0123abcd") for pid in (1, 2))
    worker_socket.listen(former).close()
    keeper = HubKeeper(Config(topics=f"local:{path}"))
    keeper.start()
    assert not mode_of(Path(former))
    worker_socket.listen(killed).close()
    keeper.take_worker_end(1)
    assert mode_of(Path(killed))
    keeper.take_worker_end(2)
    assert not mode_of(Path(killed))
    await keeper.stop()


async def test_a_failed_start_leaves_no_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("x")  # a short path: that of a socket is limited
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def fail(*_: object) -> None:
        raise OSError("no descriptor is free")

    monkeypatch.setattr("wsgate.process.unix_socket.listen_at", fail)
    with pytest.raises(ConfigError, match="no descriptor is free"):
        HubKeeper(Config(topics="local:")).start()
    assert not os.listdir(folder)  # noqa: PTH208  # within a coroutine
