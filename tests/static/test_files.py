"""The app for static files: alone, as under any ASGI server, and as --static serves it."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.harness.log import capture_log
from tests.harness.waiting import soon, until
from wsgate.static import StaticFiles, files, lookup
from wsgate.testing import serve

TIME = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
IDENTITY = {"accept-encoding": "identity"}  # unlike httpx by default
LARGE = bytes(range(256)) * 1_000  # 256,000 bytes
Clients = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contents = {
        "index.html": b"<h1>index</h1>",
        "a.css": b"body {}" * 10,
        "a.css.gz": b"gzipped",
        "a.css.br": b"brotli",
        "b.css": b"b",
        "b.css.gz": b"gzipped b",
        "only.css.gz": b"no original",
        "empty.txt": b"",
        "large.bin": LARGE,
        "large.bin.gz": LARGE[::-1],
        "sub/index.html": b"<h1>sub</h1>",
        "a:b/index.html": b"<h1>colon</h1>",
        "gr\u00fc\u00df?#%.txt": b"greeting",
        "no-index/a.txt": b"a",
        "odd/index.html/index.html": b"an index of an index",
        "secret/.htpasswd": b"secret",
    }
    for name, content in contents.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (TIME, TIME))
    return tmp_path / "files"


@contextlib.asynccontextmanager
async def alone(folder: Path, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(StaticFiles(folder, **options))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=IDENTITY
    ) as client:
        yield client


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404})
    await send({"type": "http.response.body", "body": b"by the app"})


@contextlib.asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    options = {f"static_{name}": value for name, value in options.items()}
    async with (
        serve(not_found, static=f"/={folder}", lifespan="off", **options) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, headers=IDENTITY) as client,
    ):
        yield client


@pytest.fixture(params=[alone, served], ids=["alone", "served"])
def clients(request: pytest.FixtureRequest) -> Clients:
    return request.param  # type: ignore[no-any-return]  # it is one of the two


def having(**headers: str) -> dict[str, str]:
    """Return request headers."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def test_a_file_has_all_that_browsers_and_caches_need(folder: Path, clients: Clients) -> None:
    async with clients(folder) as client:
        response = await client.get("/a.css")
    headers = {k: v for k, v in response.headers.items() if k not in ("date", "server")}
    tag = headers.pop("etag")
    assert (tag[0], tag[-1]) == ('"', '"')
    assert headers == {
        "content-type": "text/css; charset=utf-8",
        "content-length": "70",
        "last-modified": DATE,
        "accept-ranges": "bytes",
        "cache-control": "no-cache",
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
    }
    assert (response.status_code, response.content) == (200, b"body {}" * 10)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/", b"<h1>index</h1>"),
        ("/index.html", b"<h1>index</h1>"),
        ("/sub/", b"<h1>sub</h1>"),
        ("/sub/index.html", b"<h1>sub</h1>"),
        ("/empty.txt", b""),
        ("/large.bin", LARGE),
        ("/gr%C3%BC%C3%9F%3F%23%25.txt", b"greeting"),
        ("/sub%2Findex.html", b"<h1>sub</h1>"),
        ("/a.css.gz", b"gzipped"),
        ("/a.css?v=5", b"body {}" * 10),
    ],
)
async def test_files_are_found(folder: Path, clients: Clients, path: str, content: bytes) -> None:
    async with clients(folder) as client:
        for method in ("GET", "HEAD"):
            response = await client.request(method, path)
            assert response.status_code == 200
            assert response.content == (content if method == "GET" else b"")
            assert response.headers["content-length"] == str(len(content))


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/sub/nothing", "/no-index/", "/no-index", "/a.css/", "/only.css", "/odd/"),
        *(
            "/secret/.htpasswd",
            "/%2e",
            "/%2e%2e",
            "/%2e%2e/",
            "/%2e%2e%2ffiles/a.css",
            "/..%5ca.css",
        ),
        *("/a.css%00", "/%00", "/%ff", "/%252e%252e/a", "//a.css", "/sub//index.html", "/a.css%2f"),
        *("/" + "a" * 300, "/" + "%61/" * 1_000),
    ],
)
async def test_other_paths_are_not_found(folder: Path, clients: Clients, path: str) -> None:
    async with clients(folder) as client:
        url = client.base_url.copy_with(raw_path=path.encode())  # as it is, with its dots
        assert (await client.get(url)).status_code == 404


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/sub", "./sub/"),
        ("/sub?a=b&c", "./sub/?a=b&c"),
        ("/a:b", "./a%3Ab/"),
        ("/odd/index.html", "./index.html/"),
    ],
)
async def test_a_folder_is_redirected_to_its_url_with_a_slash(
    folder: Path, clients: Clients, path: str, location: str
) -> None:
    async with clients(folder) as client:
        response = await client.get(path)
        assert (response.status_code, response.headers["location"]) == (307, location)
        followed = await client.get(path, follow_redirects=True)
        assert followed.status_code == 200


@pytest.mark.parametrize(
    ("path", "accepted", "encoding", "content"),
    [
        ("/a.css", "gzip, br", "br", b"brotli"),
        ("/a.css", "gzip", "gzip", b"gzipped"),
        ("/a.css", "br;q=0, gzip;q=0.1", "gzip", b"gzipped"),
        ("/a.css", "br;q=0, gzip;q=0", None, b"body {}" * 10),
        ("/a.css", "*", "br", b"brotli"),
        ("/a.css", "", None, b"body {}" * 10),
        ("/b.css", "gzip, br", "gzip", b"gzipped b"),
        ("/b.css", "br", None, b"b"),
        ("/large.bin", "gzip", "gzip", LARGE[::-1]),
    ],
)
async def test_a_compressed_file_goes_to_clients_that_accept_it(  # noqa: PLR0917  # a table
    folder: Path, clients: Clients, path: str, accepted: str, encoding: str | None, content: bytes
) -> None:
    async with clients(folder) as client:
        tag = (await client.get(path)).headers["etag"]
        headers = {"accept-encoding": accepted}
        async with client.stream("GET", path, headers=headers) as response:
            body = b"".join([piece async for piece in response.aiter_raw()])
            assert body == content
            assert response.headers.get("content-encoding") == encoding
            assert response.headers["vary"] == "accept-encoding"
            assert response.headers["content-length"] == str(len(content))
            assert response.headers["content-type"] == (
                "text/css; charset=utf-8" if path.endswith("css") else "application/octet-stream"
            )
            assert (response.headers["etag"] == tag) is (encoding is None)
            new = response.headers["etag"]
        again = await client.get(path, headers={**headers, "if-none-match": new})
        assert (again.status_code, again.headers["etag"]) == (304, new)


async def test_a_file_that_has_not_changed_is_not_sent(folder: Path, clients: Clients) -> None:
    async with clients(folder) as client:
        tag = (await client.get("/a.css")).headers["etag"]
        for headers in ({"if-none-match": tag}, {"if-modified-since": DATE}):
            for method in ("GET", "HEAD"):
                response = await client.request(method, "/a.css", headers=headers)
                assert (response.status_code, response.content) == (304, b"")
                assert response.headers["etag"] == tag
                assert response.headers["vary"] == "accept-encoding"
                assert response.headers["cache-control"] == "no-cache"
                assert "content-type" not in response.headers
        failed = await client.get("/a.css", headers=having(if_match='"old"'))
        assert (failed.status_code, failed.content) == (412, b"")
        (folder / "a.css").write_bytes(b"body {}" * 9 + b"newest!")
        changed = await client.get("/a.css", headers=having(if_none_match=tag))
        assert (changed.status_code, changed.content[-7:]) == (200, b"newest!")


@pytest.mark.parametrize("path", ["/large.bin", "/a.css"])
async def test_a_range_is_sent(folder: Path, clients: Clients, path: str) -> None:
    content = (folder / path[1:]).read_bytes()
    size = len(content)
    async with clients(folder) as client:
        for value, part in [
            ("bytes=0-0", content[:1]),
            ("bytes=10-19", content[10:20]),
            ("bytes=-5", content[-5:]),
            ("bytes=20-", content[20:]),
        ]:
            response = await client.get(path, headers=having(range=value))
            start = content.index(part) if value == "bytes=0-0" else size - len(part)
            start = 10 if value == "bytes=10-19" else start
            assert response.status_code == 206
            assert response.content == part
            assert response.headers["content-range"] == (
                f"bytes {start}-{start + len(part) - 1}/{size}"
            )
        refused = await client.get(path, headers=having(range="bytes=900000-"))
        assert (refused.status_code, refused.content) == (416, b"")
        assert refused.headers["content-range"] == f"bytes */{size}"
        tag = (await client.head(path)).headers["etag"]
        for if_range, status in [(tag, 206), ('"old"', 200), (DATE, 200)]:
            response = await client.get(path, headers=having(range="bytes=0-1", if_range=if_range))
            assert response.status_code == status
        for ignored in ("bytes=0-1,5-6", "bytes=9-1", "lines=1-2"):
            response = await client.get(path, headers=having(range=ignored))
            assert (response.status_code, response.content) == (200, content)
        head = await client.head(path, headers=having(range="bytes=0-1"))
        assert (head.status_code, head.headers["content-length"]) == (200, str(size))


async def test_an_empty_file_has_no_part(folder: Path, clients: Clients) -> None:
    async with clients(folder) as client:
        for value, status in [("bytes=-1", 200), ("bytes=0-", 416)]:
            response = await client.get("/empty.txt", headers=having(range=value))
            assert response.status_code == status


@pytest.mark.parametrize("value", ["public, max-age=31536000, immutable", ""])
async def test_the_cache_control_can_be_chosen(folder: Path, clients: Clients, value: str) -> None:
    async with clients(folder, cache_control=value) as client:
        response = await client.get("/a.css")
        assert response.headers.get("cache-control", "") == value


async def test_further_headers_are_sent_with_each_file(folder: Path) -> None:
    async with alone(folder, headers=[(b"x-more", b"1")]) as client:
        assert (await client.get("/a.css")).headers["x-more"] == "1"


async def test_other_methods_are_not_allowed(folder: Path) -> None:
    async with alone(folder) as client:
        response = await client.post("/a.css")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_the_root_path_is_no_part_of_a_file(folder: Path) -> None:
    transport = httpx.ASGITransport(StaticFiles(folder), root_path="/mounted")
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=IDENTITY
    ) as client:
        assert (await client.get("/mounted/a.css")).status_code == 200
        assert (await client.get("/mounted")).headers["location"] == "./mounted/"
        assert (await client.get("/mountedsub/index.html")).status_code == 404


async def test_it_can_be_mounted_in_a_framework(folder: Path) -> None:
    app = Starlette(routes=[Mount("/static", StaticFiles(folder))])
    async with (
        serve(app) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False, headers=IDENTITY) as client,
    ):
        assert (await client.get("/static/a.css")).status_code == 200
        assert (await client.get("/static/sub", follow_redirects=True)).text == "<h1>sub</h1>"
        assert (await client.get("/static/nothing")).status_code == 404
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await websockets.connect(f"{server.ws_url}/static/a.css")


async def test_there_is_no_lifespan(folder: Path) -> None:
    with pytest.raises(ValueError, match="no lifespan"):
        await StaticFiles(folder)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # neither is used


async def test_a_path_may_be_empty(folder: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "", "headers": []}
    await StaticFiles(folder)(scope, None, send)  # type: ignore[arg-type]  # it receives nothing
    assert sent[1]["body"] == b"<h1>index</h1>"


# -- failures --------------------------------------------------------------------------------------


async def test_a_failing_system_is_an_error_of_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(lookup, "_walk", fail)
    with capture_log() as log:
        async with served(folder) as client:
            assert (await client.get("/a.css")).status_code == 500
    assert len(log.errors) == 1


async def test_a_file_that_shrinks_is_not_completed(folder: Path) -> None:
    sent: list[int] = []

    async def send(message: Any) -> None:
        sent.append(len(message.get("body", b"")))
        os.truncate(folder / "large.bin", 1)

    scope = {"type": "http", "method": "GET", "path": "/large.bin", "headers": []}
    with pytest.raises(OSError, match="became shorter"):
        await StaticFiles(folder)(scope, None, send)  # type: ignore[arg-type]  # it receives nothing
    assert sum(sent) < len(LARGE)


async def test_no_descriptor_is_left(folder: Path) -> None:
    def count() -> int:
        descriptors = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                descriptors.append(descriptor.readlink())
        return len([path for path in descriptors if path.is_relative_to(folder)])

    async with served(folder) as client:
        for path in ("/", "/large.bin", "/sub", "/a.css", "/nothing", "/no-index", "/large.bin/"):
            for more in ({}, {"if_none_match": "*"}, {"if_match": '"x"'}, {"range": "bytes=1-2"}):
                await client.get(path, headers=having(**more))
                await client.head(path)
        await until(lambda: count() == 0)


@pytest.mark.parametrize("failing", ["large.bin.gz", "read"])
def test_no_descriptor_is_left_when_the_system_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    opened: list[int] = []
    open_ = lookup._walk

    def walk(root: str, names: list[str]) -> int | None:
        if names == [failing]:
            raise OSError(24, "Too many open files")
        descriptor = open_(root, names)
        if descriptor is not None:
            opened.append(descriptor)
        return descriptor

    def read(_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lookup, "_walk", walk)
    if failing == "read":
        monkeypatch.setattr(lookup.FoundFile, "read", read)
    with pytest.raises(OSError, match=r"open files|output error"):
        files.find(str(folder), ["large.bin"], [(b"gzip", ".gz")])
    assert opened
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("found", ["/large.bin", "/a.css", "/nothing", "fails"])
async def test_a_call_may_be_cancelled_while_a_thread_looks_for_its_file(
    folder: Path, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    has_begun, has_ended, may_go_on = asyncio.Event(), asyncio.Event(), threading.Event()
    find = files.find
    results: list[Any] = []

    def hold(*arguments: Any) -> Any:
        loop.call_soon_threadsafe(has_begun.set)
        assert may_go_on.wait(10)
        try:
            if found == "fails":
                raise OSError(5, "Input/output error")
            results.append(find(*arguments))
            return results[0]
        finally:
            loop.call_soon_threadsafe(has_ended.set)

    monkeypatch.setattr(files, "find", hold)
    scope = {"type": "http", "method": "GET", "path": found, "headers": []}
    call = asyncio.create_task(StaticFiles(folder)(scope, None, None))  # type: ignore[arg-type]  # neither is used
    if found == "fails":
        scope["path"] = "/a.css"
    await soon(has_begun.wait())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(call)
    may_go_on.set()
    await soon(has_ended.wait())
    if found == "/large.bin":
        await until(lambda: results[0][0].descriptor == -1)


async def test_a_client_that_leaves_amid_a_file_is_no_error(folder: Path) -> None:
    (folder / "huge.bin").write_bytes(b"x" * 20_000_000)
    with capture_log() as log:
        async with serve(not_found, static=f"/={folder}", lifespan="off") as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.to_thread(client.recv, 1_000)
            await soon(server.settled())
    assert log.problems == []
    assert len(log.access) == 1
