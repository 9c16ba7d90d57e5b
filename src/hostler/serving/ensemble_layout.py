"""An ensemble's plan joined with what its models say of themselves. Pure.

A *region* is what is done once for each response of the decoupled step before it: region 0 is done
once a request, and a decoupled step leads from the region of its inputs to another. All inputs of
a step come from one region, and so do all outputs of the ensemble.

Source: Triton core `ValidateEnsembleConfig`, `ValidateTensorMapping`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hostler.core import (
    Code,
    DataType,
    EnsemblePlan,
    EnsembleStep,
    HostlerError,
    ModelSpec,
    RequestedOutput,
    Signature,
    TensorSpec,
)

__all__ = ["Layout", "Link", "Step", "arrange", "fits"]


@dataclass(frozen=True, slots=True)
class Link:
    """An input of a step's model and the ensemble's tensor that it takes.

    `dims`, `batched`: of the model's input; see `core.TensorSpec`, `core.Signature`.
    """

    name: str
    tensor: str
    dims: tuple[int, ...]
    batched: bool
    optional: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step, ready to be run.

    `place`: how messages name it. `outputs`: the model's names to the ensemble's. `asked`: what to
    ask of the model, None for all it has. `gives_batched`: the model's outputs have a batch
    dimension. `needs`, `run_if`, `negated`: see `core.EnsembleStep`. `region`: of its inputs;
    `leads_to`: of its outputs, another one where the model is decoupled.
    """

    index: int
    place: str
    model: str
    version: int | None
    links: tuple[Link, ...]
    outputs: Mapping[str, str]
    asked: tuple[RequestedOutput, ...] | None
    gives_batched: bool
    needs: tuple[str, ...]
    run_if: str
    negated: bool
    region: int
    leads_to: int

    @property
    def decoupled(self) -> bool:
        """Whether it may give any number of responses."""
        return self.region != self.leads_to


@dataclass(frozen=True, slots=True)
class Layout:
    """An ensemble whose steps fit their models, and one another.

    `spec`: the ensemble's, completed by what follows from its models (whether it is decoupled,
    labels of its outputs). `parts`: its models, one for each step. `producers`, `consumers`: steps
    by ensemble tensor. `last_region`: where the ensemble's outputs are. `given`: the tensors that
    a region begins with.
    """

    spec: ModelSpec
    parts: tuple[ModelSpec, ...]
    steps: tuple[Step, ...]
    producers: Mapping[str, Sequence[int]]
    consumers: Mapping[str, Sequence[int]]
    last_region: int
    given: Mapping[int, frozenset[str]]

    @property
    def inflight_max(self) -> int:
        """See `core.EnsemblePlan`."""
        return _plan(self.spec).inflight_max

    def wanted(self, outputs: Sequence[str]) -> frozenset[int]:
        """The steps that these outputs need, directly or not."""
        found: set[int] = set()
        tensors = list(outputs)
        while tensors:
            for index in self.producers.get(tensors.pop(), ()):
                if index not in found:
                    found.add(index)
                    tensors.extend(self.steps[index].needs)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an ensemble tensor, and who said so."""

    source: str
    datatype: DataType
    dims: tuple[int, ...]
    batched: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (-1, *self.dims) if self.batched else self.dims


def arrange(spec: ModelSpec, parts: Sequence[ModelSpec]) -> Layout:
    """Join a completed ensemble with the completed models of its steps, in the steps' order.

    Raises: INVALID_ARGUMENT naming the ensemble, the step and what does not fit.
    """
    plan, own = _plan(spec), _signature(spec)
    tensors: dict[str, _Known] = {}
    for tensor in (*own.inputs, *own.outputs):
        dims = tensor.dims if tensor.reshape is None else tensor.reshape
        known = _Known(f"ensemble '{spec.name}'", tensor.datatype, dims, own.batched)
        tensors.setdefault(tensor.name, known)
    maybe_absent = {tensor.name for tensor in own.inputs if tensor.optional}
    for index, part in enumerate(parts):
        _check_rows(spec, plan.place(index), part)
        _check_inputs(spec, index, part, tensors, maybe_absent)
        _check_outputs(spec, index, part, tensors)
    for index, step in enumerate(plan.steps):
        if step.run_if and tensors[step.run_if].datatype.name != "BOOL":
            found = tensors[step.run_if]
            raise _misfit(
                spec,
                plan.place(index),
                f"run_if: ensemble tensor '{step.run_if}' is {found.datatype.name} in "
                f"{found.source}; a condition is BOOL",
            )
    regions = _Regions(spec, parts)
    steps = tuple(_step(plan, index, part, regions) for index, part in enumerate(parts))
    consumers: dict[str, list[int]] = {}
    for made in steps:
        for name in made.needs:
            consumers.setdefault(name, []).append(made.index)
    given: dict[int, frozenset[str]] = {0: frozenset(tensor.name for tensor in own.inputs)}
    for made in steps:
        if made.decoupled:
            before = given.get(made.leads_to, frozenset())
            given[made.leads_to] = before | frozenset(made.outputs.values())
    return Layout(
        _completed(spec, plan, parts, regions),
        tuple(parts),
        steps,
        plan.producers(),
        consumers,
        regions.last,
        given,
    )


def fits(wanted: Sequence[int], got: Sequence[int]) -> bool:
    """Whether two shapes may be the same, -1 standing for any size."""
    return len(wanted) == len(got) and all(
        a == b or -1 in (a, b) for a, b in zip(wanted, got, strict=True)
    )


def _check_rows(spec: ModelSpec, place: str, part: ModelSpec) -> None:
    own, its = _signature(spec), _signature(part)
    if its.batched and own.batched and 0 < its.rows_max < own.rows_max:
        raise _misfit(
            spec,
            place,
            f"the ensemble's max_batch_size is {own.rows_max}, but '{part.label}' takes at most "
            f"{its.rows_max}; lower the one or raise the other",
        )


def _check_inputs(
    spec: ModelSpec,
    index: int,
    part: ModelSpec,
    tensors: dict[str, _Known],
    maybe_absent: set[str],
) -> None:
    plan, its = _plan(spec), _signature(part)
    step, place = plan.steps[index], plan.place(index)
    for name, tensor in step.inputs.items():
        found = its.input(name)
        if found is None:
            raise _misfit(
                spec,
                f"{place}.input_map",
                f"'{part.label}' has no input '{name}'; it takes {_listed(its.inputs)}",
            )
        if tensor in maybe_absent and not found.optional:
            raise _misfit(
                spec,
                f"{place}.input_map",
                f"input '{name}' of '{part.label}' is needed, but ensemble input '{tensor}' is "
                "optional; make both optional or neither",
            )
        _agree(spec, place, tensor, _known(part, its, found), tensors)
    missing = [s.name for s in its.inputs if not s.optional and s.name not in step.inputs]
    if missing:
        raise _misfit(
            spec,
            f"{place}.input_map",
            f"lacks input '{missing[0]}', which '{part.label}' needs; it takes "
            f"{_listed(its.inputs)}",
        )


def _check_outputs(
    spec: ModelSpec, index: int, part: ModelSpec, tensors: dict[str, _Known]
) -> None:
    plan, its = _plan(spec), _signature(part)
    place = plan.place(index)
    for name, tensor in plan.steps[index].outputs.items():
        found = its.output(name)
        if found is None:
            raise _misfit(
                spec,
                f"{place}.output_map",
                f"'{part.label}' has no output '{name}'; it gives {_listed(its.outputs)}",
            )
        _agree(spec, place, tensor, _known(part, its, found), tensors)


def _known(part: ModelSpec, signature: Signature, tensor: TensorSpec) -> _Known:
    return _Known(f"model '{part.label}'", tensor.datatype, tensor.dims, signature.batched)


def _agree(
    spec: ModelSpec, place: str, tensor: str, mine: _Known, tensors: dict[str, _Known]
) -> None:
    """Note what a model says of an ensemble tensor, or hold it against what is known already.

    Models with and without a batch dimension may share a tensor if their full shapes agree.
    """
    known = tensors.setdefault(tensor, mine)
    if known.datatype is not mine.datatype:
        raise _misfit(
            spec,
            place,
            f"ensemble tensor '{tensor}' is {known.datatype.name} in {known.source}, but "
            f"{mine.datatype.name} in {mine.source}",
        )
    if not (fits(known.dims, mine.dims) or fits(known.shape, mine.shape)):
        raise _misfit(
            spec,
            place,
            f"ensemble tensor '{tensor}' has shape {list(known.shape)} in {known.source}, but "
            f"{list(mine.shape)} in {mine.source}",
        )


class _Regions:
    """Which region each step takes its inputs from, and leads to."""

    def __init__(self, spec: ModelSpec, parts: Sequence[ModelSpec]) -> None:
        self._spec = spec
        self._plan = plan = _plan(spec)
        self.of: dict[int, tuple[int, int]] = {}
        self._tensors = {tensor.name: 0 for tensor in _signature(spec).inputs}
        self._parent = {0: -1}
        for index in _in_order(plan):
            step = plan.steps[index]
            region = self._only(step.needs, plan.place(index))
            leads_to = self._next(region, step) if parts[index].decoupled else region
            self.of[index] = (region, leads_to)
            for tensor in step.outputs.values():
                if self._tensors.setdefault(tensor, leads_to) != leads_to:
                    raise _misfit(
                        spec,
                        plan.place(index),
                        f"ensemble tensor '{tensor}' is given by steps of which only some are "
                        "decoupled, or by different decoupled models",
                    )
        self.last = self._only([t.name for t in _signature(spec).outputs], "output")

    def _next(self, region: int, step: EnsembleStep) -> int:
        """A region of its own, or that of the decoupled step it takes turns with."""
        for tensor in step.outputs.values():
            found = self._tensors.get(tensor)
            if found is not None and self._parent[found] == region:
                return found
        self._parent[len(self._parent)] = region
        return len(self._parent) - 1

    def _only(self, tensors: Sequence[str], place: str) -> int:
        first = self._tensors[tensors[0]]
        for tensor in tensors:
            if self._tensors[tensor] != first:
                raise _misfit(
                    self._spec,
                    place,
                    f"'{tensors[0]}' and '{tensor}' originate from different decoupled models, so "
                    "their numbers may differ",
                )
        return first


def _in_order(plan: EnsemblePlan) -> list[int]:
    """The steps so that each comes after all that it needs; there is no cycle."""
    producers = plan.producers()
    order: list[int] = []
    left = set(range(len(plan.steps)))
    while left:
        for index in sorted(left):
            before = {i for tensor in plan.steps[index].needs for i in producers.get(tensor, ())}
            if left.isdisjoint(before):
                order.append(index)
                left.discard(index)
    return order


def _step(plan: EnsemblePlan, index: int, part: ModelSpec, regions: _Regions) -> Step:
    stated, its = plan.steps[index], _signature(part)
    links = [
        Link(found.name, stated.inputs[found.name], found.dims, its.batched, found.optional)
        for found in its.inputs
        if found.name in stated.inputs
    ]
    every = all(output.name in stated.outputs for output in its.outputs)
    region, leads_to = regions.of[index]
    return Step(
        index=index,
        place=f"step[{index}] (model '{stated.model}')",
        model=stated.model,
        version=stated.version,
        links=tuple(links),
        outputs=stated.outputs,
        asked=None if every else tuple(RequestedOutput(name) for name in stated.outputs),
        gives_batched=its.batched,
        needs=stated.needs,
        run_if=stated.run_if,
        negated=stated.negated,
        region=region,
        leads_to=leads_to,
    )


def _completed(
    spec: ModelSpec, plan: EnsemblePlan, parts: Sequence[ModelSpec], regions: _Regions
) -> ModelSpec:
    """Source: Triton sets the transaction policy of an ensemble, whatever its config says."""
    own = _signature(spec)
    labels: dict[str, tuple[str, ...]] = {}
    for step, part in zip(plan.steps, parts, strict=True):
        for name, tensor in step.outputs.items():
            found = _signature(part).output(name)
            if found is not None and found.labels:
                labels.setdefault(tensor, found.labels)
    outputs = tuple(
        output if output.labels else replace(output, labels=labels.get(output.name, ()))
        for output in own.outputs
    )
    signature = replace(own, outputs=outputs)
    decoupled = regions.last != 0
    config = dict(spec.config)
    if decoupled or "model_transaction_policy" in config:
        config["model_transaction_policy"] = {"decoupled": decoupled}
    return replace(spec, config=config, signature=signature, decoupled=decoupled)


def _plan(spec: ModelSpec) -> EnsemblePlan:
    assert spec.ensemble is not None, f"{spec.label} is no ensemble"
    return spec.ensemble


def _signature(spec: ModelSpec) -> Signature:
    assert spec.signature is not None, f"{spec.label} was not completed"
    return spec.signature


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs) or "none"


def _misfit(spec: ModelSpec, place: str, text: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, f"model '{spec.label}': {place}: {text}")
