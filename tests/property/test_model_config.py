import json

from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import Code, HostlerError
from hostler.protocols.oip.model_config import model_config_pb2 as schema
from hostler.protocols.oip.model_config import parse_json, parse_text, to_json

# Surrogates are no text: protobuf holds UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)

INPUT = st.builds(
    schema.ModelInput,
    name=TEXT,
    data_type=st.sampled_from(schema.DataType.values()),
    dims=st.lists(INT64, max_size=3),
    optional=st.booleans(),
)
POLICY = st.builds(
    schema.ModelQueuePolicy,
    timeout_action=st.sampled_from([0, 1]),
    default_timeout_microseconds=UINT64,
)
BATCHING = st.builds(
    schema.ModelDynamicBatching,
    preferred_batch_size=st.lists(INT32, max_size=3),
    max_queue_delay_microseconds=UINT64,
    priority_queue_policy=st.dictionaries(UINT64, POLICY, max_size=2),
)
CONFIG = st.builds(
    schema.ModelConfig,
    name=TEXT,
    max_batch_size=INT32,
    input=st.lists(INPUT, max_size=2),
    parameters=st.dictionaries(
        TEXT, st.builds(schema.ModelParameter, string_value=TEXT), max_size=2
    ),
    dynamic_batching=st.none() | BATCHING,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([field.name for field in schema.ModelConfig.DESCRIPTOR.fields])
            | st.sampled_from([field.name for field in schema.ModelInput.DESCRIPTOR.fields])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)

WORDS = st.sampled_from(
    (
        *("name", "max_batch_size", "input", "optimization", "dims", "data_type", "TYPE_FP32"),
        *("{", "}", "[", "]", "<", ">", ":", ",", ";", "#", "/", "\\", "'", "\n"),
        *("1", "-1", "1e9", "0x1f", '"x"', "true", "inf"),
    )
)


@given(CONFIG)
def test_every_form_holds_the_same(config):
    document = to_json(config)
    assert parse_json(document) == config
    assert parse_json(json.dumps(document)) == config
    assert parse_text(text_format.MessageToString(config), "config.pbtxt") == config
    assert parse_text(text_format.MessageToString(config, as_utf8=True), "f") == config


def check_refusal(error: HostlerError, source: str) -> None:
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message.startswith(f"{source}:")
    assert "\n" not in error.message
    error.message.encode()  # it can travel


@given(st.text(max_size=60) | st.lists(WORDS, max_size=20).map(" ".join))
def test_any_text_is_a_config_or_our_error(text):
    try:
        config = parse_text(text, "config.pbtxt")
    except HostlerError as error:
        check_refusal(error, "config.pbtxt")
    else:
        assert parse_json(to_json(config)) == config


@given(JSON | st.text(max_size=20))
def test_any_json_is_a_config_or_our_error(document):
    try:
        config = parse_json(document, "override")
    except HostlerError as error:
        check_refusal(error, "override")
    else:
        to_json(config)
