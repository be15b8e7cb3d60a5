"""Prometheus's promtool, which checks configurations, rules and what a server exposes."""

import subprocess

from tests.harness.programs import find_program

_SECONDS = 60.0


def promtool() -> str:
    """Return the path of promtool; skip the test if it is not installed."""
    return find_program("prometheus", "promtool")


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
