"""What a request stream yields and what a response stream takes, for any version of HTTP.

The server drives one request as an `HttpStream` (see `stream.py`) with these events. They carry
no bytes of a protocol version: a stream frames them for its own.
"""

from dataclasses import dataclass, field

from wsgate.http.request import Request
from wsgate.http.response import ResponseHead
from wsgate.types import Header

# -- from the client -------------------------------------------------------------------------------


@dataclass(slots=True)
class RequestBody:
    """A part of the request's body."""

    data: bytes


@dataclass(slots=True)
class RequestEnd:
    """The request is complete."""


@dataclass(slots=True)
class UpgradeRequest:
    """A request to upgrade the connection to another protocol, not checked yet.

    trailing: bytes that were received after the request's head.
    """

    request: Request
    trailing: bytes


@dataclass(slots=True)
class ClientClosed:
    """The client closed its side: no further request comes, and an incomplete body is cut off."""


RequestEvent = Request | RequestBody | RequestEnd | UpgradeRequest | ClientClosed

# -- to the client ---------------------------------------------------------------------------------


@dataclass(slots=True)
class InformationalResponse:
    """An interim response before the final one (RFC 9110 section 15.2), such as 103 Early Hints.

    A stream drops it for an HTTP/1.0 client.
    """

    status: int
    headers: list[Header]


@dataclass(slots=True)
class WholeResponse:
    """A response whose body is complete.

    The stream adds Content-Length unless the head has one. It sends no body in response to HEAD
    and with 204 and 304, and adds no Content-Length then.
    """

    head: ResponseHead
    body: bytes


@dataclass(slots=True)
class ResponseStart:
    """The head of a response and the first part of its body, which may be empty.

    Without a Content-Length in the head, the stream marks the end of the body in its own way. It
    sends no body in response to HEAD and with 204 and 304.
    """

    head: ResponseHead
    data: bytes


@dataclass(slots=True)
class ResponseBody:
    """A further part of the response's body, not the last one."""

    data: bytes


@dataclass(slots=True)
class ResponseEnd:
    """The last part of the response's body, which may be empty, and the trailers.

    A stream drops trailers that cannot be sent: in HTTP/1.1 only a chunked body has them.
    """

    data: bytes
    trailers: list[Header] = field(default_factory=list)


ResponseEvent = InformationalResponse | WholeResponse | ResponseStart | ResponseBody | ResponseEnd
