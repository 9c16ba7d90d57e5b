import io
import json

import numpy as np
import pytest

from hostler.analysis import Ask
from hostler.analysis.inputs import again, requests_of
from hostler.core import DATATYPES, Code, HostlerError, Signature, TensorSpec


def tensor(name, datatype, *dims, optional=False):
    return TensorSpec(name, DATATYPES[datatype], dims, optional=optional)


FIXED = Signature((tensor("x", "FP32", 4), tensor("o", "INT64", -1, optional=True)), (), True)
OPEN = Signature((tensor("ids", "INT64", -1), tensor("image", "UINT8", 3, -1, -1)), (), True)
UNBATCHED = Signature((tensor("x", "FP32", 4),), ())


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def v2(*rows):
    return {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 4], "data": list(rows)}]
    }


def test_inputs_are_made_up_from_the_signature():
    (request,) = requests_of(Ask("m", rows=3), FIXED)
    assert list(request.inputs) == ["x"], "optional ones are left out"
    assert request.inputs["x"].shape == (3, 4)
    assert request.rows == 3
    values = request.inputs["x"].numpy()
    assert len(np.unique(values)) > 1
    again_same = requests_of(Ask("m", rows=3), FIXED)[0].inputs["x"].numpy()
    assert (values == again_same).all(), "the same each time"


@pytest.mark.parametrize("datatype", [name for name in DATATYPES])
def test_every_datatype_can_be_made_up(datatype):
    spec = tensor("x", datatype, 2, 3)
    (request,) = requests_of(Ask("m"), Signature((spec,), (), True))
    made = request.inputs["x"]
    assert made.shape == (1, 2, 3)
    assert made.numpy().dtype == DATATYPES[datatype].numpy
    if datatype.startswith(("INT", "UINT")) and datatype != "UINT8":
        assert made.numpy().max() < 16


def test_open_dimensions_must_be_given_and_the_error_says_how():
    with pytest.raises(HostlerError) as caught:
        requests_of(Ask("m"), OPEN)
    assert caught.value.code is Code.INVALID_ARGUMENT
    for words in ("'ids' [-1]", "--shape ids=128", "--shape image=3,128,128", "--data"):
        assert words in caught.value.message


def test_several_shapes_are_used_in_turn():
    shapes = {"ids": [(16,), (64,)], "image": [(3, 8, 8)]}
    requests = requests_of(Ask("m", shapes=shapes), OPEN)
    assert [request.inputs["ids"].shape for request in requests] == [(1, 16), (1, 64)]
    assert [request.inputs["image"].shape for request in requests] == [(1, 3, 8, 8)] * 2


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"nobody": [(1,)]}, "no input 'nobody'; it has 'ids', 'image'"),
        ({"ids": [(1, 2)], "image": [(3, 8, 8)]}, r"--shape ids=1,2 does not fit.*\[-1\]"),
        ({"ids": [(0,)], "image": [(3, 8, 8)]}, "--shape ids=0"),
        ({"ids": [(4,)], "image": [(4, 8, 8)]}, "--shape image=4,8,8"),
        ({"ids": [(4,)], "image": [(3, 10**5, 10**5)]}, "at most"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(HostlerError, match=message):
        requests_of(Ask("m", shapes=shapes), OPEN)


def test_v2_requests_from_json():
    one = requests_of(Ask("m", data=json.dumps(v2([1, 2, 3, 4])).encode()), FIXED)
    assert [request.rows for request in one] == [1]
    listed = [v2([1, 2, 3, 4]), v2([1, 2, 3, 4], [5, 6, 7, 8])]
    two = requests_of(Ask("m", data=json.dumps(listed).encode()), FIXED)
    assert [request.rows for request in two] == [1, 2]


def test_arrays_from_npz_are_cut_into_requests():
    data = npz(x=np.arange(20.0).reshape(5, 4))
    requests = requests_of(Ask("m", data=data, rows=2), FIXED)
    assert [request.inputs["x"].numpy()[0, 0] for request in requests] == [0.0, 8.0]
    assert requests[0].inputs["x"].datatype.name == "FP32"
    (whole,) = requests_of(Ask("m", data=npz(x=np.zeros(4, np.float32))), UNBATCHED)
    assert whole.inputs["x"].shape == (4,)
    text = Signature((tensor("t", "BYTES", 1),), (), True)
    (said,) = requests_of(Ask("m", data=npz(t=np.array([["grüße"]]))), text)
    assert said.inputs["t"].numpy().tolist() == [["grüße".encode()]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"neither", "neither JSON nor .npz"),
        (b"[]", "0 requests"),
        (b'[{"inputs": 1}]', "request 0"),
        (json.dumps(v2([1, 2])).encode(), "request 0"),
        (b"PK nonsense", "cannot be read as .npz"),
        (npz(), "no arrays"),
        (npz(z=np.zeros((1, 4))), "no input 'z'; it has 'x', 'o'"),
        (npz(x=np.zeros((1, 4), np.complex128)), "complex128"),
        (npz(x=np.zeros((1, 3))), "unexpected shape"),
        (npz(x=np.zeros((2, 4)), o=np.zeros((3, 1), np.int64)), "differ in their first"),
        (npz(x=np.zeros((0, 4))), "0 rows"),
        (npz(x=np.array([None], object)), "npz"),
    ],
)
def test_files_that_do_not_fit(data, message):
    with pytest.raises(HostlerError, match=message) as caught:
        requests_of(Ask("m", data=data), FIXED)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_question_is_asked_again_with_the_same_tensors():
    (request,) = requests_of(Ask("m"), FIXED)
    other = again(request)
    assert other is not request
    assert other.context is not request.context
    assert other.inputs["x"] is request.inputs["x"]
