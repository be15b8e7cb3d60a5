"""The names of keys and channels in Redis.

Each has the number of a partition in braces: a Redis Cluster puts all names with the same text in
braces on the same server, where one script may use them. All names of a topic are in one partition.
"""

import zlib

PARTITIONS = 64


def partition_of(topic: str) -> int:
    """Return the number of a topic's partition."""
    return zlib.crc32(topic.encode()) % PARTITIONS


def slot_of(partition: int) -> int:
    """Return the cluster's hash slot of a partition: the CRC-16 (XMODEM) of the text in braces."""
    crc = 0
    for byte in str(partition).encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % 16384


def _prefix(topic: str) -> str:
    return "wsgate:{" + str(partition_of(topic)) + "}"


def channel_of(topic: str) -> str:
    """Return the channel of a topic's publications."""
    return f"{_prefix(topic)}:c:{topic}"


def topic_of(channel: bytes) -> str:
    """Return the topic of a channel."""
    return channel.split(b":c:", 1)[1].decode()


def history_keys(topic: str) -> tuple[str, str, str]:
    """Return the keys of a history: what is known of it, its stream, and its ids."""
    prefix = _prefix(topic)
    return f"{prefix}:meta:{topic}", f"{prefix}:log:{topic}", f"{prefix}:ids:{topic}"


def partition_prefix(partition: int) -> str:
    """Return how all names of a partition begin, for the scripts of presence."""
    return "wsgate:{" + str(partition) + "}:"
