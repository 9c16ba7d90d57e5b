"""Taking messages apart at their top level, and putting them together."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip.grpc.wire import delimited, split, varint


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**32, "8080808010")],
)
def test_varints(value: int, encoded: str) -> None:
    assert varint(value).hex() == encoded


def test_a_field_is_tag_length_and_content() -> None:
    assert delimited(5, b"abc") == b"\x2a\x03abc"


def test_split_takes_one_field_out_and_leaves_the_rest_as_it_was() -> None:
    message = b"".join(
        [
            delimited(1, b"name"),
            delimited(7, b"first"),
            b"\x10\x96\x01",  # field 2, a varint
            b"\x19" + bytes(8),  # field 3, 64 bits
            delimited(7, b""),
            b"\x25" + bytes(4),  # field 4, 32 bits
        ]
    )
    rest, found = split(message, 7)
    assert [bytes(view) for view in found] == [b"first", b""]
    assert rest == delimited(1, b"name") + b"\x10\x96\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert found[0].obj is message, "a view, no copy"


@pytest.mark.parametrize(
    "message",
    [
        b"\x3a",  # a tag alone
        b"\x3a\x05abc",  # cut short
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # an endless length
        b"\x3a\xff\xff\xff\xff\x0f",  # a length beyond the message
        b"\x19abc",
        b"\x25ab",
        b"\x0b",  # a group, which proto3 has none of
        b"\x80",
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(HostlerError) as caught:
        split(message, 7)
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "field",
    [b"\x3a\x00", b"\x2a\x00", b"\x78\x00"],
    ids=["raw contents", "inputs", "unknown"],
)
def test_a_message_of_nothing_but_fields_is_given_up_early(field: bytes) -> None:
    assert split(field * 13_000, 7)
    with pytest.raises(HostlerError, match="more than 13376 fields") as caught:
        split(field * 14_000, 7)
    assert caught.value.code is Code.INVALID_ARGUMENT
