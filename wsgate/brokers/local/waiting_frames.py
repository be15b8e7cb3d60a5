"""Plain publications that wait for a connection, within a limit."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

MAX_WAITING = 2**20  # bytes of frames


class WaitingFrames:
    """Frames with the topics of their publications; if there are too many, the oldest go.

    Args:
        on_drop: Called for each that goes.
        frames: Those to begin with.
    """

    def __init__(
        self, on_drop: Callable[[], object], frames: Iterable[tuple[str, bytes]] = ()
    ) -> None:
        self._on_drop = on_drop
        self._frames = deque(frames)
        self._size = sum(len(frame) for _, frame in self._frames)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._frames)

    def add(self, topic: str, frame: bytes) -> None:
        """Keep a frame."""
        self._frames.append((topic, frame))
        self._size += len(frame)
        while self._size > MAX_WAITING and len(self._frames) > 1:
            self._size -= len(self._frames.popleft()[1])
            self._on_drop()

    def take_all(self) -> list[tuple[str, bytes]]:
        """Return all, and keep none."""
        frames = list(self._frames)
        self._frames.clear()
        self._size = 0
        return frames
