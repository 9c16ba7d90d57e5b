from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import DATATYPES, Code, HostlerError, Inspection, ModelSpec, TensorSpec
from hostler.protocols.oip.model_config import parse_json, to_json
from hostler.repository import Override, complete
from hostler.repository.derive import derive, normalise
from hostler.repository.overrides import check_files
from hostler.repository.platforms import PLATFORMS
from hostler.repository.source import select_versions

NAMES = st.sampled_from(["a", "b", "c"])
DIMS = st.lists(st.sampled_from([-1, 1, 3]), max_size=3).map(tuple)
DATATYPE = st.sampled_from([DATATYPES["FP32"], DATATYPES["BYTES"]])

TENSORS = st.lists(
    st.builds(TensorSpec, NAMES, DATATYPE, DIMS, optional=st.booleans()),
    max_size=3,
    unique_by=lambda spec: spec.name,
).map(tuple)
INSPECTION = st.builds(
    Inspection,
    inputs=st.none() | TENSORS,
    outputs=st.none() | TENSORS,
    batch_dependent=st.booleans(),
)
TENSOR_JSON = st.fixed_dictionaries(
    {
        "name": NAMES,
        "data_type": st.sampled_from(["TYPE_FP32", "TYPE_STRING", "TYPE_INVALID"]),
        "dims": st.lists(st.sampled_from([-2, -1, 0, 1, 3]), max_size=3),
    },
    optional={"reshape": st.just({"shape": [3]})},
)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "max_batch_size": st.integers(-1, 4),
        "input": st.lists(TENSOR_JSON, max_size=2),
        "output": st.lists(TENSOR_JSON, max_size=2),
        "dynamic_batching": st.fixed_dictionaries(
            {},
            optional={
                "preferred_batch_size": st.lists(st.integers(-1, 5), max_size=2),
                "priority_levels": st.integers(0, 3),
                "default_priority_level": st.integers(0, 3),
            },
        ),
    },
)


@given(CONFIG, INSPECTION)
def test_completing_gives_a_whole_and_consistent_spec_or_our_error(document, inspection):
    stated = "max_batch_size" in document
    spec = ModelSpec(
        "m",
        1,
        Path("/r/m"),
        Path("/r/m/1/model.onnx"),
        "onnx",
        rows_ceiling=0 if stated else 64,
    )
    refusal = None
    try:
        config = normalise(to_json(parse_json(document)), "m", PLATFORMS[0], "model.onnx")
        whole = complete(derive(spec, config, rows_known=stated), inspection)
    except HostlerError as error:
        refusal = error
    if refusal is not None:
        assert refusal.code is Code.INVALID_ARGUMENT
        assert refusal.message.startswith("model 'm': ")
        return
    signature, batching = whole.signature, whole.batching
    assert signature is not None
    assert signature.inputs
    assert signature.outputs
    assert batching.rows_max >= 1
    assert signature.batched is (whole.config["max_batch_size"] > 0)
    assert signature.batched or batching.rows_max == 1
    if stated:
        assert signature.rows_max == document["max_batch_size"]
    assert all(dim == -1 or dim > 0 for item in signature.inputs for dim in item.dims)
    # The completed config is a whole ModelConfig that says the same again.
    again = to_json(parse_json(whole.config))
    assert again == dict(whole.config)
    if inspection.inputs is not None:
        known = {item.name: item for item in inspection.inputs}
        for item in signature.inputs:
            assert item.datatype is known[item.name].datatype


@given(
    st.lists(st.integers(1, 20), min_size=1, unique=True).map(sorted),
    st.one_of(
        st.just({}),
        st.just({"all": {}}),
        st.builds(lambda n: {"latest": {"num_versions": n}}, st.integers(0, 30)),
        st.builds(
            lambda v: {"specific": {"versions": v}}, st.lists(st.integers(1, 20), min_size=1)
        ),
    ),
)
def test_policies_choose_among_what_is_there(present, policy):
    if not set(policy.get("specific", {}).get("versions", ())) <= set(present):
        with pytest.raises(HostlerError, match="is not there"):
            select_versions("m", policy, present)
        return
    served = select_versions("m", policy, present)
    assert served
    assert list(served) == sorted(set(served))
    assert set(served) <= set(present)


@given(
    st.text(max_size=12) | st.lists(st.sampled_from(["..", ".", "", "1", "a", "/"])).map("/".join)
)
def test_accepted_paths_lie_within_the_package(path):
    try:
        check_files("m", Override({}, {path: b""}), 10)
    except HostlerError as error:
        error.message.encode()  # it can travel
        return
    parts = PurePosixPath(path).parts
    assert parts
    assert not PurePosixPath(path).is_absolute()
    assert ".." not in parts
    assert "\0" not in path
