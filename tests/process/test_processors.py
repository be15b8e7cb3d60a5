"""How many processors this process may use."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from wsgate.process import processors
from wsgate.process.processors import usable_processors


@pytest.fixture(autouse=True)
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


class Groups:
    """A file system of cgroups. membership: the file that lists the process's groups."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.membership = folder / "membership"
        self.membership.touch()

    def join(self, line: str) -> None:
        with self.membership.open("a") as file:
            file.write(line + "\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def version_1(self, group: str, quota: int, period: int) -> None:
        self.write(f"cpu/{group}/cpu.cfs_quota_us", str(quota))
        self.write(f"cpu/{group}/cpu.cfs_period_us", str(period))

    @property
    def usable(self) -> int:
        return usable_processors(self.root, self.membership)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


# -- affinity --------------------------------------------------------------------------------------


def test_without_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_processors(tmp_path / "none", tmp_path / "none") == 8


def test_a_system_without_affinity(monkeypatch: pytest.MonkeyPatch, groups: Groups) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert groups.usable == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert groups.usable == 1


def test_this_machine_has_some() -> None:
    assert 1 <= usable_processors() <= 8


# -- version 2 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
        ("200000", 8),
        ("x y", 8),
        ("100000 0", 8),
    ],
)
def test_a_quota_of_version_2(groups: Groups, text: str, count: int) -> None:
    groups.join("0::/app")
    groups.write("app/cpu.max", text)
    assert groups.usable == count


def test_the_least_quota_of_a_group_and_its_parents_counts(groups: Groups) -> None:
    groups.join("0::/a/b/c")
    groups.write("a/b/c/cpu.max", "600000 100000")
    groups.write("a/b/cpu.max", "max 100000")
    groups.write("a/cpu.max", "300000 100000")
    groups.write("cpu.max", "500000 100000")
    assert groups.usable == 3
    groups.write("cpu.max", "200000 100000")
    assert groups.usable == 2


def test_a_path_of_the_host_does_not_exist_in_a_container(groups: Groups) -> None:
    groups.join("0::/docker/0123/app")
    groups.write("cpu.max", "200000 100000")
    assert groups.usable == 2


# -- version 1 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "period", "count"),
    [(-1, 100_000, 8), (0, 100_000, 8), (250_000, 100_000, 3), (1_000, 100_000, 1), (100, 0, 8)],
)
def test_a_quota_of_version_1(groups: Groups, quota: int, period: int, count: int) -> None:
    groups.join("5:memory:/other")
    groups.join("4:cpuacct,cpu:/app")
    groups.version_1("app", quota, period)
    assert groups.usable == count


def test_the_quota_of_another_controller_does_not_count(groups: Groups) -> None:
    groups.join("4:cpuset:/app")
    groups.version_1("app", 100_000, 100_000)
    assert groups.usable == 8


def test_both_versions_together(groups: Groups) -> None:
    groups.join("4:cpu,cpuacct:/one")
    groups.join("0::/two")
    groups.version_1("", 400_000, 100_000)
    groups.version_1("one", 300_000, 100_000)
    groups.write("two/cpu.max", "max 100000")
    assert groups.usable == 3


# -- other contents --------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["", "no colons", "0:", "::"])
def test_a_line_of_another_form_is_no_error(groups: Groups, line: str) -> None:
    groups.join(line)
    assert groups.usable == 8


@given(st.floats(min_value=0, exclude_min=True) | st.just(math.inf), st.integers(1, 64))
def test_there_is_always_one_and_never_more_than_the_affinity(quota: float, count: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(processors, "_quota", lambda *_: quota)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)
        found = usable_processors()
    assert 1 <= found <= count
    assert found >= min(quota, count)
