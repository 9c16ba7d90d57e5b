"""Ragged inputs and padding, from a configuration to `core.Shaping`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hostler.core import (
    DATATYPES,
    BatchInput,
    Code,
    HostlerError,
    Inspection,
    ModelSpec,
    PaddedInput,
    Signature,
    TensorSpec,
)
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository import complete
from hostler.repository.derive import normalise, tensor_spec
from hostler.repository.platforms import PLATFORMS
from hostler.repository.shaping import shaped

RAGGED = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ] '
PLAIN = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ] '
INPUTS = """
input [ { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] },
        { name: "grid" data_type: TYPE_FP32 dims: [ -1, 2, -1 ] },
        { name: "fixed" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 8 ] },
         { name: "pooled" data_type: TYPE_FP32 dims: [ 8 ] } ]
"""
BATCH_INPUT = """
batch_input [ { kind: BATCH_ACCUMULATED_ELEMENT_COUNT target_name: "index"
                data_type: TYPE_INT32 source_input: "x" } ]
"""
SCATTER = 'batch_output [ { target_name: "y" source_input: "x" } ]'
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ] '


def parameter(key, value):
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def config_of(text):
    return normalise(to_json(parse_text(text, "config.pbtxt")), "m", PLATFORMS[0], "model.onnx")


def read(text, runtime="onnx"):
    config = config_of("max_batch_size: 8 " + text if "max_batch_size" not in text else text)
    signature = Signature(
        tuple(tensor_spec(tensor, {}) for tensor in config["input"]),
        tuple(tensor_spec(tensor, {}) for tensor in config["output"]),
        batched=config["max_batch_size"] > 0,
    )
    return shaped("m", config, signature, runtime)


def test_nothing_said_is_nothing_done():
    shaping, signature = read(PLAIN)
    assert shaping is None
    assert not signature.inputs[0].joins_any


def test_ragged_inputs_and_what_the_model_is_told_of_them():
    shaping, signature = read(RAGGED + Y + BATCH_INPUT + SCATTER)
    assert shaping.ragged == {"x"}
    assert shaping.scattered == {"y": "x"}
    assert shaping.batch_inputs == (
        BatchInput("BATCH_ACCUMULATED_ELEMENT_COUNT", ("index",), DATATYPES["INT32"], "x"),
    )
    assert shaping.joins
    assert signature.inputs[0].joins_any


def test_a_python_model_gets_its_requests_as_they_came():
    shaping, signature = read(RAGGED + BATCH_INPUT, "python")
    assert shaping is None
    assert signature.inputs[0].joins_any


def test_an_ensembles_steps_join_their_requests_each_as_its_package_says():
    assert read(RAGGED, "ensemble")[0] is None
    with pytest.raises(HostlerError, match="the step's model"):
        read(PLAIN + parameter("padding.input.x", "longest"), "ensemble")


def test_padding_of_inputs_and_what_its_outputs_follow():
    shaping, signature = read(
        INPUTS
        + parameter("padding.input.ids", "16,32,64 value=-1")
        + parameter("padding.input.grid", " longest")
        + parameter("padding.output.y", "ids")
    )
    assert shaping.padded == (PaddedInput("grid"), PaddedInput("ids", (16, 32, 64), -1))
    assert shaping.cut == {"y": "ids"}
    assert not shaping.joins
    assert [spec.joins_any for spec in signature.inputs] == [True, True, False]
    whole, _ = read(INPUTS + parameter("padding.input.ids", "longest")
                    + parameter("padding.output.y", "none"))  # fmt: skip
    assert whole.cut == {}


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        ("FP32", "-1.5", -1.5),
        ("FP32", "-inf", float("-inf")),
        ("INT8", "-128", -128),
        ("UINT64", str(2**64 - 1), 2**64 - 1),
        ("BOOL", "true", True),
        ("STRING", "pad", b"pad"),
        ("STRING", "", b""),
        ("BF16", "1", 0x3F80),
        ("BF16", "-inf", 0xFF80),
        ("BF16", "1.00390625", 0x3F80),  # half way: to the even neighbour
    ],
)
def test_the_value_that_fills_is_of_the_inputs_datatype(datatype, text, value):
    config = f'input [ {{ name: "x" data_type: TYPE_{datatype} dims: [ -1 ] }} ] '
    shaping, _ = read(config + parameter("padding.input.x", f"longest value={text}"))
    found = shaping.padded[0].value
    assert found == value
    dtype = DATATYPES["BYTES" if datatype == "STRING" else datatype].numpy
    assert np.full(1, found, dtype)[0] == value


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("max_batch_size: 0 " + RAGGED, "allow_ragged_batch", "max_batch_size"),
        ("max_batch_size: 0 " + PLAIN + BATCH_INPUT, "batch_input", "max_batch_size"),
        (RAGGED + "sequence_batching {}", "allow_ragged_batch", "sequence_batching"),
        (
            PLAIN + parameter("padding.input.x", "longest") + "sequence_batching {}",
            "parameters.padding.input.x",
            "sequence_batching",
        ),
        (RAGGED.replace("dims", "reshape { shape: [ -1 ] } dims"), "input 'x'.reshape", "ragged"),
        (PLAIN + BATCH_INPUT.replace('"x"', '"z"'), "batch_input[0].source_input", "'z'"),
        (
            PLAIN.replace("dims", "optional: true dims") + BATCH_INPUT,
            "batch_input[0].source_input",
            "optional",
        ),
        (
            PLAIN + BATCH_INPUT.replace("TYPE_INT32", "TYPE_INT64"),
            "batch_input[0].data_type",
            "TYPE_INT64",
        ),
        (PLAIN + "batch_input { data_type: TYPE_FP32 }", "batch_input[0].target_name", "no input"),
        (
            PLAIN + 'batch_input { data_type: TYPE_FP32 target_name: "a" }',
            "batch_input[0].source_input",
            "0 inputs",
        ),
        (PLAIN + "batch_input { kind: 17 }", "batch_input[0].kind", "17"),
        (PLAIN + BATCH_INPUT + BATCH_INPUT, "batch_input[1].target_name", "twice"),
        (PLAIN + SCATTER, "batch_output[0].target_name", "'y'"),
        (PLAIN + Y + SCATTER + SCATTER, "batch_output[1].target_name", "twice"),
        (PLAIN + Y + 'batch_output { target_name: "y" }', "batch_output[0].source", "0 inputs"),
        (PLAIN + Y + 'batch_output { source_input: "x" }', "batch_output[0].target", "no output"),
        (
            PLAIN + Y.replace("-1", "2, -1") + SCATTER,
            "batch_output[0].target_name",
            "[2, -1]",
        ),
        (
            PLAIN + Y.replace("dims", "reshape { shape: [ 1, -1 ] } dims") + SCATTER,
            "batch_output[0].target_name",
            "reshape",
        ),
        (INPUTS + parameter("padding.ids", "16"), "parameters.padding.ids", "padding.input.NAME"),
        (INPUTS + parameter("padding.input.idz", "16"), "parameters.padding.input.idz", "'ids'"),
        (INPUTS + parameter("padding.input.fixed", "16"), "parameters.padding.input.fixed", "[2]"),
        (INPUTS + parameter("padding.input.ids", "wide"), "parameters.padding.input.ids", "wide"),
        (INPUTS + parameter("padding.input.ids", ""), "parameters.padding.input.ids", "longest"),
        (INPUTS + parameter("padding.input.ids", "0,2"), "parameters.padding.input.ids", "0,2"),
        (INPUTS + parameter("padding.input.ids", "4,2"), "parameters.padding.input.ids", "4,2"),
        (
            INPUTS + parameter("padding.input.ids", "9" * 20),
            "parameters.padding.input.ids",
            str(1 << 24),
        ),
        (
            INPUTS + parameter("padding.input.ids", "longest to=1"),
            "parameters.padding.input.ids",
            "to=1",
        ),
        (
            INPUTS + parameter("padding.input.ids", "longest value=1.5"),
            "parameters.padding.input.ids",
            "INT64",
        ),
        (
            INPUTS + parameter("padding.input.ids", f"longest value={2**63}"),
            "parameters.padding.input.ids",
            "INT64",
        ),
        (
            INPUTS + parameter("padding.input.ids", "longest"),
            "parameters.padding.output.y",
            "missing",
        ),
        (
            INPUTS
            + parameter("padding.input.ids", "longest")
            + parameter("padding.output.y", "grid"),
            "parameters.padding.output.y",
            "'grid'",
        ),
        (
            INPUTS
            + parameter("padding.input.ids", "longest")
            + parameter("padding.output.pooled", "ids"),
            "parameters.padding.output.pooled",
            "[8]",
        ),
        (INPUTS + parameter("padding.output.z", "ids"), "parameters.padding.output.z", "'y'"),
        (
            RAGGED + parameter("padding.input.x", "longest"),
            "parameters.padding.input.x",
            "allow_ragged_batch",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(text, place, value):
    with pytest.raises(HostlerError) as caught:
        read(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"model 'm': {place}")
    assert value in caught.value.message


# -- joined with the graph ---------------------------------------------------------------------


def tensors(**shapes):
    return tuple(TensorSpec(n, DATATYPES["FP32"], dims) for n, dims in shapes.items())


def completed(text, inspection):
    spec = ModelSpec("m", 1, Path("/r/m"), Path("/r/m/1/model.onnx"), "onnx")
    config = config_of("max_batch_size: 8 " + text)
    return complete(replace(spec, config=config), inspection)


FLAT = Inspection(tensors(x=(-1,), index=(-1,)), tensors(y=(-1, -1)))
FP32_INDEX = BATCH_INPUT.replace("INT32", "FP32")


def test_the_graphs_own_words_fit_ragged_inputs_and_clients_send_no_batch_input():
    spec = completed(RAGGED + Y + FP32_INDEX, FLAT)
    assert [tensor.name for tensor in spec.signature.inputs] == ["x"]
    assert spec.shaping.batch_inputs[0].names == ("index",)


def test_inputs_that_are_left_out_come_from_the_graph_without_batch_inputs():
    graph = Inspection(tensors(x=(-1, -1), index=(-1,)), tensors(y=(-1, -1)))
    spec = completed(FP32_INDEX, graph)
    assert [tensor.name for tensor in spec.signature.inputs] == ["x"]
    assert spec.shaping.joins


def test_a_scattered_output_may_have_any_rank_in_the_graph():
    graph = Inspection(tensors(x=(-1,)), tensors(y=(-1,)))
    assert completed(RAGGED + Y + SCATTER, graph).shaping.scattered == {"y": "x"}
    with pytest.raises(HostlerError, match=r"output 'y'\.dims"):
        completed(RAGGED + Y, graph)


@pytest.mark.parametrize(
    ("text", "inspection", "message"),
    [
        (RAGGED + Y + FP32_INDEX, Inspection(tensors(x=(-1,)), None), "no such input; it has 'x'"),
        (RAGGED + Y + BATCH_INPUT, FLAT, "TYPE_INT32, but the model takes FP32"),
        (RAGGED + Y, FLAT, "also needs 'index'"),
        (
            RAGGED + Y + FP32_INDEX.replace('"index"', '"x"'),
            FLAT,
            "batch_input 'x': is in input too",
        ),
        (
            RAGGED + Y,
            Inspection(tensors(x=(-1, -1)), tensors(y=(-1, -1))),
            r"allow_ragged_batch: the model's shape \[-1, -1\] is not \[-1\]",
        ),
    ],
)
def test_a_contradiction_with_the_graph_is_told(text, inspection, message):
    with pytest.raises(HostlerError, match=message) as caught:
        completed(text, inspection)
    assert caught.value.code is Code.INVALID_ARGUMENT
