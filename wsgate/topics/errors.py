"""What can go wrong with topics."""

from wsgate.errors import WsgateError


class TopicsError(WsgateError):
    """The base class of the errors of topics."""


class NotAvailable(TopicsError):
    """The server that called the app has no topics."""


class LimitReached(TopicsError):
    """A limit of the settings would be exceeded; the text names the option."""


class Unavailable(TopicsError):
    """The message has no place in the order of its topic: the broker did not answer in time."""


class Overrun(TopicsError):
    """A listener of a topic with history has fallen behind, and would miss messages."""
