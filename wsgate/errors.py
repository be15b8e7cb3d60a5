"""One tree of exceptions.

WsgateError
├── ConfigError                a setting or an app that cannot be used; exit status 1
│   └── LoopIsRunning          run() inside a running event loop (also a RuntimeError)
├── StartupFailed              the app's lifespan said no; exit status 3
├── IllegalMessage             sent by the app, but not in this state (also a RuntimeError)
├── InvalidMessage             sent by the app with a wrong shape or value (also a ValueError)
├── ClientDisconnected         a send after the client has left (also an OSError)
└── RequestRefused             a request that the server answers itself, with a status
"""

from collections.abc import Sequence


class WsgateError(Exception):
    """What every exception of wsgate is a kind of."""


class ConfigError(WsgateError):
    """A setting, a socket or an app that cannot be used; the text is one line for the operator.

    setting: the name of the setting that has to change: a field of `Config`, "app" or "app_dir",
    None for an error of no single setting. The text of a setting's error begins with its option.
    """

    def __init__(self, text: str, *, setting: str | None = None) -> None:
        super().__init__(text)
        self.setting = setting


class LoopIsRunning(ConfigError, RuntimeError):
    """`run` was called inside a running event loop; its text names what to await instead."""


class StartupFailed(WsgateError):
    """The app's lifespan refused to start; its text is the app's own message."""


class IllegalMessage(WsgateError, RuntimeError):
    """The app sent a message that its present state forbids; the text names both."""

    def __init__(self, message_type: object, state: str) -> None:
        super().__init__(f"{message_type!r} cannot be sent in the state {state}")


class InvalidMessage(WsgateError, ValueError):
    """The app sent a message whose keys or values the ASGI specification does not allow."""


class ClientDisconnected(WsgateError, OSError):
    """A send to a client that has left.

    ASGI HTTP & WebSocket spec 2.4 and later: "the server should raise a server-specific subclass
    of OSError". It is an ordinary event, so an app may let it through and nothing is logged.
    """


class RequestRefused(WsgateError):
    """A request that never reaches the app; the connection closes behind the answer.

    status: the HTTP status of the answer. detail: one line for the client and the log.
    headers: more headers of the answer, such as the version that a 426 has to name.
    """

    def __init__(
        self, status: int, detail: str, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.headers = tuple(headers)
