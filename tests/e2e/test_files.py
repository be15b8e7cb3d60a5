"""Files from a server process: --static with curl and httpx, and Starlette's FileResponse."""

import asyncio
import contextlib
import gzip
import hashlib
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.harness.processes import ServerProcess, running, started

MIB = 1024 * 1024
SIZE = 50 * MIB
CLIENTS = 10
APP = "tests.apps.files:plain_app"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "large.bin").write_bytes(os.urandom(SIZE))
    (folder / "page.html").write_text("<h1>page</h1>" * 100)
    (folder / "page.html.gz").write_bytes(gzip.compress(b"<h1>page</h1>" * 100))
    (folder / ".env").write_text("secret")
    (folder / "passwd").symlink_to("/etc/passwd")
    return folder


@pytest.fixture(params=["asyncio", "uvloop"])
async def server(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[ServerProcess]:
    options = ["--static", f"/files={folder}", "--loop", request.param, "--lifespan", "off"]
    async with running(APP, *options) as server:
        yield server
        server.signal()
        assert await server.ended() == 0
        assert not [line for line in server.log if re.search("Traceback|ERROR|WARNING", line)]


def memory_of(server: ServerProcess, name: str) -> int:
    """Return VmRSS, or VmHWM for its peak, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    (kib,) = re.findall(rf"{name}:\s+(\d+) kB", status)
    return int(kib) * 1024


async def curl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *("curl", "--silent", "--noproxy", "*", *arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_gets_files(server: ServerProcess, folder: Path) -> None:
    url, page = f"{server.url}/files", (folder / "page.html").read_bytes()
    code = ("--output", "/dev/null", "--write-out", "%{http_code}", "--path-as-is")
    assert await curl(f"{url}/page.html") == page
    assert await curl("--compressed", f"{url}/page.html") == page
    assert await curl("--range", "3-9", f"{url}/page.html") == page[3:10]
    head = (await curl("--head", f"{url}/page.html")).decode().lower()
    assert f"content-length: {len(page)}\r\n" in head
    tag = re.search(r"etag: (\S+)", head)
    assert tag is not None
    unchanged = await curl(*code, "--header", f"If-None-Match: {tag[1]}", f"{url}/page.html")
    assert unchanged == b"304"
    for path in (
        *(".env", "passwd", "nothing", "../files/page.html", "%2e%2e/%2e%2e/etc/passwd"),
        *("..%2f..%2fetc%2fpasswd", "page.html%00", "./page.html"),
    ):
        assert await curl(*code, f"{url}/{path}") == b"404"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_resumes_a_download(server: ServerProcess, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    content = (folder / "large.bin").read_bytes()
    copy.write_bytes(content[: SIZE // 2])
    await curl("--continue-at", "-", "--output", str(copy), f"{server.url}/files/large.bin")
    assert copy.read_bytes() == content


async def test_large_files_to_many_slow_clients_take_no_memory(
    server: ServerProcess, folder: Path
) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/files/page.html")).status_code == 200  # all is imported now
    before = memory_of(server, "VmRSS")
    digest = hashlib.sha256((folder / "large.bin").read_bytes()).digest()
    found = await asyncio.gather(*(slow_download(server.port) for _ in range(CLIENTS)))
    assert found == [digest] * CLIENTS
    assert memory_of(server, "VmHWM") - before < 10 * MIB


async def slow_download(port: int) -> bytes:
    """Read the large file in pieces, with a small buffer; return its digest."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65_536)
    writer.write(b"GET /files/large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
    digest, left = hashlib.sha256(), SIZE
    while left:
        data = await reader.read(min(left, 65_536))
        assert data
        digest.update(data)
        left -= len(data)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return digest.digest()


async def test_the_server_serves_others_while_clients_leave_amid_a_file(
    server: ServerProcess,
) -> None:
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /files/large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.get("/files/page.html")).status_code == 200
        assert (await client.get("/api")).text == "by the app"
    await server.logged('"GET /files/large.bin HTTP/1.1" 200 OK', times=20)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_starlette_sends_a_file_by_its_path(
    folder: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "large.bin"
    monkeypatch.setenv("WSGATE_TEST_FILE", str(path))
    content = path.read_bytes()
    async with (
        running("tests.apps.files:starlette_app", "--loop", loop) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60) as client,
    ):
        before = memory_of(server, "VmRSS")
        for _ in range(2):
            response = await client.get("/")
            assert response.content == content
            assert response.headers["content-length"] == str(SIZE)
        part = await client.get("/", headers={"range": "bytes=5-99"})
        assert (part.status_code, part.content) == (206, content[5:100])
        assert memory_of(server, "VmHWM") - before < 10 * MIB
        assert not [line for line in server.log if "Traceback" in line or "ERROR" in line]


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("/=/does/not/exist", "Error: --static: /does/not/exist: No such file or directory"),
        ("/=/etc/passwd", "Error: --static: /etc/passwd: Not a directory"),
        ("public", "Error: --static must be PREFIX=FOLDER, with a prefix such as / or /static"),
    ],
)
async def test_a_folder_that_cannot_be_served_is_one_line(option: str, line: str) -> None:
    async with started(APP, "--static", option, "--lifespan", "off") as server:
        assert await server.ended() == 1
        assert server.log == [line]


async def test_an_error_names_the_variable_that_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGATE_STATIC", "/=/does/not/exist")
    async with started(APP) as server:
        assert await server.ended() == 1
        assert server.log == [
            "Error: Invalid value for WSGATE_STATIC: /does/not/exist: No such file or directory"
        ]
