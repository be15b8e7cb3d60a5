"""Prometheus's promtool, which checks configurations, rules and what a server exposes."""

import os
import shutil
import subprocess

import pytest

# .ci/run sets the variable, so that nothing is skipped there.
REQUIRED = os.environ.get("TEST_PROMETHEUS") == "required"
_SECONDS = 60.0


def promtool() -> str:
    """Return the path of promtool; skip the test if it is not installed."""
    if found := shutil.which("promtool"):
        return found
    reason = "needs promtool: run .ci/install-prometheus"
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def check(*arguments: str, text: str = "") -> None:
    """Run promtool, and fail the test with what it says if it finds something wrong.

    Args:
        arguments: Such as "check", "rules" and the path of a file.
        text: What it reads from stdin.
    """
    command = [promtool(), *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
