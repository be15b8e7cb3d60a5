"""The load generator: it compiles without warnings and counts the server's answers."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import wsgate.testing
from benchmarks import measure
from benchmarks.app import Message, Receive, Send, app
from benchmarks.topic_app import app as topic_app

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


COMPILE = ["cc", "-Wall", "-Wextra", "-Werror", str(measure.HERE / "load.c"), "-o"]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("load") / "load"
    subprocess.run([*COMPILE, program], check=True)
    return program


@pytest.fixture(scope="module")
def tls_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not Path("/usr/include/openssl/ssl.h").exists():
        pytest.skip("the headers of OpenSSL are missing")
    program = tmp_path_factory.mktemp("load") / "load"
    subprocess.run([*COMPILE, program, *measure.WITH_TLS], check=True)
    return program


async def run(generator: Path, port: int, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        generator, *arguments, "--port", str(port), "--seconds", "0.1", "--warm-up", "0",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("echo", "--size", "0"),
        ("echo", "--size", "64", "--text"),
        ("echo", "--size", "200000", "--offer-deflate"),
        ("connect",),
        ("http",),
    ],
    ids=" ".join,
)
async def test_each_mode_counts_answers(generator: Path, arguments: tuple[str, ...]) -> None:
    async with wsgate.testing.serve(app, access_log=False) as server:
        found = await run(generator, server.port, *arguments, "--connections", "4")
    assert found["rate"] > 0
    assert found["deflate"] is ("--offer-deflate" in arguments)


@pytest.mark.parametrize("mode", ["connect", "http"])
@pytest.mark.parametrize("proxied", [False, True])
async def test_proxied_names_another_client(generator: Path, mode: str, proxied: bool) -> None:
    seen: set[tuple[str, str]] = set()

    async def note(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            seen.add((scope["client"][0], scope["scheme"]))
        await app(scope, receive, send)

    options = ["--connections", "1", *(["--proxied"] if proxied else [])]
    async with wsgate.testing.serve(note, access_log=False) as server:
        await run(generator, server.port, mode, *options)
    scheme = {"connect": "ws", "http": "http"}[mode]
    assert seen == {("203.0.113.7", f"{scheme}s") if proxied else ("127.0.0.1", scheme)}


@pytest.mark.parametrize("arguments", [("echo", "--size", "200000"), ("connect",), ("http",)])
async def test_tls(tls_generator: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    certificate = str(measure.make_certificate(tmp_path))
    async with wsgate.testing.serve(app, access_log=False, ssl_certfile=certificate) as server:
        found = await run(tls_generator, server.port, *arguments, "--tls", "--connections", "4")
    assert found["rate"] > 0


async def test_without_openssl_tls_is_refused(generator: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        generator, "echo", "--port", "1", "--tls", stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert (process.returncode, err.split(b":")[0]) == (1, b"compiled without TLS")


async def test_compressed_messages_are_echoed(generator: Path, tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(measure.compressed_message(3000))
    packed = ("--compressed", "--payload", str(payload), "--size", "3000")
    async with wsgate.testing.serve(app, access_log=False) as server:
        found = await run(generator, server.port, "echo", *packed)
    assert found["rate"] > 0


async def test_hold_reports_the_open_connections(generator: Path) -> None:
    async with wsgate.testing.serve(app, access_log=False) as server:
        held = ("--connections", "20", "--active", "4", "--rate", "50")
        found = await run(generator, server.port, "hold", *held)
    assert found["open"] == 20
    assert found["p99_ms"] > 0


@pytest.mark.parametrize(
    "arguments", [("fanout",), ("paced", "--rate", "200", "--frozen", "2")], ids=" ".join
)
async def test_all_who_read_get_what_one_publishes(
    generator: Path, arguments: tuple[str, ...]
) -> None:
    async with wsgate.testing.serve(topic_app, access_log=False) as server:
        more = ("--greeted", "--path", "/room", "--connections", "6")
        found = await run(generator, server.port, *arguments, *more)
    assert found["open"] == 6
    assert found["rate"] > 0


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no /proc")
def test_the_processor_time_of_a_process_grows() -> None:
    before = measure.processor_time([os.getpid()])
    while (now := measure.processor_time([os.getpid()]))[0] == before[0]:
        pass
    assert all(b >= a for a, b in zip(before, now, strict=True))


def test_a_process_that_has_ended_took_no_time() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert measure.processor_time([process.pid]) == (0, 0, 0)


@pytest.mark.parametrize("more", [(), ("--apart", "0.001")], ids=" ".join)
async def test_balance_counts_the_connections_of_each_process(
    generator: Path, more: tuple[str, ...]
) -> None:
    async with wsgate.testing.serve(app, access_log=False) as server:
        arguments = ("balance", "--path", "/pid", "--connections", "30", *more)
        found = await run(generator, server.port, *arguments)
    assert (found["open"], found["workers"]) == (30, [30])


async def test_balance_needs_an_app_that_sends_its_process_id(generator: Path) -> None:
    async with wsgate.testing.serve(greet, access_log=False) as server:
        process = await asyncio.create_subprocess_exec(
            generator, "balance", "--port", str(server.port), stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"the first message is not the id of a process\n")


async def greet(scope: Message, receive: Receive, send: Send) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    await receive()


async def test_a_refused_handshake_ends_the_run_with_the_reason(generator: Path) -> None:
    async with wsgate.testing.serve(app, access_log=False, ws_origins=["https://else"]) as server:
        process = await asyncio.create_subprocess_exec(
            generator, "echo", "--port", str(server.port), stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    assert process.returncode == 1
    assert err.startswith(b"handshake: HTTP/1.1 403")
