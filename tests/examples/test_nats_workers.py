"""What the workers of the example of a broker know of each other; the test is the clock."""

import pytest

from examples.nats_broker.workers import INTERVAL, LEASE, Workers
from wsgate.topics.presence import GRACE, Change

ENTRY = ("room", "ada")
JOINED = Change(*ENTRY, has_joined=True)
LEFT = Change(*ENTRY, has_joined=False)


class Setup:
    """Workers that hear each other, each older than the next one."""

    def __init__(self, count: int) -> None:
        self.workers = [Workers(f"{number}") for number in range(count)]
        self.now = 0.0
        for worker in self.workers:
            worker.connect(self.now)
        self.tell()
        self.wait(2 * INTERVAL)

    def tell(self) -> None:
        for sender in self.workers:
            for worker in self.workers:
                if worker is not sender:
                    worker.take(sender.encode(), self.now)

    def changes(self) -> list[list[Change]]:
        """Return what each worker announces."""
        for worker in self.workers:
            worker.expire(self.now)
        return [worker.take_changes(self.now) for worker in self.workers]

    def wait(self, seconds: float) -> list[list[Change]]:
        """Let time pass, while all tell what they have; return what each has announced."""
        found = self.changes()
        for _ in range(int(seconds / 0.5)):
            self.now += 0.5
            self.tell()
            for earlier, new in zip(found, self.changes(), strict=True):
                earlier.extend(new)
        return found


@pytest.fixture
def setup() -> Setup:
    return Setup(3)


def test_the_oldest_worker_announces_each_change_once(setup: Setup) -> None:
    _, two, three = setup.workers
    two.own.members[ENTRY] = 2
    three.own.members[ENTRY] = 1
    assert setup.wait(2.0) == [[JOINED], [], []]
    assert [worker.members("room") for worker in setup.workers] == [{"ada": 3}] * 3
    del two.own.members[ENTRY]
    assert setup.wait(2 * GRACE) == [[], [], []]
    del three.own.members[ENTRY]
    assert setup.wait(GRACE - 0.5) == [[], [], []]
    assert setup.wait(1.0) == [[LEFT], [], []]


def test_who_returns_on_another_worker_has_not_left(setup: Setup) -> None:
    _, two, three = setup.workers
    two.own.members[ENTRY] = 1
    setup.wait(2.0)
    del two.own.members[ENTRY]
    setup.wait(GRACE - 0.5)
    three.own.members[ENTRY] = 1
    assert setup.wait(2 * GRACE) == [[], [], []]


@pytest.mark.parametrize("was_announced", [True, False])
def test_the_next_worker_announces_for_one_that_has_died(
    setup: Setup, *, was_announced: bool
) -> None:
    one, _, three = setup.workers
    three.own.members["room", "bob"] = 1
    one.own.members[ENTRY] = 1
    if was_announced:
        setup.wait(3 * INTERVAL)
    else:
        setup.tell()
        for worker in setup.workers[1:]:
            worker.take_changes(setup.now)
    del setup.workers[0]
    two, three_announced = setup.wait(LEASE + 2 * GRACE)
    assert not three_announced
    assert two[-1] == LEFT
    assert len(two) == (1 if was_announced else 3)
    assert setup.workers[1].members("room") == {"bob": 1}


def test_a_worker_that_stops_says_so(setup: Setup) -> None:
    one, two, three = setup.workers
    two.own.subscribers["room"] = 2
    setup.tell()
    assert [one.count("room"), two.count("room"), three.count("room")] == [2, 0, 2]
    one.take(two.encode_end(), setup.now)
    assert one.count("room") == 0


def test_a_worker_that_was_cut_off_takes_nobody_for_dead(setup: Setup) -> None:
    one, two, _ = setup.workers
    two.own.members[ENTRY] = 1
    setup.wait(2.0)
    setup.now += 100.0
    one.connect(setup.now)
    one.expire(setup.now)
    assert not one.take_changes(setup.now)
    assert one.members("room") == {"ada": 1}


def test_a_new_worker_leads_only_after_it_could_hear_the_others() -> None:
    new = Workers("0")
    new.own.members[ENTRY] = 1
    assert not new.take_changes(0.0)  # it is not connected
    new.connect(1.0)
    assert not new.take_changes(1.0 + INTERVAL)
    assert new.take_changes(1.0 + 2 * INTERVAL) == [JOINED]
