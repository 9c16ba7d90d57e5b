"""Raw tensors: the bytes of binary data and of shared memory -> tensors.

Source: Triton `extension_binary_data.md`: row-major, little-endian, BOOL one byte, BYTES elements
each a u32 length and then its bytes.
"""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np

from hostler.core import DATATYPES, BytesArray, DataType, HostlerError, Tensor
from hostler.protocols.oip.schema import invalid
from hostler.protocols.oip.values import count_of

__all__ = ["check_size", "tensor_from_binary"]

_BOOL: Final = DATATYPES["BOOL"]


def check_size(
    name: str, datatype: DataType, shape: tuple[int, ...], size: int, said: str = "binary_data_size"
) -> None:
    """Compare the `size` that a client states in parameter `said` with what its shape takes.

    BYTES are only known to fit once they are read. Raises: INVALID_ARGUMENT naming both sizes.
    """
    count = count_of(name, shape)
    if not datatype.is_bytes and size != count * datatype.itemsize:
        raise invalid(
            f"{said} of input '{name}' is {size}, but {datatype.name} of shape {list(shape)} "
            f"takes {count * datatype.itemsize} bytes"
        )


def tensor_from_binary(
    name: str, datatype: DataType, shape: tuple[int, ...], raw: memoryview
) -> Tensor:
    """Wrap read-only bytes that `check_size` has passed; BYTES are indexed.

    A view of `raw`; misaligned numbers and booleans other than 0 and 1 are copied. Raises:
    INVALID_ARGUMENT for malformed BYTES.
    """
    if datatype.is_bytes:
        try:
            return Tensor(name, datatype, shape, BytesArray.from_wire(raw, prod(shape)))
        except HostlerError as error:
            raise invalid(f"input '{name}': {error.message}") from None
    if datatype is _BOOL:
        # numpy takes any other byte in a boolean array for undefined behaviour.
        octets = np.ndarray(shape, np.uint8, raw)
        if octets.size and octets.max() > 1:
            normal = octets != 0
            normal.flags.writeable = False
            return Tensor(name, datatype, shape, normal)
    array = np.ndarray(shape, datatype.numpy, raw)
    if not array.flags.aligned:
        array = array.copy()
        array.flags.writeable = False
    return Tensor(name, datatype, shape, array)
