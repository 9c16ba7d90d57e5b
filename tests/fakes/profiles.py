"""Models that are a formula, and profiles made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hostler.analysis import Ask, Choice, Facts, Profile, Result
from hostler.analysis.choices import AS_IT_IS
from hostler.analysis.plan import Plan
from hostler.core import DATATYPES, Batching, ModelSpec, Signature, TensorSpec

CONFIG = {
    "name": "m",
    "max_batch_size": 16,
    "instance_group": [{"name": "m_0", "kind": "KIND_CPU", "count": 1, "gpus": []}],
    "parameters": {},
    "model_warmup": [{"name": "w"}],
    "response_cache": {"enable": True},
    "version_policy": {"latest": {"num_versions": 1}},
}

ASK = Ask("m")

FACTS = Facts("onnx", 16, 1, None, tunable=True, threaded=True, request_rows=1, cores=2)


def spec(**changes: object) -> ModelSpec:
    """A completed spec with `CONFIG`."""
    tensor = TensorSpec("x", DATATYPES["FP32"], (4,))
    fields = {
        "config": CONFIG,
        "signature": Signature((tensor,), (tensor,), batched=True, rows_max=16),
        "batching": Batching(rows_max=16),
        **changes,
    }
    return ModelSpec("m", 3, Path("m"), Path("m/3/model.onnx"), "onnx", **fields)  # type: ignore[arg-type]


def measured(
    choice: Choice = AS_IT_IS,
    concurrency: int = 1,
    rate: float = 100.0,
    latency_s: float = 0.01,
    **more: object,
) -> Result:
    """A result with a noise of one percent."""
    rates = [rate * (1 + 0.01 * step) for step in (-1, 0, 1, 0, 0)]
    return Result(choice, concurrency, [latency_s] * 200, rates, 50 << 20, **more)  # type: ignore[arg-type]


Formula = Callable[[Choice, int], tuple[float, float] | str]
"""Throughput and latency of a point, or its error."""


def swept(
    formula: Formula,
    ask: Ask = ASK,
    facts: Facts = FACTS,
    step_s: float = 1.0,
) -> tuple[Plan, list[tuple[Choice, int]]]:
    """A plan driven to its end; every point takes `step_s`."""
    plan, asked, elapsed_s = Plan(facts, ask), [], 0.0
    points = plan.points()
    try:
        point = next(points)
        while True:
            asked.append((point.choice, point.concurrency))
            elapsed_s += step_s
            found = formula(point.choice, point.concurrency)
            if isinstance(found, str):
                result = Result(point.choice, point.concurrency, elapsed_s=elapsed_s, error=found)
            else:
                result = measured(point.choice, point.concurrency, *found, elapsed_s=elapsed_s)
            point = points.send(result)
    except StopIteration:
        return plan, asked


def profile(
    results: Sequence[Result],
    ask: Ask = ASK,
    facts: Facts = FACTS,
    **changes: object,
) -> Profile:
    """What is made of these results."""
    plan = Plan(facts, ask)
    for result in results:
        plan._keep(result)
    return Profile(ask, facts, spec(**changes), plan.results, [], plan.best(), 12.0)
