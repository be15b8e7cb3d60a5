"""Sends the bytes of a file over a connection: within the kernel, or in pieces.

`loop.sendfile` is not used: uvloop has none, asyncio's reads the disk in the event loop, and while
it runs the client can neither be seen to leave nor time out.
"""

import errno
import os
from typing import TYPE_CHECKING

from wsgate.errors import ClientDisconnected
from wsgate.server.open_file import OpenFile

if TYPE_CHECKING:
    from wsgate.server.connection import Connection

PIECE = 131_072  # bytes of a file in memory
STEP = 4 * 1024 * 1024  # bytes that one call in a thread sends
# What os.sendfile raises for a file system or a socket that it does not support.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


async def send_file(connection: "Connection", file: OpenFile) -> None:
    """Send all that is left of a file, at the client's pace.

    Raises:
        ClientDisconnected: The client has left, or did not read in time.
        FileTruncated: The file became shorter.
        OSError: It could not be read.
    """
    if connection.find_descriptor() >= 0:
        await _copy_in_kernel(connection, file)
    while file.left:  # nothing, in most cases
        await _send_piece(connection, file)


def _check(connection: "Connection") -> None:
    if connection.is_closing:
        raise ClientDisconnected("the client has left")


async def _copy_in_kernel(connection: "Connection", file: OpenFile) -> None:
    """Copy until all is sent, or until the kernel says that it cannot copy this file."""
    await connection.flush()
    _check(connection)
    # The loop does not watch a transport's own descriptor for others. And a thread that still
    # copies must not find a descriptor that was closed, and is another file's by now.
    target = file.adopt(os.dup(connection.find_descriptor()))
    while file.left:
        asked = min(STEP, file.left)
        try:
            sent = await file.copy_to(target, asked)
        except ConnectionError as error:
            raise ClientDisconnected("the client has left") from error
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return
            raise
        _check(connection)
        if sent < asked:
            await connection.wait_until_writable(target)
            _check(connection)


async def _send_piece(connection: "Connection", file: OpenFile) -> None:
    data = await file.read(PIECE)
    _check(connection)
    connection.write(data)
    del data  # TLS has encrypted it: while the client is slow, one copy is enough
    await connection.gate.wait_until_open()
