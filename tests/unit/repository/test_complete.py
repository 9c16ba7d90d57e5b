from pathlib import Path

import pytest

from hostler.core import DATATYPES, Code, HostlerError, Inspection, ModelSpec, TensorSpec
from hostler.protocols.oip.model_config import DYNAMIC_BATCHING, parse_json, parse_text, to_json
from hostler.repository import complete
from hostler.repository.derive import derive, normalise
from hostler.repository.platforms import PLATFORMS

ONNX, _TORCH, PYTHON, _ENSEMBLE = PLATFORMS


def spec_of(text="", *, platform=ONNX, ceiling=64, auto_complete=True, labels=None) -> ModelSpec:
    """A spec as a format reads it; `max_batch_size` counts as stated when it is in the text."""
    stated = "max_batch_size" in text
    file = Path(f"/r/m/1/{platform.files[0]}")
    spec = ModelSpec(
        "m",
        1,
        Path("/r/m"),
        file,
        platform.runtime,
        auto_complete=auto_complete,
        rows_ceiling=ceiling if auto_complete and not stated else 0,
        labels=labels or {},
    )
    config = normalise(to_json(parse_text(text, "config.pbtxt")), "m", platform, file.name)
    return derive(spec, config, rows_known=stated)


def tensors(**shapes) -> tuple[TensorSpec, ...]:
    """`x=(-1, 4)`, FP32; `x=("INT64", -1)`; a list in place of a tuple is optional."""
    specs = []
    for name, shape in shapes.items():
        word, dims = ("FP32", shape) if isinstance(shape[0], int) else (shape[0], shape[1:])
        specs.append(
            TensorSpec(name, DATATYPES[word], tuple(dims), optional=isinstance(shape, list))
        )
    return tuple(specs)


X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ %s ] } ]'
Y = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ %s ] } ]'
GRAPH = Inspection(tensors(x=(-1, 64)), tensors(y=(-1, 10)))
FIXED = Inspection(tensors(x=(1, 64)), tensors(y=(1, 10)))


def test_a_package_without_configuration_is_completed_from_the_graph():
    spec = complete(spec_of(), GRAPH)
    assert spec.signature.batched
    assert spec.signature.rows_max == 0
    assert spec.batching.rows_max == 64
    assert spec.batching.tuned
    assert [s.dims for s in (*spec.signature.inputs, *spec.signature.outputs)] == [(64,), (10,)]
    config = spec.config
    assert config["max_batch_size"] == 64
    assert config["dynamic_batching"] == DYNAMIC_BATCHING
    assert config["input"][0]["dims"] == [64]
    assert config["output"][0]["data_type"] == "TYPE_FP32"
    assert to_json(parse_json(config))["input"] == config["input"], "it is a whole ModelConfig"


@pytest.mark.parametrize(
    ("text", "inspection", "batched", "request_rows", "joined_rows"),
    [
        ("", GRAPH, True, 0, 64),
        ("", FIXED, False, 0, 1),
        ("", Inspection(tensors(x=(-1, 4)), tensors(y=(3, 4))), False, 0, 1),
        ("", Inspection(tensors(x=(-1, 4), w=[5, 5]), tensors(y=(-1, 4))), True, 0, 64),
        ("", Inspection(tensors(x=(-1,)), tensors(y=(-1,))), True, 0, 64),
        ("", Inspection(GRAPH.inputs, GRAPH.outputs, batch_dependent=True), True, 0, 1),
        (
            "dynamic_batching {}",
            Inspection(GRAPH.inputs, GRAPH.outputs, batch_dependent=True),
            True,
            0,
            64,
        ),
        ("max_batch_size: 0", GRAPH, False, 0, 1),
        ("max_batch_size: 8", GRAPH, True, 8, 8),
        (
            "max_batch_size: 8",
            Inspection(GRAPH.inputs, GRAPH.outputs, batch_dependent=True),
            True,
            8,
            1,
        ),
        (X % "64" + Y % "10", GRAPH, True, 0, 64),
        (X % "-1, 64" + Y % "-1, 10", GRAPH, False, 0, 1),
        (X % "5, 64" + Y % "5, 10", GRAPH, False, 0, 1),
        (Y % "10", GRAPH, True, 0, 64),
        (X % "64" + Y % "10", Inspection(), False, 0, 1),
        ("max_batch_size: 4 " + X % "64" + Y % "10", Inspection(), True, 4, 4),
    ],
)
def test_who_is_batched(text, inspection, batched, request_rows, joined_rows):
    spec = complete(spec_of(text), inspection)
    assert spec.signature.batched is batched
    assert spec.signature.rows_max == request_rows
    assert spec.batching.rows_max == joined_rows


def test_only_what_is_left_out_is_completed():
    inspection = Inspection(tensors(x=(-1, 64)), tensors(y=(-1, 10), z=("INT64", -1)))
    spec = complete(spec_of("max_batch_size: 2 " + Y % "10"), inspection)
    assert [s.name for s in spec.signature.inputs] == ["x"]
    assert [s.name for s in spec.signature.outputs] == ["y"]
    assert "dynamic_batching" not in spec.config


def test_a_model_that_depends_on_its_batch_says_no_dynamic_batching():
    inspection = Inspection(GRAPH.inputs, GRAPH.outputs, batch_dependent=True)
    spec = complete(spec_of(), inspection)
    assert spec.config["max_batch_size"] == 64
    assert "dynamic_batching" not in spec.config


def test_reshape_and_labels_and_optional_reach_the_signature():
    text = (
        'max_batch_size: 2 input [ { name: "x" data_type: TYPE_FP32 dims: [ 8, 8 ] '
        'reshape { shape: [ 64 ] } }, { name: "w" data_type: TYPE_INT64 dims: [ 3 ] '
        "optional: true } ]"
        'output [ { name: "y" data_type: TYPE_STRING dims: [ 10 ] label_filename: "l" } ]'
    )
    inspection = Inspection(
        tensors(x=(-1, 64), w=["INT64", -1, 3]), (TensorSpec("y", DATATYPES["BYTES"], (-1, 10)),)
    )
    signature = complete(spec_of(text, labels={"y": ("a", "b")}), inspection).signature
    assert signature.input("x").reshape == (64,)
    assert signature.input("x").dims == (8, 8)
    assert signature.input("w").optional
    assert signature.output("y").labels == ("a", "b")
    assert signature.output("y").datatype is DATATYPES["BYTES"]


def test_a_shape_of_unknown_rank_contradicts_nothing():
    inspection = Inspection(tensors(x=(-1, 64)), (TensorSpec("y", DATATYPES["FP32"], ()),))
    spec = complete(spec_of("max_batch_size: 2 " + X % "64" + Y % "10"), inspection)
    assert spec.signature.output("y").dims == (10,)


@pytest.mark.parametrize(
    ("text", "inspection", "words"),
    [
        (X % "64" + Y.replace('"y"', '"q"') % "10", GRAPH, ["output 'q'", "'y'"]),
        (X.replace("FP32", "INT64") % "64", GRAPH, ["input 'x'", "INT64", "FP32"]),
        (X % "63", GRAPH, ["input 'x'.dims", "[63]", "[64]"]),
        (X % "-1", GRAPH, ["input 'x'.dims", "[-1]", "[64]"]),
        (X % "1, 1, 64", GRAPH, ["input 'x'.dims", "[1, 1, 64]"]),
        ("max_batch_size: 0 " + X % "64", GRAPH, ["[64]", "[-1, 64]"]),
        ("max_batch_size: 4", FIXED, ["max_batch_size is 4", "first dimension 1"]),
        ("max_batch_size: 4 " + X % "64", FIXED, ["input 'x'", "first dimension 1"]),
        (
            X % "64",
            Inspection(tensors(x=(-1, 64), v=(-1, 2)), GRAPH.outputs),
            ["needs 'v'", "lists 1"],
        ),
        (
            'input [ { name: "x" data_type: TYPE_FP32 dims: [ 64 ] optional: true } ]',
            GRAPH,
            ["input 'x'.optional", "needs it"],
        ),
        ("dynamic_batching { preferred_batch_size: [ 65 ] }", GRAPH, ["65", "max_batch_size 64"]),
        ("", Inspection(), ["input", "config.pbtxt"]),
        (X % "64", Inspection(), ["output", "config.pbtxt"]),
        ("", Inspection((), GRAPH.outputs), ["input", "has none"]),
        (
            'model_warmup [ { name: "w" inputs { key: "q" value '
            "{ data_type: TYPE_FP32 dims: 64 zero_data: true } } } ]",
            GRAPH,
            ["model_warmup 'w'", "input 'q'", "no such input"],
        ),
        (
            'model_warmup [ { name: "w" inputs { key: "x" value '
            "{ data_type: TYPE_FP32 dims: 63 zero_data: true } } } ]",
            GRAPH,
            ["model_warmup 'w'", "[63]", "[64]"],
        ),
    ],
)
def test_contradictions_name_model_field_and_values(text, inspection, words):
    with pytest.raises(HostlerError) as caught:
        complete(spec_of(text), inspection)
    assert caught.value.code is Code.INVALID_ARGUMENT
    for word in ("model 'm'", *words):
        assert word in caught.value.message


def test_without_auto_completion_the_package_must_say_everything():
    with pytest.raises(HostlerError, match="auto_complete is off"):
        complete(spec_of(auto_complete=False), GRAPH)
    spec = complete(spec_of(X % "-1, 64" + Y % "-1, 10", auto_complete=False), GRAPH)
    assert not spec.signature.batched


def own_config(**changes) -> dict[str, object]:
    return {
        **spec_of(platform=PYTHON).config,
        "input": [{"name": "x", "data_type": "TYPE_STRING", "dims": ["1"]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
        **changes,
    }


def test_what_auto_complete_config_returns_is_read_like_a_file():
    inspection = Inspection(config=own_config(max_batch_size=16, dynamic_batching={}))
    spec = complete(spec_of(platform=PYTHON), inspection)
    assert spec.signature.batched
    assert spec.signature.rows_max == 16
    assert spec.batching.rows_max == 16
    assert spec.signature.input("x").datatype is DATATYPES["BYTES"]
    assert spec.config["input"][0]["dims"] == [1]
    assert spec.config["backend"] == "python"


@pytest.mark.parametrize("decoupled", [True, False])
def test_auto_complete_config_may_decouple_responses(decoupled):
    own = own_config(model_transaction_policy={"decoupled": decoupled})
    found = complete(spec_of(platform=PYTHON), Inspection(config=own))
    assert found.decoupled is decoupled


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"name": "other"}, Code.INVALID_ARGUMENT, "name"),
        ({"colour": 1}, Code.INVALID_ARGUMENT, "colour"),
        ({"backend": "onnxruntime"}, Code.INVALID_ARGUMENT, "backend"),
        ({"max_batch_size": -1}, Code.INVALID_ARGUMENT, "max_batch_size"),
        ({"input": []}, Code.INVALID_ARGUMENT, "add_input"),
    ],
)
def test_what_auto_complete_config_may_not_return(changes, code, word):
    with pytest.raises(HostlerError) as caught:
        complete(spec_of(platform=PYTHON), Inspection(config=own_config(**changes)))
    assert caught.value.code is code
    assert word in caught.value.message
