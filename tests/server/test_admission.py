"""Which connections are admitted."""

import resource
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from wsgate.server.admission import Admission, default_limit
from wsgate.types import Address

ONE, OTHER = ("192.0.2.1", 1), ("192.0.2.2", 1)


@pytest.mark.parametrize(
    ("soft", "limit"),
    [(8, 6), (64, 48), (512, 384), (1_024, 896), (1_048_576, 1_048_448)],
)
def test_the_limit_of_open_files_leaves_room(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
    assert default_limit() == limit


def test_a_system_without_a_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: infinity)
    assert default_limit() == 1_000_000


def test_the_total_number_of_connections_is_limited() -> None:
    admission = Admission(2, None)
    assert admission.enter(ONE)
    assert admission.enter(OTHER)
    assert not admission.enter(ONE)
    admission.leave(ONE, was_admitted=False)
    assert not admission.enter(None), "the one that was turned away made no room"
    admission.leave(ONE, was_admitted=True)
    assert admission.enter(None)


def test_connections_from_one_address_are_limited() -> None:
    admission = Admission(100, 2)
    assert admission.enter(ONE)
    assert admission.enter(("192.0.2.1", 2))
    assert not admission.enter(("192.0.2.1", 3))
    assert admission.enter(OTHER)
    admission.leave(ONE, was_admitted=True)
    assert admission.enter(ONE)


def test_the_total_limit_comes_before_the_limit_of_an_address() -> None:
    admission = Admission(1, 5)
    assert admission.enter(ONE)
    assert not admission.enter(OTHER)


def test_rejected_connections_of_one_address_do_not_use_up_the_total() -> None:
    admission = Admission(3, 2)
    assert [admission.enter(ONE) for _ in range(9)] == [True] * 2 + [False] * 7
    assert admission.enter(OTHER)


def test_the_limit_of_an_address_needs_an_address() -> None:
    admission = Admission(3, 1)
    assert [admission.enter(None) for _ in range(4)] == [True] * 3 + [False]
    admission.leave(None, was_admitted=True)
    assert admission.enter(None)


def test_rejected_connections_do_not_linger_when_there_are_too_many() -> None:
    admission = Admission(1, None)
    admission.enter(ONE)
    for _ in range(64):
        admission.enter(OTHER)
        assert not admission.is_swamped
    admission.enter(OTHER)
    assert admission.is_swamped
    admission.leave(OTHER, was_admitted=False)
    assert not admission.is_swamped


def test_requests_of_a_proxy_count_for_their_client_only() -> None:
    admission = Admission(1, 2)
    assert admission.enter(None), "the proxy's connection"
    assert [admission.enter_request(ONE) for _ in range(3)] == [True, True, False]
    assert admission.enter_request(OTHER)
    assert admission.enter_request(None)
    admission.leave_request(None)
    admission.leave_request(ONE)
    assert admission.enter_request(ONE)
    for client in (ONE, ONE, OTHER):
        admission.leave_request(client)
    assert not admission._per_address
    assert admission.refused == 0


def test_connections_and_requests_of_one_address_count_together() -> None:
    admission = Admission(9, 2)
    assert admission.enter(ONE)
    assert admission.enter_request(ONE)
    assert not admission.enter_request(ONE)
    assert not admission.enter(ONE)


@pytest.mark.parametrize(
    ("host", "other", "is_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.10", False),
    ],
)
def test_which_addresses_count_as_one(host: str, other: str, is_one: bool) -> None:
    admission = Admission(100, 1)
    assert admission.enter((host, 1))
    assert admission.enter((other, 1)) is not is_one
    admission.leave((host, 1), was_admitted=True)
    admission.leave((other, 1), was_admitted=not is_one)
    assert not admission._per_address, "an address that has left takes no memory"


_CLIENTS: st.SearchStrategy[Address | None] = st.none() | st.tuples(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), st.integers(1, 9)
)


@given(st.integers(1, 5), st.none() | st.integers(1, 3), st.lists(_CLIENTS, max_size=20))
def test_counts_hold_for_any_order_of_connects_and_disconnects(
    max_total: int, max_per_address: int | None, clients: list[Address | None]
) -> None:
    admission = Admission(max_total, max_per_address)
    inside: list[tuple[Address | None, bool]] = []
    for at, client in enumerate(clients):
        admitted = [other for other, is_in in inside if is_in]
        of_one = sum(
            other is not None and client is not None and other[0] == client[0] for other in admitted
        )
        fits = len(admitted) < max_total and (
            client is None or max_per_address is None or of_one < max_per_address
        )
        assert admission.enter(client) is fits
        inside.append((client, fits))
        if at % 3 == 2:
            leaver, was_in = inside.pop(at % len(inside))
            admission.leave(leaver, was_admitted=was_in)
        assert admission.total == sum(is_in for _, is_in in inside)
        assert admission.refused == sum(not is_in for _, is_in in inside)
    for client, was_in in inside:
        admission.leave(client, was_admitted=was_in)
    assert (admission.total, admission.refused, admission._per_address) == (0, 0, Counter())
