"""The resident memory of a process."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from wsgate.process import memory


def test_this_process_has_some() -> None:
    size = memory.resident(os.getpid())
    assert size % resource.getpagesize() == 0
    assert 2**20 < size < 2**40


def test_it_grows_with_what_is_kept() -> None:
    before = memory.resident(os.getpid())
    kept = b"x" * 2**26
    assert memory.resident(os.getpid()) - before > 2**25
    del kept


def test_a_process_that_is_gone_has_none() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert memory.resident(process.pid) == 0


def test_a_system_without_proc_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "Path", lambda _: Path("/nonexistent"))
    assert memory.resident(os.getpid()) == 0
