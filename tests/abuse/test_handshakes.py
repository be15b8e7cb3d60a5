"""Handshakes: invalid ones, unusual but valid ones, slow ones, and data sent before the accept."""

import asyncio
import time
from pathlib import Path

import pytest

from tests import frames
from tests.abuse.conftest import Measured
from tests.abuse.flow import others_served
from tests.abuse.harness import Target, run_target
from tests.frames import BINARY, CONT, PING, PONG, RSV1, TEXT, Deflater, ServerFrame, frame
from tests.harness.client import DEFLATE, KEY
from tests.harness.tcp import PATIENCE, Response, TcpClient
from tests.harness.waiting import pause

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
REQUIRED = (
    "Host: test",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def head(
    *headers: str, without: str = "-", method: str = "GET", target: str = "/", version: str = "1.1"
) -> bytes:
    """Return a handshake with more headers in latin-1. without: the name of a header to omit."""
    lines = [line for line in REQUIRED if not line.startswith(without + ":")]
    lines = [f"{method} {target} HTTP/{version}", *lines, *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def replacing(*headers: str) -> bytes:
    """Return a handshake in which the headers replace the one of the same name."""
    return head(*headers, without=headers[0].partition(":")[0])


async def refusal(server: Target, data: bytes) -> Response:
    """Send a handshake that is refused; check that the connection ends; return the response."""
    async with server.connect() as client:
        response = await client.ask(data)
        assert response.status != 101
        assert ("connection", "close") in response.headers
        assert await client.read_rest_or_reset() == b""
        return response


async def acceptance(server: Target, data: bytes) -> Response:
    """Send a handshake that is accepted; check an echo; return the response."""
    async with server.connect() as client:
        response = await client.ask(data)
        assert response.status == 101, response
        assert response.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        await client.echoes()
        return response


# -- refused --------------------------------------------------------------------------------------

K = "Sec-WebSocket-Key: "
HIGH = "\x80\xff\xc3\xa4"
BAD = {
    "no key": head(without="Sec-WebSocket-Key"),
    "two keys": head(K + KEY),
    "two different keys": head(K + "x3JJHMbDL1EzLkh9GBhXDw=="),
    "an empty key": replacing(K),
    "a short key": replacing(K + "AAAA"),
    "a key of 15 bytes": replacing(K + "dGhlIHNhbXBsZSBub25j"),
    "a key of 17 bytes": replacing(K + "dGhlIHNhbXBsZSBub25jZSE="),
    "a long key": replacing(K + "A" * 60_000),
    "a key that is not base64": replacing(K + "!" * 24),
    "a key without padding": replacing(K + KEY.rstrip("=")),
    "a key with a blank": replacing(K + KEY[:10] + " " + KEY[10:]),
    "two keys in one": replacing(K + f"{KEY}, {KEY}"),
    "POST": head(method="POST"),
    "PUT with a body": head("Content-Length: 2", method="PUT") + b"ok",
    "OPTIONS": head(method="OPTIONS"),
    "no Connection": head(without="Connection"),
    "Connection without Upgrade": replacing("Connection: keep-alive"),
    "a body": head("Content-Length: 5") + b"hello",
    "a body that is not sent": head("Content-Length: 5000000"),
    "Transfer-Encoding": head("Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "Transfer-Encoding and a length": head("Transfer-Encoding: chunked", "Content-Length: 5"),
    "an invalid length": head("Content-Length: -1"),
    "two lengths": head("Content-Length: 1", "Content-Length: 2") + b"ab",
    "no Host": head(without="Host"),
    "two Hosts": head("Host: test"),
    **{
        f"Host {host!r}": replacing(f"Host: {host}")
        for host in ("", "a b", "a/b", "[::1", "test:99999", "a@b", "te\\st", "test:x")
    },
    **{
        f"bytes above 0x7f in {name}": replacing(f"{name}: {value}{HIGH}")
        for name, value in (
            ("Host", "test"),
            ("Connection", "Upgrade, "),
            ("Upgrade", "websocket, "),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "chat, "),
            ("Sec-WebSocket-Extensions", "permessage-deflate; "),
        )
    },
    "bytes above 0x7f in the target": head(target="/" + HIGH),
    "bytes above 0x7f in a name": head(f"X-{HIGH}: a"),
    "a subprotocol twice": head("Sec-WebSocket-Protocol: a, b, a"),
    "a subprotocol twice over lines": head(
        "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"
    ),
    "a subprotocol with a blank": head("Sec-WebSocket-Protocol: a b"),
    "no subprotocol in its header": head("Sec-WebSocket-Protocol:"),
    "empty subprotocols": head("Sec-WebSocket-Protocol: , ,"),
    "no extension in its header": head("Sec-WebSocket-Extensions:"),
    "extensions that are not a list": head("Sec-WebSocket-Extensions: ,;,;=,"),
    "an extension without a value": head(
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="
    ),
    "an extension with an open quote": head(
        'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="10'
    ),
    "an extension with quoted blanks": head('Sec-WebSocket-Extensions: a; b="c d"'),
    "an extension in quotes": head('Sec-WebSocket-Extensions: "permessage-deflate"'),
    "a bad extension beside a good one": head(f"{DEFLATE};", DEFLATE),
    "30,000 semicolons": head("Sec-WebSocket-Extensions: permessage-deflate; " + ";" * 30_000),
    "10,000 escaped quotes": head("Sec-WebSocket-Extensions: " + '\\"' * 10_000),
    "a folded header": head("X-A: a", " b"),
    "a bare line feed": head("X-A: a\nX-B: b"),
    "a bare carriage return": head("X-A: a\rb"),
    "a NUL": head("X-A: a\0b"),
    "a blank before the colon": head("X-A : a"),
    "a target without a slash": head(target="chat"),
    "a target with a fragment": head(target="/#a"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_handshake_is_400(server: Target, name: str) -> None:
    assert (await refusal(server, BAD[name])).status == 400


async def test_HEAD_is_400_without_a_body(server: Target) -> None:  # noqa: N802  # the method
    async with server.connect() as client:
        client.send(head(method="HEAD"))
        rest = await client.read_rest_or_reset()
    assert rest.startswith(b"HTTP/1.1 400 ")
    assert rest.endswith(b"\r\n\r\n")


V = "Sec-WebSocket-Version: "
VERSIONS = {
    "none": head(without="Sec-WebSocket-Version"),
    "8": replacing(V + "8"),
    "14": replacing(V + "14"),
    "013": replacing(V + "013"),
    "empty": replacing(V),
    "13 twice": head(V + "13"),
    "8 and 13": replacing(V + "8", V + "13"),
    "13 in a list": replacing(V + "13, 8"),
    "a long number": replacing(V + "13" * 20_000),
}


@pytest.mark.parametrize("name", VERSIONS)
async def test_another_version_is_426_with_the_supported_one(server: Target, name: str) -> None:
    response = await refusal(server, VERSIONS[name])
    assert response.status == 426
    assert response.get("sec-websocket-version") == "13"
    assert response.get("upgrade") == "websocket"


async def test_an_upgrade_in_HTTP_1_0_is_ignored(server: Target) -> None:  # noqa: N802  # its name
    # RFC 9110 section 7.8
    response = await refusal(server, head(version="1.0"))
    assert (response.status, response.body) == (200, b"0")


async def test_an_upgrade_to_something_else_is_ignored(server: Target) -> None:
    async with server.connect() as client:
        for name in ("h2c", "websockets", "web socket"):
            response = await client.ask(replacing(f"Upgrade: {name}"))
            assert (response.status, response.body) == (200, b"0")


async def test_limits_of_a_head(server: Target) -> None:
    fill = [f"X-{number}: a" for number in range(100)]
    await acceptance(server, head(*fill[:95]))
    assert (await refusal(server, head(*fill[:96]))).status == 431

    spare = 65_536 - len(head("X-A: "))
    await acceptance(server, head("X-A: " + "a" * spare))
    assert (await refusal(server, head("X-A: " + "a" * (spare + 1)))).status == 431

    await acceptance(server, head(target="/?" + "a" * 8_190))
    assert (await refusal(server, head(target="/?" + "a" * 8_191))).status == 414


async def test_an_endless_head_uses_bounded_memory(server: Target, measured: Measured) -> None:
    """1 MB in one header, in many headers, or in the target: only the maximum head is buffered."""
    before = server.watch_memory()
    endless = [b"X-A: " + b"a" * MIB, b"X: a\r\n" * (MIB // 6), b"\r\n" * (MIB // 2)]
    starts = [b"GET / HTTP/1.1\r\n" + data for data in endless[:2]] + [b"GET /" + b"a" * MIB]
    for data, status in zip(starts, (431, 431, 414), strict=True):
        assert (await refusal(server, data)).status == status
    async with server.connect() as client:
        client.send(endless[2])  # empty lines in front of a request are skipped
        assert (await client.ask(head())).status == 101
        await client.echoes()
    grown = max(0, server.memory().peak - before)
    assert grown <= 2 * MIB
    measured("request heads of 1 MB", "2.0 MiB", f"{grown / MIB:.1f} MiB")


# -- unusual, and accepted ------------------------------------------------------------------------

ODD = {
    "absolute-form": head(target="http://other.example/?a=b"),
    "absolute-form of another scheme": head(target="wss://other.example:443"),
    "an empty line in front": b"\r\n\r\n" + head(),
    "blanks around a value": replacing("Host: \t test \t "),
    "no blank before a value": replacing("Upgrade:websocket"),
    "names in any case": head().replace(b"Upgrade:", b"uPGRADE:").replace(b"Sec-", b"SEC-"),
    "tokens in any case": replacing("Upgrade: WebSocket").replace(b": Upgrade", b": upGRADE"),
    "other tokens beside it": replacing("Connection: keep-alive, Upgrade, x"),
    "empty tokens": replacing("Connection: , ,\tUpgrade ,,"),
    "tokens over several lines": replacing("Connection: keep-alive", "Connection: Upgrade"),
    "another protocol beside it": replacing("Upgrade: h2c, websocket"),
    "other protocols on lines": replacing("Upgrade: h2c/1", "Upgrade: websocket"),
    "subprotocols over several lines": head(
        "Sec-WebSocket-Protocol: a, ,b", "Sec-WebSocket-Protocol: c"
    ),
    "a length of 0": head("Content-Length: 0"),
    "Host with an empty port": replacing("Host: test:"),
    "an IPv6 Host": replacing("Host: [::1]:8000"),
    "bytes above 0x7f in other headers": head(
        f"Cookie: a={HIGH}", f"User-Agent: {HIGH}", f"Origin: {HIGH}", f"X-A: {HIGH}"
    ),
    "an Expect": head("Expect: 100-continue"),
}


@pytest.mark.parametrize("name", ODD)
async def test_an_unusual_but_valid_handshake_is_accepted(server: Target, name: str) -> None:
    response = await acceptance(server, ODD[name])
    assert response.get("sec-websocket-protocol") is None


@pytest.mark.parametrize("step", [1, 7])
async def test_a_handshake_in_pieces(server: Target, step: int) -> None:
    data = head() + frame(TEXT, "early")
    async with server.connect() as client:
        for at in range(0, len(data), step):
            client.send(data[at : at + step])
        assert (await client.response()).status == 101
        assert await client.read_text() == "early"


X = "Sec-WebSocket-Extensions: "
UNFIT = (
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=8",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=08",
    "permessage-deflate; server_max_window_bits=1e1",
    "permessage-deflate; server_max_window_bits=-9",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=" + "9" * 5_000,
    "permessage-deflate; client_max_window_bits=10; client_max_window_bits=10",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; unknown",
    "permessage-deflate" + "; server_no_context_takeover" * 1_000,
    "permessage-bzip2, " * 3_000 + "x-webkit-deflate-frame",
    ",x-webkit-deflate-frame," + " ," * 20_000,
)


async def test_extension_offers_that_do_not_fit_are_declined(server: Target) -> None:
    for offer in UNFIT:
        response = await acceptance(server, head(X + offer))
        assert response.get("sec-websocket-extensions") is None, offer
        response = await acceptance(server, head(X + offer, DEFLATE))
        agreed = response.get("sec-websocket-extensions") or ""
        assert agreed.startswith("permessage-deflate"), offer


async def test_a_ping_between_the_fragments_of_a_compressed_message(server: Target) -> None:
    text = "Hello, Hello, Hello. " * 20
    pieces = Deflater().pieces(*(part.encode() for part in text.partition("lo.")))
    async with server.opened(DEFLATE) as client:
        for _ in range(2):
            client.send(frame(TEXT, pieces[0], rsv=RSV1, fin=False) + frame(PING, "one"))
            client.send(frame(CONT, pieces[1], fin=False) + frame(PING, "two"))
            client.send(frame(CONT, pieces[2]))
            assert await client.read_frame() == ServerFrame(PONG, b"one")
            assert await client.read_frame() == ServerFrame(PONG, b"two")
            assert await client.read_text() == text


# -- slow clients, and data before the accept -----------------------------------------------------

DRIPPING, SILENT, DEADLINE = 200, 50, 2.0


async def drip(server: Target, data: bytes) -> tuple[Response, float]:
    """Send a byte per second until the response; return it and the seconds it took."""
    async with server.connect() as client:
        began = time.monotonic()
        answer = asyncio.ensure_future(client.response())
        for at in range(len(data)):
            if not answer.done():
                client.send(data[at : at + 1])
                await asyncio.wait([answer], timeout=1.0)
        found = await answer
        took = time.monotonic() - began
        assert await client.read_rest_or_reset() == b""
        return found, took


async def silence(server: Target) -> bytes:
    """Send nothing; return what the server sends before it closes the connection."""
    async with server.connect() as client:
        return await client.read_rest_or_reset()


async def test_200_dripping_clients_do_not_slow_down_others(
    loop_name: str, measured: Measured
) -> None:
    async with (
        run_target(loop_name, "--ws-handshake-timeout", f"{DEADLINE}") as server,
        others_served(server) as echoes,
    ):
        answers, silences = await asyncio.gather(
            asyncio.gather(*(drip(server, head()) for _ in range(DRIPPING))),
            asyncio.gather(*(silence(server) for _ in range(SILENT))),
        )
    assert {response.status for response, _ in answers} == {408}
    assert set(silences) == {b""}
    last = max(took for _, took in answers)
    assert last < DEADLINE + 10  # a whole handshake would have dripped for minutes
    assert sorted(echoes)[len(echoes) // 2] < 1.0
    measured(
        f"{DRIPPING} clients that send one byte per second",
        f"408 after {DEADLINE} s",
        f"{last:.1f} s",
    )
    measured(
        "slowest echo of another client during this",
        "1 s",
        f"{max(echoes):.3f} s, of {len(echoes)}",
    )


async def test_frames_sent_with_the_handshake_arrive_once_and_in_order(server: Target) -> None:
    texts = [f"{number} " * (number % 50) for number in range(2_000)]
    rest = b"".join(frame(TEXT, text) for text in texts)
    async with server.connect() as client:
        client.send(head() + rest)
        assert (await client.response()).status == 101
        assert [await client.read_text() for _ in texts] == texts
        await client.echoes()  # no other frame arrives before


def unread(server: Target, client: TcpClient) -> int:
    """Return how many bytes of a client wait in the kernel, on either side of the connection."""
    port = client.writer.get_extra_info("sockname")[1]
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = {int(address.partition(":")[2], 16) for address in fields[1:3]}
        if ports == {port, server.process.port}:
            sent, received = (int(count, 16) for count in fields[4].split(":"))
            mine = int(fields[1].partition(":")[2], 16) == port
            total += sent if mine else received
    return total


EARLY = 65_536  # bytes that a server buffers before the accept
READ = 262_144  # bytes that an event loop reads in one call
EAGER = 20  # clients


async def test_a_megabyte_before_the_accept_stays_in_the_kernel(
    loop_name: str, measured: Measured
) -> None:
    messages = [bytes([number]) * 65_536 for number in range(16)]
    data = b"".join(frame(BINARY, message) for message in messages)
    kept: list[int] = []
    async with run_target(loop_name, "--ws-handshake-timeout", "60") as server:
        before = server.watch_memory()
        async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE):
            for _ in range(EAGER):
                group.create_task(eager(server, data, messages, kept))
            await server.until(lambda stats: stats.websockets == EAGER)
            while len(kept) < EAGER:
                await pause(0.05)
            grown = max(0, server.memory().peak - before)
            await server.ask("/release", "POST")
    assert max(kept) <= EARLY + READ
    assert grown <= EAGER * (EARLY + READ) + MIB
    bound = f"{(EARLY + READ) / 1024:.0f} KiB"
    measured(
        f"1 MB sent before the accept, buffered for each of {EAGER} clients",
        bound,
        f"{max(kept):,} bytes",
    )
    measured(
        f"{EAGER} MB sent before the accept, total memory",
        f"{EAGER} times {bound}",
        f"{grown / MIB:.1f} MiB",
    )


async def eager(server: Target, data: bytes, messages: list[bytes], kept: list[int]) -> None:
    """Send everything before the accept, record how much the server buffers, and read it back."""
    async with server.connect() as client:
        client.send(head(target="/hold") + data)
        size = len(head(target="/hold") + data)
        last, taken = -1, 0
        while taken != last or not taken:  # until the server reads no more
            await pause(0.2)
            waiting = client.writer.transport.get_write_buffer_size() + unread(server, client)
            last, taken = taken, size - waiting
        kept.append(taken)
        assert (await client.response()).status == 101
        for message in messages:
            assert await client.read_frame() == ServerFrame(frames.BINARY, message)
