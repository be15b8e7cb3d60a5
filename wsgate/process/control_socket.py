"""The control socket: a Unix socket on which the operator's commands arrive, as lines of JSON.

A request is an object with `command` and `arguments`. The answer is one or more lines, each of them
an object with one of these keys: `part`, `error` (the last line), `end` (the last line). Further
requests may follow on the same connection. Unknown keys are ignored on both sides.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator

from wsgate.errors import ConfigError
from wsgate.process import unix_socket
from wsgate.process.blocked_control import Answer, BlockedControl
from wsgate.process.channel import Line
from wsgate.process.commands import CommandRefused, Commands, guarded_parts, parse_request

MODE = 0o600  # only the owner may connect
MOST_CLIENTS = 16  # connections at a time
LONGEST_REQUEST = 65_536  # bytes
REQUEST_TIMEOUT = 30.0  # seconds to wait for a request
WRITE_TIMEOUT = 10.0  # seconds for a client to read what was sent
_BACKLOG = 16
_RETRY = 1.0  # seconds until accepting is tried again
_CLOSE_TIMEOUT = 1.0  # seconds for the tasks of clients to end


@contextlib.asynccontextmanager
async def opened(
    path: str | os.PathLike[str] | None, commands: Commands, when_blocked: Answer | None = None
) -> AsyncIterator[None]:
    """Serve the control socket at a path while the context lasts; do nothing without a path.

    Args:
        path: Of its file, which is created with the mode 0600 and removed at the end.
        commands: Executes the commands.
        when_blocked: Executes them in a thread while the event loop is blocked; None if that is
            never blocked for long.

    Raises:
        ConfigError: The path cannot be used.
    """
    if path is None:
        yield
        return
    sock, file = _listen(os.fspath(path))
    control = ControlSocket(sock, commands)
    control.start()
    blocked = None if when_blocked is None else BlockedControl(sock, when_blocked)
    if blocked is not None:
        blocked.start()
    try:
        yield
    finally:
        file.remove()  # before the socket is closed, and not in a process that was forked
        if blocked is not None:
            blocked.close()
        await control.close()
        sock.close()


def _listen(path: str) -> tuple[socket.socket, unix_socket.SocketFile]:
    try:
        return unix_socket.listen_at(path, MODE, _BACKLOG, "control_socket")
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = unix_socket.failure_text(path, error)
        raise ConfigError(f"--control-socket {path}: {reason}", setting="control_socket") from None


class ControlSocket:
    """Serves the clients of a control socket.

    Args:
        sock: It listens; the caller closes it after `close`.
        commands: Executes the commands.
    """

    def __init__(self, sock: socket.socket, commands: Commands) -> None:
        self._sock = sock
        self._commands = commands
        self._clients: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Accept connections."""
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        # Not with `loop.sock_accept`: what it has accepted when it is cancelled is lost.
        loop = asyncio.get_running_loop()
        try:
            client, _ = self._sock.accept()
        except BlockingIOError:  # the client has left
            return
        except OSError:  # no file descriptor is free
            loop.remove_reader(self._sock)
            self._retry = loop.call_later(_RETRY, self.start)
            return
        client.setblocking(False)
        task = loop.create_task(self._serve(client))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def close(self) -> None:
        """Stop accepting and end the connections."""
        asyncio.get_running_loop().remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
        await asyncio.sleep(0)  # a task that has not begun would not close its socket
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=_CLOSE_TIMEOUT)

    async def _serve(self, client: socket.socket) -> None:
        """Answer the requests of one client, and close its connection."""
        try:
            reader, writer = await asyncio.open_connection(sock=client, limit=LONGEST_REQUEST)
        except BaseException:
            client.close()
            raise
        try:
            await self._answer_all(reader, writer)
            writer.close()
            async with asyncio.timeout(WRITE_TIMEOUT):
                await writer.wait_closed()
        except OSError:  # it has left, or is too slow: TimeoutError is one
            pass
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) > MOST_CLIENTS:
            await _send(writer, {"error": "too many clients of the control socket"})
            return
        try:
            while request := await _read(reader):
                await self._answer(request, writer)
        except ValueError:
            too_long = f"a request is longer than {LONGEST_REQUEST} bytes"
            await _send(writer, {"error": too_long})

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            name, arguments = parse_request(request)
            parts = guarded_parts(self._commands, name, arguments)
            async with contextlib.aclosing(parts):
                async for part in parts:
                    await _send(writer, {"part": part})
        except CommandRefused as refused:
            await _send(writer, {"error": str(refused)})
        else:
            await _send(writer, {"end": True})


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, an empty one at the end. Raises ValueError if it is too long."""
    async with asyncio.timeout(REQUEST_TIMEOUT):
        return await reader.readline()


async def _send(writer: asyncio.StreamWriter, line: Line) -> None:
    """Send a line. Raises OSError if the client has left, or does not read in time."""
    writer.write(json.dumps(line).encode() + b"\n")
    async with asyncio.timeout(WRITE_TIMEOUT):
        await writer.drain()
