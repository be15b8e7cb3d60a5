"""The metrics of all workers of a supervisor, also of those that have ended."""

from collections import Counter
from collections.abc import Iterable, Sequence

from wsgate.metrics.exposition import read_registry
from wsgate.metrics.samples import Samples
from wsgate.metrics.supervisor_meter import SupervisorMeter
from wsgate.metrics.totals import Totals
from wsgate.process.metering import describe_server
from wsgate.process.worker_handle import State, WorkerHandle

SUPERVISOR = 0  # in the place of a worker's number


class WorkerSamples:
    """Keeps the latest samples of each worker, and the sum of those of the ended ones.

    A worker sends its last samples when it stops, so nothing that it has counted is lost. Of one
    that was killed, those of its latest answer count.

    Attributes:
        meter: Counts how workers end.
    """

    def __init__(self) -> None:
        self.meter = SupervisorMeter()
        self._latest: dict[WorkerHandle, Sequence[Samples]] = {}
        self._ended = Totals()

    def keep(self, worker: WorkerHandle, samples: Sequence[Samples]) -> None:
        """Keep what a worker has answered."""
        if worker.state is not State.ENDED:
            self._latest[worker] = samples

    def add_ended(self, worker: WorkerHandle) -> None:
        """Add what an ended worker has counted, once all that it has sent was read."""
        samples = self._latest.pop(worker, ())
        self._ended.add_ended(worker.last_samples or samples)

    def all(self, workers: Iterable[WorkerHandle], target: int) -> list[Samples]:
        """Return the samples of the server.

        Args:
            workers: All whose process may still run.
            target: How many should serve.
        """
        running = list(workers)
        totals = Totals()
        for worker, samples in self._latest.items():
            current = worker.last_samples or samples
            if worker in running:
                totals.add(current, worker.row + 1)
            else:  # its process has ended, but what it has sent is still being read
                totals.add_ended(current)
        # Those that run come first: a new app may have another kind of metric with the same name.
        totals.add_ended(self._ended.families())
        totals.add(read_registry(), SUPERVISOR)
        states = Counter(worker.state.name.lower() for worker in running)
        return [*describe_server(states, target), *self.meter.samples(), *totals.families()]
