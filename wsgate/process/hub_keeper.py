"""Keeps the topics hub running, for the supervisor or for a server without workers."""

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from wsgate import loggers
from wsgate.brokers import urls
from wsgate.brokers.local import worker_socket
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process import unix_socket
from wsgate.process.channel import Channel
from wsgate.process.process_end import ProcessEnd
from wsgate.process.restart_policy import RestartPolicy
from wsgate.process.spawn import spawn
from wsgate.process.topics_hub import IGNORED, NAME, HubAssignment

if TYPE_CHECKING:
    import subprocess

MODE = 0o600  # only the owner may connect
_BACKLOG = 128
_END_TIMEOUT = 2.0  # seconds for the hub to exit after its channel is closed
_END_STEP = 0.01


class HubKeeper:
    """Starts the hub, and another one whenever it has died.

    This process has the listening socket, so a worker can connect at any time: it waits in the
    backlog until there is a hub.

    Args:
        config: The settings; the URL of --topics may have the path of the socket.

    Attributes:
        path: The path of the socket, once it is open.
        pid: The id of the hub's process, 0 while there is none.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.path = ""
        self.pid = 0
        self._folder: str | None = None
        self._sock: socket.socket | None = None
        self._file: unix_socket.SocketFile | None = None
        self._policy = RestartPolicy()
        self._has_died = False  # an earlier hub
        self._status: int | None = None  # of the process, if another part has reaped it
        self._keeping: asyncio.Task[None] | None = None

    # -- start and stop ----------------------------------------------------------------------------

    def start(self) -> None:
        """Open the socket, and keep a hub running.

        Raises:
            ConfigError: The socket cannot be opened.
        """
        given = urls.socket_path(self._config.topics or urls.LOCAL)
        if given is None:
            self._folder = tempfile.mkdtemp(prefix="wsgate-")
        path = given or str(Path(str(self._folder)) / "topics.sock")
        try:
            _check_length(path)
            self._sock, self._file = unix_socket.listen_at(path, MODE, _BACKLOG, "topics")
        except (OSError, ValueError) as error:  # ValueError: too long, or a null character
            self._remove_files()
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"--topics {urls.LOCAL}{path}: {reason}", setting="topics") from None
        except ConfigError:
            self._remove_files()
            raise
        self.path = path
        worker_socket.remove_files(path)  # of a server that was killed
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """End the hub, and remove the socket."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
            self._keeping = None
        self._remove_files()

    def _remove_files(self) -> None:
        if self._file is not None:
            self._file.remove()
            worker_socket.remove_files(self.path)
        if self._sock is not None:
            self._sock.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._file = self._sock = self._folder = None

    def take_worker_end(self, pid: int) -> None:
        """Note that a worker process has ended: if it was killed, its socket's file is left."""
        worker_socket.remove_files(self.path, pid)

    def take_end(self, status: int) -> None:
        """Note that the hub's process has ended and was reaped."""
        self._status = status

    # -- the process -------------------------------------------------------------------------------

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started_at = loop.time()
            try:
                await self._run_one()
            except OSError as error:  # no process or no descriptor is free
                loggers.error.error("The topics hub cannot be started: %s", error)
            self._policy.worker_ended(loop.time(), loop.time() - started_at)
            await asyncio.sleep(max(self._policy.next_start - loop.time(), 0.0))

    async def _run_one(self) -> None:
        """Run a hub until it ends, or until this is cancelled."""
        assert self._sock is not None  # it was opened
        own, their_end = socket.socketpair()
        with their_end, contextlib.ExitStack() as undo:
            undo.enter_context(own)
            descriptor = self._sock.fileno()
            self._status = None
            process = spawn("topics_hub", their_end, [descriptor], NAME, blocked=IGNORED)
            self.pid = process.pid
            limit = self._config.topics_history_max_bytes
            assignment = HubAssignment(descriptor, self._folder, limit, self._has_died)
            own.sendall(assignment.pack())
            undo.pop_all()
        try:
            await self._listen(own)
        finally:
            await self._end(process)
        self._has_died = True
        end = ProcessEnd("The topics hub", None, process.returncode, None)
        loggers.error.error("%s: another one is started", end)

    async def _listen(self, sock: socket.socket) -> None:
        """Log what the hub reports, until it has ended."""
        try:
            channel = await Channel.open(sock)
        except BaseException:
            sock.close()
            raise
        try:
            async for line in channel.lines():
                loggers.error.warning("%s", line.get("warning"))
        finally:
            channel.close()

    async def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Reap the process, which exits when its channel is closed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _END_TIMEOUT
        while self._poll(process) is None:
            if loop.time() >= deadline:
                process.kill()
            await asyncio.sleep(_END_STEP)
        self.pid = 0

    def _poll(self, process: "subprocess.Popen[bytes]") -> int | None:
        if self._status is not None:
            process.returncode = self._status
        return process.poll()


def _check_length(path: str) -> None:
    """Raise ValueError if a path is too long for the workers' sockets, which are beside it."""
    longest = unix_socket.LONGEST_PATH - worker_socket.LONGEST_SUFFIX
    if (size := len(os.fsencode(path))) > longest:
        raise ValueError(f"the path has {size} bytes, and may have {longest}")
