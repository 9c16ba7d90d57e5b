"""Requests of a job asked as one: nobody can tell from the answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes.gateway import FP32, SIGNATURE, FakeLive

from hostler.core import (
    Batching,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Sequencing,
    Tensor,
)
from hostler.serving import Question, answer_many
from hostler.serving.bundles import bundled, unbundled


def rows(*values: float, **given: Any) -> InferRequest:
    data = np.array([[value, 1] for value in values], np.float32)
    return InferRequest({"X": Tensor("X", FP32, data.shape, data)}, **given)


class Live(FakeLive):
    background_rows = 64

    def __init__(self, **spec: Any) -> None:
        super().__init__("m")
        self.signature = replace(SIGNATURE, rows_max=0)
        spec = {"runtime": "onnx", "batching": Batching(rows_max=64), **spec}
        self.spec = replace(self.spec, signature=self.signature, **spec)


def whole(request: InferRequest) -> InferResponse:
    tensor = request.inputs["X"]
    return InferResponse([Tensor("Y", FP32, tensor.shape, tensor.data)])


def test_each_member_gets_its_own_rows() -> None:
    requests = [rows(1, 2), rows(3), rows(4, 5, 6)]
    [bundle] = bundled(Live(), requests)
    assert bundle.members == ((0, 2), (1, 1), (2, 3))
    found = unbundled(bundle, whole(bundle.request))
    assert found is not None
    values = [one.outputs[0].numpy()[:, 0].tolist() for one in found]  # type: ignore[union-attr]
    assert values == [[1, 2], [3], [4, 5, 6]]


@pytest.mark.parametrize(
    "spec",
    [
        {"runtime": "python"},
        {"batching": Batching(rows_max=1)},
        {"sequencing": Sequencing()},
    ],
    ids=["user-code", "rows-alone", "sequences"],
)
def test_where_somebody_could_tell_nothing_is_bundled(spec: dict[str, Any]) -> None:
    assert bundled(Live(**spec), [rows(1), rows(2)]) == []


def test_what_does_not_fit_is_left_out() -> None:
    wrong = InferRequest({"Z": Tensor("Z", FP32, (1, 2), np.ones((1, 2), np.float32))})
    named = rows(5, outputs=[RequestedOutput("Y")])
    told = rows(6, parameters={"temperature": 1})
    [bundle] = bundled(Live(), [rows(1), wrong, named, told, rows(2)])
    assert bundle.members == ((0, 1), (4, 1))
    assert bundled(Live(), [rows(1), wrong]) == []


@pytest.mark.parametrize("code", list(Code))
def test_an_error_that_may_be_of_one_is_looked_for(code: Code) -> None:
    [bundle] = bundled(Live(), [rows(1), rows(2)])
    error = HostlerError(code, "no")
    expected = None if code in (Code.MODEL_ERROR, Code.INVALID_ARGUMENT) else [error, error]
    assert unbundled(bundle, error) == expected


def test_an_output_of_other_rows_is_nobodys() -> None:
    [bundle] = bundled(Live(), [rows(1), rows(2)])
    assert unbundled(bundle, whole(rows(1))) is None


async def test_one_bad_request_of_a_bundle_fails_alone() -> None:
    class Choosy(Live):
        def answer(self, request: InferRequest) -> InferResponse:
            if 7.0 in request.inputs["X"].numpy():
                raise HostlerError(Code.MODEL_ERROR, "seven")
            return super().answer(request)

        def infer(self, request: InferRequest) -> Any:
            try:
                return super().infer(request)
            except HostlerError as error:
                import asyncio

                future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
                future.set_exception(error)
                return future

    live = Choosy()
    questions = [Question(f"{value},1".encode(), "text/csv") for value in range(20)]
    with ThreadPoolExecutor(1) as threads:
        found = await answer_many(live, questions, lambda: Context(background=True), threads)
    said = [one.message if isinstance(one, HostlerError) else one.body.decode() for one in found]
    expected = [f"{value}.0,1.0\n" for value in range(20)]
    assert said == [*expected[:7], "seven", *expected[8:]]
    assert len(live.requests) == 21, "all at once, then each alone"
