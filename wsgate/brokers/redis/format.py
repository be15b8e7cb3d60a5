"""The format of a publication in Redis: what is on channels and in streams.

Big-endian: version (1 byte), kind (1: 0 text, 1 binary), epoch (8), place (8), origin (8), number
(8), length of the id (1), the id, the data. A script of Redis fills in the epoch and the place;
both are zero in a plain topic. A message is the same bytes on the channel and in the stream.
"""

import struct
from dataclasses import dataclass

from wsgate.topics.publication import Publication

VERSION = 1
EPOCH_SIZE = 8  # bytes of an epoch, and of the name of a publisher
_HEAD = struct.Struct(">BB8sQ8sQB")
_TEXT, _BINARY = 0, 1
_NO_PLACE = bytes(16)


@dataclass(frozen=True, slots=True)
class Frame:
    """One publication.

    epoch: changes when a history is lost or may be; empty bytes (zeros) in a plain topic. place: in
    the order of the topic, 0 in a plain one. origin: the worker or program that has published.
    number: of the publication, made by its origin. id: None if history does not keep it.
    """

    epoch: bytes
    place: int
    origin: bytes
    number: int
    id: str | None
    data: str | bytes


def encode(publication: Publication, origin: bytes, number: int) -> tuple[bytes, bytes]:
    """Return the bytes before and after the epoch and the place."""
    data, id = publication.data, (publication.id or "").encode()
    kind = _TEXT if isinstance(data, str) else _BINARY
    payload = data.encode() if isinstance(data, str) else data
    head = struct.pack(">BB", VERSION, kind)
    return head, struct.pack(">8sQB", origin, number, len(id)) + id + payload


def encode_plain(publication: Publication, origin: bytes, number: int) -> bytes:
    """Return the publication of a plain topic."""
    head, tail = encode(publication, origin, number)
    return head + _NO_PLACE + tail


def decode(payload: bytes) -> Frame:
    """Return a publication.

    Raises:
        ValueError: It is malformed, or of another version.
    """
    if len(payload) < _HEAD.size:
        raise ValueError("a publication is too short")
    version, kind, epoch, place, origin, number, id_size = _HEAD.unpack_from(payload)
    if version != VERSION or kind > _BINARY:
        raise ValueError(f"a publication of version {version}, kind {kind}")
    start = _HEAD.size + id_size
    if len(payload) < start:
        raise ValueError("the id of a publication is cut")
    id, data = payload[_HEAD.size : start].decode(), payload[start:]
    return Frame(
        epoch, place, origin, number, id or None, data if kind == _BINARY else data.decode()
    )
