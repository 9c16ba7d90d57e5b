import pytest

from hostler.core import Code, HostlerError
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository.checks import check_config, check_served, ignored_fields
from hostler.repository.derive import normalise
from hostler.repository.platforms import PLATFORMS

X = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ] '
WARM = 'model_warmup [ { name: "w" %s inputs { key: "x" value { data_type: TYPE_FP32 %s } } } ]'


def config_of(text):
    return normalise(to_json(parse_text(text, "config.pbtxt")), "m", PLATFORMS[0], "model.onnx")


@pytest.mark.parametrize(
    ("text", "place", "value"),
    [
        ("name: 'other'", "name", "other"),
        ("max_batch_size: -1", "max_batch_size", "-1"),
        ("input [ { data_type: TYPE_FP32 dims: 1 } ]", "input[0].name", "missing"),
        (X + X, "input 'x'", "twice"),
        ("output [ { name: 'y' dims: 1 } ]", "output 'y'.data_type", "TYPE_INVALID"),
        ("output [ { name: 'y' data_type: 99 dims: 1 } ]", "output 'y'.data_type", "99"),
        ("input [ { name: 'x' data_type: TYPE_FP32 dims: [ 0 ] } ]", "input 'x'.dims", "0"),
        ("input [ { name: 'x' data_type: TYPE_FP32 dims: [ -2 ] } ]", "input 'x'.dims", "-2"),
        ("input [ { name: 'x' data_type: TYPE_FP32 } ]", "input 'x'.dims", "empty"),
        (
            "input [ { name: 'x' data_type: TYPE_FP32 dims: [ 3 ] format: FORMAT_NCHW } ]",
            "input 'x'.format",
            "FORMAT_NCHW",
        ),
        (
            "input [ { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 5 ] } } ]",
            "input 'x'.reshape.shape",
            "[5]",
        ),
        (
            "input [ { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ -4 ] } } ]",
            "input 'x'.reshape.shape",
            "-4",
        ),
        (
            "input [ { name: 'x' data_type: TYPE_FP32 dims: [ -1, 4 ] "
            "reshape { shape: [ 4, -1 ] } } ]",
            "input 'x'.reshape.shape",
            "[4, -1]",
        ),
        ("version_policy { specific {} }", "version_policy.specific", "no version"),
        ("version_policy { specific { versions: 0 } }", "version_policy.specific", "0"),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 2, 8 ] }",
            "dynamic_batching.preferred_batch_size",
            "8 is more than max_batch_size 4",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 0 ] }",
            "dynamic_batching.preferred_batch_size",
            "0",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
            "dynamic_batching.default_priority_level",
            "3",
        ),
        (
            "dynamic_batching { priority_levels: 2 }",
            "dynamic_batching.default_priority_level",
            "0",
        ),
        (
            "dynamic_batching { default_priority_level: 1 }",
            "dynamic_batching.default_priority_level",
            "1",
        ),
        (
            "dynamic_batching { priority_levels: 100000 default_priority_level: 1 }",
            "dynamic_batching.priority_levels",
            "100000",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
            "priority_queue_policy { key: 3 value {} } }",
            "dynamic_batching.priority_queue_policy",
            "3",
        ),
        (
            "response_cache { enable: true } sequence_batching {}",
            "response_cache.enable",
            "sequence_batching",
        ),
        (
            "response_cache { enable: true } model_transaction_policy { decoupled: true }",
            "response_cache.enable",
            "model_transaction_policy.decoupled",
        ),
        ("instance_group [ { count: -1 } ]", "instance_group[0].count", "-1"),
        ("instance_group [ {}, { count: 5000 } ]", "instance_group[1].count", "5000"),
        ("instance_group [ { gpus: 0 kind: KIND_CPU } ]", "instance_group[0].gpus", "KIND_CPU"),
        ("instance_group [ { gpus: -1 kind: KIND_GPU } ]", "instance_group[0].gpus", "-1"),
        (
            "instance_group [ { gpus: [ 0, 1 ] count: 600 kind: KIND_GPU } ]",
            "instance_group[0]",
            "1024",
        ),
        (WARM % ("", "dims: 4"), "model_warmup 'w', input 'x'", "zero_data"),
        (WARM % ("", "dims: -1 zero_data: true"), "model_warmup 'w', input 'x'.dims", "-1"),
        (
            WARM % ("", "dims: [ 1000000, 1000000 ] zero_data: true"),
            "model_warmup 'w', input 'x'.dims",
            "elements",
        ),
        (
            WARM % ("batch_size: 2", "dims: 4 zero_data: true"),
            "model_warmup 'w'.batch_size",
            "2",
        ),
        (
            WARM % ("count: 100000", "dims: 4 zero_data: true"),
            "model_warmup 'w'.count",
            "100000",
        ),
        (X + WARM % ("", "dims: 5 zero_data: true"), "model_warmup 'w', input 'x'.dims", "[5]"),
        (
            X.replace("FP32", "INT8") + WARM % ("", "dims: 4 zero_data: true"),
            "model_warmup 'w', input 'x'.data_type",
            "TYPE_INT8",
        ),
        (
            X.replace("'x'", "'z'").replace('"x"', '"z"') + WARM % ("", "dims: 4 zero_data: true"),
            "model_warmup 'w', input 'x'",
            "no such input",
        ),
        (X + 'model_warmup [ { name: "w" } ]', "model_warmup 'w'", "lacks input 'x'"),
        (
            'model_warmup [ { name: "w" inputs { key: "x" value { dims: 1 zero_data: true } } } ]',
            "model_warmup 'w', input 'x'.data_type",
            "TYPE_INVALID",
        ),
    ],
)
def test_contradictions_name_the_field(text, place, value):
    with pytest.raises(HostlerError) as caught:
        check_config("m", config_of(text), rows_known=True)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(f"model 'm': {place}: ")
    assert value in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        X,
        "max_batch_size: 4 input [ { name: 'x' data_type: TYPE_FP32 } ]",
        "input [ { name: 'x' data_type: TYPE_FP32 dims: 1 reshape {} } ]",
        "input [ { name: 'x' data_type: TYPE_FP32 dims: [ -1, 4, 2 ] "
        "reshape { shape: [ -1, 8 ] } } ]",
        "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 4, 2 ] priority_levels: 2 "
        "default_priority_level: 2 priority_queue_policy { key: 1 value {} } }",
        "dynamic_batching {}",
        "instance_group [ { gpus: [ 0, 1 ] kind: KIND_GPU count: 2 } ]",
        "max_batch_size: 2 " + X + WARM % ("batch_size: 2 count: 3", "dims: 4 random_data: true"),
    ],
)
def test_what_can_be_meant(text):
    check_config("m", config_of(text), rows_known=True)


@pytest.mark.parametrize(
    "text",
    [
        "input [ { name: 'x' data_type: TYPE_FP32 } ]",
        "dynamic_batching { preferred_batch_size: [ 8 ] }",
    ],
)
def test_what_depends_on_rows_waits_until_they_are_known(text):
    check_config("m", config_of(text), rows_known=False)
    with pytest.raises(HostlerError):
        check_config("m", config_of(text), rows_known=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("model_operations { op_library_filename: 'a.so' }", "model_operations"),
        (
            "backend: 'onnxruntime' model_transaction_policy { decoupled: true }",
            "model_transaction_policy.decoupled: backend 'onnxruntime' gives one response",
        ),
        (
            "backend: 'onnxruntime' model_transaction_policy { decoupled: true }",
            "model_transaction_policy.decoupled",
        ),
        ("model_repository_agents { agents [ { name: 'checksum' } ] }", "model_repository_agents"),
        (X.replace("dims", "is_shape_tensor: true dims"), "input 'x'.is_shape_tensor"),
        ("instance_group [ { secondary_devices {} } ]", "instance_group.secondary_devices"),
    ],
)
def test_what_is_not_served_is_refused_by_name(text, place):
    with pytest.raises(HostlerError) as caught:
        check_served("m", config_of(text))
    assert caught.value.code is Code.UNIMPLEMENTED
    assert caught.value.message.startswith(f"model 'm': {place}")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("response_cache { enable: true }", []),
        (
            "response_cache { enable: true } ensemble_scheduling {"
            " step [ { model_name: 'a' model_version: -1 } ] }",
            ["response_cache"],
        ),
        ("response_cache {}", []),
        ("batch_input {}", []),
        ("backend: 'python' batch_input {} batch_output {}", ["batch_input", "batch_output"]),
        ("optimization { eager_batching: true cuda { graphs: true } }",
         ["optimization.cuda", "optimization.eager_batching"]),
        ("instance_group [ { rate_limiter { priority: 1 } } ]", ["instance_group.rate_limiter"]),
    ],
)  # fmt: skip
def test_what_is_ignored_is_named(text, fields):
    check_served("m", config_of(text))
    assert ignored_fields(config_of(text)) == fields
