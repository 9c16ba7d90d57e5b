"""A request is held against the signature; every refusal names the thing and what was expected."""

from __future__ import annotations

import numpy as np
import pytest

from hostler.core import DATATYPES, Code, HostlerError, Signature, Tensor, TensorSpec

FIXED = Signature(
    (TensorSpec("a", DATATYPES["FP32"], (2,)), TensorSpec("b", DATATYPES["INT64"], ())),
    (TensorSpec("y", DATATYPES["FP32"], (2,)),),
    batched=True,
    rows_max=4,
)
VARIABLE = Signature(
    (
        TensorSpec("a", DATATYPES["FP32"], (-1, 3)),
        TensorSpec("o", DATATYPES["FP32"], (1,), optional=True),
    ),
    (),
    batched=True,
)
UNBATCHED = Signature((TensorSpec("a", DATATYPES["FP32"], (2, -1)),), ())


def tensors(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    made = {}
    for name, shape in shapes.items():
        kind = DATATYPES["INT64" if name == "b" else "FP32"]
        made[name] = Tensor(name, kind, shape, np.zeros(shape, kind.numpy))
    return made


@pytest.mark.parametrize(
    ("signature", "inputs", "rows"),
    [
        (FIXED, tensors(a=(3, 2), b=(3,)), 3),
        (VARIABLE, tensors(a=(5, 7, 3)), 5),
        (VARIABLE, tensors(a=(5, 7, 3), o=(5, 1)), 5),
        (UNBATCHED, tensors(a=(2, 9)), 1),
    ],
)
def test_good_requests_give_their_rows(
    signature: Signature, inputs: dict[str, Tensor], rows: int
) -> None:
    assert signature.check_inputs(inputs, "m")[0] == rows


def test_only_what_may_be_stacked_has_equal_keys() -> None:
    def key(**shapes: tuple[int, ...]) -> object:
        return VARIABLE.check_inputs(tensors(**shapes), "m")[1]

    assert key(a=(1, 7, 3)) == key(a=(4, 7, 3))
    assert key(a=(1, 7, 3)) != key(a=(1, 8, 3))
    assert key(a=(1, 7, 3)) != key(a=(1, 7, 3), o=(1, 1))
    fixed = FIXED.check_inputs(tensors(a=(1, 2), b=(1,)), "m")[1]
    assert fixed == FIXED.check_inputs(tensors(a=(2, 2), b=(2,)), "m")[1]


def test_inputs_that_are_padded_or_ragged_join_whatever_their_length() -> None:
    def spec(name: str, *, optional: bool = False, joins_any: bool = False) -> TensorSpec:
        return TensorSpec(name, DATATYPES["FP32"], (-1,), optional=optional, joins_any=joins_any)

    both = Signature((spec("a", joins_any=True), spec("o", optional=True)), (), batched=True)
    keys = [
        both.check_inputs(tensors(**shapes), "m")[1]
        for shapes in ({"a": (1, 2)}, {"a": (1, 3)}, {"a": (1, 2), "o": (1, 2)},
                       {"a": (1, 3), "o": (1, 2)}, {"a": (1, 2), "o": (1, 3)})
    ]  # fmt: skip
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(set(keys)) == 3
    alone = Signature((spec("a", joins_any=True),), (), batched=True)
    assert alone.check_inputs(tensors(a=(1, 2)), "m") == (1, None)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (FIXED, tensors(a=(1, 2)), "expected 2 inputs but got 1 inputs for model 'm'; missing: b"),
        (FIXED, tensors(a=(1, 2), b=(1,), c=(1,)), "unexpected inference input 'c'.*'a', 'b'"),
        (FIXED, tensors(a=(1, 3), b=(1,)), r"input 'a'.*Expected \[-1, 2\], got \[1, 3\]"),
        (FIXED, tensors(a=(2,), b=(1,)), r"input 'a'.*Expected \[-1, 2\], got \[2\]"),
        (FIXED, tensors(a=(1, 2), b=()), r"input 'b'.*Expected \[-1\], got \[\]"),
        (FIXED, tensors(a=(2, 2), b=(1,)), "input 'b' batch size does not match.*1 and 2"),
        (FIXED, tensors(a=(5, 2), b=(5,)), "must be <= 4 for 'm', got 5"),
        (FIXED, tensors(a=(0, 2), b=(0,)), "must be >= 1 for 'm'"),
        (VARIABLE, tensors(a=(1, 7, 4)), r"Expected \[-1, -1, 3\], got \[1, 7, 4\]"),
        (UNBATCHED, tensors(a=(3, 9)), r"Expected \[2, -1\], got \[3, 9\]"),
        (
            UNBATCHED,
            {"a": Tensor("a", DATATYPES["INT8"], (2, 1), np.zeros((2, 1), np.int8))},
            "data-type is 'INT8', but model 'm' expects 'FP32'",
        ),
    ],
)
def test_bad_requests_are_told_why(
    signature: Signature, inputs: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(HostlerError, match=message) as e:
        signature.check_inputs(inputs, "m")
    assert e.value.code is Code.INVALID_ARGUMENT


def test_outputs_that_do_not_exist_are_named() -> None:
    FIXED.check_outputs(["y"], "m")
    with pytest.raises(HostlerError, match=r"unexpected inference output 'z' for model 'm'.*'y'"):
        FIXED.check_outputs(["y", "z"], "m")
