"""Which topics are busy."""

from wsgate.metrics.activity import MOST_TOPICS, WINDOW, BusyTopic, TopicActivity


def test_the_latest_window_counts_per_second() -> None:
    activity = TopicActivity()
    activity.rotate(100.0)
    for _ in range(10):
        activity.add("room:1", 3)
    activity.add("room:2", 100)
    assert activity.busiest(5) == []
    activity.rotate(100.0 + WINDOW / 2)
    assert activity.busiest(5) == []
    activity.rotate(100.0 + 2 * WINDOW)
    assert activity.busiest(5) == [
        BusyTopic("room:2", 1 / (2 * WINDOW), 100 / (2 * WINDOW)),
        BusyTopic("room:1", 10 / (2 * WINDOW), 30 / (2 * WINDOW)),
    ]
    assert [one.topic for one in activity.busiest(1)] == ["room:2"]
    activity.rotate(100.0 + 3 * WINDOW)
    assert activity.busiest(5) == []


def test_the_rates_of_one_topic() -> None:
    activity = TopicActivity()
    assert activity.rates_of("a") == (0.0, 0.0)
    activity.rotate(100.0)
    for _ in range(10):
        activity.add("a", 3)
    activity.rotate(100.0 + WINDOW)
    assert activity.rates_of("a") == (10 / WINDOW, 30 / WINDOW)
    assert activity.rates_of("b") == (0.0, 0.0)


def test_the_rates_of_a_topic_that_was_left_out_are_not_known() -> None:
    activity = TopicActivity()
    activity.rotate(100.0)
    for number in range(MOST_TOPICS + 1):
        activity.add(f"{number}", 1)
    activity.rotate(100.0 + WINDOW)
    assert activity.rates_of("0") == (1 / WINDOW, 1 / WINDOW)
    assert activity.rates_of(f"{MOST_TOPICS}") is None


def test_there_is_a_limit_of_topics() -> None:
    activity = TopicActivity()
    activity.rotate(100.0)
    for number in range(MOST_TOPICS + 10):
        activity.add(f"{number}", 0)
    activity.add("0", 7)
    activity.rotate(200.0)
    busiest = activity.busiest(MOST_TOPICS + 10)
    assert len(busiest) == MOST_TOPICS
    assert busiest[0].topic == "0"
