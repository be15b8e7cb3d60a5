"""The bytes of the messages between a hub and its connections, and between workers.

A frame is the length of the rest (4 bytes), the number of the message's class (1 byte), and the
fields in their order. Numbers are big-endian. Text is UTF-8 with its length before it.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Protocol, cast

from wsgate.errors import WsgateError
from wsgate.topics import messages
from wsgate.topics.messages import Message

MAX_FRAME = 256 * 2**20  # bytes; a larger message is refused where it is published
OVERHEAD = 2048  # bytes of a frame besides the message that is published, at most
_HEADER = struct.Struct("!IB")
_LENGTH = struct.Struct("!I")


class WireError(WsgateError):
    """The other end does not keep to the format, or to the order of the messages."""


class _Reader:
    """Reads the fields of one frame."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes. Raises WireError if there are not so many."""
        end = self._at + size
        if end > len(self._data):
            raise WireError("a frame ends within a field")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def check_end(self) -> None:
        """Raise WireError if something is left."""
        if self._at != len(self._data):
            raise WireError("a frame has bytes after its last field")


class _Field(Protocol):
    """How the values of one field are written and read."""

    def pack(self, value: Any) -> bytes:
        """Return a value as bytes."""

    def unpack(self, reader: _Reader) -> Any:
        """Read a value. Raises WireError if it is malformed."""


class _Number:
    """A number of fixed size. convert: makes the value; it raises ValueError for an unknown one."""

    def __init__(self, code: str, convert: Callable[[Any], Any]) -> None:
        self._struct = struct.Struct(code)
        self._convert = convert
        self.pack = self._struct.pack

    def unpack(self, reader: _Reader) -> Any:
        (value,) = self._struct.unpack(reader.take(self._struct.size))
        try:
            return self._convert(value)
        except ValueError:
            raise WireError(f"{value} is not known here") from None


class _Text:
    """Text of 1 to 255 bytes; of 0 bytes if it may be None."""

    def __init__(self, *, may_be_none: bool = False) -> None:
        self._may_be_none = may_be_none

    def pack(self, value: str | None) -> bytes:
        data = (value or "").encode()
        return bytes((len(data),)) + data

    def unpack(self, reader: _Reader) -> str | None:
        data = reader.take(reader.take(1)[0])
        if not data and not self._may_be_none:
            raise WireError("a text is empty")
        return _decode(data) or None


class _Data:
    """What is published: text or bytes."""

    def pack(self, value: str | bytes) -> bytes:
        kind, data = (b"t", value.encode()) if isinstance(value, str) else (b"b", value)
        return kind + _LENGTH.pack(len(data)) + data

    def unpack(self, reader: _Reader) -> str | bytes:
        kind = reader.take(1)
        (size,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        data = reader.take(size)
        if kind == b"b":
            return data
        if kind != b"t":
            raise WireError("a message is neither text nor bytes")
        return _decode(data)


class _List:
    """Items of one class."""

    def __init__(self, kind: type[Any], *layout: _Field) -> None:
        self._layout = _Layout(kind, layout)

    def pack(self, value: list[Any]) -> bytes:
        return _LENGTH.pack(len(value)) + b"".join(map(self._layout.pack, value))

    def unpack(self, reader: _Reader) -> list[Any]:
        (count,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        # Each item takes a byte or more, so a count that is too large ends with the frame.
        return [self._layout.unpack(reader) for _ in range(count)]


class _Texts:
    """Texts of 1 to 255 bytes."""

    def pack(self, value: list[str]) -> bytes:
        return _LENGTH.pack(len(value)) + b"".join(map(_TEXT.pack, value))

    def unpack(self, reader: _Reader) -> list[str]:
        (count,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        return [cast("str", _TEXT.unpack(reader)) for _ in range(count)]


class _Layout:
    """The fields of a class, in order."""

    def __init__(self, kind: type[Any], layout: Iterable[_Field]) -> None:
        names = [one.name for one in fields(kind)]
        self._kind = kind
        self._fields = [
            (field.pack, field.unpack, attrgetter(name))
            for name, field in zip(names, layout, strict=True)
        ]

    def pack(self, value: Any) -> bytes:
        return b"".join([pack(get(value)) for pack, _, get in self._fields])

    def unpack(self, reader: _Reader) -> Any:
        return self._kind(*[unpack(reader) for _, unpack, _ in self._fields])


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise WireError("a text is not UTF-8") from None


def _boolean(value: int) -> bool:
    if value > 1:
        raise ValueError
    return bool(value)


_BYTE = _Number("!B", int)
_SHORT = _Number("!H", int)
_INT = _Number("!I", int)
_LONG = _Number("!Q", int)
_FLOAT = _Number("!d", float)
_BOOL = _Number("!B", _boolean)
_TEXT = _Text()
_OPTIONAL = _Text(may_be_none=True)
_TEXTS = _Texts()
_DATA = _Data()
_RULES = _List(messages.HistoryRule, _TEXT, _INT, _FLOAT)
_KEPT = _List(messages.Kept, _TEXT, _LONG, _DATA)
_MEMBERS = _List(messages.Member, _TEXT, _INT)

_FIELDS: dict[type[Any], tuple[int, tuple[_Field, ...]]] = {
    messages.Hello: (1, (_SHORT, _OPTIONAL, _LONG, _RULES)),
    messages.SetRules: (2, (_LONG, _RULES)),
    messages.Attach: (3, (_LONG, _TEXT, _LONG, _LONG, _LONG)),
    messages.Detach: (4, (_TEXT,)),
    messages.Claim: (5, (_TEXT, _LONG)),
    messages.Publish: (6, (_LONG, _TEXT, _Number("!B", messages.Mode), _OPTIONAL, _DATA)),
    messages.GetMissed: (7, (_LONG, _TEXT, _OPTIONAL, _INT)),
    messages.GetSince: (8, (_LONG, _TEXT, _LONG)),
    messages.GetMore: (9, (_LONG,)),
    messages.Forget: (10, (_LONG,)),
    messages.GetCount: (11, (_LONG, _TEXT)),
    messages.Subscribers: (12, (_LONG, _INT)),
    messages.GetMembers: (13, (_LONG, _TEXT)),
    messages.SetMember: (14, (_TEXT, _TEXT, _INT, _BOOL)),
    messages.Welcome: (32, (_SHORT, _LONG, _LONG, _TEXTS, _BOOL)),
    messages.Attached: (33, (_LONG, _TEXT, _Number("!B", messages.Sync), _LONG)),
    messages.Delivered: (34, (_LONG, _TEXT, _OPTIONAL, _LONG, _LONG, _DATA)),
    messages.Placed: (35, (_LONG, _OPTIONAL, _LONG, _BOOL)),
    messages.MissedPart: (36, (_LONG, _BOOL, _LONG, _BOOL, _KEPT)),
    messages.AskCount: (37, (_LONG, _TEXT)),
    messages.Count: (38, (_LONG, _INT)),
    messages.Members: (39, (_LONG, _BOOL, _MEMBERS)),
    messages.Announce: (40, (_TEXT, _TEXT, _BOOL)),
    messages.Lost: (41, (_TEXT,)),
    messages.Seen: (42, (_LONG,)),
    messages.Refused: (43, (_LONG, _Number("!B", messages.Refusal), _TEXT)),
    messages.Joined: (44, (_TEXT,)),
    messages.PeerHello: (64, (_TEXT,)),
    messages.Wanted: (65, (_LONG, _TEXTS)),
    messages.AllWanted: (66, (_LONG,)),
    messages.Noted: (67, (_LONG,)),
}
_LAYOUTS = {kind: (number, _Layout(kind, own)) for kind, (number, own) in _FIELDS.items()}
_BY_NUMBER = dict(_LAYOUTS.values())


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    number, layout = _LAYOUTS[type(message)]
    body = layout.pack(message)
    return _HEADER.pack(len(body) + 1, number) + body


class Decoder:
    """Reads messages from a stream of bytes, in pieces of any size.

    Args:
        max_frame: Bytes of one frame.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with these bytes.

        Raises:
            WireError: A frame is malformed or too large. Nothing may be fed after that.
        """
        self._buffer += data
        found: list[Message] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            number = self._buffer[start + _LENGTH.size]
            found.append(_read(number, bytes(self._buffer[start + _HEADER.size : end])))
            start = end
        del self._buffer[:start]
        return found

    def _end_of_frame(self, start: int) -> int | None:
        """Return where the frame ends that begins at `start`; None if it is not complete."""
        if len(self._buffer) < start + _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer, start)
        if not 0 < size <= self._max_frame:
            raise WireError(f"a frame of {size:,} bytes")
        end: int = start + _LENGTH.size + size
        return end if end <= len(self._buffer) else None


def _read(number: int, body: bytes) -> Message:
    layout = _BY_NUMBER.get(number)
    if layout is None:
        raise WireError(f"a message of the unknown class {number}")
    reader = _Reader(body)
    message: Message = layout.unpack(reader)
    reader.check_end()
    return message
