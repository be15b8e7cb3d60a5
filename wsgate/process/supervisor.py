"""The supervisor: holds the listening sockets, and keeps the workers that serve them running.

It imports no app and accepts no connection. What it does follows from what should be and what is:
`_act` compares them after every event, so a restart, a change of the number of workers and the end
of a worker can happen at the same time.
"""

import asyncio
import contextlib
import dataclasses
import math
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

from wsgate import loggers, quantities
from wsgate.bounded_cache import BoundedCache
from wsgate.brokers import urls
from wsgate.config import LogLevel
from wsgate.errors import StartupFailed
from wsgate.loggers import EVENT
from wsgate.observe import log_files
from wsgate.observe.events import ServerStarted, ServerStopped, ServerStopping
from wsgate.process import memory, scoreboard, signals, sockets
from wsgate.process.assignment import Assignment
from wsgate.process.heartbeat import interval_of
from wsgate.process.hub_keeper import HubKeeper
from wsgate.process.launchers import SLOW_START, ForkLauncher, Launcher, SpawnLauncher
from wsgate.process.metering import make_worker_samples
from wsgate.process.process_end import ProcessEnd
from wsgate.process.processors import usable_processors
from wsgate.process.program import Program
from wsgate.process.restart_policy import GIVE_UP_AFTER, RestartPolicy
from wsgate.process.scoreboard import Field, Scoreboard
from wsgate.process.server import longest_stop, stop_seconds
from wsgate.process.server_commands import RECONNECTED, REOPEN_LOGS
from wsgate.process.systemd import Notifier
from wsgate.process.worker_handle import State, WorkerHandle
from wsgate.server.connection_ids import parse_id
from wsgate.supervision import AUTO, MOST_WORKERS, Supervision

if TYPE_CHECKING:
    from wsgate.metrics.supervisor_meter import Reason

_CHECK_INTERVAL = 0.25  # seconds between two checks of the health of the workers
_FORK_TIMEOUT = 30.0  # seconds for a worker to be forked, and to report its process id
_KILL_AFTER = 1.0  # seconds from the request for a stack to SIGKILL
_LIFETIME = (0.9, 1.1)  # random range, as a fraction of --worker-max-lifetime
_MIB = 2**20
_SIGNS_OF_LIFE = (Field.BEAT, Field.CONNECTIONS, Field.ACCEPTED)
# How a worker may end that was asked to stop: while it imports the app, or because it did not.
_STOPPED = {0, -signal.SIGTERM, -signal.SIGKILL, None}
_MOST_UNCLAIMED = 256  # exit statuses of processes that may be workers


class Supervisor:
    """Keeps workers running.

    Args:
        program: What they serve.
        settings: How many there are, and when they are replaced.
        notifier: Reports start and stop to systemd.

    Attributes:
        workers: All whose process may still run.
        target: How many should serve.
        fixed_by: The option that does not allow another target; None if none does.
        names: The addresses that the server listens on, once a worker was ready.
        restart_ended: While a restart runs: completed at its end, with why it has failed, or None.
        hub: Keeps the topics hub running; None if the workers have none.
        samples: Keeps the metrics of the workers; None without --metrics.
    """

    fixed_by: str | None = None
    # Also with one worker: while that is replaced there are two.
    default_topics = urls.LOCAL
    _about_blocked = ": it is replaced unless it runs again"

    def __init__(self, program: Program, settings: Supervision, notifier: Notifier) -> None:
        self._program = program
        self._settings = settings
        self._notifier = notifier
        self.workers: list[WorkerHandle] = []
        self.names: list[str] = []
        self.target = worker_count(settings)
        self._sockets = sockets.OpenSockets()
        self._board_file = -1
        self._board: Scoreboard
        self._policy = RestartPolicy()
        self._has_served = False  # all workers of the first start were ready
        self._launcher: Launcher = SpawnLauncher()
        self._restart = contextlib.ExitStack()  # what ends with the restart
        self.restart_ended: asyncio.Future[str | None] | None = None
        self._is_stopping = False
        self._error: Exception | None = None  # why the first start has failed
        self._changed = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        # The exit statuses of children, by pid: one may be a worker that has not reported its pid.
        self._unclaimed: BoundedCache[int, int] = BoundedCache(_MOST_UNCLAIMED)
        self._checked_at = 0.0
        has_hub = urls.is_local(program.config.topics or self.default_topics)
        self.hub = HubKeeper(program.config) if has_hub else None
        self.samples = make_worker_samples(program.config)

    async def serve(self) -> None:
        """Run the workers until `stop`.

        Raises:
            ConfigError: A setting, the app or an address cannot be used.
            StartupFailed: The workers cannot start.
        """
        self._sockets = sockets.open_sockets(self._program.config)
        try:
            for sock in self._sockets.sockets:
                sock.listen(self._program.config.backlog)
            per_address = self._program.config.limit_connections_per_ip is not None
            self._board_file = scoreboard.create_file(with_addresses=per_address)
            self._board = Scoreboard(self._board_file)
            if self.hub is not None:
                self.hub.start()
            self._launcher = self._make_launcher()
            with self._child_signals():
                await self._run()
        finally:
            self._launcher.close()
            self._sockets.close()
            if self.hub is not None:
                await self.hub.stop()
            self._notifier.close()
            if self._board_file >= 0:
                os.close(self._board_file)
        if self._error is not None:
            raise self._error

    def _make_launcher(self) -> Launcher:
        if not self._settings.preload:
            return SpawnLauncher()
        sockets = [sock.fileno() for sock in self._sockets.sockets]
        return ForkLauncher(self._program, [self._board_file, *sockets], self._changed.set)

    @contextlib.contextmanager
    def _child_signals(self) -> Iterator[None]:
        """Handle the signals that the module `signals` leaves alone."""
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], object]] = {
            signal.SIGCHLD: self._changed.set,
            signal.SIGTTIN: lambda: self.scale(self.target + 1),
            signal.SIGTTOU: lambda: self.scale(self.target - 1),
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self._reap()
            self._end_lost_workers()
            self._judge_launcher()
            self._check_workers()
            self._act()
            if self._is_stopping and not self.workers and self._launcher.has_ended:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_INTERVAL):
                    await self._changed.wait()
        if self._closing:
            await asyncio.wait(self._closing)
        if self._error is None:
            loggers.error.info("Stopped", extra={EVENT: ServerStopped(tuple(self.names))})

    # -- orders ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop all workers gracefully, and then end. Returns at once; not thread-safe."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._report_restart("the server stops")
        if self._error is None:
            count = sum(worker.state is not State.STOPPING for worker in self.workers)
            which = f" {quantities.count(count, 'worker')}" if count else ""
            event = ServerStopping(tuple(self.names))
            loggers.error.info("Shutting down%s", which, extra={EVENT: event})
        self._notifier.stopping(stop_seconds(self._program.config))
        self._board.finish()
        # From here on only the workers have the sockets: with the last one they are closed. The
        # process that workers are forked from has them as well.
        self._launcher.close()
        self._sockets.close()
        self._changed.set()

    def end_at_once(self, number: int) -> NoReturn:
        """End all workers and this process. For a signal handler, which gets the number."""
        self._launcher.kill()
        for worker in self.workers:
            worker.kill()
        signals.end_at_once(number)

    def hang_up(self) -> None:
        """Reopen the log files, and restart the workers."""
        log_files.reopen_moved()
        self.restart()

    def reopen_logs(self) -> None:
        """Reopen the log files of this process and of the workers; nobody is disconnected."""
        log_files.reopen()
        for worker in self.workers:
            worker.asker.tell(REOPEN_LOGS, {})

    def restart(self) -> None:
        """Replace each worker by a new one, which imports the app anew."""
        if not self._is_stopping:
            loggers.error.info("Restarting %s", quantities.count(self.target, "worker"))
            self._replace_all()

    def _replace_all(self) -> None:
        self._policy.reset()
        if self.restart_ended is None:
            self._restart.enter_context(self._notifier.reloading())
            self.restart_ended = asyncio.get_running_loop().create_future()
        for worker in self.workers:
            worker.is_outdated = True
            if worker.state is State.STARTING:
                worker.stop()
        self._start_preloader(self._launcher.renew)
        self._changed.set()

    def scale(self, target: int) -> None:
        """Change the number of workers, if it may change.

        Args:
            target: From 1 to MOST_WORKERS; other numbers are replaced by the nearest of these.
        """
        if self.fixed_by is not None:
            loggers.error.warning("The number of workers stays: %s has one", self.fixed_by)
            return
        if not 1 <= target <= MOST_WORKERS:
            loggers.error.warning("The number of workers is from 1 to %d", MOST_WORKERS)
        target = min(max(target, 1), MOST_WORKERS)
        if target != self.target:
            loggers.error.info("%s instead of %d", quantities.count(target, "worker"), self.target)
            self.target = target
            self._changed.set()

    # -- what the control socket asks for ----------------------------------------------------------

    @property
    def state(self) -> str:
        """What the server does: "starting", "ready", "restarting" or "stopping"."""
        if self._is_stopping:
            return "stopping"
        if not self._has_served:
            return "starting"
        return "ready" if self.restart_ended is None else "restarting"

    @property
    def pause(self) -> float:
        """Seconds until a worker may be started: a pause after failures. 0 without one."""
        return max(self._policy.next_start - asyncio.get_running_loop().time(), 0.0)

    def load_of(self, worker: WorkerHandle) -> tuple[int, float]:
        """Return a worker's open connections, and how many seconds late its event loop is."""
        beat, lag = self._board.get(worker.row, Field.BEAT), self._board.get(worker.row, Field.LAG)
        interval = interval_of(self._settings.timeout_worker_healthcheck)
        silent = asyncio.get_running_loop().time() - beat / 1e6 - interval
        is_serving = worker.state is not State.STARTING and beat > 1
        late = max(lag / 1e6, silent) if is_serving else 0.0
        return self._board.get(worker.row, Field.CONNECTIONS), late

    def broker_away_since(self, worker: WorkerHandle) -> float | None:
        """Return since when a worker does not reach its broker, in seconds of the loop's clock."""
        since = self._board.get(worker.row, Field.BROKER_AWAY)
        return since / 1e6 if since else None

    def replace(self, worker: WorkerHandle) -> None:
        """Replace a worker that serves; it stops as soon as a new one is ready."""
        loggers.error.info("%s is drained: a new one is started first", worker)
        worker.is_outdated = True
        self._changed.set()

    def set_log_level(self, level: LogLevel) -> None:
        """Set the level of the log, of this process and of the workers that start from now on."""
        loggers.set_level(level)
        config = dataclasses.replace(self._program.config, log_level=level)
        self._program = dataclasses.replace(self._program, config=config)

    # -- starting and stopping workers until they are as they should be ----------------------------

    def _in(self, state: State, *, outdated: bool) -> list[WorkerHandle]:
        return [w for w in self.workers if w.state is state and w.is_outdated is outdated]

    def _act(self) -> None:
        """Start and stop workers, as far as they are not what they should be."""
        if self._is_stopping:
            for worker in self.workers:
                worker.stop()
            return
        ready = self._in(State.READY, outdated=False)
        self.names = next((worker.names for worker in ready if worker.names), self.names)
        starting = self._in(State.STARTING, outdated=False)
        outdated = self._in(State.READY, outdated=True)
        surplus = max(len(ready) + len(outdated) - self.target, 0)
        for worker in outdated[:surplus]:  # before others start: one at a time is replaced
            loggers.error.info("%s stops: a new one serves in its place", worker)
            worker.stop()
        missing = self.target - len(ready) - len(starting)
        for worker in [*starting, *reversed(ready)][: max(-missing, 0)]:
            worker.stop()
        for _ in range(self._may_start(missing, len(starting), len(outdated[surplus:]))):
            if not self._start():
                break
        if len(ready) == self.target and not outdated:
            self._complete()

    def _may_start(self, missing: int, starting: int, outdated: int) -> int:
        """Return how many workers may start now.

        Each that is missing, if no outdated worker serves in its place. Those are replaced one at a
        time, unless all are to be replaced in parallel.
        """
        now = asyncio.get_running_loop().time()
        # A worker that has ended may still say why.
        if self._closing or now < self._policy.next_start:
            return 0
        if not self._launcher.is_ready:  # its process may have ended: then it starts another one
            self._start_preloader(self._launcher.prepare)
            return 0
        if missing <= 0:
            return 0
        dead = max(missing - outdated, 0)
        if self._settings.restart_parallel:
            return missing
        busy = starting or self._in(State.STOPPING, outdated=True)
        return max(dead, 0 if busy else 1)

    def _start_preloader(self, start: Callable[[], None]) -> None:
        try:
            start()
        except OSError as error:  # no process or no descriptor is free
            self._judge(_refused_start("The process of --preload", error))

    def _complete(self) -> None:
        """Note that all workers serve, and are those that should."""
        if not self._has_served:
            self._has_served = True
            for name in self.names:
                text = "wsgate running on %s with %s (Press CTRL+C to quit)"
                event = ServerStarted((name,))
                workers = quantities.count(self.target, "worker")
                loggers.error.info(text, name, workers, extra={EVENT: event})
            self._notifier.ready(self.names)
        elif self.restart_ended is not None:
            loggers.error.info("Restarted %s", quantities.count(self.target, "worker"))
        self._end_restart()

    def _end_restart(self, failure: str | None = None) -> None:
        self._report_restart(failure)
        self._restart.close()

    def _report_restart(self, failure: str | None) -> None:
        ended, self.restart_ended = self.restart_ended, None
        if ended is not None:
            ended.set_result(failure)

    # -- the start of a worker ---------------------------------------------------------------------

    def _start(self) -> bool:
        """Start a worker; return False if that is not possible now."""
        row = self._board.assign()
        if row is None:
            return False
        now = asyncio.get_running_loop().time()
        worker = WorkerHandle(row, now, self._lifetime(), self._changed.set)
        worker.on_reconnect = self._notify_previous
        try:
            worker.start(self._launcher, lambda stacks: self._assignment(row, stacks))
        except OSError as error:  # no process or no descriptor is free
            self._board.clear(row)
            self._judge(_refused_start("A worker", error))
            return False
        self.workers.append(worker)
        return True

    def _notify_previous(self, previous: str, connection_id: str) -> None:
        """Notify the worker of a client's previous connection that it has connected again."""
        parsed = parse_id(previous)
        arguments = {"previous": previous, "connection": connection_id}
        for worker in self.workers:
            if parsed is not None and worker.pid == parsed.process:
                worker.asker.tell(RECONNECTED, arguments)

    def _lifetime(self) -> float:
        """Return for how many seconds a new worker may serve."""
        seconds = self._settings.worker_max_lifetime or math.inf
        return seconds * random.uniform(*_LIFETIME)  # noqa: S311  # no secret

    def _assignment(self, row: int, stacks: int) -> Assignment:
        return Assignment(
            program=self._program,
            row=row,
            count=self.target,
            scoreboard=self._board_file,
            beat=interval_of(self._settings.timeout_worker_healthcheck),
            stacks=stacks,
            sockets=[sock.fileno() for sock in self._sockets.sockets],
            inherited=[sock.fileno() for sock in self._sockets.inherited],
            hub=self.hub.path if self.hub is not None else None,
        )

    # -- the end of a worker -----------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap the processes that have ended; as PID 1, also those of other programs."""
        by_pid = {worker.pid: worker for worker in self.workers if worker.pid is not None}
        # The program that called `run` may have children of its own, and waits for them itself.
        adopts = self._settings.preload or os.getpid() == 1
        for pid, status in _ended_children([-1] if adopts else list(by_pid)):
            if pid in by_pid:
                self._end(by_pid[pid], status)
            elif self.hub is not None and pid == self.hub.pid:
                self.hub.take_end(status)
            else:
                self._launcher.take_end(pid, status)
                self._unclaimed.keep(pid, status)

    def _end_lost_workers(self) -> None:
        """Handle the end of workers that were reaped before their process id was known, if ever."""
        for worker in [worker for worker in self.workers if worker.is_lost]:
            self._end(worker, None if worker.pid is None else self._unclaimed.get(worker.pid))

    def _judge_launcher(self) -> None:
        for end in self._launcher.take_ends():
            if not self._is_stopping:
                self._judge(end)

    def _end(self, worker: WorkerHandle, status: int | None) -> None:
        was, now = worker.state, asyncio.get_running_loop().time()
        served = now - worker.changed_at if was is State.READY else None
        self._count_end(worker, now)
        worker.ended(status)
        if self.hub is not None and worker.pid is not None:
            self.hub.take_worker_end(worker.pid)
        self.workers.remove(worker)
        connections = self._board.get(worker.row, Field.CONNECTIONS)
        self._board.clear(worker.row)
        closing = asyncio.get_running_loop().create_task(
            self._close(worker, was, served, connections)
        )
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _count_end(self, worker: WorkerHandle, now: float) -> None:
        if self.samples is None:
            return
        was_asked = worker.state is State.STOPPING
        stopped_for = now - worker.changed_at if was_asked else None
        reason: Reason = "replaced" if was_asked else "failed"
        self.samples.meter.count_end("killed" if worker.was_killed else reason, stopped_for)

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        self._changed.set()

    async def _close(
        self, worker: WorkerHandle, was: State, served: float | None, connections: int
    ) -> None:
        """Read what a worker has written before its end, and then act on the end."""
        await worker.close()
        if self.samples is not None:
            self.samples.add_ended(worker)
        end = ProcessEnd(str(worker), worker.failure, worker.status, served, connections)
        if worker.pid is None and end.failure is None:
            return  # it was not forked, because the process of --preload has ended: that is judged
        if was is not State.STOPPING and not self._is_stopping:
            self._judge(end)
        elif end.failure is None and end.status not in _STOPPED:
            loggers.error.error("%s during its stop", end)

    def _judge(self, end: ProcessEnd) -> None:
        """Log an end that nobody has asked for; give up at the first start."""
        self._policy.worker_ended(asyncio.get_running_loop().time(), end.served or 0.0)
        if self._has_served or end.failure is None:
            loggers.error.error("%s", end)
        if pause := self.pause:
            loggers.error.info("The next attempt is in %.3g s", pause)
        if self._has_served:
            if end.served is None:
                self._keep_old(end)
        elif end.failure is not None:
            self._give_up(end.failure)
        elif self._policy.failures >= GIVE_UP_AFTER:
            self._give_up(StartupFailed(f"{GIVE_UP_AFTER} processes have died at their start"))

    def _keep_old(self, end: ProcessEnd) -> None:
        """End a restart whose new workers cannot start: the old ones stay."""
        old = self._in(State.READY, outdated=True)
        for one in old:
            one.is_outdated = False
        if self.restart_ended is not None and old:
            self._end_restart(f"{end}; old workers that stay: {len(old)}")
            text = "The restart has failed: %s could not start; old workers that stay: %d"
            loggers.error.error(text, end.name, len(old))

    def _give_up(self, error: Exception) -> None:
        self._error = self._error or error
        self.stop()

    # -- health ------------------------------------------------------------------------------------

    def _check_workers(self) -> None:
        """Find the workers that are blocked, too old, too large, or have served enough."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at < _CHECK_INTERVAL:
            return
        # This process was suspended: so were the workers.
        was_late = now - self._checked_at > 2 * _CHECK_INTERVAL
        self._checked_at = now
        for worker in self.workers:
            if worker.state is State.READY:
                self._policy.worker_serves(now, worker.changed_at)
                if not was_late:
                    self._check_beat(worker, now)
                self._check_expiry(worker, now)
            elif worker.state is State.STOPPING:
                self._check_stop(worker, now)
            else:
                self._check_start(worker, now)
            worker.take_stack()
        if not was_late:
            self._check_forks(now)

    def _check_beat(self, worker: WorkerHandle, now: float) -> None:
        # A loop in which all clients leave at once does not beat for a while, and yet it runs.
        signs = [self._board.get(worker.row, field) for field in _SIGNS_OF_LIFE]
        if signs != worker.signs_of_life:
            worker.signs_of_life, worker.seen_at = signs, now
            worker.stack_asked_at = None  # it runs again
        silent = now - worker.seen_at
        timeout = self._settings.timeout_worker_healthcheck
        if silent < timeout:
            return
        if worker.stack_asked_at is None:
            text = "%s has been blocked for %.1f s%s"
            loggers.error.error(text, worker, silent, self._about_blocked)
            worker.ask_for_stack(now)
        elif now - worker.stack_asked_at >= _KILL_AFTER:
            self._end_blocked(worker)

    def _end_blocked(self, worker: WorkerHandle) -> None:
        loggers.error.error("%s is still blocked: it is killed", worker)
        worker.kill()

    def _check_expiry(self, worker: WorkerHandle, now: float) -> None:
        if worker.is_outdated:
            return
        settings = self._settings
        if self._board.get(worker.row, Field.EXPIRED):
            reason = "has served --limit-max-requests"
        elif now - worker.changed_at >= worker.lifetime:
            reason = "has reached --worker-max-lifetime"
        elif _is_too_large(worker, settings.worker_max_rss):
            reason = "has reached --worker-max-rss"
        else:
            return
        loggers.error.info("%s %s: it is replaced", worker, reason)
        worker.is_outdated = True

    def _check_start(self, worker: WorkerHandle, now: float) -> None:
        seconds = now - worker.changed_at
        if seconds >= SLOW_START and worker.stack_asked_at is None and worker.pid is not None:
            loggers.error.warning("%s has been starting for %.0f s", worker, seconds)
            worker.ask_for_stack(now)

    def _check_forks(self, now: float) -> None:
        """End a process of --preload that does not fork, and wait for its workers no longer."""
        waiting = [worker for worker in self._in(State.STARTING, outdated=False) if not worker.pid]
        late = [worker for worker in waiting if now - worker.changed_at >= _FORK_TIMEOUT]
        if late:
            text = "The process of --preload has not forked a worker for %.0f s: it is killed"
            loggers.error.error(text, _FORK_TIMEOUT)
            self._launcher.kill()
            for worker in late:
                worker.abandon()

    def _check_stop(self, worker: WorkerHandle, now: float) -> None:
        if now - worker.changed_at >= longest_stop(self._program.config):
            loggers.error.error("%s does not stop: it is killed", worker)
            worker.kill()
            if worker.pid is None:
                worker.abandon()


def _refused_start(name: str, error: OSError) -> ProcessEnd:
    reason = f"the system refuses another process: {error.strerror}"
    return ProcessEnd(name, StartupFailed(reason), None, None)


def _ended_children(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Reap children that have ended; yield the id and the exit status of each.

    pids: Of the children, or -1 for any.
    """
    for wanted in pids:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(wanted, os.WNOHANG))[0]:
                yield ended[0], os.waitstatus_to_exitcode(ended[1])


def worker_count(settings: Supervision) -> int:
    """Return how many workers the settings ask for."""
    count = settings.worker_count
    return min(usable_processors(), MOST_WORKERS) if count == AUTO else int(count)


def _is_too_large(worker: WorkerHandle, limit: int | None) -> bool:
    if limit is None or worker.pid is None:
        return False
    return memory.resident(worker.pid) >= limit * _MIB
