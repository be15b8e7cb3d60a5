"""A file that is open for sending; what could wait for a disk runs in a thread."""

import asyncio
import io
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from wsgate.asgi.http import FileRequest
from wsgate.errors import InvalidMessage

if TYPE_CHECKING:
    from wsgate.server.worker import Worker

Args = TypeVarTuple("Args")
T = TypeVar("T")

SMALL_FILE = 65_536  # bytes of a file that is read when it is opened, and sent as a body
# A FIFO or a device must not block the open; `_check_kind` refuses it then.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FileTruncated(Exception):
    """A file became shorter while it was sent."""


class OpenFile:
    """A part of a regular file. All I/O runs in the threads of the loop's default executor.

    worker: its loop runs the calls. `close` must be called at the end, also after a failed `open`.

    Attributes:
        data: The whole part if it is small, None otherwise.
        offset: Where the bytes start that are not sent yet.
        left: How many there are.
    """

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._owned: list[int] = []  # descriptors to close
        self._descriptor = -1
        self._work: asyncio.Future[object] | None = None  # the call in a thread
        self._position_of: object = None  # the app's file, if its position moves with the sending
        self.data: bytes | None = None
        self.offset = 0
        self.left = 0

    async def open(self, request: FileRequest) -> None:
        """Open the file that an app wants sent, and read it if it is small.

        Raises:
            InvalidMessage: It cannot be opened or read, or is not a regular file.
        """
        try:
            if isinstance(request.file, str):
                await self._in_thread(self._open_path, request.file)
            else:
                self._duplicate(request.file, request.offset)
            if request.offset is not None:
                self.offset = request.offset
            await self._in_thread(self._measure, request.count)
        # ValueError: the app has closed its file. OverflowError: no C int can be its descriptor.
        except (OSError, ValueError, OverflowError, FileTruncated) as error:
            raise InvalidMessage(f"the file cannot be sent: {error}") from error

    def _open_path(self, path: str) -> None:
        self._descriptor = self.adopt(os.open(path, _FLAGS))

    def _duplicate(self, file: Any, offset: int | None) -> None:
        """Get a descriptor of our own: the app may close its own while a thread still uses it."""
        descriptor = file if isinstance(file, int) else file.fileno()
        self._descriptor = self.adopt(os.dup(descriptor))
        if offset is None:
            self._position_of = file
            # A buffered file has read ahead of its own position.
            is_file = isinstance(file, io.IOBase)
            self.offset = file.tell() if is_file else os.lseek(descriptor, 0, os.SEEK_CUR)

    def _measure(self, count: int | None) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        left = max(0, status.st_size - self.offset)
        self.left = left if count is None else min(count, left)
        if self.left <= SMALL_FILE:
            self.data = self._read(self.left)

    def adopt(self, descriptor: int) -> int:
        """Have `close` close another descriptor, when no thread uses it any more; return it."""
        self._owned.append(descriptor)
        return descriptor

    async def read(self, count: int) -> bytes:
        """Return up to so many of the bytes that are left.

        Raises:
            FileTruncated: There are none any more.
        """
        return await self._in_thread(self._read, min(count, self.left))

    def _read(self, count: int) -> bytes:
        data = os.pread(self._descriptor, count, self.offset)
        if count and not data:
            raise FileTruncated("it became shorter")
        self.offset += len(data)
        self.left -= len(data)
        return data

    async def copy_to(self, target: int, count: int) -> int:
        """Send up to so many of the bytes that are left to a socket; return how many it took.

        Raises:
            FileTruncated: There are none any more.
            OSError: As os.sendfile raises it.
        """
        return await self._in_thread(self._copy_to, target, min(count, self.left))

    def _copy_to(self, target: int, count: int) -> int:
        try:
            sent = os.sendfile(target, self._descriptor, self.offset, count)
        except BlockingIOError:
            return 0
        if not sent:
            raise FileTruncated("it became shorter")
        self.offset += sent
        self.left -= sent
        return sent

    async def _in_thread(self, call: Callable[[*Args], T], *arguments: *Args) -> T:
        work = self._worker.loop.run_in_executor(None, call, *arguments)
        self._work = work  # type: ignore[assignment]  # of which type does not matter
        await asyncio.wait([work])  # a cancelled caller does not wait; see `close`
        self._work = None  # its result may be large
        return work.result()

    def move_position(self) -> None:
        """Set the position of the app's file to the end of what was sent, as reading would."""
        file = self._position_of
        if isinstance(file, io.IOBase):
            file.seek(self.offset)
        elif file is not None:
            os.lseek(self._descriptor, self.offset, os.SEEK_SET)

    def close(self) -> None:
        """Close the descriptors, once no thread uses them."""
        if self._work is None or self._work.done():
            self._close()
        else:
            self._work.add_done_callback(self._close_after, context=self._worker.variables)

    def _close_after(self, work: "asyncio.Future[object]") -> None:
        if not work.cancelled():
            work.exception()  # nobody else will ask for it
        self._close()

    def _close(self) -> None:
        while self._owned:
            os.close(self._owned.pop())
