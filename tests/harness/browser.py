"""A browser: Chromium without a window, and what a test does with its pages."""

import contextlib
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

from tests.harness.programs import find_program

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def browser_program() -> str:
    """Return the path of Chromium; skip the test if it is not installed."""
    return find_program("browser", "chromium")


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
