"""Ensembles and their models as specs, and models that a test answers for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from fakes.clock import FakeClock

from hostler.core import (
    DATATYPES,
    Clock,
    Context,
    HostlerError,
    InferRequest,
    InferResponse,
    Inspection,
    ModelSpec,
    RequestedOutput,
    ResponseStream,
    Signature,
    Stats,
    Tensor,
    TensorSpec,
)
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository import complete
from hostler.repository.derive import derive, normalise
from hostler.repository.platforms import PLATFORMS
from hostler.serving.ensemble import EnsembleScheduler
from hostler.serving.ensemble_layout import Layout, arrange

__all__ = [
    "FakeInvoke",
    "asking",
    "bools",
    "ensemble",
    "floats",
    "layout_of",
    "names_of",
    "part",
    "scheduler_of",
    "steps_text",
]

_TENSOR = re.compile(r"(\w+):(\w+)\[([-\d, ]*)\](\??)")


def tensors(text: str) -> tuple[TensorSpec, ...]:
    """`x:FP32[2] m:BOOL[-1, 1]?`, where the last one is optional."""
    return tuple(
        TensorSpec(
            name,
            DATATYPES[datatype],
            tuple(int(dim) for dim in dims.split(",") if dim.strip()),
            optional=bool(optional),
        )
        for name, datatype, dims, optional in _TENSOR.findall(text)
    )


def part(
    name: str,
    inputs: str = "x:FP32[2]",
    outputs: str = "y:FP32[2]",
    *,
    rows: int = 0,
    decoupled: bool = False,
) -> ModelSpec:
    """A completed model to make ensembles of."""
    signature = Signature(tensors(inputs), tensors(outputs), batched=rows > 0, rows_max=rows)
    spec = ModelSpec(name, 1, Path(name), Path(name) / "1" / "model.py", "python")
    return replace(spec, signature=signature, decoupled=decoupled)


def steps_text(*steps: str, inflight: int = 0) -> str:
    """`a: x=X m=M -> y=Y` for each step, as config text; `a@3:` is of version 3."""
    made = []
    for step in steps:
        model, _, maps = step.partition(":")
        name, _, version = model.partition("@")
        halves = maps.partition("->")
        fields = [f"model_name: '{name}' model_version: {version or -1}"]
        for field, half in (("input_map", halves[0]), ("output_map", halves[2])):
            for pair in half.split():
                key, _, value = pair.partition("=")
                fields.append(f"{field} {{ key: '{key}' value: '{value}' }}")
        made.append("step { " + " ".join(fields) + " }")
    return f"ensemble_scheduling {{ {' '.join(made)} max_inflight_requests: {inflight} }}"


def ensemble(
    inputs: str,
    outputs: str,
    *steps: str,
    run_if: Mapping[int, str] | None = None,
    inflight: int = 0,
    text: str = "",
    name: str = "e",
) -> ModelSpec:
    """An ensemble as the repository reads it; `text` is added to its config."""
    parts = [f"name: '{name}' platform: 'ensemble' {text}"]
    for kind, specs in (("input", tensors(inputs)), ("output", tensors(outputs))):
        for spec in specs:
            word = "STRING" if spec.datatype.is_bytes else spec.datatype.name
            optional = "optional: true" if spec.optional else ""
            dims = list(spec.dims)
            parts.append(
                f"{kind} {{ name: '{spec.name}' data_type: TYPE_{word} dims: {dims} {optional} }}"
            )
    if steps:
        parts.append(steps_text(*steps, inflight=inflight))
    for index, condition in (run_if or {}).items():
        parts.append(
            f"parameters {{ key: 'step[{index}].run_if' value {{ string_value: '{condition}' }} }}"
        )
    config = to_json(parse_text(" ".join(parts), "config.pbtxt"))
    platform = next(p for p in PLATFORMS if p.runtime == "ensemble")
    spec = ModelSpec(
        name, 1, Path(name), Path(name) / "1", "ensemble", platform.platform, fingerprint="a"
    )
    return derive(spec, normalise(config, name, platform, "1"), rows_known=True)


def layout_of(spec: ModelSpec, *parts: ModelSpec) -> Layout:
    """An ensemble joined with these models, by name."""
    assert spec.ensemble is not None
    by_name = {p.name: p for p in parts}
    return arrange(complete(spec, Inspection()), [by_name[s.model] for s in spec.ensemble.steps])


def floats(name: str, *values: float, shape: tuple[int, ...] | None = None) -> Tensor:
    array = np.array(values, np.float32)
    shape = array.shape if shape is None else shape
    return Tensor(name, DATATYPES["FP32"], shape, array.reshape(shape))


def bools(name: str, *values: bool, shape: tuple[int, ...] | None = None) -> Tensor:
    array = np.array(values, np.bool_)
    shape = array.shape if shape is None else shape
    return Tensor(name, DATATYPES["BOOL"], shape, array.reshape(shape))


def asking(*inputs: Tensor, outputs: Sequence[str] | None = None, **context: float) -> InferRequest:
    """A request with these inputs, for these outputs."""
    wanted = None if outputs is None else [RequestedOutput(name) for name in outputs]
    return InferRequest(
        {tensor.name: tensor for tensor in inputs},
        outputs=wanted,
        context=Context(**context),  # type: ignore[arg-type]
    )


def names_of(response: InferResponse) -> list[str]:
    return [tensor.name for tensor in response.outputs]


class FakeInvoke:
    """Models that a test answers for.

    `asked`: the requests, by model. `open`: unary calls that wait, by model; `streams`: the
    streams of decoupled models, in the order of asking. `cancelled`: models whose call was given
    up.
    """

    def __init__(self) -> None:
        self.asked: dict[str, list[InferRequest]] = {}
        self.versions: dict[str, int | None] = {}
        self.open: dict[str, list[asyncio.Future[InferResponse]]] = {}
        self.streams: dict[str, list[ResponseStream]] = {}
        self.cancelled: list[str] = []

    async def infer(self, model: str, version: int | None, request: InferRequest) -> InferResponse:
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
        self.asked.setdefault(model, []).append(request)
        self.versions[model] = version
        self.open.setdefault(model, []).append(future)
        request.context.on_cancel(lambda: self.cancelled.append(model))
        return await future

    async def stream(
        self, model: str, version: int | None, request: InferRequest
    ) -> ResponseStream:
        self.asked.setdefault(model, []).append(request)
        stream = ResponseStream(request.context.cancel)
        self.streams.setdefault(model, []).append(stream)
        request.context.on_cancel(lambda: self.cancelled.append(model))
        return stream

    async def signature(self, model: str, version: int | None, context: Context) -> Signature:
        raise AssertionError(f"model '{model}' was asked what it takes")

    def running(self) -> list[str]:
        """Models with a unary call that waits."""
        return sorted(m for m, calls in self.open.items() for c in calls if not c.done())

    def answer(self, model: str, *outputs: Tensor, **parameters: str | int | bool) -> None:
        """Answer the oldest call of a model."""
        self.open[model].pop(0).set_result(InferResponse(outputs, parameters))

    def fail(self, model: str, error: HostlerError) -> None:
        self.open[model].pop(0).set_exception(error)


def scheduler_of(
    layout: Layout, clock: Clock | None = None, requests_max: int = 100
) -> tuple[EnsembleScheduler, FakeInvoke]:
    """An ensemble that runs on models which the test answers for."""
    invoke = FakeInvoke()
    scheduler = EnsembleScheduler(layout, Stats(), invoke, clock or FakeClock(), requests_max)
    return scheduler, invoke
