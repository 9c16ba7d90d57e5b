import json

import numpy as np
import pytest

from hostler.worker import triton_python_backend_utils as pb_utils

TYPES = [
    ("TYPE_BOOL", np.bool_, 1), ("TYPE_UINT8", np.uint8, 2), ("TYPE_UINT16", np.uint16, 3),
    ("TYPE_UINT32", np.uint32, 4), ("TYPE_UINT64", np.uint64, 5), ("TYPE_INT8", np.int8, 6),
    ("TYPE_INT16", np.int16, 7), ("TYPE_INT32", np.int32, 8), ("TYPE_INT64", np.int64, 9),
    ("TYPE_FP16", np.float16, 10), ("TYPE_FP32", np.float32, 11), ("TYPE_FP64", np.float64, 12),
    ("TYPE_STRING", np.object_, 13),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "number"), TYPES)
def test_types(text, kind, number):
    assert np.dtype(pb_utils.triton_string_to_numpy(text)) == np.dtype(kind)
    assert pb_utils.triton_to_numpy_type(number) is kind
    assert pb_utils.numpy_to_triton_type(kind) == number
    assert pb_utils.numpy_to_triton_type(np.dtype(kind)) == number
    assert pb_utils.Tensor("t", np.zeros(2, kind)).triton_dtype() == number


def test_tensor():
    tensor = pb_utils.Tensor("t", np.arange(6, dtype=np.int32).reshape(2, 3))
    assert (tensor.name(), tensor.shape(), tensor.is_cpu()) == ("t", [2, 3], True)
    assert pb_utils.Tensor("t", np.array(["a", "grüß"])).as_numpy().tolist() == ["a", "grüß"]
    with pytest.raises(pb_utils.TritonModelException, match="complex128 has no Triton"):
        pb_utils.Tensor("t", np.zeros(1, complex))


def test_dlpack_shares_memory_where_numpy_can():
    array = np.arange(4, dtype=np.float32)
    tensor = pb_utils.Tensor("t", array)
    assert tensor.__dlpack_device__() == (1, 0)
    shared = pb_utils.Tensor.from_dlpack("u", tensor.to_dlpack())
    array[0] = 9
    assert shared.as_numpy()[0] == 9
    assert np.shares_memory(np.from_dlpack(tensor), array)
    with pytest.raises(pb_utils.TritonModelException, match="'u': numpy cannot take this DLPack"):
        pb_utils.Tensor.from_dlpack("u", 5)


@pytest.mark.torch
def test_dlpack_with_torch():
    import torch

    given = torch.arange(4, dtype=torch.int32)
    tensor = pb_utils.Tensor.from_dlpack("t", torch.utils.dlpack.to_dlpack(given))
    given[0] = 9
    assert tensor.as_numpy().tolist() == [9, 1, 2, 3]
    back = torch.from_dlpack(pb_utils.Tensor("t", np.ones(3, np.float32)))
    capsule = torch.utils.dlpack.from_dlpack(tensor.to_dlpack())
    assert (back.tolist(), capsule.tolist()) == ([1, 1, 1], [9, 1, 2, 3])
    with pytest.raises(pb_utils.TritonModelException, match="'b': numpy cannot take"):
        pb_utils.Tensor.from_dlpack("b", torch.zeros(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("writable", [True, False])
def test_dlpack(writable):
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = writable
    tensor = pb_utils.Tensor("t", array)
    again = pb_utils.Tensor.from_dlpack("u", tensor)
    bare = pb_utils.Tensor.from_dlpack("u", pb_utils.Tensor("t", array.copy()).to_dlpack())
    for found in (again, bare):
        assert found.name() == "u"
        np.testing.assert_array_equal(found.as_numpy(), array)
    with pytest.raises(pb_utils.TritonModelException, match="BYTES"):
        pb_utils.Tensor("t", np.array([b"x"], object)).to_dlpack()


def test_request():
    tensor = pb_utils.Tensor("a", np.zeros(1))
    request = pb_utils.InferenceRequest(
        "id", 5, [tensor], ["o"], "m", flags=3, timeout=7, parameters={"k": 1}
    )
    assert (request.model_name(), request.model_version()) == ("m", -1)
    assert request.inputs() == [tensor]
    assert request.requested_output_names() == ["o"]
    assert (request.request_id(), request.correlation_id()) == ("id", 5)
    assert (request.flags(), request.timeout()) == (3, 7)
    assert json.loads(request.parameters()) == {"k": 1}
    assert not request.is_cancelled()
    assert pb_utils.get_input_tensor_by_name(request, "a") is tensor
    assert pb_utils.get_input_tensor_by_name(request, "b") is None


def test_names_that_come_out_of_a_bytes_tensor():
    request = pb_utils.InferenceRequest(
        b"id", inputs=[], requested_output_names=[np.bytes_(b"o")], model_name=b"m"
    )
    assert (request.request_id(), request.model_name()) == ("id", "m")
    assert request.requested_output_names() == ["o"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: pb_utils.InferenceRequest().set_release_flags(
            pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE
        ),
        lambda: pb_utils.load_model("other"),
        lambda: pb_utils.unload_model("other", unload_dependents=True),
        lambda: pb_utils.is_model_ready(model_name="other"),
    ],
)
def test_what_is_not_supported_says_so(call):
    with pytest.raises(pb_utils.TritonModelException, match="not supported"):
        call()


def test_a_request_of_ones_own_has_no_sender():
    with pytest.raises(pb_utils.TritonModelException, match=r"execute\(\) was given"):
        pb_utils.InferenceRequest().get_response_sender()
    pb_utils.InferenceRequest().set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_ALL)


def test_response():
    tensor = pb_utils.Tensor("a", np.zeros(1))
    response = pb_utils.InferenceResponse([tensor], parameters={"k": "v"})
    assert not response.has_error()
    assert json.loads(response.parameters()) == {"k": "v"}
    assert pb_utils.get_output_tensor_by_name(response, "a") is tensor
    assert pb_utils.get_output_tensor_by_name(response, "b") is None
    error = pb_utils.TritonError("bad", pb_utils.TritonError.INVALID_ARG)
    failed = pb_utils.InferenceResponse(error=error)
    assert failed.has_error()
    assert (failed.error().message(), failed.error().code(), str(error)) == ("bad", 3, "bad")
    with pytest.raises(pb_utils.TritonModelException, match=r"takes pb_utils\.Tensor"):
        pb_utils.InferenceResponse([np.zeros(1)])


def test_logger_lines_carry_their_level(capsys):
    pb_utils.Logger.log_info("a")
    pb_utils.Logger.log_warn("b\nc")
    pb_utils.Logger.log_error("d")
    pb_utils.Logger.log_verbose("e")
    pb_utils.Logger.log("f", pb_utils.Logger.ERROR)
    assert capsys.readouterr().err.splitlines() == [
        "INFO: a", "WARNING: b", "  c", "ERROR: d", "DEBUG: e", "ERROR: f",
    ]  # fmt: skip


def test_byte_tensors():
    wire = pb_utils.serialize_byte_tensor(np.array([b"a\0", "b", b""], object))
    assert wire == b"\2\0\0\0a\0\1\0\0\0b\0\0\0\0"
    assert pb_utils.deserialize_bytes_tensor(wire).tolist() == [b"a\0", b"b", b""]
    assert pb_utils.serialize_byte_tensor(np.zeros(0, object)) is None


def test_config_look_ups():
    config = {"input": [{"name": "a"}], "model_transaction_policy": {"decoupled": True}}
    assert pb_utils.get_input_config_by_name(config, "a") == {"name": "a"}
    assert pb_utils.get_input_config_by_name(config, "b") is None
    assert pb_utils.get_output_config_by_name(config, "a") is None
    assert pb_utils.using_decoupled_model_transaction_policy(config)
    assert not pb_utils.using_decoupled_model_transaction_policy({})


A = {"name": "A", "data_type": "TYPE_FP32", "dims": [4]}


def test_model_config_is_completed_and_the_given_one_left_alone():
    given = {"name": "m", "input": [{**A, "dims": ["4"]}]}
    config = pb_utils.ModelConfig(given)
    config.add_input({**A, "optional": True})
    config.add_output({"name": "B", "data_type": "TYPE_INT8", "dims": []})
    config.set_max_batch_size(8)
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": False})
    assert given == {"name": "m", "input": [{**A, "dims": ["4"]}]}
    assert config.as_dict() == {
        "name": "m",
        "input": [{**A, "dims": ["4"], "optional": True}],
        "output": [{"name": "B", "data_type": "TYPE_INT8", "dims": []}],
        "max_batch_size": 8,
        "dynamic_batching": {},
        "model_transaction_policy": {"decoupled": False},
    }


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda c: c.add_input({**A, "dims": [5]}), r"expects TYPE_FP32 \[5\] but .* \[4\]"),
        (lambda c: c.add_input({**A, "data_type": "TYPE_INT8"}), "expects TYPE_INT8"),
        (lambda c: c.add_input({**A, "colour": 1}), "contains property 'colour'"),
        (lambda c: c.add_output({"name": "B", "dims": [1]}), "missing 'data_type'"),
        (lambda c: c.add_output({**A, "name": "B", "optional": True}), "property 'optional'"),
        (lambda c: c.set_max_batch_size(5), "specified max_batch_size 4, .* max_batch_size 5"),
        (lambda c: c.set_dynamic_batching(), "choice sequence_batching"),
        (lambda c: c.set_model_transaction_policy({"decoupled": False}), "from True to False"),
        (lambda c: c.set_model_transaction_policy({"other": 1}), "other than 'decoupled': other"),
    ],
)
def test_contradictions_name_the_model(call, says):
    config = pb_utils.ModelConfig(
        {
            "name": "m",
            "max_batch_size": 4,
            "input": [A],
            "sequence_batching": {},
            "model_transaction_policy": {"decoupled": True},
        }
    )
    with pytest.raises(ValueError, match=says) as caught:
        call(config)
    assert "'m'" in str(caught.value) or "sequence_batching" in str(caught.value)
