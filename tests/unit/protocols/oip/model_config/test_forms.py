import json

import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip import model_config
from hostler.protocols.oip.model_config import model_config_pb2 as schema
from hostler.protocols.oip.model_config import (
    parse_json,
    parse_text,
    states_max_batch_size,
    to_json,
)

TEXT = """
# a comment
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 64 ] reshape { shape: [ -1, 8, 8 ] } } ]
output [ { name: "y" data_type: TYPE_STRING dims: [ 10 ] label_filename: "labels.txt" } ]
version_policy { specific { versions: [ 1, 9007199254740993 ] } }
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 18446744073709551615
  priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 7 } }
}
parameters { key: "b" value { string_value: "2" } }
parameters { key: "a" value { string_value: "1" } }
model_warmup [ { name: "w" inputs { key: "x" value { dims: 64 random_data: true } } } ]
"""


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("MODEL_CONFIG", schema.ModelConfig),
        ("MODEL_INPUT", schema.ModelInput),
        ("MODEL_OUTPUT", schema.ModelOutput),
        ("DYNAMIC_BATCHING", schema.ModelDynamicBatching),
        ("INSTANCE_GROUP", schema.ModelInstanceGroup),
    ],
)
def test_templates_are_the_json_form_of_empty_messages(template, message):
    expected = to_json(message())
    assert getattr(model_config, template) == expected
    assert list(getattr(model_config, template)) == list(expected)


def test_text_becomes_tritons_json_form():
    document = to_json(parse_text(TEXT, "config.pbtxt"))
    assert document["name"] == "digits"
    assert document["backend"] == ""
    assert document["version_policy"] == {"specific": {"versions": [1, 9007199254740993]}}
    assert document["input"] == [
        {
            **model_config.MODEL_INPUT,
            "name": "x",
            "data_type": "TYPE_FP32",
            "dims": [-1, 64],
            "reshape": {"shape": [-1, 8, 8]},
        }
    ]
    assert document["output"][0]["label_filename"] == "labels.txt"
    batching = document["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 18446744073709551615
    assert batching["priority_queue_policy"]["2"] == {
        "timeout_action": "DELAY",
        "default_timeout_microseconds": 7,
        "allow_timeout_override": False,
        "max_queue_size": 0,
    }
    assert list(document["parameters"]) == ["a", "b"]
    assert document["model_warmup"][0]["inputs"]["x"]["random_data"] is True
    assert "zero_data" not in document["model_warmup"][0]["inputs"]["x"]
    assert "optimization" not in document
    assert list(document).index("version_policy") < list(document).index("max_batch_size")


def test_the_three_forms_hold_the_same():
    config = parse_text(TEXT, "config.pbtxt")
    document = to_json(config)
    assert parse_json(document) == config
    assert parse_json(json.dumps(document)) == config


@pytest.mark.parametrize(
    ("document", "field", "expected"),
    [
        ({"max_batch_size": "8"}, "max_batch_size", 8),
        ({"maxBatchSize": 8}, "max_batch_size", 8),
        ({"name": "caf\u00e9"}, "name", "caf\u00e9"),
        ('{"name": "x"}', "name", "x"),
        ({"optimization": {"graph": {"level": -1}}}, "max_batch_size", 0),
    ],
)
def test_json_spellings(document, field, expected):
    assert to_json(parse_json(document))[field] == expected


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("name: 'x'\n  colour: 'red'", "2:3", '"colour"'),
        ("\n\ninput [ { shape: [ 1 ] } ]", "3:11", '"shape"'),
        ("max_batch_size: many", "1:17", "many"),
        ("max_batch_size: 99999999999", "1:17", "range"),
        ("input { data_type: FP32 }", "1:20", "FP32"),
        ("name: 'x'\nname: 'y'", "2:7", "name"),
        ("input [ { dims: [ 1 } ]", "1:21", "Expected"),
        ("dynamic_batching {}\nsequence_batching {}", "2:1", "sequence_batching"),
        ("name: 'x", "1:7", "quote"),
        ("input {" * 10_000, "1:8", '"input"'),
    ],
)
def test_text_errors_name_file_line_and_column(text, place, word):
    with pytest.raises(HostlerError) as caught:
        parse_text(text, "m/config.pbtxt")
    assert caught.value.code is Code.INVALID_ARGUMENT
    line = place.partition(":")[0]
    assert caught.value.message.startswith(f"m/config.pbtxt:{line}:"), caught.value.message
    assert word in caught.value.message
    assert "hostler_oip" not in caught.value.message


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ("[1]", "object"),
        ("{", "not JSON"),
        ("[" * 100_000, "override"),
        ({"colour": 1}, '"colour"'),
        ({"input": 3}, "input"),
        ({"input": [3]}, "input"),
        ({"input": {"name": "x"}}, "input"),
        ({"name": 3}, "name"),
        ({"max_batch_size": 1.5}, "max_batch_size"),
        ({"max_batch_size": 2**40}, "max_batch_size"),
        ({"input": [{"data_type": "FP32"}]}, "FP32"),
        ({"parameters": {"k": "v"}}, "parameters"),
        ({1: 2}, "override"),
    ],
)
def test_json_errors_name_source_and_field(document, word):
    with pytest.raises(HostlerError) as caught:
        parse_json(document, "override")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("override: ")
    assert word in caught.value.message
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("", False),
        ("max_batch_size: 0", True),
        ("max_batch_size: 4", True),
        ("# max_batch_size: 4", False),
        ("name: 'max_batch_size: 4'", False),
        ("input { name: 'max_batch_size' }", False),
    ],
)
def test_whether_max_batch_size_is_stated(text, stated):
    assert states_max_batch_size(text, "config.pbtxt") is stated
