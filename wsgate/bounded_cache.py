"""A dict of bounded size, for values that are computed once and looked up often."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(dict[Key, Value]):
    """A cache that is cleared when it is full; `get` returns None for a miss.

    capacity: the largest number of entries. Clearing the cache costs less than tracking the age of
    each entry, and frequent entries are back at once. For a function whose results may all be
    cached, `functools.lru_cache` is simpler. This is for caches that only some results may enter,
    such as those without secrets.
    """

    __slots__ = ("_capacity",)

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity = capacity

    def keep(self, key: Key, value: Value) -> None:
        """Add an entry; clear the cache first if it is full."""
        if len(self) >= self._capacity:
            self.clear()
        self[key] = value
