"""The topics of several workers, added up."""

from typing import Any

from wsgate.process.commands import Part
from wsgate.process.topic_totals import PAGE, TopicTotals

Rate = float | None


def item(name: str, subscribers: int, publishes: Rate = None, deliveries: Rate = None) -> Part:
    return {
        "topic": name,
        "subscribers": subscribers,
        "publishes_rate": publishes,
        "deliveries_rate": deliveries,
    }


def end(worker: int, total: int, listed: int, subscriptions: int) -> Part:
    return {
        "worker": worker,
        "total": total,
        "listed": listed,
        "subscriptions": subscriptions,
    }


def answer(worker: int, items: list[Part], more: int = 0) -> list[Part]:
    """Return the answer of a worker. more: topics with one subscriber that it does not list."""
    page = [{"worker": worker, "topics": items}] if items else []
    subscriptions = sum(one["subscribers"] for one in items) + more
    return [*page, end(worker, len(items) + more, len(items), subscriptions)]


def added(*parts: Part, limit: int = 50) -> tuple[list[Part], Part]:
    """Return the topics that are listed, and the totals."""
    totals = TopicTotals()
    for part in parts:
        totals.add(part)
    *pages, last = totals.parts(limit, [])
    return [one for page in pages for one in page["topics"]], last


def numbers(listed: list[Part]) -> list[tuple[str, int, int]]:
    return [(one["topic"], one["subscribers"], one["at_most"]) for one in listed]


def test_a_topic_of_several_workers_is_one() -> None:
    listed, totals = added(
        *answer(1, [item("b", 3), item("a", 2)]), *answer(2, [item("a", 2), item("c", 1)])
    )
    assert numbers(listed) == [("a", 4, 4), ("b", 3, 3), ("c", 1, 1)]
    assert totals == {"total": 3, "listed": 3, "subscriptions": 8, "unanswered": []}


def test_what_a_worker_does_not_list_it_may_have() -> None:
    listed, totals = added(
        *answer(1, [item("a", 9), item("b", 5)], more=100),
        *answer(2, [item("a", 8), item("c", 4)], more=10),
        *answer(3, [item("c", 1)]),
    )
    # Worker 1 may have 5 of c, worker 2 may have 4 of b, and worker 3 has listed all.
    assert numbers(listed) == [("a", 17, 17), ("b", 5, 9), ("c", 5, 10)]
    assert totals["total"] == 102 + 12 + 1
    assert totals["subscriptions"] == 114 + 22 + 1


def test_the_limit_holds_over_all_workers() -> None:
    items = [item(f"{number:03}", 1) for number in range(PAGE + 20)]
    totals = TopicTotals()
    for part in answer(1, items):
        totals.add(part)
    pages = list(totals.parts(PAGE + 10, [7]))
    assert [len(page["topics"]) for page in pages[:-1]] == [PAGE, 10]
    assert pages[0]["topics"][0]["topic"] == "000"
    subscriptions = PAGE + 20
    assert pages[-1] == {
        "total": PAGE + 20,
        "listed": PAGE + 10,
        "subscriptions": subscriptions,
        "unanswered": [7],
    }


def test_publications_are_the_same_on_all_workers_and_deliveries_their_own() -> None:
    listed, _ = added(
        *answer(1, [item("a", 1, 2.0, 2.0), item("b", 1)]),
        *answer(2, [item("a", 5, 1.8, 9.0), item("b", 1, 1.0, 1.0)]),
        *answer(3, [item("a", 1)]),
    )
    rates: list[Any] = [(one["publishes_rate"], one["deliveries_rate"]) for one in listed]
    assert rates == [(2.0, 11.0), (1.0, 1.0)]


def test_no_topics_at_all() -> None:
    totals = {"total": 0, "listed": 0, "subscriptions": 0, "unanswered": []}
    assert added() == ([], totals)
    assert added(*answer(1, [])) == ([], totals)


def test_a_worker_that_has_answered_in_part_counts_with_what_it_has_said() -> None:
    listed, totals = added({"worker": 1, "topics": [item("a", 3)]}, *answer(2, [item("a", 1)]))
    assert numbers(listed) == [("a", 4, 4)]
    assert totals["total"] == 1
