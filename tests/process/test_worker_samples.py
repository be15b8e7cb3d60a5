"""The metrics of all workers, also of those that have ended."""

import math

from wsgate.metrics import families as f
from wsgate.metrics.samples import Samples, samples_of
from wsgate.process.worker_handle import State, WorkerHandle
from wsgate.process.worker_samples import WorkerSamples


def worker(row: int) -> WorkerHandle:
    handle = WorkerHandle(row, 0.0, math.inf, lambda: None)
    handle.state = State.READY
    return handle


def counted(messages: float, websockets: float = 0.0) -> list[Samples]:
    return [
        samples_of(f.MESSAGES, [({"direction": "sent"}, messages)]),
        samples_of(f.WEBSOCKETS, [({}, websockets)]),
    ]


def values(samples: list[Samples], family: f.Family) -> dict[str, float]:
    """Return the values of a family by the number of the worker, "" for all together."""
    return {
        labels.get(f.WORKER, ""): value
        for one in samples
        for name, labels, value in one.values
        if name == family.name
    }


def test_counters_are_added_and_gauges_are_by_worker() -> None:
    samples, first, second = WorkerSamples(), worker(0), worker(1)
    samples.keep(first, counted(1.0, websockets=3.0))
    samples.keep(second, counted(10.0, websockets=4.0))
    found = samples.all([first, second], target=2)
    assert values(found, f.MESSAGES) == {"": 11.0}
    assert values(found, f.WEBSOCKETS) == {"1": 3.0, "2": 4.0}
    assert values(found, f.WORKERS_TARGET) == {"": 2.0}


def test_the_last_samples_of_a_worker_stay_when_it_has_ended() -> None:
    samples, first, second = WorkerSamples(), worker(0), worker(1)
    samples.keep(first, counted(1.0, websockets=3.0))
    samples.keep(second, counted(10.0))
    first.last_samples = counted(2.0)
    first.state = State.ENDED
    assert values(samples.all([second], 1), f.MESSAGES) == {"": 12.0}  # it is still being read
    samples.add_ended(first)
    samples.keep(first, counted(1.0))  # an answer that comes too late
    found = samples.all([second], 1)
    assert values(found, f.MESSAGES) == {"": 12.0}
    assert values(found, f.WEBSOCKETS) == {"2": 0.0}


def test_of_a_worker_that_was_killed_the_latest_answer_counts() -> None:
    samples, first = WorkerSamples(), worker(0)
    samples.keep(first, counted(5.0))
    first.state = State.ENDED
    samples.add_ended(first)
    assert values(samples.all([], 1), f.MESSAGES) == {"": 5.0}


def test_workers_are_counted_by_state() -> None:
    first, second, third = worker(0), worker(1), worker(2)
    third.state = State.STOPPING
    (found,) = [
        one.values
        for one in WorkerSamples().all([first, second, third], 2)
        if one.name == f.WORKERS.name
    ]
    assert {labels["state"]: value for _, labels, value in found} == {
        "starting": 0.0,
        "ready": 2.0,
        "stopping": 1.0,
    }


def test_a_new_app_may_have_another_kind_of_metric_with_the_same_name() -> None:
    samples, old, new = WorkerSamples(), worker(0), worker(1)
    samples.keep(old, [Samples("jobs", "counter", "Jobs.", "", [("jobs_total", {}, 5.0)])])
    samples.add_ended(old)
    samples.keep(new, [Samples("jobs", "gauge", "Jobs.", "", [("jobs", {}, 3.0)])])
    found = [family for family in samples.all([new], 1) if family.name == "jobs"]
    assert [family.values for family in found] == [[("jobs", {f.WORKER: "2"}, 3.0)]]
