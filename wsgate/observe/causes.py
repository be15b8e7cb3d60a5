"""Why WebSockets end: the causes, who ended the WebSocket, and what to do about it.

The table is complete: each end of an open WebSocket has exactly one cause of it. The page
docs/reference/close-codes.md is made from it.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Initiator = Literal["client", "app", "server"]


class Cause(Enum):
    """Why a WebSocket ended. The values are labels: of logs and metrics, and never changed."""

    CLIENT_CLOSED = "client_closed"
    CLIENT_VANISHED = "client_vanished"
    REPLACED = "replaced"
    PING_TIMEOUT = "ping_timeout"
    SLOW_CONSUMER = "slow_consumer"
    MESSAGE_TOO_BIG = "message_too_big"
    PROTOCOL_ERROR = "protocol_error"
    POLICY = "policy"
    IDLE = "idle"
    LIFETIME = "lifetime"
    APP_CLOSED = "app_closed"
    APP_FAILED = "app_failed"
    APP_RETURNED = "app_returned"
    APP_STUCK = "app_stuck"
    MESSAGES_LOST = "messages_lost"
    OPERATOR = "operator"
    SERVER_STOPPING = "server_stopping"
    WORKER_RESTART = "worker_restart"

    __hash__ = object.__hash__  # Enum's own is a Python call


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a cause means.

    initiator: who ended the WebSocket. codes: the close codes that go with it. sentence: what
    happened, without a full stop. advice: what to do about it. chosen_by: who may choose another
    code, empty for nobody; then `codes` has the default.
    """

    initiator: Initiator
    codes: tuple[int, ...]
    sentence: str
    advice: str
    chosen_by: str = ""


CAUSES: dict[Cause, Explanation] = {
    Cause.CLIENT_CLOSED: Explanation(
        "client",
        (1005,),
        "the client sent a Close frame",
        "Nothing: a page was left (1001), or the client's program closed. The code and the reason "
        "are the client's own.",
        chosen_by="client",
    ),
    Cause.CLIENT_VANISHED: Explanation(
        "client",
        (1006,),
        "the connection ended without a Close frame",
        "Common on mobile networks, and when a computer sleeps or a program is killed. If it hits "
        "many clients at the same age, a proxy in between has a timeout: see its log, and raise "
        "its read timeout above --ws-ping-interval.",
    ),
    Cause.REPLACED: Explanation(
        "client",
        (1006, 1011, 1013),
        "the client came back on another connection",
        "Nothing: the network of the client changed. It is known because the client named this "
        "connection when it came back to a worker of the same server (--ws-reconnect-field). After "
        "a return to another server the cause is client_vanished, ping_timeout or slow_consumer.",
    ),
    Cause.PING_TIMEOUT: Explanation(
        "server",
        (1011,),
        "no data arrived within --ws-ping-timeout after a Ping",
        "As for a client that vanished: its network is gone, and nobody told the server. If "
        "clients on good networks are hit, their program is blocked: a client library answers "
        "Pings only while it runs. Raise --ws-ping-timeout if that is meant.",
    ),
    Cause.SLOW_CONSUMER: Explanation(
        "server",
        (1013,),
        "the client read too slowly",
        "Send less, and let clients connect again. Either 64 KiB waited for the client, and for "
        "--ws-send-timeout the write buffer did not fall below 16 KiB; or more than "
        "--topics-max-outlet of published messages waited, in topics whose rules say "
        '`slow="close"`.',
    ),
    Cause.MESSAGE_TOO_BIG: Explanation(
        "server",
        (1009,),
        "the client sent a message above a limit",
        "Send smaller messages, or raise --ws-max-size (16 MiB, after inflating) or "
        "--ws-max-fragments.",
    ),
    Cause.PROTOCOL_ERROR: Explanation(
        "server",
        (1002, 1007),
        "the client broke the protocol",
        "A fault of the client's program, or of something in between that changes bytes. The rule "
        "that was broken is named.",
    ),
    Cause.POLICY: Explanation(
        "server",
        (1008,),
        "the client sent more messages than --ws-max-message-rate allows",
        "Raise the limit if the client is legitimate; see --ws-max-message-burst as well.",
    ),
    Cause.IDLE: Explanation(
        "server",
        (1001,),
        "no message was sent either way within --ws-idle-timeout",
        "Send a message now and then, raise the timeout, or let the client connect when it needs "
        "to. Pings do not count as messages.",
    ),
    Cause.LIFETIME: Explanation(
        "server",
        (1012,),
        "the connection had reached --ws-max-lifetime",
        "Nothing: the client is to connect again, which evens out the workers.",
    ),
    Cause.APP_CLOSED: Explanation(
        "app",
        (1000,),
        "the app sent websocket.close",
        "The code and the reason are the app's own.",
        chosen_by="app",
    ),
    Cause.APP_FAILED: Explanation(
        "app",
        (1011,),
        "the app raised an exception",
        "The log has the traceback at the same time, with the level ERROR. Of an error that "
        "repeats it has one, at the first time, and then a number every ten seconds.",
    ),
    Cause.APP_RETURNED: Explanation(
        "app",
        (1000,),
        "the app's call returned without a websocket.close",
        "Nothing if that is meant. If not, look for a loop that ends: a `return` or `break`, or an "
        "exception that is caught.",
    ),
    Cause.APP_STUCK: Explanation(
        "server",
        (1011,),
        "the app did not call receive() for 300 seconds while messages waited",
        "`wsgate ctl stack WORKER --tasks` shows where it waits. Let the app read in a task of its "
        "own, or end the WebSocket.",
    ),
    Cause.MESSAGES_LOST: Explanation(
        "server",
        (1012, 1006),
        "messages of its topics were lost, so that it has to recover them",
        "With 1012 the topics hub or Redis has lost its history: see the log at that time. With "
        "1006 one message could not be sent to this client: the log has a traceback. The client "
        "connects again and subscribes with `after`.",
    ),
    Cause.OPERATOR: Explanation(
        "server",
        (1012,),
        "an operator closed it",
        "Somebody used `wsgate ctl close`, or the button of the live page.",
        chosen_by="operator",
    ),
    Cause.SERVER_STOPPING: Explanation(
        "server",
        (1012,),
        "the server stops",
        "Nothing: the client is to connect again, to another server or after the restart, with a "
        "random delay. --drain-seconds spreads the closes.",
    ),
    Cause.WORKER_RESTART: Explanation(
        "server",
        (1012,),
        "its worker was replaced by a new one",
        "Nothing: the client is to connect again. Workers are replaced by a restart, by --reload, "
        "by --limit-max-requests, --worker-max-rss and --worker-max-lifetime, and when they fail "
        "their health check; the log says which.",
    ),
}


def sentence_of(cause: Cause, detail: str) -> str:
    """Return what happened, in one sentence without a full stop.

    Args:
        cause: Why the WebSocket ended.
        detail: What is known beyond that, empty for nothing.
    """
    sentence = CAUSES[cause].sentence
    return f"{sentence}: {detail}" if detail else sentence
