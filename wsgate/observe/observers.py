"""The observers of a server: functions that are called with each event."""

from collections.abc import Callable, Iterable
from typing import Self

from wsgate import loggers
from wsgate.observe.events import Event

# Runs in the event loop, often within an app's `send`: it must neither block nor start tasks.
Observer = Callable[[Event], object]


class Observers(tuple[Observer, ...]):  # noqa: SLOT001  # a tuple has no slots with names
    """Calls each observer with each event.

    It is false without observers. The caller checks that before it builds an event, so that events
    cost nothing without observers::

        if observers:
            observers.notify(RequestDone(...))

    It is a tuple, because that check is made for each request and a tuple's needs no call.
    """

    _reported: list[Observer]

    def __new__(cls, observers: Iterable[Observer] = ()) -> Self:
        """Create the observers, which do not change."""
        self = super().__new__(cls, observers)
        self._reported = []  # those whose first error was logged
        return self

    def notify(self, event: Event) -> None:
        """Call all observers with an event.

        An exception of one of them is logged, once for each observer. It reaches neither the other
        observers nor the caller.
        """
        for observer in self:
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
