"""The control socket: its file, its protocol, and clients that misbehave."""

import asyncio
import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import loops
from tests.harness.waiting import nothing_left, start_task, until
from wsgate.errors import ConfigError
from wsgate.process import control_socket
from wsgate.process.commands import Arguments, CommandRefused, Part
from wsgate.process.control_socket import ControlSocket, opened

LOOPS = loops.LOOPS


@pytest.fixture(autouse=True)
async def _nothing_left() -> AsyncIterator[None]:
    async with nothing_left(), asyncio.timeout(30):
        yield


class Commands:
    """Executes some commands. ended: those that have ended, by whatever."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def run(self, name: str, arguments: Arguments) -> AsyncGenerator[Part]:
        try:
            if name == "refuse":
                raise CommandRefused("not now")
            if name == "flood":
                while True:
                    yield {"text": "x" * 10_000}
                    await asyncio.sleep(0)
            if name == "hang":
                await asyncio.Event().wait()
            yield {"name": name, "arguments": dict(arguments)}
        finally:
            self.ended.append(name)


class Client:
    """A client of the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> Any:
        data = await self.reader.readline()
        return json.loads(data) if data else None

    async def answer(self, command: str, **more: Any) -> list[Any]:
        self.send(json.dumps({"command": command, **more}).encode() + b"\n")
        lines = [await self.line()]
        while lines[-1] and "part" in lines[-1]:
            lines.append(await self.line())
        return lines


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")


def files(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


@contextlib.asynccontextmanager
async def connected(path: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def served(path: str) -> AsyncIterator[tuple[Commands, Client]]:
    commands = Commands()
    async with opened(path, commands), connected(path) as client:
        yield commands, client


# -- the protocol ----------------------------------------------------------------------------------


async def test_a_command_and_its_answer(path: str) -> None:
    async with served(path) as (_, client):
        assert await client.answer("name", arguments={"a": [1]}, newer="ignored") == [
            {"part": {"name": "name", "arguments": {"a": [1]}}},
            {"end": True},
        ]
        assert await client.answer("refuse") == [{"error": "not now"}]
        assert (await client.answer("name", arguments=None))[-1] == {"end": True}


async def test_requests_in_one_piece_and_byte_by_byte(path: str) -> None:
    request = b'{"command": "name"}\n'
    async with served(path) as (_, client):
        client.send(3 * request)
        for byte in request:
            client.send(bytes([byte]))
            await client.writer.drain()
        for _ in range(4):
            assert "part" in await client.line()
            assert await client.line() == {"end": True}


async def test_a_client_that_sends_no_more_gets_its_answer(path: str) -> None:
    async with served(path) as (_, client):
        client.send(b'{"command": "name"}')
        client.writer.write_eof()
        assert "part" in await client.line()
        assert await client.line() == {"end": True}
        assert await client.line() is None


@pytest.mark.parametrize(
    "garbage",
    [
        *(
            b"",
            b"GET / HTTP/1.1",
            b"\xff\x00",
            b"null",
            b"[]",
            b"7",
            b"{",
            b'{"command": 1}',
            b"{}",
        ),
        b"[" * 10_000,
    ],
)
async def test_garbage_is_one_line_of_error(path: str, garbage: bytes) -> None:
    async with served(path) as (_, client):
        client.send(garbage + b"\n")
        assert await client.line() == {"error": 'a request is an object of JSON with a "command"'}
        assert (await client.answer("name"))[-1] == {"end": True}


async def test_arguments_are_an_object(path: str) -> None:
    async with served(path) as (_, client):
        (answer,) = await client.answer("name", arguments=[1])
        assert answer == {"error": 'the "arguments" of a request are an object'}


async def test_a_line_without_an_end_is_refused(path: str) -> None:
    async with served(path) as (_, client):
        client.send(b"x" * (control_socket.LONGEST_REQUEST + 1))
        assert await client.line() == {"error": "a request is longer than 65536 bytes"}
        with contextlib.suppress(ConnectionError):  # it has not read the rest
            assert await client.line() is None


# -- clients that do not go on ---------------------------------------------------------------------


async def test_a_client_that_sends_nothing_is_disconnected(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "REQUEST_TIMEOUT", 0.01)
    async with served(path) as (_, client):
        with contextlib.suppress(ConnectionError):
            assert await client.line() is None


async def test_a_client_that_does_not_read_is_disconnected(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "WRITE_TIMEOUT", 0.05)
    commands = Commands()
    async with opened(path, commands):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.send(b'{"command": "flood"}\n')
            await until(lambda: commands.ended == ["flood"])


async def test_a_client_that_leaves_ends_its_command(path: str) -> None:
    async with served(path) as (commands, client):
        client.send(b'{"command": "flood"}\n')
        await client.line()
        client.writer.transport.abort()
        await until(lambda: commands.ended == ["flood"])


async def test_others_are_served_while_a_command_runs(path: str) -> None:
    async with served(path) as (_, client):
        client.send(b'{"command": "hang"}\n')
        async with connected(path) as other:
            assert (await other.answer("name"))[-1] == {"end": True}


async def test_the_number_of_clients_is_limited(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_socket, "MOST_CLIENTS", 2)
    async with served(path) as (_, first), connected(path) as second:
        for client in (first, second):
            assert (await client.answer("name"))[-1] == {"end": True}
        async with connected(path) as third:
            assert await third.line() == {"error": "too many clients of the control socket"}
            assert await third.line() is None
        first.writer.close()
        async with asyncio.timeout(10):
            while True:
                async with connected(path) as fourth:
                    with contextlib.suppress(ConnectionError):
                        if (await fourth.answer("name"))[-1] == {"end": True}:
                            break


async def test_the_end_of_the_server_ends_its_clients(path: str) -> None:
    commands = Commands()
    async with contextlib.AsyncExitStack() as clients:
        async with opened(path, commands):
            hanging = await clients.enter_async_context(connected(path))
            idle = await clients.enter_async_context(connected(path))
            hanging.send(b'{"command": "hang"}\n')
            assert (await idle.answer("name"))[-1] == {"end": True}
            waiting = start_task(hanging.line())
        assert sorted(commands.ended) == ["hang", "name"]
        with contextlib.suppress(ConnectionError):
            assert await waiting is None
        with contextlib.suppress(ConnectionError):
            assert await idle.line() is None


class WithoutDescriptors(socket.socket):
    """A listening socket that cannot accept at first."""

    failures = 2

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.mark.parametrize("stays", [True, False])
async def test_it_accepts_again_when_descriptors_are_free(
    path: str, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    monkeypatch.setattr(control_socket, "_RETRY", 0.01 if stays else 60.0)
    with WithoutDescriptors(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        control = ControlSocket(sock, Commands())
        control.start()
        async with connected(path) as client:
            await until(lambda: sock.failures < 2)
            if stays:
                assert (await client.answer("name"))[-1] == {"end": True}
            await control.close()


# -- the file --------------------------------------------------------------------------------------


async def test_only_its_owner_may_connect(path: str) -> None:
    before = os.umask(0)
    try:
        async with served(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
    finally:
        os.umask(before)


async def test_the_file_is_removed_at_the_end(path: str, tmp_path: Path) -> None:
    for _ in range(2):
        async with served(path):
            assert files(tmp_path) == ["control.sock"]
        assert not files(tmp_path)


async def test_the_file_of_a_crashed_server_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(path)
    os.chmod(path, 0o666)  # noqa: PTH101
    async with served(path) as (_, client):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116
        assert (await client.answer("name"))[-1] == {"end": True}


async def test_a_file_that_another_server_has_replaced_stays(path: str, tmp_path: Path) -> None:
    async with opened(path, Commands()):
        os.unlink(path)  # noqa: PTH108
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
    assert files(tmp_path) == ["control.sock"]


async def test_without_a_path_there_is_no_socket(tmp_path: Path) -> None:
    async with opened(None, Commands()):
        assert not files(tmp_path)


async def error_of(path: str) -> str:
    with pytest.raises(ConfigError) as raised:
        async with opened(path, Commands()):
            pass
    assert raised.value.setting == "control_socket"
    return str(raised.value)


async def test_a_path_that_cannot_be_used_is_one_line(path: str, tmp_path: Path) -> None:
    async with opened(Path(path), Commands()):
        assert await error_of(path) == f"--control-socket {path} is in use by another server"
    file = tmp_path / "file"
    file.touch()
    assert await error_of(str(file)) == f"--control-socket {file} exists and is not a socket"
    missing = str(tmp_path / "no" / "control.sock")
    text = f"--control-socket {missing}: there is no folder {tmp_path}/no"
    assert await error_of(missing) == text
    long = str(tmp_path / ("x" * 200))
    assert "a socket's may have 107" in await error_of(long)
    assert "null" in await error_of("a\0b")
