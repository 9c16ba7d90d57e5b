"""Parameters with a meaning of their own, whatever wire brings them: checked here.

Source: Triton `extension_schedule_policy.md`, `extension_classification.md`,
`extension_sequence.md`,
`extension_binary_data.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hostler.core import Context, Parameters, RequestedOutput
from hostler.protocols.oip.limits import (
    CLASSES_MAX,
    PRIORITY_MAX,
    SEQUENCE_ID_CHARS_MAX,
    TIMEOUT_US_MAX,
)
from hostler.protocols.oip.schema import invalid
from hostler.protocols.oip.shared_memory import Regions, shared_output

__all__ = ["check_values", "context_of", "requested_outputs"]

_NONE: Final[Parameters] = {}

_SEQUENCE: Final = frozenset(("sequence_id", "sequence_start", "sequence_end"))


def requested_outputs(
    outputs: Iterable[tuple[str, Parameters | None]], regions: Regions | None
) -> list[RequestedOutput]:
    """The outputs that a client names, each with its parameters.

    Raises: INVALID_ARGUMENT for one named twice or a parameter of the wrong kind; as
    `shared_memory.place_of`.
    """
    found: dict[str, RequestedOutput] = {}
    for name, given in outputs:
        if name in found:
            raise invalid(f"output '{name}' is requested more than once")
        parameters = given or _NONE
        if parameters:
            _check_output(name, parameters)
        if "shared_memory_region" in parameters:
            found[name] = shared_output(name, parameters, regions)
        else:
            found[name] = RequestedOutput(name, parameters)
    return list(found.values())


def _check_output(name: str, parameters: Parameters) -> None:
    check_values(parameters)
    if not isinstance(parameters.get("binary_data", False), bool):
        raise invalid(f"parameter 'binary_data' of output '{name}' must be true or false")
    classes = parameters.get("classification", 1)
    if type(classes) is not int or not 0 < classes <= CLASSES_MAX:
        raise invalid(
            f"parameter 'classification' of output '{name}' must be a number of classes from 1 to "
            f"{CLASSES_MAX}"
        )


def context_of(parameters: Parameters) -> Context | None:
    """Check the reserved parameters; a Context when they say something about scheduling.

    Raises: INVALID_ARGUMENT naming the parameter and what it takes.
    """
    check_values(parameters)
    if not isinstance(parameters.get("binary_data_output", False), bool):
        raise invalid("parameter 'binary_data_output' must be true or false")
    if not _SEQUENCE.isdisjoint(parameters):
        _check_sequence(parameters)
    if "priority" not in parameters and "timeout" not in parameters:
        return None
    priority = _whole(parameters, "priority", PRIORITY_MAX)
    timeout_us = _whole(parameters, "timeout", TIMEOUT_US_MAX)
    return Context(priority=priority, queue_timeout_s=timeout_us / 1e6)


def _check_sequence(parameters: Parameters) -> None:
    """Source: Triton `extension_sequence.md`; 128 characters is its limit, too."""
    value = parameters.get("sequence_id", 0)
    if isinstance(value, str):
        if len(value) > SEQUENCE_ID_CHARS_MAX:
            raise invalid(
                f"parameter 'sequence_id' has {len(value)} characters; at most "
                f"{SEQUENCE_ID_CHARS_MAX} are taken"
            )
    elif type(value) is not int or value < 0:
        raise invalid("parameter 'sequence_id' must be a text, or a whole number of 0 or more")
    for key in ("sequence_start", "sequence_end"):
        if not isinstance(parameters.get(key, False), bool):
            raise invalid(f"parameter '{key}' must be true or false")


def _whole(parameters: Parameters, key: str, value_max: int) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value <= value_max:
        raise invalid(f"parameter '{key}' must be a whole number from 0 to {value_max}")
    return value


def check_values(parameters: Mapping[str, object]) -> None:
    """Whole numbers must fit the 64 bits that all wires and the workers carry.

    Raises: INVALID_ARGUMENT naming the parameter.
    """
    for key, value in parameters.items():
        if type(value) is int and not -(2**63) <= value < 2**64:
            raise invalid(f"parameter '{key}' is out of the range of 64-bit integers")
