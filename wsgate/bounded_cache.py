"""A dict of bounded size, for what is computed once and looked up often."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(dict[Key, Value]):
    """A cache that starts afresh when it is full; a miss is `get` returning None.

    capacity: the largest number of entries. Clearing all of them costs less than tracking their
    age: what comes often is back at once.
    """

    __slots__ = ("_capacity",)

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def keep(self, key: Key, value: Value) -> None:
        """Add an entry."""
        if len(self) >= self._capacity:
            self.clear()
        self[key] = value
