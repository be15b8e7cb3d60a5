"""What the app of the metrics' address needs from the server."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

Part = dict[str, Any]


class Refused(Exception):
    """The server does not do what was asked. The text is one line for the operator."""


class Source(Protocol):
    """A server that can be asked: alone or the supervisor of workers."""

    def ask(self, command: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Part]:
        """Yield the parts of the answer to a command of `wsgate ctl`.

        Raises:
            Refused: The command cannot be executed; also after some parts.
        """
