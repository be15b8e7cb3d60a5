"""The members that are connected to this worker, and what the hub knows of them."""

from collections.abc import Callable

from wsgate.topics.messages import Message, SetMember

MAX_LEFT = 100_000  # members who leave while there is no hub; of more it does not hear


class OwnMembers:
    """Counts the connections of each member on this worker.

    Args:
        send: Sends a message to the hub; returns False if there is no connection.
    """

    def __init__(self, send: Callable[[Message], bool]) -> None:
        self._send = send
        self._counts: dict[tuple[str, str], int] = {}
        self._reported: set[tuple[str, str]] = set()  # those that a hub knows or has known
        self._left: dict[tuple[str, str], None] = {}  # of these, while there was no hub

    def join(self, topic: str, member: str) -> None:
        """Count a connection of a member."""
        key = topic, member
        self._counts[key] = self._counts.get(key, 0) + 1
        self._report(key)

    def leave(self, topic: str, member: str) -> None:
        """Count the end of a connection of a member."""
        key = topic, member
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]
        self._report(key)

    def _report(self, key: tuple[str, str]) -> None:
        count = self._counts.get(key, 0)
        if self._send(SetMember(*key, count, is_known=False)):
            self._note_reported(key, count)
        elif not count and key in self._reported and len(self._left) < MAX_LEFT:
            self._left[key] = None

    def _note_reported(self, key: tuple[str, str], count: int) -> None:
        if count:
            self._reported.add(key)
        else:
            self._reported.discard(key)

    def report_all(self, *, is_same_hub: bool) -> None:
        """Report all members to the hub of a new connection.

        The same hub has noted that all have left when the connection ended. A new hub knows
        nobody: so it hears of those who were there, too, and has them leave.
        """
        for key in self._left.keys() - self._counts.keys():
            self._reported.discard(key)
            if not is_same_hub:
                self._send(SetMember(*key, 1, is_known=True))
                self._send(SetMember(*key, 0, is_known=False))
        self._left.clear()
        for key, count in self._counts.items():
            is_known = not is_same_hub and key in self._reported
            self._send(SetMember(*key, count, is_known=is_known))
            self._note_reported(key, count)
