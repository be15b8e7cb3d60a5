"""The observers of a server: functions that are called with each event."""

from collections.abc import Callable, Iterable

from wsgate import loggers
from wsgate.observe.events import Event

# Runs in the event loop, often within an app's `send`: it must neither block nor start tasks.
Observer = Callable[[Event], object]


class Observers:
    """Calls each observer with each event.

    It is false without observers. The caller checks that before it builds an event, so that events
    cost nothing where nobody observes them::

        if observers:
            observers.notify(RequestDone(...))
    """

    __slots__ = ("_observers", "_reported")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._reported: list[Observer] = []

    def __bool__(self) -> bool:
        """Return whether there is any observer."""
        return bool(self._observers)

    def notify(self, event: Event) -> None:
        """Call all observers with an event.

        An exception of one of them is logged, once for each observer. It reaches neither the other
        observers nor the caller.
        """
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001  # observers may be the host program's
                self._report(observer, error)

    def _report(self, observer: Observer, error: Exception) -> None:
        if observer not in self._reported:
            self._reported.append(observer)
            loggers.error.error(
                "Observer %r failed; its further errors are not logged", observer, exc_info=error
            )
