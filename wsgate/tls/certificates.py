"""The certificates that the settings name, each in an SSL context; SNI chooses among them."""

import datetime as dt
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

from wsgate.config import Config, ContextFactory
from wsgate.errors import ConfigError
from wsgate.tls import x509

ALPN = ["http/1.1"]  # RFC 7301
TLS_1_2_ONLY = int(ssl.PROTOCOL_TLSv1_2)  # the only value of --ssl-version with an effect
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, ready to serve.

    pem: the certificate itself, without its chain; None if the program has made the context, which
    does not say what is in it. facts: what it says, None if it is not in `ssl_certfile`. context:
    for sessions that use it.
    """

    pem: str | None
    facts: x509.Facts | None
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Certificates:
    """All certificates of a server, in the order of the options.

    default: the first, for clients that name no host, or one that no certificate has. by_context:
    each by its context. cipher_suites: the IANA numbers of the ciphers, by OpenSSL's names.
    descriptions: what `extension.describe` has returned.
    """

    all: Sequence[Certificate]
    cipher_suites: Mapping[str, int]
    by_context: Mapping[ssl.SSLContext, Certificate]
    descriptions: dict[tuple[str | None, str | None, str], dict[str, Any]] = field(
        default_factory=dict
    )

    @property
    def default(self) -> Certificate:
        """The first certificate."""
        return self.all[0]


# -- reading ---------------------------------------------------------------------------------------


def load(config: Config, now: dt.datetime) -> Certificates:
    """Read the certificates that the settings name, and have the program's factory change them.

    Args:
        config: The settings, with TLS.
        now: The time at which the certificates have to be valid, in UTC.

    Raises:
        ConfigError: A file cannot be used: the text names the option and the file. Or the factory
            fails.
    """
    keyfiles = config.ssl_keyfile or repeat(None)
    readers: list[Callable[[], Certificate]] = [
        partial(_load_one, config, certfile, keyfile, now)
        for certfile, keyfile in zip(config.ssl_certfile, keyfiles, strict=False)
    ]
    if factory := config.ssl_context_factory:
        readers = [partial(_call_factory, factory, config, one) for one in readers or [_no_file]]
    loaded = [read() for read in readers]
    default = loaded[0].context
    if len(loaded) > 1 and default.sni_callback is None:  # a factory may have set one
        default.sni_callback = _Chooser(loaded).choose
    suites = {one["name"]: one["id"] & 0xFFFF for one in default.get_ciphers()}
    return Certificates(loaded, suites, {one.context: one for one in loaded})


def files_of(config: Config) -> list[str]:
    """Return the paths of all files that `load` reads."""
    files = [*config.ssl_certfile, *config.ssl_keyfile]
    return [*files, os.fspath(config.ssl_ca_certs)] if config.ssl_ca_certs else files


def _load_one(config: Config, certfile: str, keyfile: str | None, now: dt.datetime) -> Certificate:
    pem = _first_certificate(certfile)
    context = _new_context(config)
    _load_chain(context, certfile, keyfile, config.ssl_keyfile_password)
    try:
        facts = x509.read(ssl.PEM_cert_to_DER_cert(pem))
    except ValueError:
        raise _error("ssl_certfile", certfile, "its names or its validity are malformed") from None
    if now >= facts.not_after:
        raise _error("ssl_certfile", certfile, f"it expired on {_text(facts.not_after)}")
    if now < facts.not_before:
        raise _error("ssl_certfile", certfile, f"it is not valid before {_text(facts.not_before)}")
    return Certificate(pem, facts, context)


def _first_certificate(file: str) -> str:
    """Return the certificate of a file; those of its chain follow it."""
    text = _read("ssl_certfile", file)
    start, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= start < end:
        raise _error("ssl_certfile", file, "it has no certificate in PEM")
    return text[start : end + len(_END)] + "\n"


def _read(setting: str, file: str) -> str:
    try:
        with open(file, "rb") as opened:  # noqa: PTH123  # for a Path, an empty name is a folder
            return opened.read().decode("latin-1")  # there may be comments in any encoding
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, FileNotFoundError) and "," in file:
            reason += "; for several files repeat the option"
        raise _error(setting, file, reason) from None


def _new_context(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.minimum_version = {
        "TLSv1.2": ssl.TLSVersion.TLSv1_2,
        "TLSv1.3": ssl.TLSVersion.TLSv1_3,
    }[config.ssl_min_version]
    if config.ssl_version == TLS_1_2_ONLY:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    if config.ssl_ca_certs is not None:
        _load_authorities(context, os.fspath(config.ssl_ca_certs))
    if config.ssl_ciphers:
        try:
            context.set_ciphers(config.ssl_ciphers)
        except (ssl.SSLError, ValueError):  # ValueError: text that is not UTF-8 or has a null
            text = f"--ssl-ciphers: OpenSSL has none of {config.ssl_ciphers!r}"
            raise ConfigError(text, setting="ssl_ciphers") from None
    return context


def _load_authorities(context: ssl.SSLContext, file: str) -> None:
    _read("ssl_ca_certs", file)
    try:
        context.load_verify_locations(file)
    except (ssl.SSLError, OSError) as error:
        reason = _in_words(getattr(error, "reason", None) or "damaged certificates")
        raise _error("ssl_ca_certs", file, reason) from None


# OpenSSL's reasons for a key that is not the certificate's: of the same type, and of another one,
# for which it has a place of its own, without a certificate.
_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


class _Password:
    """What OpenSSL asks for an encrypted key. Without a password it would ask at a terminal."""

    def __init__(self, password: str | None) -> None:
        self._password = password
        self.was_asked = False

    def __call__(self) -> str:
        self.was_asked = True
        return self._password or ""


def _load_chain(
    context: ssl.SSLContext, certfile: str, keyfile: str | None, password: str | None
) -> None:
    if keyfile is not None:
        _read("ssl_keyfile", keyfile)
    given = _Password(password)
    try:
        context.load_cert_chain(certfile, keyfile, given)
    except (ssl.SSLError, OSError, ValueError) as error:
        setting, file = ("ssl_keyfile", keyfile) if keyfile else ("ssl_certfile", certfile)
        if given.was_asked:
            what = "does not decrypt it" if password else "is missing: the key is encrypted"
            raise _error(setting, file, f"--ssl-keyfile-password {what}") from None
        if getattr(error, "reason", None) in _MISMATCHES:
            of = f"the certificate in {certfile}" if keyfile else "its first certificate"
            raise _error(setting, file, f"the key is not that of {of}") from None
        raise _chain_error(certfile, keyfile, error) from None


def _chain_error(certfile: str, keyfile: str | None, error: Exception) -> ConfigError:
    """Return an error that names the file at fault: OpenSSL does not say which one it is."""
    if reason := getattr(error, "reason", None):
        return _error("ssl_certfile", certfile, _in_words(reason))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certfile)
    except ssl.SSLError:
        return _error("ssl_certfile", certfile, "a certificate in it is damaged")
    if keyfile is None:
        return _error("ssl_certfile", certfile, "it has no private key; name it by --ssl-keyfile")
    return _error("ssl_keyfile", keyfile, "it has no private key in PEM, or a damaged one")


def _in_words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _error(setting: str, file: str | None, reason: str) -> ConfigError:
    return ConfigError(f"--{setting.replace('_', '-')} {file}: {reason}", setting=setting)


def _text(time: dt.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


# -- contexts of the program -----------------------------------------------------------------------


def _call_factory(
    factory: ContextFactory, config: Config, read: Callable[[], Certificate]
) -> Certificate:
    """Return the context that the program's factory makes.

    Args:
        factory: It.
        config: The settings, its first argument.
        read: Reads the certificate whose context it may start from.
    """
    made: list[Certificate] = []

    def default_ssl_context_factory() -> ssl.SSLContext:
        made.append(read())
        return made[-1].context

    try:
        context = factory(config, default_ssl_context_factory)
    except ConfigError:
        raise
    except Exception as error:
        raise _factory_error(f" failed: {error!r}") from error
    _check_context(context)
    context.options |= ssl.OP_NO_RENEGOTIATION
    facts = next((one.facts for one in made if one.context is context), None)
    return Certificate(None, facts, context)


def _no_file() -> Certificate:
    raise _factory_error(": the default context needs ssl_certfile")


def _check_context(context: object) -> None:
    if not isinstance(context, ssl.SSLContext):
        raise _factory_error(f" must return an ssl.SSLContext, not a {type(context).__name__}")
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    except (ssl.SSLError, ValueError) as error:
        raise _factory_error(f" returned a context that no server can use: {error}") from None


def _factory_error(problem: str) -> ConfigError:
    return ConfigError(f"ssl_context_factory{problem}", setting="ssl_context_factory")


# -- choosing --------------------------------------------------------------------------------------


class _Chooser:
    """Chooses the certificate of a session by the host that the client names (RFC 6066 section 3).

    If several certificates have a name, the first of them is used.
    """

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        for certificate in certificates:
            for name in certificate.facts.names if certificate.facts else ():
                self._contexts.setdefault(name, certificate.context)

    def choose(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Give the session the context for a name; without one it keeps the default's."""
        context = self._find((name or "").lower())
        if context is not None:
            tls.context = context

    def _find(self, name: str) -> ssl.SSLContext | None:
        found = self._contexts.get(name)
        if found is None:
            # RFC 6125 section 6.4.3: a wildcard matches exactly one label, the leftmost.
            found = self._contexts.get("*." + name.partition(".")[2])
        return found
