"""Bodies of lines are cut for models of tensors, and their answers put together."""

from __future__ import annotations

import pytest

from hostler.core import Code, HostlerError, Signature, TensorSpec, datatype_named
from hostler.jobs.transform.bodies import PIECE_BYTES, joined, pieces
from hostler.serving import Answer, Question

FP32 = datatype_named("FP32")
ROWS = Signature((TensorSpec("x", FP32, (2,)),), (TensorSpec("y", FP32, (1,)),), batched=True)
WHOLE = Signature((TensorSpec("x", FP32, (-1,)),), (TensorSpec("y", FP32, (1,)),))
CSV = b"1.5,2.5\n" * (PIECE_BYTES // 4)


def test_lines_are_cut_at_their_ends() -> None:
    found = pieces(Question(CSV, "text/csv"), ROWS)
    assert len(found) == 2
    assert b"".join(one.body for one in found) == CSV
    assert all(one.body.endswith(b"\n") and len(one.body) <= PIECE_BYTES for one in found)


def test_a_long_line_stays_whole() -> None:
    long = b"1," * PIECE_BYTES + b"1\n"
    found = [one.body for one in pieces(Question(b"1,2\n" + long + b"3,4", "text/csv"), ROWS)]
    assert found == [b"1,2\n", long, b"3,4"]


@pytest.mark.parametrize(
    ("body", "content_type", "accept", "signature"),
    [
        (CSV[:100], "text/csv", "", ROWS),
        (CSV, "text/csv", "", WHOLE),
        (CSV, "text/csv", "application/json", ROWS),
        (CSV, "application/json", "", ROWS),
        (CSV, "application/x-nonsense", "", ROWS),
        (b'"a\nb",1\n' + CSV, "text/csv", "", ROWS),
        (b"\n" * PIECE_BYTES * 2, "text/csv", "", ROWS),
    ],
    ids=["short", "one-tensor", "json-answer", "json", "unknown", "quotes", "blank"],
)
def test_what_must_stay_whole_does(
    body: bytes, content_type: str, accept: str, signature: Signature
) -> None:
    question = Question(body, content_type, accept)
    assert pieces(question, signature) == [question]


def test_answers_are_put_together() -> None:
    one, two = Answer(b"1\n", "text/csv"), Answer(b"2\n", "text/csv")
    assert joined([one, two]) == Answer(b"1\n2\n", "text/csv")
    assert joined([one]) is one
    error = HostlerError(Code.MODEL_ERROR, "bad")
    assert joined([one, error, two]) is error
