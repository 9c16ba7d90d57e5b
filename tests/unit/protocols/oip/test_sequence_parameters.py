"""The parameters that say to which sequence a request belongs."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip.parameters import context_of


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": 0},
        {"sequence_id": 2**64 - 1, "sequence_start": True, "sequence_end": False},
        {"sequence_id": ""},
        {"sequence_id": "x" * 128, "sequence_end": True},
        {"sequence_start": True},
    ],
)
def test_good_ones_say_nothing_about_scheduling(parameters: dict[str, object]) -> None:
    assert context_of(parameters) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sequence_id": True}, "'sequence_id' must be a text, or a whole number"),
        ({"sequence_id": 1.0}, "'sequence_id' must be"),
        ({"sequence_id": -1}, "'sequence_id' must be"),
        ({"sequence_id": 2**64}, "'sequence_id' is out of the range"),
        ({"sequence_id": "x" * 129}, "'sequence_id' has 129 characters; at most 128"),
        ({"sequence_id": 1, "sequence_start": 1}, "'sequence_start' must be true or false"),
        ({"sequence_id": 1, "sequence_end": "true"}, "'sequence_end' must be true or false"),
        ({"sequence_end": 0}, "'sequence_end' must be true or false"),
    ],
)
def test_bad_ones(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(HostlerError, match=message) as e:
        context_of(parameters)  # type: ignore[arg-type]
    assert e.value.code is Code.INVALID_ARGUMENT
