"""What --metrics needs in a process: the meter of its worker, and the samples of that."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wsgate._version import __version__
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.metrics import families as f
from wsgate.metrics.meter import Meter
from wsgate.metrics.readings import Readings
from wsgate.metrics.samples import Samples
from wsgate.metrics.totals import Totals
from wsgate.server.worker import Worker
from wsgate.server.worker_state import read_state

if TYPE_CHECKING:
    from wsgate.process.worker_samples import WorkerSamples

_MISSING = "--metrics needs prometheus-client: pip install 'wsgate[metrics]'"
ONLY_WORKER = 1  # its number where there is no supervisor
_STATES = ("starting", "ready", "stopping")  # of workers whose process runs


def make_meter(config: Config) -> Meter | None:
    """Return the meter of a worker, None without --metrics. Raises ConfigError."""
    if config.metrics is None:
        return None
    _check_library()
    return Meter(time.time)


def make_worker_samples(config: Config) -> "WorkerSamples | None":
    """Return what keeps the samples of workers, None without --metrics. Raises ConfigError."""
    if config.metrics is None:
        return None
    _check_library()
    from wsgate.process.worker_samples import WorkerSamples  # noqa: PLC0415  # needs the library

    return WorkerSamples()


def _check_library() -> None:
    """Raise ConfigError if prometheus-client, which is optional, is missing."""
    try:
        import wsgate.metrics.exposition  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigError(_MISSING, setting="metrics") from None


async def read_samples(worker: Worker, meter: Meter) -> list[Samples]:
    """Return what a worker has counted, what it is now, and what its process and app count."""
    from wsgate.metrics.exposition import read_registry  # noqa: PLC0415  # its library is optional

    return [*meter.samples(await read_state(worker)), *read_registry()]


async def read_server_samples(worker: Worker, meter: Meter, state: str) -> list[Samples]:
    """Return the samples of a server without workers.

    Args:
        worker: Its worker.
        meter: That of the worker.
        state: What the server does.
    """
    totals = Totals()
    totals.add(await read_samples(worker, meter), ONLY_WORKER)
    return [*describe_server({state: 1}, 1), *totals.families()]


def describe_server(workers: Mapping[str, int], target: int) -> list[Samples]:
    """Return the samples of what a server is.

    Args:
        workers: How many workers are in each state; others have none.
        target: How many should serve.
    """
    readings = Readings()
    readings.set(f.INFO, 1, version=__version__)
    for state in _STATES:
        readings.set(f.WORKERS, workers.get(state, 0), state=state)
    readings.set(f.WORKERS_TARGET, target)
    return readings.samples()
