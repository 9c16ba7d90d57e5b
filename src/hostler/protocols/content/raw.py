"""One tensor's own bytes: row-major, little-endian, BOOL one byte; BYTES: the body is an element.

Source: Triton `extension_binary_data.md` "Raw Binary Request".
"""

from __future__ import annotations

from math import prod

import numpy as np

from hostler.core import BytesArray, Tensor, TensorSpec
from hostler.protocols.content.forms import Body, invalid

__all__ = ["read_raw"]


def read_raw(body: Body, spec: TensorSpec, batched: bool) -> Tensor:
    """The one input; a view of `body` except for BYTES.

    A batched model of fixed dimensions gets as many rows as the body holds, one of a variable
    dimension gets one row. Raises: INVALID_ARGUMENT for a body that is no whole tensor.
    """
    name, datatype = spec.name, spec.datatype
    view = memoryview(body).toreadonly().cast("B")
    if datatype.is_bytes:
        if any(dim not in (-1, 1) for dim in spec.dims):
            raise invalid(
                f"a body of raw bytes is one BYTES element, but input '{name}' has the shape "
                f"{list(spec.dims)}"
            )
        shape = (1,) * (len(spec.dims) + batched)
        return Tensor(name, datatype, shape, BytesArray.from_items([bytes(view)]))
    shape = _shape(spec, batched, len(view))
    array = np.ndarray(shape, datatype.numpy, view)
    if datatype.name == "BOOL":
        # numpy takes any other byte in a boolean array for undefined behaviour.
        array = np.asarray(np.ndarray(shape, np.uint8, view) != 0)
    elif not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return Tensor(name, datatype, shape, array)


def _shape(spec: TensorSpec, batched: bool, size: int) -> tuple[int, ...]:
    dims = spec.dims
    known = prod(dim for dim in dims if dim != -1) * spec.datatype.itemsize
    free = dims.count(-1)
    if free == 0 and batched and known and size % known == 0:
        return (size // known, *dims)
    if free == 0 and not batched and known == size:
        return dims
    if free == 1 and known and size % known == 0:
        lead = (1,) if batched else ()
        return lead + tuple(size // known if dim == -1 else dim for dim in dims)
    raise invalid(
        f"the body of {size} raw bytes is not a whole {spec.datatype.name} tensor of shape "
        f"{[-1, *dims] if batched else list(dims)} for input '{spec.name}'; send "
        "application/json or application/x-npy"
    )
