"""Tensors in shared memory, whatever wire names them: parameters -> places, places <-> tensors.

Source: Triton `extension_shared_memory.md`; the first words of errors are those of
`shared_memory_manager.cc`, which clients' tests look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol

import msgspec
import orjson

from hostler.core import Code, DataType, HostlerError, Parameters, RequestedOutput, Tensor
from hostler.protocols.oip.binary import check_size, tensor_from_binary
from hostler.protocols.oip.limits import REGION_NAME_CHARS_MAX
from hostler.protocols.oip.schema import Body, invalid, parse_json

__all__ = [
    "Place",
    "Region",
    "RegionStatus",
    "Regions",
    "Registration",
    "SharedOutput",
    "check_cuda_region",
    "cuda_refusal",
    "parse_registration",
    "place_of",
    "read_shared",
    "region_status",
    "shared_output",
    "write_shared",
]

_REGION: Final = "shared_memory_region"
_SIZE: Final = "shared_memory_byte_size"
_OFFSET: Final = "shared_memory_offset"
_SIZE_MAX: Final = 2**63 - 1


class Region(Protocol):
    """A registered region; usable by whoever has it, even after it was unregistered."""

    @property
    def byte_size(self) -> int:
        """Bytes that were registered."""
        ...

    def read(self, offset: int, size: int) -> memoryview:
        """A read-only copy of bytes of this region; the client may change or shrink it meanwhile.

        Raises: INVALID_ARGUMENT where they are not there (any more), PAYLOAD_TOO_LARGE or
        UNAVAILABLE where there are too many to hold.
        """
        ...

    def write(self, offset: int, data: memoryview) -> None:
        """Copy bytes into this region. Raises: INVALID_ARGUMENT where there is no room any more."""
        ...


class Regions(Protocol):
    """The registered regions, by name."""

    def region(self, name: str) -> Region:
        """Find one. Raises: NOT_FOUND."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor stands: `size` bytes from `offset` of a region, all of them within it."""

    region: Region
    name: str
    offset: int
    size: int


class SharedOutput(RequestedOutput):
    """A requested output that goes to `place`: found at decoding, so that it stays valid."""

    __slots__ = ("place",)

    def __init__(self, name: str, parameters: Parameters, place: Place) -> None:
        super().__init__(name, parameters)
        self.place = place


def place_of(tensor: str, parameters: Parameters, regions: Regions | None) -> Place:
    """The place that the parameters of a tensor name; they hold `shared_memory_region`.

    `regions`: None where shared memory is not offered. Raises: UNIMPLEMENTED then; NOT_FOUND for
    an unknown region; INVALID_ARGUMENT for a place outside it.
    """
    if regions is None:
        raise HostlerError(
            Code.UNIMPLEMENTED,
            f"Client shared memory is disabled, but '{tensor}' asks for it: send binary data, or "
            "set gateway.shared_memory on the server",
        )
    name = parameters[_REGION]
    if not isinstance(name, str):
        raise invalid(f"parameter '{_REGION}' of '{tensor}' must be the name of a region")
    if _SIZE not in parameters:
        raise invalid(f"'{tensor}' has the parameter '{_REGION}' but lacks '{_SIZE}'")
    size, offset = (_whole(tensor, key, parameters.get(key, 0)) for key in (_SIZE, _OFFSET))
    region = regions.region(name)
    byte_size = region.byte_size
    if offset >= byte_size:
        raise invalid(
            f"Invalid offset for shared memory region: '{name}': '{tensor}' starts at {offset}, "
            f"but {byte_size} bytes are registered"
        )
    if offset + size > byte_size:
        raise invalid(
            f"Invalid offset + byte size for shared memory region: '{name}': '{tensor}' is "
            f"{size} bytes from {offset} on, but {byte_size} are registered"
        )
    return Place(region, name, offset, size)


def read_shared(
    name: str,
    datatype: DataType,
    shape: tuple[int, ...],
    parameters: Parameters,
    regions: Regions | None,
) -> Tensor:
    """An input whose bytes stand in shared memory; a copy. Raises: as `place_of`, `Region.read`."""
    place = place_of(name, parameters, regions)
    check_size(name, datatype, shape, place.size, _SIZE)
    return tensor_from_binary(name, datatype, shape, place.region.read(place.offset, place.size))


def shared_output(name: str, parameters: Parameters, regions: Regions | None) -> SharedOutput:
    """A requested output that goes to shared memory. Raises: as `place_of`, INVALID_ARGUMENT."""
    # Source: Triton `http_server.cc`, ValidateOutputParameter.
    for other in ("classification", "binary_data"):
        if parameters.get(other):
            raise invalid(f"Output can't set both '{_REGION}' and '{other}': '{name}' does")
    return SharedOutput(name, parameters, place_of(name, parameters, regions))


def write_shared(tensor: Tensor, place: Place) -> dict[str, str | int]:
    """Put an output's raw form in its place; the parameters that say so in the response.

    Raises: INVALID_ARGUMENT naming both sizes where the place is too small.
    """
    raw = tensor.wire()
    if len(raw) > place.size:
        raise invalid(
            f"shared memory size specified with the request for output '{tensor.name}' "
            f"({place.size} bytes) should be at least {len(raw)} bytes to hold the results"
        )
    place.region.write(place.offset, raw)
    parameters: dict[str, str | int] = {_REGION: place.name, _SIZE: len(raw)}
    if place.offset:
        parameters[_OFFSET] = place.offset
    return parameters


def _whole(tensor: str, key: str, value: object) -> int:
    # isinstance would let True through, which is an int.
    if type(value) is not int or value < 0:
        raise invalid(f"parameter '{key}' of '{tensor}' must be a number of bytes, >= 0")
    return value


# -- register, status, unregister --------------------------------------------------------------


class Registration(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What a client registers: `byte_size` bytes from `offset` of the memory object `key`."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=REGION_NAME_CHARS_MAX)]
    byte_size: Annotated[int, msgspec.Meta(ge=1, le=_SIZE_MAX)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=_SIZE_MAX)] = 0


class RegionStatus(Protocol):
    """One row of the status."""

    @property
    def name(self) -> str:
        """The region."""
        ...

    @property
    def key(self) -> str:
        """The memory object, as the client wrote it."""
        ...

    @property
    def offset(self) -> int:
        """Where in the object the region starts."""
        ...

    @property
    def byte_size(self) -> int:
        """Its size."""
        ...


def parse_registration(body: Body) -> Registration:
    """Read the body of a register request. Raises: INVALID_ARGUMENT."""
    document = parse_json(body, "the shared memory register request")
    try:
        return msgspec.convert(document, Registration)
    except msgspec.ValidationError as error:
        raise invalid(f"the shared memory register request is malformed: {error}") from None


def region_status(rows: Sequence[RegionStatus]) -> bytes:
    """Body of the status routes of system shared memory."""
    return orjson.dumps(
        [
            {"name": row.name, "key": row.key, "offset": row.offset, "byte_size": row.byte_size}
            for row in rows
        ]
    )


def check_cuda_region(name: str) -> None:
    """Raises: NOT_FOUND for any name: there are no regions of CUDA shared memory."""
    if name:
        raise HostlerError(Code.NOT_FOUND, f"Unable to find cuda shared memory region: '{name}'")


def cuda_refusal(name: str) -> HostlerError:
    """What whoever registers CUDA shared memory is told."""
    return HostlerError(
        Code.UNIMPLEMENTED,
        f"failed to register CUDA shared memory region: '{name}': this server does not offer it; "
        "use system shared memory or binary data",
    )
