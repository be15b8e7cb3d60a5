"""The end of a process that nobody has asked for, or its start that has failed."""

import signal
from dataclasses import dataclass

from wsgate import quantities
from wsgate.errors import WsgateError
from wsgate.observe.log_format import indent


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The end of a worker, or of the process of --preload, that nobody has asked for.

    name: How the log names it. failure: Why it could not start, if it has said so. status: Its exit
    status, or minus the signal that ended it; None if that is not known. served: For how many
    seconds it has served; None if it never did. connections: How many it had.
    """

    name: str
    failure: WsgateError | None
    status: int | None
    served: float | None
    connections: int = 0

    def __str__(self) -> str:
        """Return what the log says."""
        if not self.connections:
            return self._reason
        return f"{self._reason}, with {quantities.count(self.connections, 'connection')}"

    @property
    def _reason(self) -> str:
        if self.failure is not None:
            return f"{self.name} could not start: {indent(str(self.failure))}"
        if self.status is None:
            return f"{self.name} has ended"
        if self.status >= 0:
            return f"{self.name} has ended with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:
            name = f"signal {-self.status}"
        return f"{self.name} was ended by {name}"
