"""What the server fills in for a model with sequences, and what it takes out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    BytesArray,
    Context,
    InferRequest,
    InferResponse,
    ModelSpec,
    RequestedOutput,
    SequenceControl,
    SequenceState,
    Sequencing,
    Signature,
    Tensor,
    TensorSpec,
)
from hostler.scheduler import SequenceInputs

INT32, FP32, BYTES = DATATYPES["INT32"], DATATYPES["FP32"], DATATYPES["BYTES"]

FLAGS = (
    SequenceControl("START", "start", INT32, (0, 1)),
    SequenceControl("END", "end", FP32, (-1.0, 2.5)),
    SequenceControl("READY", "ready", DATATYPES["BOOL"], (False, True)),
)
STATE = SequenceState("SI", "SO", FP32, (-1,), (2,))


def make(sequencing: Sequencing, *, batched: bool = True) -> SequenceInputs:
    signature = Signature(
        (TensorSpec("x", FP32, (2,)),), (TensorSpec("y", FP32, (2,)),), batched=batched
    )
    file = Path("m/1/model.onnx")
    spec = ModelSpec("m", 1, Path("m"), file, "onnx", signature=signature, sequencing=sequencing)
    return SequenceInputs(spec, sequencing)


def numbers(name: str, *values: float, lead: tuple[int, ...] = (1,)) -> Tensor:
    array = np.array(values, np.float32).reshape((*lead, -1))
    return Tensor(name, FP32, array.shape, array)


def asked(start: bool = False, end: bool = False, name: str | int = 7) -> InferRequest:
    parameters = {"sequence_id": name, "sequence_start": start, "sequence_end": end}
    made = InferRequest(
        {"x": numbers("x", 3, 4)}, id="q", parameters=parameters, context=Context(priority=2)
    )
    made.join_key = "shapes"
    return made


@pytest.mark.parametrize(
    ("start", "end", "values"),
    [
        (True, False, (1, -1.0, True)),
        (False, False, (0, -1.0, True)),
        (False, True, (0, 2.5, True)),
        (True, True, (1, 2.5, True)),
    ],
)
@pytest.mark.parametrize(("batched", "shape"), [(True, (1, 1)), (False, (1,))])
def test_flags(
    start: bool, end: bool, values: tuple[object, ...], batched: bool, shape: tuple[int, ...]
) -> None:
    request = asked(start, end)
    filled = make(Sequencing(controls=FLAGS), batched=batched).request(request, None)
    controls = [filled.inputs[control.name] for control in FLAGS]
    assert tuple(tensor.numpy().item() for tensor in controls) == values
    assert [tensor.shape for tensor in controls] == [shape] * 3
    assert [tensor.datatype for tensor in controls] == [control.datatype for control in FLAGS]
    assert all(tensor.numpy().dtype == tensor.datatype.numpy for tensor in controls)
    assert filled.inputs["x"] is request.inputs["x"]
    assert set(request.inputs) == {"x"}, "the client's own request stays as it was"
    assert (filled.id, filled.context, filled.parameters) == (
        "q",
        request.context,
        request.parameters,
    )
    assert (filled.rows, filled.join_key, filled.outputs) == (1, "shapes", None)


@pytest.mark.parametrize(
    ("datatype", "name", "value"),
    [
        ("UINT64", 2**64 - 1, 2**64 - 1),
        ("INT64", 2**64 - 1, -1),
        ("UINT32", 2**32 + 5, 5),
        ("INT32", 2**31, -(2**31)),
        ("INT32", 12, 12),
        ("BYTES", "grün", "grün".encode()),
    ],
)
def test_the_correlation_id(datatype: str, name: str | int, value: object) -> None:
    control = SequenceControl("C", "corrid", DATATYPES[datatype])
    filled = make(Sequencing(controls=(control,))).request(asked(name=name), None)
    tensor = filled.inputs["C"]
    assert (tensor.datatype.name, tensor.shape) == (datatype, (1, 1))
    assert tensor.numpy().item() == value


def test_nothing_to_fill_in_changes_nothing() -> None:
    request = asked()
    inputs = make(Sequencing())
    assert inputs.request(request, None) is request
    response = InferResponse([])
    assert inputs.part(request, response) == (response, None)


def test_state_goes_from_one_answer_to_the_next_request() -> None:
    inputs = make(Sequencing(states=(STATE,)))
    first = inputs.request(asked(start=True), None)
    assert first.inputs["SI"].numpy().tolist() == [[0, 0]]
    assert [output.name for output in first.outputs or ()] == ["y", "SO"]
    batch = np.arange(6, dtype=np.float32).reshape(3, 2)
    outputs = [numbers("y", 1, 2), Tensor("SO", FP32, (1, 2), batch[1:2])]
    left, held = inputs.part(asked(), InferResponse(outputs, {"k": 1}))
    assert [tensor.name for tensor in left.outputs] == ["y"]
    assert left.parameters == {"k": 1}
    assert held is not None
    assert held.key is None, "of the shape that a sequence starts with"
    kept = held.values["SI"]
    assert kept.name == "SI"
    assert not np.shares_memory(kept.numpy(), batch), "it must not keep the batch in memory"
    following = inputs.request(asked(), held)
    assert following.inputs["SI"].numpy().tolist() == [[2, 3]]


def test_states_of_another_shape_have_a_key() -> None:
    inputs = make(Sequencing(states=(STATE,)))
    keys = []
    for values in ((1, 2), (1, 2, 3), (4, 5, 6)):
        _, held = inputs.part(asked(), InferResponse([numbers("SO", *values)]))
        assert held is not None
        keys.append(held.key)
    assert keys[0] is None
    assert keys[1] == keys[2] is not None


@pytest.mark.parametrize(
    ("wanted", "asked_for", "given"),
    [
        (None, ["y", "SO"], ["y"]),
        (["y"], ["y", "SO"], ["y"]),
        (["SO", "y"], ["SO", "y"], ["SO", "y"]),
    ],
)
def test_a_client_gets_what_it_wants(
    wanted: list[str] | None, asked_for: list[str], given: list[str]
) -> None:
    inputs = make(Sequencing(states=(STATE,)))
    request = asked()
    request.outputs = None if wanted is None else [RequestedOutput(name) for name in wanted]
    filled = inputs.request(request, None)
    assert [output.name for output in filled.outputs or ()] == asked_for
    answer = InferResponse([numbers(name, 1, 2) for name in asked_for])
    left, held = inputs.part(request, answer)
    assert [tensor.name for tensor in left.outputs] == given
    assert held is not None


def test_a_response_without_its_state_leaves_none() -> None:
    inputs = make(Sequencing(states=(STATE,)))
    left, held = inputs.part(asked(), InferResponse([numbers("y", 1, 2)]))
    assert [tensor.name for tensor in left.outputs] == ["y"]
    assert held is None


def test_an_initial_state_from_a_file() -> None:
    number = np.array([5, 6], np.float32)
    text = BytesArray.from_items([b"a", b""])
    states = (
        SequenceState("SI", "SO", FP32, (2,), (2,), number.tobytes()),
        SequenceState("TI", "TO", BYTES, (2,), (2,), bytes(text.wire())),
        SequenceState("UI", "UO", BYTES, (2,), (2,)),
    )
    filled = make(Sequencing(states=states), batched=False).request(asked(start=True), None)
    assert filled.inputs["SI"].numpy().tolist() == [5, 6]
    assert filled.inputs["TI"].numpy().tolist() == [b"a", b""]
    assert filled.inputs["UI"].numpy().tolist() == [b"", b""]


def test_a_kept_text_is_a_copy() -> None:
    state = SequenceState("TI", "TO", BYTES, (1,), (1,))
    whole = BytesArray.from_items([b"one", b"two", b"three"])
    answer = InferResponse([Tensor("TO", BYTES, (1, 1), whole.slice(1, 2))])
    _, held = make(Sequencing(states=(state,))).part(asked(), answer)
    assert held is not None
    kept = held.values["TI"]
    assert kept.numpy().tolist() == [[b"two"]]
    assert kept.nbytes == len(b"two") + 4


def test_an_empty_row_is_zeros_that_are_not_ready() -> None:
    corrid = SequenceControl("C", "corrid", DATATYPES["UINT64"])
    inputs = make(Sequencing(controls=(*FLAGS, corrid), states=(STATE,)))
    text = asked(start=True)
    text.inputs["t"] = Tensor("t", BYTES, (1, 1), BytesArray.from_items([b"secret"]))
    _, held = inputs.part(asked(), InferResponse([numbers("SO", 1, 2, 3)]))
    like = inputs.request(text, held)
    empty = inputs.idle_row(like)
    values = {name: tensor.numpy().tolist() for name, tensor in empty.inputs.items()}
    assert values == {
        "x": [[0, 0]], "t": [[b""]], "START": [[0]], "END": [[-1.0]], "READY": [[False]],
        "C": [[0]], "SI": [[0, 0, 0]],
    }  # fmt: skip
    assert {n: t.shape for n, t in empty.inputs.items()} == {
        n: t.shape for n, t in like.inputs.items()
    }
    assert (empty.id, list(empty.outputs or ()), empty.parameters) == ("", [], {})
    assert empty.context is text.context  # so a call made for all rows knows who asked them


def test_a_warm_up_starts_a_sequence_in_every_row() -> None:
    inputs = make(Sequencing(controls=FLAGS, states=(STATE,)))
    request = InferRequest({"x": numbers("x", 1, 2, 3, 4, lead=(2,))})
    request.rows = 2
    own = Tensor("END", FP32, (2, 1), np.full((2, 1), 9, np.float32))
    first = inputs.first(request, {"END": own})
    values = {name: tensor.numpy().tolist() for name, tensor in first.inputs.items()}
    assert values == {
        "x": [[1, 2], [3, 4]], "START": [[1], [1]], "READY": [[True], [True]],
        "END": [[9], [9]], "SI": [[0, 0], [0, 0]],
    }  # fmt: skip
    assert first.rows == 2
    assert [output.name for output in first.outputs or ()] == ["y", "SO"]
