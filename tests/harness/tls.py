"""Certificates for tests, and a TLS client over memory."""

import contextlib
import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import trustme

from wsgate.config import Config
from wsgate.tls import certificates
from wsgate.tls.certificates import Certificates

HOST = "localhost"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Files:
    """A certificate authority, and the files of the certificates that it issues."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *hosts: str, **options: Any) -> dict[str, Any]:
        """Write NAME.pem and NAME.key; return them as options of `Config`."""
        issued = self.authority.issue_cert(*(hosts or (HOST, "127.0.0.1")), **options)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}

    def client_context(self, **certificate: str) -> ssl.SSLContext:
        """Return the context of a client that trusts the authority. certificate: its own."""
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(certificate["ssl_certfile"], certificate["ssl_keyfile"])
        return context


def options_of(settings: dict[str, Any]) -> list[str]:
    """Return settings as options of the command line."""
    return [part for k, v in settings.items() for part in ("--" + k.replace("_", "-"), v)]


def load(**settings: Any) -> Certificates:
    return certificates.load(Config(**settings), now())


class TlsClient:
    """A client's session over memory. received: the plaintext; is_ended: close_notify came."""

    def __init__(
        self, context: ssl.SSLContext, name: str | None = HOST, session: Any = None
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name, session=session
        )
        self.is_open = self.is_ended = False
        self.received = bytearray()

    def output(self) -> bytes:
        """Return what is to be sent, the next step of the handshake included."""
        self._advance()
        return self._outgoing.read()

    def receive(self, data: bytes) -> None:
        self._incoming.write(data)
        self._advance()

    def write(self, data: bytes) -> bytes:
        """Return the records of a plaintext."""
        self.tls.write(data)
        return self._outgoing.read()

    def close(self) -> bytes:
        """Return a close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def _advance(self) -> None:
        try:
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while data := self.tls.read(65_536):
                self.received += data
            self.is_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
