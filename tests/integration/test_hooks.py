"""Hooks in workers around a model in process, through the door that endpoints use."""

from __future__ import annotations

import asyncio
import io
import json
import os
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.onnx_models import add_sub, affine
from fakes.packages import write_package

from hostler import placement, scheduler
from hostler import serving as serving_room
from hostler.core import (
    DATATYPES,
    Code,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Stats,
    SystemClock,
    Tensor,
    payload_body,
    payload_request,
)
from hostler.placement import LocalPlacement, available_bytes, process_bytes, trim_memory
from hostler.placement.process import Config as WorkersConfig
from hostler.repository import Config, Container, Repository, read_container
from hostler.serving import Host, Serving

NAME = "endpoint/e/1/a/0"
CSV = {"content_type": "text/csv"}
FUNCTIONS = """
    import json, os, time
    import numpy as np
    from PIL import Image
    import io

    def input_fn(body, content_type):
        if content_type == "image/png":
            return np.asarray(Image.open(io.BytesIO(body)), np.uint8).reshape(1, 4)
        if body == "crash":
            os._exit(3)
        if body == "raise":
            raise ValueError("bad mood")
        return [[float(cell) for cell in line.split(",")] for line in body.splitlines()]

    def output_fn(prediction, accept):
        if prediction[0, 0] == 13 * 2:
            raise OSError("unlucky")
        if accept == "text/event-stream":
            return (f"{value};" for value in prediction[0]), accept
        return json.dumps({"sums": prediction.sum(axis=1).tolist(), "pid": os.getpid()})
    """
HANDLERS = """
    import json
    def input_handler(data, context):
        assert context.model_name == "pair" and context.rest_uri is None
        rows = [[int(cell) for cell in line.split(",")] for line in data.read().decode().split()]
        return json.dumps({"instances": [{"INPUT0": row, "INPUT1": row[::-1]} for row in rows]})
    def output_handler(response, context):
        if response.status_code != 200:
            return json.dumps([response.status_code, response.json()["error"]]), "text/plain"
        return json.dumps(response.json()["predictions"]), context.accept_header
    """


def serving_of_nothing() -> Serving:
    clock = SystemClock()

    def new_scheduler(spec: ModelSpec, stats: Stats) -> scheduler.Scheduler:
        return scheduler.Scheduler(spec, stats, clock, scheduler.Config())

    return Serving(
        serving_room.Config(control_mode="explicit"),
        Repository([], Config()),
        LocalPlacement(placement.Config(), WorkersConfig(), clock),
        new_scheduler,
        clock,
        host=Host(process_bytes=process_bytes, available_bytes=available_bytes, trim=trim_memory),
    )


@asynccontextmanager
async def hosted(folder: Path, script: str, **variables: str) -> AsyncIterator[Serving]:
    write_package(folder, {"code/inference.py": textwrap.dedent(script)})
    found = read_container(NAME, folder, "t", Container("", variables), 1, Config())
    served = serving_of_nothing()
    await served.start()
    try:
        await served.host(found.packages)
        await served.warm(found.entry)
        yield served
    finally:
        await served.stop(5.0)


async def ask(
    serving: Serving, body: bytes, *, name: str = NAME, context: Context | None = None, **more: str
) -> tuple[bytes, dict[str, Any]]:
    context = context or Context()
    live = await serving.acquire_hosted(name, context)
    try:
        answer = await live.infer(payload_request(body, {**CSV, **more}, context))
    finally:
        live.release()
    return bytes(payload_body(answer)), dict(answer.parameters)


async def refusal(serving: Serving, body: bytes, **more: str) -> HostlerError:
    with pytest.raises(HostlerError) as caught:
        await ask(serving, body, **more)
    return caught.value


async def bare(serving: Serving, model: str, **arrays: Any) -> InferResponse:
    """The model itself."""
    kinds = {np.dtype("f4"): DATATYPES["FP32"], np.dtype("i4"): DATATYPES["INT32"]}
    tensors = {n: Tensor.from_numpy(n, a, kinds[a.dtype]) for n, a in arrays.items()}
    live = await serving.acquire_hosted(f"{NAME}/{model}", Context())
    try:
        return await live.infer(InferRequest(tensors, context=Context()))
    finally:
        live.release()


def csv_of(rows: Any) -> bytes:
    return "\n".join(",".join(repr(float(cell)) for cell in row) for row in rows).encode()


async def test_functions_around_a_model_answer_as_the_model_itself(tmp_path: Path) -> None:
    affine(tmp_path / "digits.onnx", 2.0, 1.0)
    async with hosted(tmp_path, FUNCTIONS, SAGEMAKER_MODEL_SERVER_WORKERS="2") as serving:
        index = {row.name: row.loaded for row in serving.index(hosted=True)}
        assert index == {NAME: True, f"{NAME}/digits": True}, "one warm loads both"
        rows = [np.random.default_rng(i).normal(size=(i % 3 + 1, 4)) for i in range(40)]
        answers = await asyncio.gather(*[ask(serving, csv_of(block)) for block in rows])
        pids = set()
        for block, (body, parameters) in zip(rows, answers, strict=True):
            found = await bare(serving, "digits", x=block.astype(np.float32))
            said = json.loads(body)
            np.testing.assert_allclose(said["sums"], found.outputs[0].data.sum(axis=1), rtol=1e-5)
            assert parameters == {"content_type": "application/json"}
            pids.add(said["pid"])
        assert len(pids) == 2
        assert os.getpid() not in pids


async def test_a_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    affine(tmp_path / "model.onnx", 1.0)
    stream = io.BytesIO()
    image.fromarray(np.array([[1, 2], [3, 250]], np.uint8)).save(stream, "png")
    async with hosted(tmp_path, FUNCTIONS, SAGEMAKER_MODEL_SERVER_WORKERS="1") as serving:
        body, _ = await ask(serving, stream.getvalue(), content_type="image/png")
        assert json.loads(body)["sums"] == [256.0]


async def test_what_goes_wrong_says_where_and_costs_nobody_else(tmp_path: Path) -> None:
    affine(tmp_path / "model.onnx", 2.0)
    async with hosted(tmp_path, FUNCTIONS, SAGEMAKER_MODEL_SERVER_WORKERS="2") as serving:
        error = await refusal(serving, b"raise")
        assert (error.code, error.details) == (Code.MODEL_ERROR, {"status": 500})
        assert "failed in input_fn: ValueError: bad mood (code/inference.py:" in error.message
        error = await refusal(serving, b"13,0,0,0")
        assert "failed in output_fn: OSError: unlucky" in error.message
        error = await refusal(serving, b"no picture", content_type="image/png")
        assert "failed in input_fn: UnidentifiedImageError" in error.message
        error = await refusal(serving, b"1,2")
        assert error.code is Code.INVALID_ARGUMENT
        assert "what its hooks made of the request does not fit" in error.message
        assert (await refusal(serving, b"crash")).code is Code.WORKER_LOST
        body, _ = await ask(serving, b"1,2,3,4")
        assert json.loads(body)["sums"] == [20.0], "the other worker goes on"


async def test_a_crash_costs_one_request_where_a_worker_has_one_in_hand(tmp_path: Path) -> None:
    affine(tmp_path / "model.onnx", 2.0)
    variables = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2", "HOSTLER_REQUESTS_PER_WORKER": "1"}
    async with hosted(tmp_path, FUNCTIONS, **variables) as serving:
        bodies = [b"crash" if index == 5 else b"1,2,3,4" for index in range(30)]
        work = [ask(serving, body) for body in bodies]
        answers = await asyncio.gather(*work, return_exceptions=True)
        failed = [i for i, answer in enumerate(answers) if isinstance(answer, BaseException)]
        assert failed == [5]


async def test_an_answer_in_pieces(tmp_path: Path) -> None:
    affine(tmp_path / "model.onnx", 2.0)
    async with hosted(tmp_path, FUNCTIONS, SAGEMAKER_MODEL_SERVER_WORKERS="1") as serving:
        live = await serving.acquire_hosted(NAME, Context())
        parameters = {**CSV, "accept": "text/event-stream"}
        stream = live.stream(payload_request(b"1,2,3,4", parameters, Context()))
        pieces = [bytes(payload_body(answer)) async for answer in stream if answer.outputs]
        live.release()
        assert pieces == [b"2.0;", b"4.0;", b"6.0;", b"8.0;"]


async def test_a_model_that_is_broken_is_told_when_it_is_warmed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(HostlerError, match=r"model\.onnx"):
        async with hosted(tmp_path, FUNCTIONS):
            pass


async def test_handlers_and_several_inputs(tmp_path: Path) -> None:
    add_sub(tmp_path / "pair" / "1" / "model.onnx", width=2)
    async with hosted(tmp_path, HANDLERS) as serving:
        body, told = await ask(serving, b"1,2\n3,5")
        assert json.loads(body) == [
            {"OUTPUT0": [3, 3], "OUTPUT1": [-1, 1]},
            {"OUTPUT0": [8, 8], "OUTPUT1": [-2, 2]},
        ]
        assert told == {"content_type": "application/json"}
        body, _ = await ask(serving, b"1,2,3")
        status, text = json.loads(body)
        assert (status, "INPUT0" in text) == (400, True)
        error = await refusal(serving, b"x")
        assert "ValueError" in json.loads(error.message)["error"]


async def test_the_context_passes_through(tmp_path: Path) -> None:
    affine(tmp_path / "model.onnx", 2.0)
    async with hosted(tmp_path, FUNCTIONS, SAGEMAKER_MODEL_SERVER_WORKERS="1") as serving:
        seen = []
        live = await serving.acquire_hosted(f"{NAME}/model", Context())
        submit = live.scheduler.submit

        def watched(request: InferRequest) -> Any:
            seen.append(request.context)
            return submit(request)

        live._submit = watched
        deadline = SystemClock().now() + 20.0
        context = Context(deadline=deadline, priority=3, background=True)
        await ask(serving, b"1,2,3,4", context=context)
        live.release()
        (inner,) = seen
        assert (inner.deadline, inner.priority, inner.background) == (deadline, 3, True)
        assert inner.call_path == (NAME,)
