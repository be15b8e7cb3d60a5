import pytest
from hypothesis import given, strategies as st

from wsgate.brokers.redis.format import Frame, decode, encode, encode_plain
from wsgate.brokers.redis.keys import (
    PARTITIONS,
    channel_of,
    history_keys,
    partition_of,
    slot_of,
    topic_of,
)
from wsgate.topics.publication import Publication

ORIGIN = b"12345678"
TOPICS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(
    data=st.text(st.characters(codec="utf-8")) | st.binary(),
    id=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
    number=st.integers(0, 2**64 - 1),
)
def test_a_publication_is_read_as_it_was_written(
    data: str | bytes, id: str | None, number: int
) -> None:
    payload = encode_plain(Publication("t", data, id), ORIGIN, number)
    assert decode(payload) == Frame(bytes(8), 0, ORIGIN, number, id, data)


def test_epoch_and_place_are_between_head_and_tail() -> None:
    head, tail = encode(Publication("t", "data", "id"), ORIGIN, 7)
    frame = decode(head + b"epoch--1" + (5).to_bytes(8, "big") + tail)
    assert frame == Frame(b"epoch--1", 5, ORIGIN, 7, "id", "data")


@pytest.mark.parametrize("cut", [0, 1, 30, 36])
def test_a_cut_publication_is_an_error(cut: int) -> None:
    payload = encode_plain(Publication("t", b"", "a long id"), ORIGIN, 1)
    with pytest.raises(ValueError, match=r"too short|is cut"):
        decode(payload[:cut])


@pytest.mark.parametrize("start", [b"\2\0", b"\1\2"])
def test_another_version_is_an_error(start: bytes) -> None:
    payload = encode_plain(Publication("t", b""), ORIGIN, 1)
    with pytest.raises(ValueError, match="version"):
        decode(start + payload[2:])


@given(TOPICS)
def test_all_names_of_a_topic_are_in_its_partition(topic: str) -> None:
    partition = partition_of(topic)
    assert 0 <= partition < PARTITIONS
    for name in (channel_of(topic), *history_keys(topic)):
        assert name.startswith("wsgate:{" + str(partition) + "}:")
    assert topic_of(channel_of(topic).encode()) == topic


def test_slots_are_those_of_the_specification_of_clusters() -> None:
    assert slot_of(123456789) == 0x31C3  # the test vector of its appendix A
