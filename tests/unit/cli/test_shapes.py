"""What people write, fitted to what models want."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hostler.cli.shapes import ImageLayout, InputSpec, cast, fit, image_layout, widen_bf16
from hostler.core import HostlerError, datatype_named


def spec(*shape: int, datatype: str = "FP32") -> InputSpec:
    """An input named x."""
    return InputSpec("x", datatype_named(datatype), shape)


FITS = [
    ((2, 4), (-1, 4), (2, 4)),
    ((4,), (-1, 4), (1, 4)),
    ((8, 8), (-1, 64), (1, 64)),
    ((5, 8, 8), (-1, 64), (5, 64)),
    ((64,), (-1, 8, 8), (1, 8, 8)),
    ((4,), (2, 2), (2, 2)),
    ((), (1,), (1,)),
    ((), (-1, 1), (1, 1)),
    ((7,), (-1, -1), (1, 7)),
    ((7,), (-1,), (7,)),
    ((3, 5, 5), (-1, 3, -1, -1), (1, 3, 5, 5)),
    ((0, 4), (-1, 4), (0, 4)),
]
MISFITS = [
    ((5,), (-1, 4)),
    ((2, 8), (-1, 4)),  # 16 numbers would fill four rows, but nobody asked for four
    ((3,), (2, 2)),
    ((2, 3, 4), (-1, -1)),
    ((7,), (-1, -1, -1)),
]


@pytest.mark.parametrize(("given", "wanted", "fitted"), FITS)
def test_what_fits(
    given: tuple[int, ...], wanted: tuple[int, ...], fitted: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(given)).reshape(given)
    found = fit(array, spec(*wanted))
    assert found.shape == fitted
    assert found.ravel().tolist() == array.ravel().tolist()


@pytest.mark.parametrize(("given", "wanted"), MISFITS)
def test_what_does_not_fit(given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    with pytest.raises(HostlerError) as caught:
        fit(np.zeros(given), spec(*wanted))
    assert str(list(given)) in caught.value.message
    assert str(list(wanted)) in caught.value.message


CASTS: list[tuple[Any, str, Any]] = [
    ([1, 2], "FP32", [1.0, 2.0]),
    ([1.5], "FP16", [1.5]),
    ([255], "UINT8", [255]),
    ([True, False], "BOOL", [True, False]),
    (["a"], "BYTES", ["a"]),
    ([], "INT64", []),
]
REFUSALS: list[tuple[Any, str]] = [
    ([256], "UINT8"),
    ([-1], "UINT64"),
    ([1.0], "INT32"),
    ([1], "BOOL"),
    ([True], "INT32"),
    ([1], "BYTES"),
    (["a"], "FP32"),
]


@pytest.mark.parametrize(("values", "datatype", "expected"), CASTS)
def test_values_that_a_datatype_holds(values: Any, datatype: str, expected: Any) -> None:
    array = np.array(values) if values else np.array(values, np.int64)
    found = cast(array, spec(-1, datatype=datatype))
    assert found.tolist() == expected
    assert found.dtype == datatype_named(datatype).numpy


@pytest.mark.parametrize(("values", "datatype"), REFUSALS)
def test_values_that_a_datatype_does_not_hold(values: Any, datatype: str) -> None:
    with pytest.raises(HostlerError, match="input 'x' takes"):
        cast(np.array(values), spec(-1, datatype=datatype))


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1.0, 0x3F80), (-2.0, 0xC000), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (np.nan, 0x7FC0)],
)
def test_bf16_is_rounded_to_nearest_even(value: float, bits: int) -> None:
    """Source: IEEE 754 roundTiesToEven on the upper 16 bits of a binary32."""
    found = cast(np.array([value]), spec(1, datatype="BF16"))
    assert found.tolist() == [bits]
    assert widen_bf16(found)[0] == pytest.approx(value, rel=0.01, nan_ok=True)


LAYOUTS = [
    ((-1, 3, 224, 224), ImageLayout(3, (224, 224), "chw")),
    ((1, 1, 28, 30), ImageLayout(1, (30, 28), "chw")),
    ((3, 10, 20), ImageLayout(3, (20, 10), "chw")),
    ((-1, 224, 220, 3), ImageLayout(3, (220, 224), "hwc")),
    ((-1, -1, -1, 3), ImageLayout(3, (None, None), "hwc")),
    ((-1, 3, -1, -1), ImageLayout(3, (None, None), "chw")),
    ((-1, 8, 9), ImageLayout(1, (9, 8), "hw")),
    ((8, 8), ImageLayout(1, (8, 8), "hw")),
    ((-1, 64), ImageLayout(1, (8, 8), "flat")),
    ((-1, 192), ImageLayout(3, (8, 8), "flat")),
    ((784,), ImageLayout(1, (28, 28), "flat")),
]


@pytest.mark.parametrize(("shape", "layout"), LAYOUTS)
def test_how_an_input_wants_an_image(shape: tuple[int, ...], layout: ImageLayout) -> None:
    assert image_layout(spec(*shape)) == layout


@pytest.mark.parametrize("shape", [(), (-1,), (-1, 7), (2, 2, 2), (-1, 4, 5, 5), (5, 3, 2, 2, 2)])
def test_inputs_that_take_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(HostlerError, match="takes no image"):
        image_layout(spec(*shape))
