"""Split of joined is the identity: shapes of neighbours change nothing in anybody's answer."""

from __future__ import annotations

import numpy as np
from fakes.shapes import Answers, StackingReplica, a_request, batch_of, shaped_spec
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import (
    DATATYPES,
    BatchInput,
    InferRequest,
    PaddedInput,
    Shaping,
    TensorSpec,
)
from hostler.scheduler.shaping import Shaper

DIMS = st.lists(st.sampled_from([-1, -1, 1, 2, 3]), min_size=1, max_size=3).filter(
    lambda dims: -1 in dims
)
BUCKETS = st.lists(st.integers(1, 9), max_size=3, unique=True).map(
    lambda sizes: tuple(sorted(sizes))
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], list[InferRequest]]:
    """Item dims with variable ones, and requests of 1-3 rows each that fit them; all differ."""
    dims = draw(DIMS)
    requests = []
    for index in range(draw(st.integers(1, 5))):
        rows = draw(st.integers(1, 3))
        shape = [rows, *[draw(st.integers(0, 7)) if dim < 0 else dim for dim in dims]]
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1000 * (index + 1)
        requests.append(a_request(rows, x=array))
    return dims, requests


def answers_of(shaping: Shaping, dims: list[int], requests: list[InferRequest]) -> list[np.ndarray]:
    spec = TensorSpec("x", DATATYPES["FP32"], tuple(dims))
    out = TensorSpec("y", DATATYPES["FP32"], tuple(dims))
    answers = Answers(len(requests))
    replica = StackingReplica(lambda feeds: {"y": -feeds["x"]})
    Shaper(shaped_spec(shaping, (spec,), (out,)), shaping).run(
        replica, batch_of(*requests), answers
    )
    assert len(replica.seen) == 1
    return [found["y"] for found in answers.arrays()]


def check_identity(requests: list[InferRequest], answers: list[np.ndarray]) -> None:
    for request, answer in zip(requests, answers, strict=True):
        sent = request.inputs["x"].numpy()
        assert answer.shape == sent.shape
        assert (answer == -sent).all()


@given(batches(), BUCKETS, st.floats(-4, 4, width=32))
def test_padding(
    batch: tuple[list[int], list[InferRequest]], buckets: tuple[int, ...], value: float
) -> None:
    dims, requests = batch
    shaping = Shaping(padded=(PaddedInput("x", buckets, value),), cut={"y": "x"})
    check_identity(requests, answers_of(shaping, dims, requests))


@given(batches())
def test_ragged(batch: tuple[list[int], list[InferRequest]]) -> None:
    dims, requests = batch
    rule = BatchInput("BATCH_ELEMENT_COUNT", ("counts",), DATATYPES["INT32"], "x")
    shaping = Shaping(ragged=frozenset("x"), batch_inputs=(rule,), scattered={"y": "x"})
    check_identity(requests, answers_of(shaping, dims, requests))
