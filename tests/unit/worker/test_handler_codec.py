import io
import json

import numpy as np
import pytest

from hostler.worker import handler_codec as codec
from hostler.worker.errors import Failure


def npy(array, **settings):
    stream = io.BytesIO()
    np.save(stream, array, **settings)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("[[1, 2], [3, 4]]", "application/json", [[1, 2], [3, 4]]),
        (b"\xef\xbb\xbf[1]", "application/json; charset=utf-8", [1]),
        ("1,2.5\n3,4\n", "text/csv", [[1, 2.5], [3, 4]]),
        ("1,2\r\n3,4\r\n", "Text/CSV;header=absent", [[1, 2], [3, 4]]),
        ("7", "text/csv", [[7]]),
        ("1\n2\n", "text/csv", [[1], [2]]),
        ("1,2", "text/csv", [[1, 2]]),
        ("1,\n,4", "text/csv", [[1, np.nan], [np.nan, 4]]),
        (npy(np.eye(2)), "application/x-npy", [[1, 0], [0, 1]]),
    ],
)
def test_decode(body, content_type, expected):
    np.testing.assert_array_equal(codec.decode(body, content_type), np.array(expected))


def test_words_in_csv_stay_words():
    array = codec.decode('1,"a, b"\n2,c\n', "text/csv")
    assert array.tolist() == [[1.0, "a, b"], [2.0, "c"]]
    assert array.dtype == object


@pytest.mark.parametrize(
    ("body", "content_type", "status", "says"),
    [
        ("[1", "application/json", 400, "no application/json"),
        ("[[1], [2, 3]]", "application/json", 400, "inhomogeneous"),
        ("[" * 100_000, "application/json", 400, "no application/json"),
        ("", "text/csv", 400, "empty"),
        ("1,2\n3\n", "text/csv", 400, "different numbers of fields"),
        (b"\xff\xfe", "text/csv", 400, "no text/csv"),
        (b"", "application/x-npy", 400, "no application/x-npy"),
        (b"nonsense", "application/x-npy", 400, "no application/x-npy"),
        (npy(np.array([{}]), allow_pickle=True), "application/x-npy", 400, "allow_pickle"),
        (b"", "image/png", 415, "'image/png' is not supported; send application/json"),
        (b"", "", 415, "content type '' is not supported"),
    ],
)
def test_bodies_that_are_not_taken(body, content_type, status, says):
    with pytest.raises(Failure, match=says) as caught:
        codec.decode(body, content_type)
    assert (caught.value.code, caught.value.status) == ("MODEL_ERROR", status)


ROWS = np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("prediction", "accept", "body", "kind"),
    [
        (ROWS, "application/json", b"[[1, 2], [3, 4]]", "application/json"),
        ({"a": np.float32(0.5)}, "application/json", b'{"a": 0.5}', "application/json"),
        (ROWS, "text/csv", b"1,2\n3,4\n", "text/csv"),
        (np.float64(3), "text/csv", b"3.0\n", "text/csv"),
        (["a", "b"], "text/csv", b"a\nb\n", "text/csv"),
        (ROWS, "application/x-npy", npy(ROWS), "application/x-npy"),
        (ROWS, "image/png, text/csv;q=0.5, application/json", b"1,2\n3,4\n", "text/csv"),
    ],
)
def test_encode(prediction, accept, body, kind):
    assert codec.encode(prediction, accept) == (body, kind)


def test_answers_that_nobody_can_write():
    with pytest.raises(Failure, match="accept 'image/png' is not supported") as caught:
        codec.encode([1], "image/png")
    assert caught.value.status == 406
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        codec.encode(object(), "application/json")


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse")
    stream = io.BytesIO()
    sparse.save_npz(stream, sparse.csr_matrix(np.eye(3)))
    matrix = codec.decode(stream.getvalue(), "application/x-npz")
    assert json.dumps(matrix.toarray().tolist()) == json.dumps(np.eye(3).tolist())
