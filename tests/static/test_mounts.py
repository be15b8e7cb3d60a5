"""--static: folders in front of an app."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.harness.log import capture_log
from wsgate.config import Config
from wsgate.errors import ConfigError
from wsgate.process.server import Server
from wsgate.static.mounts import with_static_files
from wsgate.testing import serve


class App:
    """Answers with the path, and keeps the types of its scopes."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.kinds.append(scope["type"])
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["path"]})
        else:
            body = f"app {scope['method']} {scope['path']}".encode()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": body})


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, content in {
        "public/index.html": "public index",
        "public/a.txt": "public a",
        "public/media/m.txt": "public media",
        "public/media/both.txt": "public both",
        "media/both.txt": "media both",
        "media/index.html": "media index",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@contextlib.asynccontextmanager
async def served(*mounts: str, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, App]]:
    app = App()
    async with (
        serve(app, static=mounts, **options) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        yield client, app


async def test_files_are_served_below_their_prefix_and_all_else_by_the_app(folders: Path) -> None:
    async with served(f"/static={folders / 'public'}") as (client, app):
        for path, body in {
            "/static/a.txt": "public a",
            "/static/": "public index",
            "/static/media/m.txt": "public media",
            "/static/nothing": "app GET /static/nothing",
            "/static/../a.txt": "app GET /a.txt",  # httpx resolves the dots
            "/statics/a.txt": "app GET /statics/a.txt",
            "/a.txt": "app GET /a.txt",
            "/": "app GET /",
        }.items():
            assert (await client.get(path)).text == body
        assert (await client.post("/static/a.txt")).text == "app POST /static/a.txt"
        redirect = await client.get("/static")
        assert (redirect.status_code, redirect.headers["location"]) == (307, "./static/")
        head = await client.head("/static/a.txt")
        assert (head.headers["content-length"], head.content) == ("8", b"")
    assert app.kinds[0] == "lifespan"


@pytest.mark.parametrize("prefix", ["/", "/static", "/static/", "/deep/er"])
async def test_a_prefix_may_end_with_a_slash(folders: Path, prefix: str) -> None:
    async with served(f"{prefix}={folders / 'public'}") as (client, _):
        assert (await client.get(prefix.rstrip("/") + "/a.txt")).text == "public a"


async def test_the_longest_prefix_goes_first_and_the_next_one_after_it(folders: Path) -> None:
    mounts = [f"/={folders / 'public'}", f"/media={folders / 'media'}"]
    async with served(*mounts) as (client, _):
        for path, body in {
            "/media/both.txt": "media both",
            "/media/m.txt": "public media",
            "/media/": "media index",
            "/a.txt": "public a",
            "/api": "app GET /api",
        }.items():
            assert (await client.get(path)).text == body


async def test_websockets_and_the_lifespan_go_to_the_app(folders: Path) -> None:
    app = App()
    async with (
        serve(app, static=f"/={folders / 'public'}") as server,
        websockets.connect(f"ws://127.0.0.1:{server.port}/a.txt") as websocket,
    ):
        assert await websocket.recv() == "/a.txt"
    assert app.kinds == ["lifespan", "websocket"]


async def test_the_root_path_is_no_part_of_the_prefix(folders: Path) -> None:
    async with served(f"/static={folders / 'public'}", root_path="/api") as (client, _):
        assert (await client.get("/static/a.txt")).text == "public a"
        assert (await client.get("/api/static/a.txt")).text == "app GET /api/api/static/a.txt"


async def test_files_have_the_same_lines_in_the_access_log(folders: Path) -> None:
    with capture_log() as log:
        async with served(f"/={folders / 'public'}") as (client, _):
            await client.get("/a.txt?q=1")
            await client.get("/a.txt", headers={"if-none-match": "*"})
            await client.get("/api")
    assert [line.partition(" - ")[2] for line in log.access] == [
        '"GET /a.txt?q=1 HTTP/1.1" 200 OK',
        '"GET /a.txt HTTP/1.1" 304 Not Modified',
        '"GET /api HTTP/1.1" 200 OK',
    ]


async def test_a_relative_folder_is_that_of_the_start(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    async with served("/=public") as (client, _):
        monkeypatch.chdir("/")
        assert (await client.get("/a.txt")).text == "public a"


def test_without_static_folders_the_app_is_called_itself() -> None:
    app = App()
    assert with_static_files(app, (), "no-cache") is app


@pytest.mark.parametrize("folder", ["missing", "public/a.txt"])
def test_a_folder_that_cannot_be_read_is_one_line(folders: Path, folder: str) -> None:
    path = folders / folder
    with pytest.raises(ConfigError, match=rf"^--static: {path}: N") as caught:
        Server(App(), Config(static=f"/={path}"))
    assert caught.value.setting == "static"


def test_a_folder_without_permission_is_one_line(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    for name in ("stat", "open"):  # to pass through it, to list it
        monkeypatch.setattr(os, name, refuse)
        with pytest.raises(ConfigError, match=f"^--static: {folders}: Permission denied$"):
            with_static_files(App(), [f"/={folders}"], "")
        monkeypatch.undo()


@pytest.mark.parametrize(
    "mount", ["", "/", "public", "/=", "=public", "static=public", "//=public", "/a//b=public"]
)
def test_a_mount_of_another_form_is_refused(mount: str) -> None:
    with pytest.raises(ConfigError, match=r"^--static must be PREFIX=FOLDER, with a prefix such"):
        Config(static=mount)


def test_a_folder_may_contain_an_equals_sign(folders: Path) -> None:
    (folders / "a=b").mkdir()
    with_static_files(App(), Config(static=f"/x={folders / 'a=b'}").static, "")


@pytest.mark.parametrize("value", ["a\r\nb", "gr\u00fcn", "a\0"])
def test_a_cache_control_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^--static-cache-control must be the value of a header"):
        Config(static_cache_control=value)
