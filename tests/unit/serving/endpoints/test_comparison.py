"""Two answers to one request."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from hostler.core import Code, HostlerError
from hostler.serving import Comparison, Difference, Outcome, compare
from hostler.serving.endpoints.comparison import COMPARED_BYTES_MAX

JSON = "application/json"


def pair(a: bytes | str, b: bytes | str, kind: str = JSON) -> Comparison:
    bodies = [body.encode() if isinstance(body, str) else body for body in (a, b)]
    return compare(*(Outcome(0.1, body, kind) for body in bodies))


def npy(*rows: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows))
    return file.getvalue()


def of(a: str | bytes, b: str | bytes, kind: str = JSON) -> Difference:
    found = pair(a, b, kind).difference
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        (JSON, "[[1, 2, 3], [4, 5, 6]]", "[[1, 2, 3], [4, 8, 6]]"),
        (JSON, '{"predictions": [[1,2,3],[4,5,6]]}', '{"predictions": [[1,2,3],[4,8,6]]}'),
        (
            f"{JSON}; charset=utf-8",
            '{"outputs": [{"name": "y", "shape": [2, 3], "data": [1,2,3,4,5,6]}]}',
            '{"outputs": [{"name": "y", "shape": [2, 3], "data": [1,2,3,4,8,6]}]}',
        ),
        ("text/csv", "1,2,3\n4,5,6\n", "1,2,3\r\n4,8,6"),
        ("text/csv", "p,q,r\n1,2,3\n4,5,6\n", "p,q,r\n1,2,3\n4,8,6\n"),
        ("application/jsonlines", "[1,2,3]\n[4,5,6]\n", "[1,2,3]\n\n[4,8,6]\n"),
        ("application/x-npy", npy([1, 2, 3], [4, 5, 6]), npy([1, 2, 3], [4, 8, 6])),
    ],
)
def test_numbers_are_found_and_rows_compared(kind: str, a: str | bytes, b: str | bytes) -> None:
    assert of(a, b, kind) == Difference(
        count=6,
        absolute_max=3.0,
        absolute_mean=0.5,
        relative_max=0.375,
        relative_mean=pytest.approx(0.0625),
        rows=2,
        rows_agreed=1,
    )
    assert not pair(a, b, kind).equal
    assert pair(a, a, kind).equal


@pytest.mark.parametrize(
    ("a", "b", "absolute", "relative"),
    [
        ("[NaN]", "[NaN]", 0.0, 0.0),
        ("[Infinity]", "[Infinity]", 0.0, 0.0),
        ("[NaN]", "[1]", float("inf"), float("inf")),
        ("[Infinity]", "[-Infinity]", float("inf"), float("inf")),
        ("[0]", "[0.0]", 0.0, 0.0),
        ("[0]", "[2]", 2.0, 1.0),
        ("[-1]", "[1]", 2.0, 2.0),
        ('{"b": 1, "a": 2}', '{"a": 2, "b": 1}', 0.0, 0.0),
    ],
)
def test_numbers_that_are_hard_to_compare(a: str, b: str, absolute: float, relative: float) -> None:
    found = of(a, b)
    assert (found.absolute_max, found.relative_max) == (absolute, relative)
    assert pair(a, b).equal is (absolute == 0.0)


@pytest.mark.parametrize(
    ("kind", "a", "b", "why"),
    [
        (JSON, "[1, 2]", "[1, 2, 3]", "another shape"),
        (JSON, "[[1, 2]]", "[[1], [2]]", "another shape"),
        (JSON, '"cat"', '"dog"', "no numbers"),
        (JSON, "[true]", "[false]", "no numbers"),
        (JSON, "[1", "[2", "no numbers"),
        (JSON, "[" * 100_000, "[", "no numbers"),
        (JSON, "[" * 50 + "1" + "]" * 50, "[1]", "no numbers"),
        (JSON, '{"shape": [3], "data": [1]}', "[1]", "no numbers"),
        (JSON, '{"shape": [1], "data": ["x"]}', "[1]", "no numbers"),
        (JSON, f"[1{'0' * 400}]", "[1]", "no numbers"),
        (JSON, b"\xff\xfe", b"", "no numbers"),
        ("application/x-npy", b"\x93NUMPY", b"", "no numbers"),
        ("application/x-npy", npy(1.5).replace(b"(1,)", b"(9,)"), npy(1.5), "no numbers"),
        (
            "application/x-npy",
            npy(1.5).replace(b"(1,), }" + b" " * 14, b"(%d,), }" % 10**14),
            npy(1.5),
            "no numbers",
        ),
        ("application/x-npy", npy(), npy(1.5), "no numbers"),
        ("application/x-npy", npy("cat"), npy("dog"), "no numbers"),
        ("application/octet-stream", b"\x00\x01", b"\x00", "no numbers"),
        (JSON, "[1" + " " * COMPARED_BYTES_MAX + "]", "[1]", "too large"),
    ],
)
def test_what_holds_no_comparable_numbers_is_equal_or_not(
    kind: str, a: str | bytes, b: str | bytes, why: str
) -> None:
    found = pair(a, b, kind)
    assert (found.equal, found.difference) == (False, None)
    assert why in found.why_not
    assert pair(a, a, kind).equal


def test_arrays_in_the_order_of_columns_are_read_by_rows() -> None:
    file = io.BytesIO()
    np.save(file, np.asfortranarray([[1, 2, 3], [4, 5, 6]]))
    found = of(file.getvalue(), npy([1, 2, 3], [4, 5, 6]), "application/x-npy")
    assert (found.rows, found.absolute_max) == (2, 0.0)


def test_pickled_arrays_are_not_opened() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    assert pair(file.getvalue(), npy(1), "application/x-npy").why_not == "no numbers"


def test_errors_are_equal_where_they_are_of_one_kind() -> None:
    fine = Outcome(0.1, b"[1]", JSON)
    no, other = (
        Outcome(0.1, error=HostlerError(code, "x")) for code in (Code.INTERNAL, Code.MODEL_ERROR)
    )
    assert compare(no, no).equal
    for a, b in ((no, fine), (fine, no), (no, other)):
        assert not compare(a, b).equal
        assert compare(a, b).difference is None


def test_large_json_of_numbers_is_read() -> None:
    rows = [[float(i), 0.5] for i in range(5000)]
    text = json.dumps(rows)
    assert of(text, text).rows_agreed == 5000
