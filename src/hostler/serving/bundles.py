"""Requests of one job that are asked as one, so that each costs no turn of its own.

Only where nobody can tell: a runtime without side effects that computes rows apart. A bundle that
fails is asked again request by request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hostler.core import Code, HostlerError, InferRequest, InferResponse, Tensor
from hostler.runtimes import RUNTIMES
from hostler.serving.asking import Askable

__all__ = ["Bundle", "bundled", "unbundled"]

_OF_ONE: Final = frozenset((Code.INVALID_ARGUMENT, Code.MODEL_ERROR))
"""Errors that may be one request's alone."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several requests as one. `members`: place of each among all, and its rows."""

    request: InferRequest
    members: tuple[tuple[int, int], ...]


def bundled(live: Askable, requests: Sequence[InferRequest]) -> list[Bundle]:
    """Those that may be stacked with others, put together; copies their tensors.

    Of any thread. What is in no bundle is to be asked by itself.
    """
    spec, signature = live.spec, live.signature
    runtime = RUNTIMES.get(spec.runtime)
    rows_apart = signature.batched and spec.batching.rows_max > 1 and spec.shaping is None
    if runtime is None or not runtime.pure or not rows_apart or spec.sequencing is not None:
        return []
    alike: dict[object, list[tuple[int, int]]] = {}
    for place, request in enumerate(requests):
        if request.outputs is not None or request.parameters:
            continue
        try:
            rows, key = signature.check_inputs(request.inputs, live.name)
        except HostlerError:
            continue  # which asking it says
        alike.setdefault((key, tuple(request.inputs)), []).append((place, rows))
    return [
        Bundle(_stacked([requests[place] for place, _ in members]), tuple(members))
        for members in alike.values()
        if len(members) > 1
    ]


def unbundled(
    bundle: Bundle, whole: InferResponse | HostlerError
) -> list[InferResponse | HostlerError] | None:
    """What each member gets of the answer; None where each must be asked by itself."""
    if isinstance(whole, HostlerError):
        return None if whole.code in _OF_ONE else [whole] * len(bundle.members)
    total = sum(rows for _, rows in bundle.members)
    if any(not tensor.shape or tensor.shape[0] != total for tensor in whole.outputs):
        return None
    found: list[InferResponse | HostlerError] = []
    start = 0
    for _, rows in bundle.members:
        stop = start + rows
        outputs = [tensor.rows(start, stop) for tensor in whole.outputs]
        found.append(InferResponse(outputs, whole.parameters))
        start = stop
    return found


def _stacked(requests: Sequence[InferRequest]) -> InferRequest:
    names = requests[0].inputs
    return InferRequest(
        {name: Tensor.stack([request.inputs[name] for request in requests]) for name in names}
    )
