"""The compiled and the plain twins of the fast path, with what their subclasses do noted."""

import asyncio
from typing import Any

from wsgate.server import fast_path, topic_service
from wsgate.server.backpressure import Gate
from wsgate.server.connection import Connection
from wsgate.server.fast_path import NONE, PlainMessagePath, PlainStream, PlainWriteBatch
from wsgate.server.message_reader import MessageReader
from wsgate.server.write_batch import WriteBatch
from wsgate.ws.deflate.compression import Compressors
from wsgate.ws.frames.fast_codec import FastCodec
from wsgate.ws.limits import MessageLimits
from wsgate.ws.session import Session

PLAIN = (PlainStream, PlainWriteBatch, PlainMessagePath)
# The base classes that the server uses: compiled if there was a compiler.
USED = (Connection.__mro__[1], WriteBatch.__mro__[1], MessageReader.__mro__[1])
TWINS = {bases[0].__module__: bases for bases in (PLAIN, USED)}


class Transport(asyncio.Transport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_broken = False
        self.unsent = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_broken

    def get_write_buffer_size(self) -> int:
        return self.unsent


def stream_on(base: Any) -> Any:
    """Return a stream class that notes what the base leaves to it."""

    class Stream(base):  # type: ignore[misc]  # one of the twins
        def __init__(self, batch: Any) -> None:
            self.batch = batch
            self.transport = Transport()
            self.failures = 0
            self.aborts = 0
            self.descriptor = NONE

        def write_failed(self) -> None:
            self.failures += 1

        def abort(self) -> None:
            self.aborts += 1

        def find_descriptor(self) -> int:
            return self.descriptor

    return Stream


def batch_on(base: Any) -> Any:
    """Return a write batch class with the rest of the server's."""

    class Batch(base):  # type: ignore[misc]  # one of the twins
        put_other = WriteBatch.put_other
        schedule = WriteBatch.schedule
        flush_stream = WriteBatch.flush_stream
        take_share = WriteBatch.take_share

        def __init__(self) -> None:
            self._call_soon = asyncio.get_running_loop().call_soon
            self._run_outside_app = lambda write, data: write(data)
            self._late: list[Any] = []

    return Batch


def path_on(base: Any) -> Any:
    """Return a message path class that notes what the base leaves to it."""

    class Path(base):  # type: ignore[misc]  # one of the twins
        def __init__(self, batch: Any, wire: Any) -> None:
            self.others: list[bytes] = []
            self.pongs = 0
            self.sent_otherwise: list[Any] = []
            self.given_back: list[Any] = []
            self.others_to_receive: list[Any] = []
            self.batch, self.wire = batch, wire
            self.gate = Gate()
            self.max_size = 100
            self.create_future = asyncio.get_running_loop().create_future
            self.is_open = True
            self.session = Session(FastCodec(MessageLimits(), None, Compressors(6)))
            self.codec = self.session.codec

        def feed_other(self, data: bytes) -> None:
            self.others.append(data)

        def pong_received(self) -> None:
            self.pongs += 1

        def give_back(self, arrival: Any) -> None:
            self.given_back.append(arrival)

        async def send_other(self, message: Any) -> None:
            await asyncio.sleep(0)
            self.sent_otherwise.append(message)

        async def receive_other(self) -> Any:
            await asyncio.sleep(0)
            return self.others_to_receive.pop(0)

        async def wait_for_reader(self) -> None:
            await self.gate.wait_until_open()

    return Path


class Twin:
    """One of the twins, with everything that it leaves to its subclasses noted."""

    def __init__(self, bases: tuple[Any, Any, Any]) -> None:
        used = vars(topic_service)["deliver"]
        self.deliver = fast_path.deliver if bases is PLAIN else used
        self.stream_type = stream_on(bases[0])
        self.batch = batch_on(bases[1])()
        self.stream = self.stream_type(self.batch)
        self.path_type = path_on(bases[2])
        self.path = self.path_type(self.batch, self.stream)

    @property
    def written(self) -> list[bytes]:
        """What the stream's transport was given."""
        written: list[bytes] = self.stream.transport.written
        return written
