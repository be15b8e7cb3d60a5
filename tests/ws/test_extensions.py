"""The grammar of Sec-WebSocket-Extensions: what conforms to it is read, all else is refused."""

import string
import time

import pytest
from hypothesis import example, given, strategies as st

from wsgate.errors import RequestRefused
from wsgate.ws.deflate.negotiation import DeflateSettings, negotiate
from wsgate.ws.extensions import offers_in, parameter_of, parts_of

Parameter = tuple[str, str | None]
Read = list[tuple[str, list[Parameter]]]


def read(*lines: bytes) -> Read:
    found = []
    for offer in offers_in(lines):
        name, *parameters = parts_of(offer)
        found.append((name, list(map(parameter_of, parameters))))
    return found


def refusal(*lines: bytes) -> str:
    with pytest.raises(RequestRefused) as caught:
        offers_in(lines)
    assert caught.value.status == 400
    return caught.value.detail


def is_well_formed(*lines: bytes) -> bool:
    try:
        offers_in(lines)
    except RequestRefused:
        return False
    return True


# -- by example ------------------------------------------------------------------------------------

WELL_FORMED: dict[bytes, Read] = {
    # The examples of RFC 6455 section 9.1.
    b"deflate-stream": [("deflate-stream", [])],
    b"mux; max-channels=4; flow-control, deflate-stream": [
        ("mux", [("max-channels", "4"), ("flow-control", None)]),
        ("deflate-stream", []),
    ],
    b"private-extension": [("private-extension", [])],
    b"a;b;c=d": [("a", [("b", None), ("c", "d")])],
    b"\t a \t;\t b \t=\t c \t": [("a", [("b", "c")])],
    b'a;b="c"': [("a", [("b", "c")])],
    b'a ; b = "c" , d': [("a", [("b", "c")]), ("d", [])],
    rb'a;b="\c\d"': [("a", [("b", "cd")])],
    b"a;b=!#$%&'*+-.^_`|~": [("a", [("b", "!#$%&'*+-.^_`|~")])],
    # RFC 9110 section 5.6.1.2: empty members are ignored.
    b",a": [("a", [])],
    b"a,": [("a", [])],
    b" ,\t, a ,,b , ": [("a", []), ("b", [])],
    b"a;b;b": [("a", [("b", None), ("b", None)])],
    b"a,a": [("a", []), ("a", [])],
}


@pytest.mark.parametrize(("line", "expected"), WELL_FORMED.items(), ids=repr)
def test_a_list_that_conforms_to_the_grammar_is_parsed(line: bytes, expected: Read) -> None:
    assert read(line) == expected
    assert read(line, line) == expected * 2
    assert read(line, b"z") == [*expected, ("z", [])]


MALFORMED = [
    b";",
    b"=",
    b'"',
    b"a b",
    b"a;",
    b"a;;b",
    b"a; ;b",
    b";a",
    b"a,;b",
    b"a;b=",
    b"a;b=,c",
    b"a;=b",
    b"a;b==c",
    b"a;b=c=d",
    b"a;b c",
    b"a;b=c d",
    b"a=b",
    b'"a"',
    b'a;"b"',
    b'a;b="c',
    b'a;b=c"',
    b'a;b="c"d',
    b'a;b="c" d',
    b'a;b="c""d"',
    b'a;b=""',
    b'a;b="c d"',
    b'a;b="c,d"',
    b'a;b="c;d"',
    b'a;b=" c"',
    rb'a;b="\"',
    rb'a;b="\""',
    rb'a;b="\\"',
    rb'a;b="c\"',
    b"a;b='c d'",
    b"a/b",
    b"a(b)",
    b"a\x00",
    b"a\x7f",
    b"a\xe9",
    b'a;b="\xc3\xa9"',
    b"a\r\nb",
    b"a\n",
    b"\x0ba",
]


@pytest.mark.parametrize("line", MALFORMED, ids=repr)
def test_a_list_that_does_not_conform_is_refused(line: bytes) -> None:
    for lines in ((line,), (b"a", line), (line, b"a"), (b",", line)):
        assert refusal(*lines) == "Sec-WebSocket-Extensions is malformed"


def test_a_quoted_string_does_not_continue_in_the_next_line() -> None:
    assert refusal(b'a;b="c', b'd"') == "Sec-WebSocket-Extensions is malformed"


@pytest.mark.parametrize("line", [b"", b" ", b"\t", b",", b", ,", b" ,,\t"], ids=repr)
def test_a_list_without_any_extension_is_refused(line: bytes) -> None:
    # Lines count together: RFC 6455 section 9.1, "this header field MAY be split or combined across
    # multiple lines".
    assert refusal(line) == refusal(line, line) == "Sec-WebSocket-Extensions is empty"
    assert read(line, b"a", line) == [("a", [])]


# -- by what the grammar generates -----------------------------------------------------------------

TCHARS = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
TOKENS = st.text(TCHARS, min_size=1, max_size=8)
BLANKS = st.text(" \t", max_size=2)


@st.composite
def quoted(draw: st.DrawFn, token: str) -> str:
    """Draw a quoted-string that is the token once it is unescaped."""
    escapes = draw(st.lists(st.booleans(), min_size=len(token), max_size=len(token)))
    chars = ("\\" * is_escaped + char for is_escaped, char in zip(escapes, token, strict=True))
    return '"' + "".join(chars) + '"'


@st.composite
def extensions(draw: st.DrawFn) -> tuple[str, tuple[str, list[Parameter]]]:
    """Draw an extension as it may be written, and what it says."""
    name = draw(TOKENS)
    written, parameters = name, list[Parameter]()
    for _ in range(draw(st.integers(0, 3))):
        key, value = draw(TOKENS), draw(st.none() | TOKENS)
        written += f"{draw(BLANKS)};{draw(BLANKS)}{key}"
        if value is not None:
            written += f"{draw(BLANKS)}={draw(BLANKS)}"
            written += draw(st.just(value) | quoted(value))
        parameters.append((key, value))
    return written, (name, parameters)


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[bytes], Read]:
    """Draw the lines of a header, and what they say."""
    lines, expected = list[bytes](), Read()
    for members in draw(st.lists(st.lists(extensions(), max_size=3), min_size=1, max_size=3)):
        parts = [draw(BLANKS) + written + draw(BLANKS) for written, _ in members]
        for empty in draw(st.lists(BLANKS, max_size=2)):
            parts.insert(draw(st.integers(0, len(parts))), empty)
        lines.append(",".join(parts).encode())
        expected += [one for _, one in members]
    if not expected:
        lines.append(b"a")
        expected.append(("a", []))
    return lines, expected


@given(lists())
def test_every_list_of_the_grammar_is_parsed_correctly(case: tuple[list[bytes], Read]) -> None:
    lines, expected = case
    assert read(*lines) == expected
    negotiate(tuple(lines), None)
    negotiate(tuple(lines), DeflateSettings())


ODD = st.sampled_from([b'"', b"\\", b";", b",", b"=", b" ", b"\t", b"a", b"(", b"\x00", b"\xff"])


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Draw the lines of a header with a few bytes put in, changed or taken away."""
    lines = [bytearray(line) for line in draw(lists())[0]]
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.sampled_from(lines))
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 2))] = draw(ODD | st.binary(max_size=2))
    return [bytes(line) for line in lines]


@given(mutated() | st.lists(st.binary(max_size=20), min_size=1, max_size=2))
@example([b'permessage-deflate; server_max_window_bits="""'])
@example([b"permessage-deflate; server_max_window_bits=\xb2"])
def test_any_other_bytes_raise_nothing_but_a_refusal(lines: list[bytes]) -> None:
    if not is_well_formed(*lines):
        for settings in (None, DeflateSettings()):
            with pytest.raises(RequestRefused):
                negotiate(tuple(lines), settings)
        return
    expected = read(*lines)
    negotiate(tuple(lines), DeflateSettings())
    # What was read can be written again, and is the same.
    again = ", ".join(
        "; ".join(
            [name, *(key if value is None else f"{key}={value}" for key, value in parameters)]
        )
        for name, parameters in expected
    )
    assert read(again.encode()) == expected


# -- long lines ------------------------------------------------------------------------------------

SIZE = 60_000
LONG = [
    b",",
    b" ",
    b"\t ,",
    b"a,",
    b"a;a,",
    b"a;",
    b"a;b=",
    b"a ;",
    b"a;b=c ",
    b'"',
    b"\\",
    b'\\"',
    b'a;b="',
    rb'a;b="\a\a\a',
    b'a;b="c",',
    b"a",
    b"a ",
    b"permessage-deflate,",
    b"permessage-deflate;x,",
    b"permessage-deflate; server_max_window_bits=8,",
    b"permessage-deflate; client_max_window_bits; server_no_context_takeover; x,",
]


@pytest.mark.parametrize("before", [b"", b"a", b"a;b", b"a;b=", b'a;b="', b"permessage-deflate"])
@pytest.mark.parametrize("piece", LONG, ids=repr)
def test_a_long_line_is_parsed_without_backtracking(piece: bytes, before: bytes) -> None:
    for after in (b"", b'"', b"(", b"b", b";b"):
        line = before + piece * ((SIZE - len(before)) // len(piece)) + after
        began = time.process_time()
        if is_well_formed(line):
            negotiate((line,), DeflateSettings())
        assert time.process_time() - began < 1.0  # it takes milliseconds: a quadratic one, minutes
