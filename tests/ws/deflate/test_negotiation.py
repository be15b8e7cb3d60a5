"""What is agreed of permessage-deflate: the offers of RFC 7692 section 7.1, one by one."""

from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from wsgate.errors import RequestRefused
from wsgate.ws.deflate import negotiation as module
from wsgate.ws.deflate.negotiation import Agreement, DeflateSettings, negotiate

# With takeover an agreement shows what was offered; without it, both sides give it up anyway.
KEEPING = DeflateSettings(context_takeover=True)
DEFAULT = DeflateSettings()


def agreed(*values: str, settings: DeflateSettings = KEEPING) -> Agreement:
    agreement = negotiate((", ".join(values).encode(),), settings)
    assert agreement is not None
    return agreement


def is_declined(*values: str, settings: DeflateSettings = KEEPING) -> bool:
    return negotiate((", ".join(values).encode(),), settings) is None


def is_malformed(*values: str, settings: DeflateSettings | None = KEEPING) -> bool:
    with pytest.raises(RequestRefused) as caught:
        negotiate((", ".join(values).encode(),), settings)
    return caught.value.status == 400


def test_an_offer_without_parameters_is_accepted() -> None:
    assert agreed("permessage-deflate") == Agreement(KEEPING)


@pytest.mark.parametrize(
    "value",
    [
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "permessage-deflates",
        "Permessage-MessageExtension",
        "foo; permessage-deflate",
        'foo; a="permessage-deflate"',
        "foo; a=permessage-deflate, bar",
    ],
    ids=repr,
)
def test_other_extensions_are_ignored(value: str) -> None:
    assert is_declined(value)


def test_without_settings_nothing_is_agreed_but_malformed_lines_are_refused() -> None:
    for _ in range(2):  # what is cached decides nothing
        assert negotiate((b"permessage-deflate",), None) is None
        assert negotiate((b"permessage-deflate",), KEEPING) is not None
        assert is_malformed("permessage-deflate;", settings=None)
        assert is_malformed("permessage-deflate;")


def test_equal_offers_share_an_agreement_unless_they_are_long() -> None:
    assert agreed("permessage-deflate") is agreed("permessage-" + "deflate")
    kept = module._negotiate_cached.cache_info().currsize
    for lines in ((b"permessage-deflate" + b"," * 600,), (b"permessage-deflate", *[b""] * 600)):
        assert negotiate(lines, KEEPING) == Agreement(KEEPING)
    assert module._negotiate_cached.cache_info().currsize == kept


def test_one_malformed_line_refuses_the_request() -> None:
    lines = (b"permessage-deflate", b"permessage-deflate; x=")
    for some in (lines, lines[::-1]):
        with pytest.raises(RequestRefused, match="malformed"):
            negotiate(some, KEEPING)


# -- context takeover ----------------------------------------------------------------------------


def test_the_server_drops_its_context_on_request() -> None:
    # RFC 7692 section 7.1.1.1: a server accepts "by including the "server_no_context_takeover"
    # extension parameter in the response".
    agreement = agreed("permessage-deflate; server_no_context_takeover")
    assert agreement == Agreement(KEEPING, server_no_context_takeover=True)


def test_a_client_that_offers_to_drop_its_context_must_do_so() -> None:
    # RFC 7692 section 7.1.1.2: the offer is a hint that the response may take up.
    agreement = agreed("permessage-deflate; client_no_context_takeover")
    assert agreement == Agreement(KEEPING, client_no_context_takeover=True)


def test_without_takeover_both_sides_drop_their_contexts() -> None:
    # RFC 7692 sections 7.1.1.1 and 7.1.1.2: either may be in a response without an offer.
    agreement = agreed("permessage-deflate", settings=DEFAULT)
    assert agreement.server_no_context_takeover
    assert agreement.client_no_context_takeover
    assert agreement.header() == (
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    )


# -- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("ours", [9, 12, 15])
def test_the_servers_window_is_the_smaller_one(bits: int, ours: int) -> None:
    # RFC 7692 section 7.1.2.1: accepted "with the same or smaller value as the offer".
    settings = replace(KEEPING, server_max_window_bits=ours)
    agreement = agreed(f"permessage-deflate; server_max_window_bits={bits}", settings=settings)
    assert agreement.server_max_window_bits == min(bits, ours)
    assert agreement.header().endswith(b"; server_max_window_bits=%d" % min(bits, ours))


@pytest.mark.parametrize("settings", [KEEPING, DEFAULT], ids=["takeover", "none"])
def test_a_window_of_8_bits_is_declined_for_the_server(settings: DeflateSettings) -> None:
    assert is_declined("permessage-deflate; server_max_window_bits=8", settings=settings)


def test_a_small_server_window_is_in_the_response_without_a_request() -> None:
    # RFC 7692 section 7.1.2.1: it may be in a response "even if the extension negotiation
    # offer being accepted by the extension negotiation response didn't include" it.
    agreement = agreed("permessage-deflate", settings=replace(KEEPING, server_max_window_bits=10))
    assert agreement.header() == b"permessage-deflate; server_max_window_bits=10"


@pytest.mark.parametrize("bits", range(8, 16))
@pytest.mark.parametrize("ours", [9, 12, 15])
def test_the_clients_window_is_the_smaller_one(bits: int, ours: int) -> None:
    settings = replace(KEEPING, client_max_window_bits=ours)
    agreement = agreed(f"permessage-deflate; client_max_window_bits={bits}", settings=settings)
    assert agreement.client_max_window_bits == min(bits, ours)


@pytest.mark.parametrize("ours", [9, 15])
def test_a_client_window_without_a_value_is_limited_by_the_settings(ours: int) -> None:
    # RFC 7692 section 7.1.2.2: without a value, the parameter is a hint that the client supports
    # one in the response.
    settings = replace(KEEPING, client_max_window_bits=ours)
    agreement = agreed("permessage-deflate; client_max_window_bits", settings=settings)
    assert agreement.client_max_window_bits == ours


def test_a_client_that_does_not_offer_it_has_the_largest_window() -> None:
    # RFC 7692 section 7.1.2.2: without it in the offer, the response "MUST NOT include" it.
    agreement = agreed("permessage-deflate", settings=replace(KEEPING, client_max_window_bits=9))
    assert agreement.client_max_window_bits == 15
    assert agreement.header() == b"permessage-deflate"


# -- grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "permessage-deflate;server_max_window_bits=10",
        " permessage-deflate\t;  server_max_window_bits = 10 ",
        'permessage-deflate; server_max_window_bits="10"',
        'permessage-deflate; server_max_window_bits = "1\\0"',
        ",permessage-deflate; server_max_window_bits=10,",
        "foo, permessage-deflate; server_max_window_bits=10",
        'foo; a="b\\c"; d, permessage-deflate; server_max_window_bits=10',
    ],
    ids=repr,
)
def test_an_offer_may_be_written_in_many_ways(value: str) -> None:
    assert agreed(value) == Agreement(
        KEEPING, server_max_window_bits=10, server_window_requested=True
    )


# RFC 7692 section 7: "A server MUST decline an extension negotiation offer for this extension if
# any of the following conditions are met": a parameter not defined, one with an invalid value, two
# of one name.
DECLINED = [
    "x",
    "x=1",
    "permessage-deflate",
    "SERVER_NO_CONTEXT_TAKEOVER",
    "server_no_context_takeover=1",
    "server_no_context_takeover=true",
    "client_no_context_takeover=0",
    'client_no_context_takeover="0"',
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "server_max_window_bits=10; server_max_window_bits=11",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits; client_max_window_bits=10",
    "server_no_context_takeover; x",
    "server_max_window_bits",
    *(
        f"{side}_max_window_bits={value}"
        for side in ("server", "client")
        for value in (
            "0",
            "1",
            "7",
            "16",
            "99",
            "-10",
            "+10",
            "010",
            "08",
            "10.0",
            "1_0",
            "0xa",
            "xx",
            "1" * 5000,
            '"010"',
            '"16"',
            "'10'",
            '"10"; x',
        )
    ),
]


@pytest.mark.parametrize("parameters", DECLINED, ids=lambda text: repr(text[:60]))
def test_an_unacceptable_offer_is_declined(parameters: str) -> None:
    assert is_declined(f"permessage-deflate; {parameters}")
    assert agreed(f"permessage-deflate; {parameters}", "permessage-deflate") == Agreement(KEEPING)


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "=",
        "=10",
        "server_no_context_takeover=",
        "client_no_context_takeover=",
        'client_no_context_takeover=""',
        *(
            f"{side}_max_window_bits={value}"
            for side in ("server", "client")
            for value in ("", "1 0", "=10", "10=", '""', '"', '"10', '10"', '" 10"', '""10""')
        ),
    ],
    ids=repr,
)
def test_a_malformed_offer_is_refused(parameters: str) -> None:
    assert is_malformed(f"permessage-deflate; {parameters}")
    assert is_malformed(f"permessage-deflate; {parameters}", "permessage-deflate")
    assert is_malformed("permessage-deflate", f"foo; {parameters}")


# -- several offers ------------------------------------------------------------------------------


@pytest.mark.parametrize("joined", [True, False], ids=["one line", "a line each"])
@pytest.mark.parametrize(
    ("offers", "bits"),
    [
        (["server_max_window_bits=10", "server_max_window_bits=12"], 10),
        (["server_max_window_bits=12", "server_max_window_bits=10"], 12),
        (["server_max_window_bits=8", "server_max_window_bits=9"], 9),
        (["x", "server_max_window_bits", "server_max_window_bits=11"], 11),
        (["x", "client_max_window_bits"], 15),
        (["client_max_window_bits", "x"], 15),
    ],
    ids=repr,
)
def test_the_first_acceptable_offer_is_accepted(offers: list[str], bits: int, joined: bool) -> None:
    # RFC 7692 section 5.1: "the order of elements is important": the client's preference.
    values = [f"permessage-deflate; {offer}" for offer in offers]
    agreement = agreed(", ".join(values)) if joined else agreed(*values)
    assert agreement.server_max_window_bits == bits


def test_the_fallback_of_the_rfc() -> None:
    # RFC 7692 section 7.1.3: the example with a fallback.
    assert agreed(
        "permessage-deflate; client_max_window_bits; server_max_window_bits=8, "
        "permessage-deflate; client_max_window_bits"
    ) == Agreement(KEEPING)


@pytest.mark.parametrize(
    "value",
    ["permessage-deflate; client_max_window_bits", "permessage-deflate"],
    ids=["Chrome and Firefox", "Safari"],
)
def test_browsers_agree_to_no_context_takeover(value: str) -> None:
    assert agreed(value, settings=DEFAULT) == Agreement(
        DEFAULT, server_no_context_takeover=True, client_no_context_takeover=True
    )


# -- header --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreement", "header"),
    [
        (Agreement(DEFAULT), b"permessage-deflate"),
        (
            Agreement(DEFAULT, server_max_window_bits=15, server_window_requested=True),
            b"permessage-deflate; server_max_window_bits=15",
        ),
        (Agreement(DEFAULT, client_max_window_bits=15), b"permessage-deflate"),
        (
            Agreement(DEFAULT, client_max_window_bits=8),
            b"permessage-deflate; client_max_window_bits=8",
        ),
        (
            Agreement(DEFAULT, True, True, 9, 10),
            b"; ".join(
                [
                    b"permessage-deflate",
                    b"server_no_context_takeover",
                    b"client_no_context_takeover",
                    b"server_max_window_bits=9",
                    b"client_max_window_bits=10",
                ]
            ),
        ),
    ],
    ids=["none", "server 15", "client 15", "client 8", "all"],
)
def test_the_header_contains_the_agreed_parameters(agreement: Agreement, header: bytes) -> None:
    assert agreement.header() == header


# -- whatever comes ------------------------------------------------------------------------------

WINDOWS = st.integers(9, 15)
SETTINGS = st.builds(
    DeflateSettings,
    context_takeover=st.booleans(),
    server_max_window_bits=WINDOWS,
    client_max_window_bits=WINDOWS,
)
PARAMETERS = st.tuples(
    st.sampled_from(
        [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
            "client_max_window_bits",
            "x",
        ]
    ),
    st.sampled_from(["", "", " = 10", '="10"', '="1\\5"', '= "x"'])
    | st.integers(-1, 17).map("={}".format),
).map("".join)
OFFERS = st.builds(
    "{}{}".format,
    st.sampled_from(["permessage-deflate", "permessage-deflate", "foo"]),
    st.lists(PARAMETERS.map("; {}".format), max_size=4).map("".join),
)


@settings(deadline=None)
@given(st.lists(OFFERS, min_size=1, max_size=3).map(", ".join), SETTINGS)
def test_any_offer_is_accepted_or_declined(value: str, settings: DeflateSettings) -> None:
    agreement = negotiate((value.encode(),), settings)
    if agreement is None:
        return
    assert 9 <= agreement.server_max_window_bits <= settings.server_max_window_bits
    assert 8 <= agreement.client_max_window_bits <= 15
    if not settings.context_takeover:
        assert agreement.server_no_context_takeover
        assert agreement.client_no_context_takeover
    # Read as an offer, with the same settings, our answer leads to itself.
    again = negotiate((agreement.header(),), settings)
    assert again == replace(
        agreement, server_window_requested=b"server_max_window_bits" in agreement.header()
    )


@settings(deadline=None)
@given(
    server_drops=st.booleans(),
    client_drops=st.booleans(),
    server_bits=st.none() | WINDOWS,
    client_bits=st.none() | st.just("") | st.integers(8, 15).map(str),
    settings=SETTINGS,
    data=st.data(),
)
def test_the_response_stays_within_any_legal_offer(
    *,
    server_drops: bool,
    client_drops: bool,
    server_bits: int | None,
    client_bits: str | None,
    settings: DeflateSettings,
    data: st.DataObject,
) -> None:
    parts = ["server_no_context_takeover"] * server_drops
    parts += ["client_no_context_takeover"] * client_drops
    if server_bits is not None:
        parts.append(f"server_max_window_bits={server_bits}")
    if client_bits is not None:
        parts.append("client_max_window_bits" + (f"={client_bits}" if client_bits else ""))
    parts = data.draw(st.permutations(parts))
    agreement = agreed("; ".join(["permessage-deflate", *parts]), settings=settings)
    keeps = settings.context_takeover
    assert agreement.server_no_context_takeover == (server_drops or not keeps)
    assert agreement.client_no_context_takeover == (client_drops or not keeps)
    window = min(server_bits or 15, settings.server_max_window_bits)
    assert agreement.server_max_window_bits == window
    if server_bits is not None:
        assert b"server_max_window_bits=%d" % window in agreement.header()
    if client_bits is None:
        assert b"client_max_window_bits" not in agreement.header()
    else:
        window = min(int(client_bits or 15), settings.client_max_window_bits)
        assert agreement.client_max_window_bits == window
