"""An open file: when its descriptors are closed. What it reads is in test_file_responses.py."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.waiting import until
from wsgate.asgi.http import FileRequest
from wsgate.config import Config
from wsgate.errors import InvalidMessage
from wsgate.server.open_file import SMALL_FILE, OpenFile
from wsgate.server.worker import Worker


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture
async def file(tmp_path: Path) -> OpenFile:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (SMALL_FILE + 1))
    file = OpenFile(Worker(app, Config()))
    await file.open(FileRequest(str(path), 0, None, is_last=True))
    return file


async def test_a_small_file_that_shrinks_before_it_is_read_is_an_error_of_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(*_: object) -> bytes:
        return b""

    (tmp_path / "file").write_bytes(b"x")
    file = OpenFile(Worker(app, Config()))
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(InvalidMessage, match="it became shorter"):
        await file.open(FileRequest(str(tmp_path / "file"), 0, None, is_last=True))
    file.close()


async def test_all_descriptors_are_closed(file: OpenFile) -> None:
    adopted = file.adopt(os.dup(file._descriptor))
    assert await file.read(10) == b"x" * 10
    assert (file.offset, file.left) == (10, SMALL_FILE - 9)
    descriptors = [file._descriptor, adopted]
    assert all(map(is_open, descriptors))
    file.close()
    assert not any(map(is_open, descriptors))
    file.close()


async def test_what_was_read_is_not_kept(file: OpenFile) -> None:
    own, read = bytes(10_000), await file.read(10_000)
    # The thread of the executor holds it for a moment longer.
    await until(lambda: sys.getrefcount(read) == sys.getrefcount(own))
    file.close()


@pytest.mark.parametrize("end", ["result", "error", "cancelled"])
async def test_descriptors_are_closed_after_the_thread_that_uses_them(
    file: OpenFile, end: str
) -> None:
    work: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    file._work = work
    file.close()
    assert is_open(file._descriptor)
    match end:
        case "result":
            work.set_result(b"")
        case "error":
            work.set_exception(OSError())
        case _:
            work.cancel()
    await until(lambda: not is_open(file._descriptor))
