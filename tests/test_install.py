"""The C extensions are optional: wsgate also installs and serves when the compiler fails."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MIN_SETUPTOOLS = 77  # as in pyproject.toml


def _setuptools_version() -> int:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


pytestmark = pytest.mark.skipif(
    _setuptools_version() < MIN_SETUPTOOLS,
    reason=f"the build downloads nothing, so it needs setuptools>={MIN_SETUPTOOLS} here",
)

# Checks that the installed wsgate uses the given modules, and that it echoes over a socket.
ECHO = """
import asyncio, pathlib, sys
import websockets, wsgate, wsgate.testing
from wsgate.ws.frames import fast_codec
from wsgate.server import message_reader

site, messages, fast_path = sys.argv[1:]
assert pathlib.Path(wsgate.__file__).is_relative_to(site), wsgate.__file__
assert fast_codec.compiled.__name__ == messages, fast_codec.compiled
assert message_reader.MessagePath.__module__ == fast_path, message_reader.MessagePath

async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})

async def main():
    async with wsgate.testing.serve(app, lifespan="off") as server:
        async with websockets.connect(server.ws_url, proxy=None) as socket:
            for message in ("grüß" * 1_000, b"\\xff" * 70_000, ""):
                await socket.send(message)
                assert await socket.recv() == message

asyncio.run(main())
print("echoed")
"""


def run(*arguments: str, **environment: str) -> str:
    """Run Python and return its output."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COVERAGE_", "PYTHONPATH"))
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tempfile.gettempdir(),  # a folder without another wsgate
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def install(folder: Path, **environment: str) -> Path:
    """Install wsgate from its sources, without a download; return the folder."""
    source, site = folder / "source", folder / "site"
    source.mkdir()
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "wsgate", source / "wsgate", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = ("-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation")
    quiet = ("--disable-pip-version-check", "--quiet", "--no-cache-dir")
    path = os.environ.get("PYTHONPATH", "")  # setuptools may be in it
    run(*pip, *quiet, "--target", str(site), str(source), PYTHONPATH=path, **environment)
    return site


def check_echo(site: Path, *modules: str) -> None:
    output = run("-c", ECHO, str(site), *modules, PYTHONPATH=str(site), PYTHONUTF8="1")
    assert output == "echoed\n"


def test_without_a_compiler_the_python_twins_are_used(tmp_path: Path) -> None:
    failing = shutil.which("false")
    assert failing is not None
    site = install(tmp_path, CC=failing, LDSHARED=failing)
    assert not list(site.rglob("*.so"))
    check_echo(site, "wsgate.ws.frames.messages", "wsgate.server.fast_path")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_with_a_compiler_the_extensions_are_used(tmp_path: Path) -> None:
    site = install(tmp_path)
    names = sorted(extension.name.partition(".")[0] for extension in site.rglob("*.so"))
    assert names == ["_fast_path", "_messages"]
    check_echo(site, "wsgate.ws.frames._messages", "wsgate.server._fast_path")
