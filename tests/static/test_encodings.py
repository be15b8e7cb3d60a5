import pytest
from hypothesis import given, strategies as st

from wsgate.static.encodings import acceptable_encodings

BR, GZIP = (b"br", ".br"), (b"gzip", ".gz")


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (b"", []),
        (b"gzip", [GZIP]),
        (b"gzip, br", [BR, GZIP]),
        (b"gzip, deflate, br, zstd", [BR, GZIP]),
        (b"x-gzip", [GZIP]),
        (b"BR , GZip", [BR, GZIP]),
        (b"br;q=0.5, gzip", [GZIP, BR]),
        (b"br;q=0", []),
        (b"br;q=0.000, gzip;q=0.001", [GZIP]),
        (b"*", [BR, GZIP]),
        (b"*;q=0", []),
        (b"br;q=0, *", [GZIP]),
        (b"gzip, *;q=0", [GZIP]),
        (b"identity", []),
        (b"identity, gzip;q=0.5", []),
        (b"identity;q=0.5, gzip;q=0.5", [GZIP]),
        (b"identity;q=0, br", [BR]),
        (b"identity;q=1, *;q=0", []),
        (b"gzip ; q=0.3", [GZIP]),
        (b"gzip;q=2", []),
        (b"gzip;q=1.5", []),
        (b"gzip;q=0.1234", []),
        (b"gzip;q=-1", []),
        (b"gzip;q=", []),
        (b"gzip;level=9", []),
        (b";;;, ,=", []),
        (b"deflate", []),
    ],
)
def test_the_best_encoding_comes_first(accepted: bytes, expected: list[object]) -> None:
    assert list(acceptable_encodings(accepted)) == expected


@given(st.binary())
def test_any_bytes_are_a_list(accepted: bytes) -> None:
    assert {*acceptable_encodings(accepted)} <= {BR, GZIP}
