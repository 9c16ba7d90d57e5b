"""What DJL's Python models import: requests, answers and arrays."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hostler.worker import djl_python
from hostler.worker.djl_python import Input, Output, PairList
from hostler.worker.djl_python.encode_decode import decode, encode
from hostler.worker.djl_python.np_util import from_nd_list, to_nd_list
from hostler.worker.payloads import media_type, payload


@pytest.fixture
def _restored() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "djl_python"]:
        del sys.modules[name]


@pytest.mark.usefixtures("_restored")
def test_installed_under_its_public_names() -> None:
    djl_python.install()
    assert importlib.import_module("djl_python").Input is Input
    assert importlib.import_module("djl_python.outputs").Output is Output
    assert importlib.import_module("djl_python.encode_decode").decode is decode


def asked(content: Any = b"", content_type: str = "", **properties: Any) -> Input:
    inputs = Input()
    inputs.content.add("data", content)
    if content_type:
        inputs.properties["Content-Type"] = content_type
    inputs.properties.update(properties)
    return inputs


def test_input() -> None:
    inputs = asked(b'{"a": 1}', "application/json", Tag="x")
    assert inputs.get_property("TAG") == "x"
    assert inputs.get_property("none") is None
    assert not inputs.is_empty()
    assert inputs.contains_key("data")
    assert not inputs.contains_key("other")
    assert inputs.get_data() == {"a": 1}
    assert inputs.get_as_string("data") == '{"a": 1}'
    assert inputs.get_batches() == [inputs]
    assert not inputs.is_batch()
    with pytest.raises(KeyError, match="requested data for key:other"):
        inputs.get_as_bytes("other")
    assert "'Tag': 'x'" in str(inputs)
    assert Input().get_as_bytes() is None
    assert Input().is_empty()
    assert asked(b"a,b\n1,2\n").get_as_csv() == [{"a": "1", "b": "2"}]
    assert asked("ü".encode(), "text/plain").get_data() == "ü"
    assert asked(b"\0", "a/b").get_data() == b"\0"
    with pytest.raises(json.JSONDecodeError):
        asked(b"", "application/json").get_data()


def test_first_content_counts_where_none_is_called_data() -> None:
    inputs = Input()
    inputs.content.add("first", b"1")
    inputs.content.add("second", b"2")
    assert inputs.get_as_bytes() == b"1"
    inputs.content.add("data", b"3")
    assert inputs.get_as_bytes() == b"3"


def test_batches() -> None:
    inputs = Input()
    inputs.properties = {"batch_size": "2", "batch_000.a": "1", "batch_001.a": "2", "b": "3"}
    inputs.content.add("batch_000.data", b"x")
    inputs.content.add("batch_001.data", b"y")
    assert inputs.is_batch()
    first, second = inputs.get_batches()
    assert (first.properties, second.properties) == ({"a": "1"}, {"a": "2"})
    assert (first.get_as_bytes(), second.get_as_bytes()) == (b"x", b"y")


def test_output() -> None:
    output = Output().add("ü").add(b"1", key=7).add({"a": np.float32(1)}, batch_index=3)
    assert output.content.get_keys() == [None, "7", "batch_3."]
    assert output.content.get_values()[:2] == [bytearray("ü".encode()), b"1"]
    assert json.loads(output.content.value_at(2)) == {"a": 1.0}
    assert output.set_code(207).set_message("m").add_property("k", "v").get_property("k") == "v"
    assert (output.code, output.message) == (207, "m")
    assert json.loads(str(output))["code"] == 207
    values = {"i": np.int64(1), "b": np.bool_(True), "a": np.array([1, 2])}
    assert json.loads(Output().add_as_json(values).content.value_at(0)) == {
        "i": 1,
        "b": True,
        "a": [1, 2],
    }
    assert Output().add_as_json("text").content.value_at(0) == b'"text"'
    with pytest.raises(ValueError, match="JSON compliant"):
        Output().add_as_json(float("nan"))
    with pytest.raises(TypeError):
        Output().add(object())
    error = Output().error("no", code=507)
    assert (error.code, error.properties) == (507, {"content-type": "application/json"})
    assert json.loads(error.content.value_at(0))["error"] == "no"


def test_finalize() -> None:
    seen: list[int] = []
    Output().finalize(seen.append, 5).execute_finalize()
    assert seen == [5]
    assert Output().execute_finalize() is None


def test_pair_list() -> None:
    pairs = PairList(pair_map={"a": 1})
    pairs.add("b", 2)
    pairs.add("c")  # no value
    pairs.add("z", 0, index=0)
    pairs.add(pair=("d", 4))
    assert pairs.get_keys() == ["z", "a", "b", "d"]
    assert (pairs.get("b"), pairs.get("x"), pairs.size()) == (2, None, 4)
    assert (pairs.key_at(3), pairs.value_at(3)) == ("d", 4)
    other = PairList(pair_list=[("e", 5)])
    pairs.add_all(other)
    pairs.add_all(None)
    assert pairs.get("e") == 5
    with pytest.raises(ValueError, match="mismatch"):
        PairList([1], [1, 2])


ARRAYS = [
    np.array([[1, 2], [3, 4]], np.float32),
    np.array(7, np.int64),
    np.array([1, 2], ">i4"),
    np.zeros((0, 3), np.uint8),
    np.array([True, False]),
]


def test_lists_of_arrays() -> None:
    found = from_nd_list(to_nd_list(ARRAYS))
    for got, sent in zip(found, ARRAYS, strict=True):
        np.testing.assert_array_equal(got, sent)
        assert got.dtype == sent.dtype.newbyteorder("=")
    (alone,) = from_nd_list(to_nd_list(ARRAYS[0]))
    assert alone.shape == (2, 2)
    body = bytes(to_nd_list(np.array([1], np.int32)))
    (big,) = from_nd_list(body.replace(b"<", b">")[:-4] + b"\0\0\0\1")
    assert big.tolist() == [1]
    npz = io.BytesIO()
    np.savez(npz, ARRAYS[0])
    np.testing.assert_array_equal(from_nd_list(npz.getvalue())[0], ARRAYS[0])


def test_every_truncated_list_of_arrays_is_refused() -> None:
    body = bytes(to_nd_list(ARRAYS[:1]))
    for size in range(len(body)):
        with pytest.raises((ValueError, TypeError, UnicodeDecodeError)):
            from_nd_list(body[:size])
    with pytest.raises(ValueError, match="magic number is not NDAR"):
        from_nd_list(body.replace(b"NDAR", b"NDAX"))
    with pytest.raises(ValueError, match="require version 3, actual 4"):
        from_nd_list(body.replace(b"\0\0\0\3\0\0\7", b"\0\0\0\4\0\0\7"))


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (b'{"inputs": 1}', "", {"inputs": 1}),
        (b"", "", {"inputs": ""}),
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b"hi", "text/plain", {"inputs": ["hi"]}),
        (b"inputs\nx\ny\n", "text/csv", {"inputs": ["x", "y"]}),
        (b"question,context\na,b\n", "text/csv", {"inputs": [{"question": "a", "context": "b"}]}),
        (b"\0\1", "application/octet-stream", {"inputs": b"\0\1"}),
    ],
)
def test_decode(content: bytes, content_type: str, expected: Any) -> None:
    assert decode(asked(content), content_type) == expected


def test_decode_of_numbers() -> None:
    table = decode(asked(b"1,2\n3,4\n"), "text/csv", require_csv_headers=False)
    assert table.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="non-numeric"):
        decode(asked(b"1,x"), "text/csv", require_csv_headers=False)
    with pytest.raises(ValueError, match="header"):
        decode(asked(b"1,2"), "text/csv")
    arrays = decode(asked(bytes(to_nd_list(ARRAYS))), "tensor/ndlist")["inputs"]
    assert len(arrays) == len(ARRAYS)


def test_encode() -> None:
    for content_type, expected in (
        ("application/json", b'{\n  "a":1\n}'),
        ("text/csv", b"a\r\n1\r\n"),
    ):
        output = Output()
        prediction = {"a": 1} if "json" in content_type else [{"a": 1}]
        encode(output, prediction, content_type)
        assert output.content.value_at(0) == expected
        assert output.properties["Content-Type"] == content_type
    output = Output()
    encode(output, ARRAYS, "tensor/npz")
    assert len(asked(output.content.value_at(0)).get_as_npz()) == len(ARRAYS)


def test_payloads() -> None:
    assert media_type(" Text/CSV ; a=b") == "text/csv"
    assert payload(b"").outputs[0].array.shape == (0,)
    assert payload(b"ab", "a/b", "c").parameters == {
        "content_type": "a/b",
        "custom_attributes": "c",
    }
    assert payload(b"ab").parameters == {}
