"""The programs of docs/embedding.md do what the page says."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.harness.processes import ROOT, ServerProcess, program

PAGE = (ROOT / "docs" / "embedding.md").read_text()
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the programs, which take free ports instead of those of the page."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(re.sub(r"\b80\d\d\b", "0", text))
    return tmp_path


@asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[ServerProcess]:
    """Run a program with the log on stdout."""
    (folder / "sitecustomize.py").write_text(
        "import logging, sys\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout, format='%(message)s')\n"
    )
    variables = {"PYTHONPATH": f"{folder}:{ROOT}"}
    async with program("-u", *arguments, cwd=folder, variables=variables) as process:
        yield process


def own_lines(process: ServerProcess) -> list[str]:
    """Return what the program prints itself, with numbers instead of ports."""
    lines = [re.sub(r":\d+$", ":PORT", line) for line in process.log]
    return [line for line in lines if not re.match("ASGI|HTTP|Shutting|Stopped|Using|wsgate", line)]


async def test_a_server_beside_other_work(folder: Path) -> None:
    async with running(folder, "beside.py") as process:
        assert await process.ended() == 0
        assert own_lines(process) == [
            "clients can connect to http://127.0.0.1:PORT",
            "the server has stopped",
        ]


@pytest.mark.parametrize(
    ("name", "line"), [("until_signal.py", "finishing my own work"), ("ticking.py", "tick")]
)
async def test_a_signal_stops_the_server_and_informs_the_block(
    folder: Path, name: str, line: str
) -> None:
    async with running(folder, name) as process:
        await process.serves()
        async with httpx.AsyncClient() as client:
            assert (await client.get(process.url)).text == "hello\n"
        process.signal(signal.SIGTERM)
        assert await process.ended() == -signal.SIGTERM
        assert line in process.log
        assert process.log.count("Stopped") == 1


async def test_two_servers_and_a_timeout(folder: Path) -> None:
    async with running(folder, "two.py") as process:
        assert await process.ended() == 0
        assert own_lines(process) == [
            "serving http://127.0.0.1:PORT",
            "serving http://127.0.0.1:PORT",
            "both have stopped gracefully",
        ]
        assert process.log.count("Stopped") == 2


async def test_a_fixture(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    async with running(folder, "-m", "pytest", "-q", "test_plain.py") as process:
        assert await process.ended() == 0, process.log
        assert any("1 passed" in line for line in process.log)


async def test_workers(folder: Path) -> None:
    async with running(folder, "cluster.py") as process:
        await process.logged("with 4 workers")
        await process.serves()
        async with httpx.AsyncClient() as client:
            assert (await client.get(process.url)).text == "hello\n"
        process.signal()
        assert await process.ended() == 0


def test_each_program_of_the_page_is_tried() -> None:
    assert set(PROGRAMS) == {
        *("plain.py", "beside.py", "until_signal.py", "ticking.py", "two.py", "test_plain.py"),
        "cluster.py",
    }
