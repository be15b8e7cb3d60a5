"""The write batch: collects writes during one loop iteration and flushes each connection once.

An app that sends many small messages at once costs one system call for all of them, and the
messages of an iteration are all processed before the first one leaves: the interpreter and the
kernel each go on with what they have in the caches. For echoes of 16 KiB that is a third of their
time.
"""

from collections.abc import Callable

from wsgate.server.fast_path import MAX_DELAYED, MAX_FLUSHED, PlainStream, PlainWriteBatch

try:
    from wsgate.server._fast_path import WriteBatch as WriteBatchBase
except ImportError:  # no compiler was found where wsgate was installed
    WriteBatchBase = PlainWriteBatch  # type: ignore[assignment, misc]  # the same class


MIN_LATE = 256  # late connections that an iteration flushes, however many others there are


class WriteBatch(WriteBatchBase):
    """The writes of a worker's connections in this loop iteration.

    call_soon: schedules a callback. run_outside_app: calls a function outside the context of the
    app that writes. Both keep that app's context variables out of later callbacks.
    """

    __slots__ = ("_call_soon", "_late", "_run_outside_app")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        run_outside_app: Callable[[Callable[[bytes | bytearray], None], bytes | bytearray], None],
    ) -> None:
        self._call_soon = call_soon
        self._run_outside_app = run_outside_app
        self._late: list[PlainStream] = []  # with pending bytes of earlier iterations

    def put_other(self, stream: PlainStream, data: bytes) -> bool:
        """Send bytes after the pending ones, at once if they are many.

        They are sent at once as well if the transport's write buffer is not empty: the transport
        adds them to it, and reports when it is full. Returns False if the transport is broken or
        closing: an app that never returns to the loop would not be notified otherwise.
        """
        transport = stream.transport
        if transport.is_closing():
            return False
        pending = stream.pending
        size = len(data) if pending is None else len(pending) + len(data)
        if size >= MAX_DELAYED or transport.get_write_buffer_size():
            stream.is_transport_empty = False
            joined = data if pending is None else b"".join((pending, data))
            self._run_outside_app(transport.write, joined)
            stream.pending = None
            return not transport.is_closing()
        if not self.is_scheduled:
            self.schedule()
        if pending is None:
            self.streams.append(stream)
            stream.pending = data
        elif isinstance(pending, bytearray):
            pending += data
        else:
            stream.pending = bytearray(pending) + data
        return True

    def take_share(self, streams: list[PlainStream]) -> list[PlainStream]:
        """Return what this iteration flushes of these and of the late ones; keep the others.

        A message to a room of 20,000 would keep everybody else waiting for a tenth of a second.
        What was written in this iteration comes first, so that an answer does not wait for the
        whole room.
        """
        share = streams[:MAX_FLUSHED]
        self._late += streams[MAX_FLUSHED:]
        count = max(MAX_FLUSHED - len(share), MIN_LATE)
        share += self._late[:count]
        del self._late[:count]
        self.has_late = bool(self._late)
        if self.has_late:
            self.schedule()
        return share

    def schedule(self) -> None:
        """Schedule `flush` for the end of this loop iteration.

        The call comes first: an app at its recursion limit makes it raise, and the batch has to be
        scheduled by the next write then.
        """
        self._call_soon(self.flush)
        self.is_scheduled = True

    def flush_stream(self, stream: PlainStream) -> None:
        """Send the pending bytes of one connection now."""
        if stream.pending is not None and not stream.transport.is_closing():
            stream.is_transport_empty = False
            self._run_outside_app(stream.transport.write, stream.pending)
        stream.pending = None
