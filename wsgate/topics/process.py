"""The topics of this process: the rules of its apps, and its counters."""

from wsgate.topics.counts import Counts
from wsgate.topics.names import check_name
from wsgate.topics.rules import Announce, RuleBook, make_rules

# An app configures topics when it is imported, before there is a worker to ask.
configured = RuleBook()
running: set[Counts] = set()
"""The counters of the workers that run in this process: one, except in tests."""


def configure(
    pattern: str,
    *,
    history: int | None = None,
    history_seconds: float | None = None,
    slow: str | None = None,
    announce: Announce | None = None,
) -> None:
    """Give rules to the topics whose name matches a pattern; the last pattern that matches wins.

    Args:
        pattern: As of `fnmatch`: `*`, `?`, `[abc]`.
        history: Number of messages of each topic that are kept for subscribers that were away.
            Such a topic has one order for everybody. 0 or left out: none.
        history_seconds: How long they are kept, by default 300. An error without `history`.
        slow: What happens to a subscriber that reads too slowly: "close" (the default with
            history), "drop" (the default without) or "conflate" (it gets the latest message).
        announce: Called with (topic, member, joined) when a member joins or leaves. It may return a
            message, which is sent live, or a message with an id, which is kept. It may be async.

    Raises:
        TypeError, ValueError: An argument is not allowed.
    """
    check_name(pattern)
    rules = make_rules(
        history=history, history_seconds=history_seconds, slow=slow, announce=announce
    )
    configured.add(pattern, rules)


def stats() -> dict[str, int | dict[str, int]]:
    """Return the counters of this worker since its start.

    published, delivered, dropped (by cause), closed_slow (sockets), recovered and incomplete
    (recoveries without and with a gap).
    """
    total = Counts()
    for counts in running:
        total.add(counts)
    return total.as_dict()
