"""`sequence_batching` of a configuration: whether it can be meant, and what it says. Pure.

All functions take ModelConfig in its JSON form. Source: Triton core `ValidateModelConfig`,
`GetBooleanSequenceControlProperties`, `GenerateInitialStateData`; docs/user_guide/architecture.md,
implicit_state_management.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hostler.core import (
    DATATYPES,
    BytesArray,
    DataType,
    HostlerError,
    SequenceControl,
    SequenceState,
    Sequencing,
    TensorSpec,
    element_count,
)
from hostler.repository.package import contradiction, unserved

__all__ = [
    "IDLE_DEFAULT_US",
    "INITIAL_BYTES_MAX",
    "check_sequence_graph",
    "check_sequences",
    "filled_names",
    "initial_state",
    "sequencing_of",
    "state_files",
]

IDLE_DEFAULT_US: Final = 1_000_000
"""What 0 or nothing means for `max_sequence_idle_microseconds`."""

CANDIDATES_MAX: Final = 65_536
"""Sequences of one replica; each is remembered until it ends or is idle for too long."""

STATE_ELEMENTS_MAX: Final = 2**24
"""One initial state; every live sequence holds a state of its own."""

INITIAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""One file in `initial_state`; it is kept in memory with the package."""

_KINDS: Final = {
    "CONTROL_SEQUENCE_START": "start",
    "CONTROL_SEQUENCE_READY": "ready",
    "CONTROL_SEQUENCE_END": "end",
    "CONTROL_SEQUENCE_CORRID": "corrid",
}

_FLAGS: Final = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}

_ID_TYPES: Final = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")

_PLACE: Final = "sequence_batching"

_MICROSECOND_S: Final = 1e-6


def filled_names(config: Mapping[str, Any], kind: str) -> set[str]:
    """Names of the model's inputs that the server fills in, or of its outputs that it keeps.

    `kind`: input or output.
    """
    stated = config.get("sequence_batching")
    if stated is None:
        return set()
    names = {state[f"{kind}_name"] for state in stated["state"]}
    if kind == "input":
        names.update(item["name"] for item in stated["control_input"])
    return names


def state_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Names of the files in `initial_state`, by the input of the state that each starts."""
    return {
        state["input_name"]: state["initial_state"][0]["data_file"]
        for state in config.get("sequence_batching", {}).get("state", ())
        if state["initial_state"] and state["initial_state"][0].get("data_file")
    }


def initial_state(model: str, config: Mapping[str, Any], name: str, content: bytes) -> bytes:
    """What a file in `initial_state` gives for the state of this input.

    Raises: INVALID_ARGUMENT if it holds too little. More than enough is cut, as in Triton.
    """
    stated = next(s for s in config[_PLACE]["state"] if s["input_name"] == name)
    place = f"{_PLACE}.state '{name}'.initial_state.data_file"
    datatype = _datatype(stated["data_type"])
    count = element_count(_initial_dims(stated))
    if datatype.is_bytes:
        try:
            BytesArray.from_wire(content, count)
        except HostlerError as error:
            raise contradiction(model, place, error.message) from None
        return content
    wanted = count * datatype.itemsize
    if len(content) < wanted:
        raise contradiction(
            model, place, f"needs {wanted} bytes, but the file has only {len(content)}"
        )
    return content[:wanted]


def sequencing_of(config: Mapping[str, Any], initial: Mapping[str, bytes]) -> Sequencing | None:
    """What a checked configuration says; `initial`: contents of files, by the state's input."""
    stated = config.get("sequence_batching")
    if stated is None:
        return None
    oldest, direct = stated.get("oldest"), stated.get("direct", {})
    slots = max(1, config["max_batch_size"])
    if oldest is not None:
        slots = oldest["max_candidate_sequences"] or slots
    idle_us = stated["max_sequence_idle_microseconds"] or IDLE_DEFAULT_US
    return Sequencing(
        direct=oldest is None,
        slots=slots,
        idle_s=idle_us * _MICROSECOND_S,
        controls=tuple(_control(item) for item in stated["control_input"]),
        states=tuple(
            SequenceState(
                state["input_name"],
                state["output_name"],
                _datatype(state["data_type"]),
                tuple(state["dims"]),
                _initial_dims(state),
                initial.get(state["input_name"]),
            )
            for state in stated["state"]
        ),
        delay_s=direct.get("max_queue_delay_microseconds", 0) * _MICROSECOND_S,
        slot_utilisation_min=direct.get("minimum_slot_utilization", 0.0),
    )


def check_sequences(model: str, config: Mapping[str, Any], *, rows_known: bool) -> None:
    """Refuse what cannot be meant or is not served. `rows_known` as in `check_config`."""
    stated = config["sequence_batching"]
    if stated["iterative_sequence"]:
        raise unserved(
            model,
            f"{_PLACE}.iterative_sequence",
            "is not served; a Python model can send many responses to one request instead "
            "(model_transaction_policy.decoupled)",
        )
    if config["backend"] == "python" and stated["state"]:
        raise unserved(
            model,
            f"{_PLACE}.state",
            "is not served for backend 'python', as in Triton; keep the state in the model, by "
            "request.correlation_id()",
        )
    _check_strategy(model, stated, config["max_batch_size"] if rows_known else None)
    seen = {tensor["name"]: f"input '{tensor['name']}'" for tensor in config["input"]}
    kinds: dict[str, str] = {}
    for index, item in enumerate(stated["control_input"]):
        place = f"{_PLACE}.control_input[{index}]"
        _check_name(model, f"{place}.name", item["name"], seen)
        _check_control(model, f"{_PLACE}.control_input '{item['name']}'", item, kinds)
    kept: dict[str, str] = {}
    for index, state in enumerate(stated["state"]):
        place = f"{_PLACE}.state[{index}]"
        _check_name(model, f"{place}.input_name", state["input_name"], seen)
        _check_name(model, f"{place}.output_name", state["output_name"], kept)
        _check_state(model, f"{_PLACE}.state '{state['input_name']}'", state)


def check_sequence_graph(
    model: str,
    config: Mapping[str, Any],
    inputs: Sequence[TensorSpec] | None,
    outputs: Sequence[TensorSpec] | None,
) -> None:
    """Hold controls and states against what the model says of itself, where it says something."""
    stated = config["sequence_batching"]
    rows = config["max_batch_size"]
    if inputs is not None:
        graph = {tensor.name: tensor for tensor in inputs}
        for item in stated["control_input"]:
            control = _control(item)
            place = f"{_PLACE}.control_input '{control.name}'"
            _check_tensor(model, place, control.datatype, (1,), (graph.get(control.name), rows))
        for state in stated["state"]:
            place, name = f"{_PLACE}.state '{state['input_name']}'", state["input_name"]
            datatype = _datatype(state["data_type"])
            _check_tensor(model, place, datatype, state["dims"], (graph.get(name), rows))
    if outputs is not None:
        graph = {tensor.name: tensor for tensor in outputs}
        for state in stated["state"]:
            name = state["output_name"]
            place = f"{_PLACE}.state '{state['input_name']}'.output_name '{name}'"
            datatype = _datatype(state["data_type"])
            _check_tensor(model, place, datatype, state["dims"], (graph.get(name), rows))


def _check_tensor(
    model: str,
    place: str,
    datatype: DataType,
    dims: Sequence[int],
    in_graph: tuple[TensorSpec | None, int],
) -> None:
    """`in_graph`: what the model says of this tensor, and `max_batch_size`."""
    found, rows = in_graph
    if found is None:
        raise contradiction(model, place, "the model has no such tensor")
    if found.datatype is not datatype:
        raise contradiction(
            model,
            place,
            f"is {datatype.name} in the configuration, but {found.datatype.name} in the model",
        )
    if not found.dims:
        return  # frameworks show a shape of unknown rank as an empty one
    wanted = [-1, *dims] if rows else list(dims)
    if len(wanted) != len(found.dims) or any(
        got not in (-1, want) for want, got in zip(wanted, found.dims, strict=True)
    ):
        raise contradiction(
            model,
            place,
            f"has shape {list(found.dims)} in the model; {wanted} is expected"
            + (f", with the batch first, because max_batch_size is {rows}" if rows else ""),
        )


def _check_strategy(model: str, stated: Mapping[str, Any], rows_max: int | None) -> None:
    oldest = stated.get("oldest")
    if oldest is not None:
        candidates = oldest["max_candidate_sequences"]
        if not 0 <= candidates <= CANDIDATES_MAX:
            raise contradiction(
                model,
                f"{_PLACE}.oldest.max_candidate_sequences",
                f"is {candidates}; 1 to {CANDIDATES_MAX}, or 0 for max_batch_size",
            )
        for size in oldest["preferred_batch_size"]:
            place = f"{_PLACE}.oldest.preferred_batch_size"
            if size < 1:
                raise contradiction(model, place, f"{size} is not 1 or more")
            if rows_max is not None and size > rows_max:
                raise contradiction(model, place, f"{size} is more than max_batch_size {rows_max}")
    share = stated.get("direct", {}).get("minimum_slot_utilization", 0.0)
    if not 0.0 <= share <= 1.0:
        raise contradiction(
            model,
            f"{_PLACE}.direct.minimum_slot_utilization",
            f"is {share:g}; a share from 0 to 1 is expected",
        )


def _check_name(model: str, place: str, name: str, seen: dict[str, str]) -> None:
    if not name:
        raise contradiction(model, place, "is missing")
    if name in seen:
        raise contradiction(
            model,
            place,
            f"'{name}' is also {seen[name]}; the server fills it in, clients do not send it",
        )
    seen[name] = place


def _check_control(model: str, place: str, item: Mapping[str, Any], kinds: dict[str, str]) -> None:
    if len(item["control"]) != 1:
        raise contradiction(
            model, f"{place}.control", f"has {len(item['control'])} controls; give each its input"
        )
    control = item["control"][0]
    kind = control["kind"]
    if kind not in _KINDS:
        raise contradiction(model, f"{place}.control.kind", f"{kind} is unknown")
    if kind in kinds:
        raise contradiction(
            model, f"{place}.control.kind", f"{kind} is also given to {kinds[kind]}"
        )
    kinds[kind] = place
    given = [name for name in _FLAGS if control[name]]
    if kind == "CONTROL_SEQUENCE_CORRID":
        if given:
            raise contradiction(model, f"{place}.control.{given[0]}", f"does not belong to {kind}")
        if control["data_type"] not in _ID_TYPES:
            raise contradiction(
                model,
                f"{place}.control.data_type",
                f"is {control['data_type']}; one of {', '.join(_ID_TYPES)} is expected",
            )
        return
    if len(given) != 1:
        raise contradiction(
            model,
            f"{place}.control",
            f"{' and '.join(given) or 'nothing'} given; exactly one of {', '.join(_FLAGS)} is "
            f"needed for {kind}",
        )
    if len(control[given[0]]) != 2:
        raise contradiction(
            model,
            f"{place}.control.{given[0]}",
            f"has {len(control[given[0]])} values; two are expected, for false and for true",
        )


def _check_state(model: str, place: str, state: Mapping[str, Any]) -> None:
    # A number is what JSON shows for an enum member that the schema does not have.
    if state["data_type"] == "TYPE_INVALID" or isinstance(state["data_type"], int):
        raise contradiction(model, f"{place}.data_type", f"is {state['data_type']}")
    _check_dims(model, f"{place}.dims", state["dims"])
    starts = state["initial_state"]
    if len(starts) > 1:
        raise contradiction(
            model, f"{place}.initial_state", f"is given {len(starts)} times; once or not at all"
        )
    if starts:
        _check_initial(model, f"{place}.initial_state", state, starts[0])
    count = element_count(_initial_dims(state))
    if count > STATE_ELEMENTS_MAX:
        raise contradiction(
            model, f"{place}.dims", f"are {count} elements; at most {STATE_ELEMENTS_MAX} are served"
        )


def _check_initial(
    model: str, place: str, state: Mapping[str, Any], start: Mapping[str, Any]
) -> None:
    if start["data_type"] != state["data_type"]:
        raise contradiction(
            model,
            f"{place}.data_type",
            f"is {start['data_type']}, but the state is {state['data_type']}",
        )
    dims, wanted = start["dims"], state["dims"]
    if -1 in dims:
        raise contradiction(model, f"{place}.dims", f"{dims} must hold exact sizes")
    _check_dims(model, f"{place}.dims", dims)
    if len(dims) != len(wanted) or any(
        want not in (-1, got) for got, want in zip(dims, wanted, strict=True)
    ):
        raise contradiction(model, f"{place}.dims", f"{dims} does not fit the state's {wanted}")
    if not ("zero_data" in start or start.get("data_file")):
        raise contradiction(model, place, "set zero_data or data_file")


def _check_dims(model: str, place: str, dims: Sequence[int]) -> None:
    for dim in dims:
        if dim != -1 and dim < 1:
            raise contradiction(
                model, place, f"holds {dim}; 1 or more, or -1 for a variable dimension"
            )


def _initial_dims(state: Mapping[str, Any]) -> tuple[int, ...]:
    """Variable dimensions start as 1, as in Triton, where nothing else is said."""
    if state["initial_state"]:
        return tuple(state["initial_state"][0]["dims"])
    return tuple(1 if dim == -1 else dim for dim in state["dims"])


def _control(item: Mapping[str, Any]) -> SequenceControl:
    control = item["control"][0]
    kind = _KINDS[control["kind"]]
    if kind == "corrid":
        return SequenceControl(item["name"], kind, _datatype(control["data_type"]))
    field = next(name for name in _FLAGS if control[name])
    false, true = control[field]
    return SequenceControl(item["name"], kind, DATATYPES[_FLAGS[field]], (false, true))


def _datatype(name: str) -> DataType:
    word = name.removeprefix("TYPE_")
    return DATATYPES["BYTES" if word == "STRING" else word]
