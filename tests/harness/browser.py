"""A browser: Chromium without a window, and what a test does with its pages."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

# .ci/run sets the variable, so that nothing is skipped there.
REQUIRED = os.environ.get("TEST_BROWSER") == "required"
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def browser_program() -> str:
    """Return the path of Chromium; skip the test if it is not installed."""
    if found := shutil.which("chromium"):
        return found
    reason = "needs chromium: run .ci/install-browser"
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium; it ends with the block."""
    path = browser_program()
    async with async_playwright() as playwright:
        one = await playwright.chromium.launch(executable_path=path, args=list(OPTIONS))
        try:
            yield one
        finally:
            await one.close()
