"""The write batch: collects writes during one loop iteration and flushes each connection once.

An app that sends many small messages at once costs one system call for all of them, and the
messages of an iteration are all processed before the first one leaves: the interpreter and the
kernel each go on with what they have in the caches. For echoes of 16 KiB that is a third of their
time.
"""

from collections.abc import Callable

from wsgate.server.fast_path import MAX_DELAYED, PlainStream, PlainWriteBatch

try:
    from wsgate.server._fast_path import WriteBatch as WriteBatchBase
except ImportError:  # no compiler was found where wsgate was installed
    WriteBatchBase = PlainWriteBatch  # type: ignore[assignment, misc]  # the same class


class WriteBatch(WriteBatchBase):
    """The writes of a worker's connections in this loop iteration.

    call_soon: schedules a callback. run_outside_app: calls a function outside the context of the
    app that writes. Both keep that app's context variables out of later callbacks.
    """

    __slots__ = ("_call_soon", "_run_outside_app")

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        run_outside_app: Callable[[Callable[[bytes | bytearray], None], bytes | bytearray], None],
    ) -> None:
        self._call_soon = call_soon
        self._run_outside_app = run_outside_app

    def put_other(self, stream: PlainStream, data: bytes) -> bool:
        """Send bytes after the pending ones, at once if they are many.

        They are sent at once as well if the transport's write buffer is not empty: the transport
        adds them to it, and reports when it is full. Returns False if the transport is broken or
        closing: an app that never returns to the loop would not be notified otherwise.
        """
        transport = stream.transport
        if transport.is_closing():
            return False
        joined = _join(stream.pending, data)
        if len(joined) >= MAX_DELAYED or transport.get_write_buffer_size():
            stream.pending, stream.is_transport_empty = None, False
            self._run_outside_app(transport.write, joined)
            return not transport.is_closing()
        if stream.pending is None:
            self.streams.append(stream)
        stream.pending = joined
        if not self.is_scheduled:
            self.schedule()
        return True

    def schedule(self) -> None:
        """Schedule `flush` for the end of this loop iteration."""
        self.is_scheduled = True
        self._call_soon(self.flush)

    def flush_stream(self, stream: PlainStream) -> None:
        """Send the pending bytes of one connection now."""
        data, stream.pending = stream.pending, None
        if data is not None and not stream.transport.is_closing():
            stream.is_transport_empty = False
            self._run_outside_app(stream.transport.write, data)


def _join(pending: bytes | bytearray | None, data: bytes) -> bytes | bytearray:
    if pending is None:
        return data
    joined = pending if isinstance(pending, bytearray) else bytearray(pending)
    joined += data
    return joined
