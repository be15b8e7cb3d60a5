"""Redis over TLS: its certificate is checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from tests.harness.brokers import PATIENCE, node
from tests.harness.redis import free_ports, redis_server
from tests.harness.waiting import until
from wsgate.topics.errors import Unavailable


@pytest_asyncio.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """Run a server with TLS; yield its URL and the certificate of its authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    port = free_ports(2)[1]  # the server has the first one
    files = (
        "--tls-cert-file",
        str(cert),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(ca),
    )
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    async with redis_server(tmp_path, *options):
        yield f"rediss://localhost:{port}", ca


async def test_messages_go_over_tls(tls: tuple[str, Path]) -> None:
    url, ca = tls
    async with node(f"{url}?ca={ca}") as one, node(f"{url}?verify=false") as other:
        await other.broker.attach("h")
        await one.publish("h", "text")
        await other.recorder.has("h", "text")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_certificate_that_is_not_trusted_is_away(tls: tuple[str, Path], host: str) -> None:
    """That of another authority, or of another name."""
    url, ca = tls
    if host == "127.0.0.1":
        url += f"?ca={ca}"
    async with node(url.replace("localhost", host), publish_timeout=1.0) as one:
        await until(lambda: one.broker._servers.find(0).commands.reason, PATIENCE)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await one.publish("h", "text")
