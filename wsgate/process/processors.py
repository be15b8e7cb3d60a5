"""How many processors this process may use, by its affinity and its cgroup."""

import contextlib
import math
import os
from pathlib import Path

_CGROUP2_LIMIT = "cpu.max"  # "QUOTA PERIOD" in microseconds, or "max PERIOD"
_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def usable_processors(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> int:
    """Return the number of processors, at least 1.

    Args:
        root: Where the file system of cgroups is mounted.
        membership: The file that says which groups this process is in.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _quota(root, membership))))


def _quota(root: Path, membership: Path) -> float:
    """Return the least quota of the process's groups, in processors; infinity without one."""
    quotas = [math.inf]
    with contextlib.suppress(OSError, ValueError):  # ValueError: a line of another form
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                quotas += _quotas_of_version_2(root, path)
            elif "cpu" in controllers.split(","):
                quotas += _quotas_of_version_1(root / "cpu", path)
    return min(quotas)


def _quotas_of_version_2(root: Path, path: str) -> list[float]:
    quotas = []
    for group in _with_parents(root, path):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (group / _CGROUP2_LIMIT).read_text().split()
            quotas.append(int(quota) / int(period))  # ValueError: "max"
    return quotas


def _quotas_of_version_1(root: Path, path: str) -> list[float]:
    quotas = []
    for group in _with_parents(root, path):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota = int((group / "cpu.cfs_quota_us").read_text())
            period = int((group / "cpu.cfs_period_us").read_text())
            if quota > 0:  # -1: no quota
                quotas.append(quota / period)
    return quotas


def _with_parents(root: Path, path: str) -> list[Path]:
    """Return the folders of a group and of those that contain it: the least quota counts.

    In a container the path may be that of the host, which does not exist here.
    """
    group = root / path.lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]
