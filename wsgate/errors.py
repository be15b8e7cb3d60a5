"""The exceptions of wsgate.

WsgateError
├── ConfigError                a setting or an app that cannot be used; exit status 1
│   └── LoopIsRunning          run() in a running event loop (also a RuntimeError)
├── StartupFailed              the app's lifespan refused to start; exit status 3
├── IllegalMessage             the app sent a message that its state forbids (also a RuntimeError)
├── InvalidMessage             the app sent a malformed message (also a ValueError)
├── ClientDisconnected         the app sent to a client that has left (also an OSError)
└── RequestRefused             a request that the server itself answers with an error status
"""

import re
from collections.abc import Sequence
from enum import Enum


def one_line(text: str) -> str:
    r"""Return a text with its control characters escaped as in Python: `\n`, `\x1b`."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class WsgateError(Exception):
    """The base class of all exceptions of wsgate."""


class ConfigError(WsgateError):
    """A setting, an address or an app cannot be used. The text is one line for the operator.

    Control characters in it, such as the newline in the name of a file, are escaped.

    Attributes:
        setting: the name of the setting with the bad value: a field of `Config`, "app" or
            "app_dir". The text then starts with the setting's command-line option. None if no
            single setting is the cause.
        exit_status: of a program that cannot start for this reason.
    """

    exit_status = 1

    def __init__(self, text: str, *, setting: str | None = None) -> None:
        super().__init__(one_line(text))
        self.setting = setting


class LoopIsRunning(ConfigError, RuntimeError):
    """`run` was called in a running event loop. The text names what to await instead."""


class StartupFailed(WsgateError):
    """The app's lifespan refused to start. The text is the app's message."""

    exit_status = 3


class IllegalMessage(WsgateError, RuntimeError):
    """The app sent a message that is not allowed in the current state. The text names both."""

    def __init__(self, message_type: object, state: str) -> None:
        super().__init__(f"{message_type!r} cannot be sent in the state {state}")


class InvalidMessage(WsgateError, ValueError):
    """The app sent a message whose keys or values the ASGI specification does not allow."""


class ClientDisconnected(WsgateError, OSError):
    """The app sent a message to a client that has left.

    ASGI HTTP & WebSocket spec 2.4 and later: "the server should raise a server-specific subclass
    of OSError". Clients may leave at any time, so an app need not catch this: it is not logged.
    """


class Refusal(Enum):
    """Why a WebSocket handshake was refused. The values are labels of metrics, never changed."""

    ORIGIN = "origin"
    VERSION = "version"
    APP_REFUSED = "app_refused"
    APP_FAILED = "app_failed"
    APP_TIMEOUT = "app_timeout"
    LIMIT = "limit"
    STOPPING = "stopping"
    MALFORMED = "malformed"


class RequestRefused(WsgateError):
    """The server answers a request itself, with an error status, and closes the connection.

    Attributes:
        status: the HTTP status of the response.
        detail: one line for the client and the log.
        headers: further headers of the response, such as the Sec-WebSocket-Version of a 426.
        refusal: the kind of reason, for metrics. It counts for WebSocket handshakes only.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        refusal: Refusal = Refusal.MALFORMED,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)
        self.refusal = refusal


class RefusedAtStop(RequestRefused):
    """The server stops: a client may retry at once, with the process that replaces it."""

    def __init__(self) -> None:
        headers = [(b"retry-after", b"1")]
        super().__init__(503, "the server stops", headers, refusal=Refusal.STOPPING)
