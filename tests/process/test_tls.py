"""TLS of a server process: its options, its errors at the start, and certificates read anew."""

import asyncio
import contextlib
import datetime as dt
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.processes import ServerProcess, program, running, started
from tests.harness.tls import Files, now, options_of

APP = "tests.apps.echo:app"
SECONDS = 120


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@contextlib.asynccontextmanager
async def serving(files: Files, loop_name: str, *options: str) -> AsyncIterator[ServerProcess]:
    certificate = options_of(files.issue("server"))
    async with (
        asyncio.timeout(SECONDS),
        running(APP, "--loop", loop_name, *certificate, *options) as process,
    ):
        yield process


def opened(files: Files, process: ServerProcess) -> connect:
    return connect(process.ws_url, ssl=files.client_context())


async def echoes(client: ClientConnection, text: str) -> None:
    await client.send(text)
    assert await client.recv() == text


def certificate_of(client: ClientConnection) -> str:
    tls: ssl.SSLObject = client.transport.get_extra_info("ssl_object")
    return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


async def test_the_line_of_the_start_and_a_websocket(files: Files, loop_name: str) -> None:
    async with serving(files, loop_name) as process, opened(files, process) as client:
        assert process.url.startswith("https://")
        await echoes(client, "hello")


async def test_sighup_reads_the_certificates_anew(files: Files, loop_name: str) -> None:
    async with serving(files, loop_name) as process, opened(files, process) as old:
        await echoes(old, "before")
        files.issue("server")
        process.signal(signal.SIGHUP)
        await process.logged("Certificates read anew; valid until")
        async with opened(files, process) as new:
            await echoes(new, "new")
            assert certificate_of(new) in (files.folder / "server.pem").read_text()
            assert certificate_of(new) != certificate_of(old)
        await echoes(old, "after")  # it was not dropped
        (files.folder / "server.key").write_text("junk")
        process.signal(signal.SIGHUP)
        line = await process.logged("the certificates in use stay")
        assert line.string.startswith("ERROR:    --ssl-keyfile ")
        async with opened(files, process) as new:
            await echoes(new, "still there")


async def test_a_changed_file_is_read_anew(files: Files, loop_name: str) -> None:
    async with serving(files, loop_name) as process, opened(files, process) as old:
        await echoes(old, "before")
        files.issue("server")
        await process.logged("Certificates read anew; valid until")
        async with opened(files, process) as new:
            assert certificate_of(new) != certificate_of(old)
        await echoes(old, "after")


async def failure(*options: str) -> str:
    """Return the only line of a server that does not start, whose exit status is 1."""
    async with asyncio.timeout(SECONDS), started(APP, "--port", "0", *options) as process:
        assert await process.ended() == 1
        (line,) = process.log
        return line


async def test_a_certificate_that_cannot_be_used_ends_the_start(files: Files) -> None:
    good = files.issue("good")
    other = files.issue("other")
    old = files.issue(
        "old", not_before=now() - dt.timedelta(days=2), not_after=now() - dt.timedelta(days=1)
    )
    mixed = options_of({**good, "ssl_keyfile": other["ssl_keyfile"]})
    assert "the key is not that of the certificate" in await failure(*mixed)
    assert "it expired on " in await failure(*options_of(old))
    missing = options_of({**good, "ssl_certfile": "/nowhere/cert.pem"})
    assert "--ssl-certfile /nowhere/cert.pem: No such file or directory" in await failure(*missing)
    lines = options_of({**good, "ssl_certfile": "two\nlines"})
    assert r"--ssl-certfile two\nlines: No such file or directory" in await failure(*lines)
    ciphers = options_of({**good, "ssl_ciphers": os.fsdecode(b"\xff")})
    assert "--ssl-ciphers: OpenSSL has none of " in await failure(*ciphers)
    assert "--ssl-keyfile needs --ssl-certfile" in await failure("--ssl-keyfile", "a")


PROGRAM = """
import ssl, sys
import wsgate
from tests.apps.echo import app

def factory(config, default_ssl_context_factory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    return context

wsgate.run(app, port=0, ssl_context_factory=factory)
"""


async def test_a_context_of_the_program_is_made_anew_on_sighup(files: Files) -> None:
    pair = files.issue("server")
    arguments = ("-c", PROGRAM, pair["ssl_certfile"], pair["ssl_keyfile"])
    async with asyncio.timeout(SECONDS), program(*arguments) as process:
        await process.serves()
        async with opened(files, process) as old:
            await echoes(old, "before")
            files.issue("server")
            process.signal(signal.SIGHUP)
            await process.logged("Certificates read anew$")
            async with opened(files, process) as new:
                assert certificate_of(new) != certificate_of(old)
            await echoes(old, "after")


async def test_a_stop_while_a_handshake_goes_on(files: Files, loop_name: str) -> None:
    async with serving(files, loop_name) as process:
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        writer.write(b"\x16\x03\x01")
        async with opened(files, process) as client:  # so the other one was accepted before
            await echoes(client, "hello")
        process.signal(signal.SIGTERM)
        assert await reader.read() == b""
        writer.close()
        assert await process.ended() == 0


async def test_several_certificates_by_repeated_options(files: Files) -> None:
    pairs = [files.issue(name, f"{name}.example") for name in ("one", "two")]
    options = [part for pair in pairs for part in options_of(pair)]
    async with asyncio.timeout(SECONDS), running(APP, *options) as process:
        for name in ("one", "two"):
            client = connect(
                process.ws_url, ssl=files.client_context(), server_hostname=f"{name}.example"
            )
            async with client as connection:
                await echoes(connection, name)
