"""Random ensembles: every step runs once, after its inputs, or is skipped for a reason."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from fakes.ensembles import asking, bools, ensemble, layout_of, part
from hypothesis import given
from hypothesis import strategies as st

from hostler.core import DATATYPES, HostlerError, InferResponse, ModelSpec, Tensor
from hostler.serving.ensemble_layout import Layout
from hostler.serving.ensemble_progress import Held, Progress, held_inputs

FLAGS = ("C0", "C1", "C2")


@dataclass
class Graph:
    """Steps as the tensors they take; each gives one of its own, which is an output as well.

    `inputs`: step numbers, -1 is the ensemble's input. `conditions`: "", a flag, or its negation.
    `optional`: the model does without what is absent.
    """

    inputs: list[list[int]] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    optional: list[bool] = field(default_factory=list)

    def spec(self) -> ModelSpec:
        def tensor(number: int) -> str:
            return "X" if number < 0 else f"t{number}"

        steps = []
        for index, numbers in enumerate(self.inputs):
            maps = " ".join(f"i{n}={tensor(number)}" for n, number in enumerate(numbers))
            steps.append(f"m{index}: {maps} -> y={tensor(index)}")
        used = [flag for flag in FLAGS if any(flag in c for c in self.conditions)]
        inputs = " ".join(["X:FP32[1]", *(f"{flag}:BOOL[1]" for flag in used)])
        outputs = " ".join(f"t{index}:FP32[1]" for index in range(len(self.inputs)))
        run_if = {i: c for i, c in enumerate(self.conditions) if c}
        return ensemble(inputs, outputs, *steps, run_if=run_if)

    def layout(self) -> Layout:
        parts = []
        for index, numbers in enumerate(self.inputs):
            mark = "?" if self.optional[index] else ""
            inputs = " ".join(f"i{n}:FP32[1]{mark}" for n in range(len(numbers)))
            parts.append(part(f"m{index}", inputs, "y:FP32[1]"))
        return layout_of(self.spec(), *parts)

    def runs(self, flags: dict[str, bool]) -> list[bool]:
        """Whether each step runs, from the rules as they are written down."""
        ran: list[bool] = []
        for index, numbers in enumerate(self.inputs):
            there = [number < 0 or ran[number] for number in numbers]
            enough = any(there) if self.optional[index] else all(there)
            condition = self.conditions[index]
            met = not condition or flags[condition.lstrip("!")] != condition.startswith("!")
            ran.append(met and enough)
        return ran


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 8))
    graph = Graph()
    for index in range(count):
        pick = st.integers(-1, index - 1)
        graph.inputs.append(draw(st.lists(pick, min_size=1, max_size=3, unique=True)))
        words = ["", "", *FLAGS, *(f"!{flag}" for flag in FLAGS)]
        graph.conditions.append(draw(st.sampled_from(words)))
        graph.optional.append(draw(st.booleans()))
    if all(-1 not in numbers for numbers in graph.inputs):
        graph.inputs[0] = [-1]
    return graph


def number(value: float, name: str = "y") -> Tensor:
    return Tensor(name, DATATYPES["FP32"], (1,), np.array([value], np.float32))


@given(graphs(), st.tuples(*(st.booleans() for _ in FLAGS)), st.randoms(use_true_random=False))
def test_every_step_runs_once_after_its_inputs_or_not_at_all(graph, truths, random):
    flags = dict(zip(FLAGS, truths, strict=True))
    layout = graph.layout()
    sent = [number(-1, "X"), *(bools(name, flags[name]) for name in FLAGS)]
    own = {spec.name for spec in layout.spec.signature.inputs}
    request = asking(*(tensor for tensor in sent if tensor.name in own))
    everything = layout.wanted([spec.name for spec in layout.spec.signature.outputs])
    progress = Progress(layout, 0, everything, held_inputs(layout, request.inputs))
    open_calls, finished = progress.start(), []
    while open_calls:
        call = open_calls.pop(random.randrange(len(open_calls)))
        index = call.step.index
        for n, source in enumerate(graph.inputs[index]):
            tensor = call.inputs.get(f"i{n}")
            if tensor is None:
                assert graph.optional[index]
            else:
                assert source in (-1, *finished)
                assert tensor.numpy().tolist() == [source], "of whom it was mapped to"
        open_calls += progress.finish(call.step, InferResponse([number(index)]))
        finished.append(index)
    assert sorted(finished) == [i for i, ran in enumerate(graph.runs(flags)) if ran]
    outputs = progress.outputs(layout.spec.signature.outputs, named=False)
    assert {t.name: t.numpy().tolist() for t in outputs} == {f"t{i}": [i] for i in finished}


@given(graphs(), st.data())
def test_only_what_an_output_needs_is_wanted(graph, data):
    layout = graph.layout()
    index = data.draw(st.integers(0, len(graph.inputs) - 1))
    needed, left = set(), [index]
    while left:
        step = left.pop()
        if step not in needed:
            needed.add(step)
            left += [source for source in graph.inputs[step] if source >= 0]
    assert layout.wanted([f"t{index}"]) == needed


@given(st.integers(2, 6), st.data())
def test_steps_in_a_circle_are_always_found(count, data):
    """A ring of steps, listed in any order, is refused with all of them named."""
    order = data.draw(st.permutations(range(count)))
    steps = [f"m{n}: x=X r=t{(n - 1) % count} -> y=t{n}" for n in order]
    with pytest.raises(HostlerError, match="steps wait for one another") as caught:
        ensemble("X:FP32[1]", "t0:FP32[1]", *steps)
    for n in range(count):
        assert f"(model 'm{n}')" in caught.value.message


@given(st.lists(st.booleans(), min_size=2, max_size=5))
def test_alternatives_give_one_tensor_or_an_error(truths):
    """Steps that may all give the same tensor, each by a flag of its own."""
    names = [f"F{n}" for n in range(len(truths))]
    steps = [f"m{n}: x=X -> y=Y" for n in range(len(truths))]
    inputs = " ".join(["X:FP32[1]", *(f"{name}:BOOL[1]" for name in names)])
    spec = ensemble(inputs, "Y:FP32[1]", *steps, run_if=dict(enumerate(names)))
    layout = layout_of(spec, *(part(f"m{n}", "x:FP32[1]", "y:FP32[1]") for n in range(len(truths))))
    flags = [bools(name, truth) for name, truth in zip(names, truths, strict=True)]
    given_ = held_inputs(layout, asking(number(0, "X"), *flags).inputs)
    progress = Progress(layout, 0, layout.wanted(["Y"]), given_)
    calls = progress.start()
    assert len(calls) == sum(truths)
    for index, call in enumerate(calls):
        if index == 0:
            progress.finish(call.step, InferResponse([number(call.step.index)]))
            held = progress.tensors["Y"]
            assert isinstance(held, Held)
            assert held.tensor.numpy().tolist() == [truths.index(True)]
        else:
            with pytest.raises(HostlerError, match="given twice"):
                progress.finish(call.step, InferResponse([number(call.step.index)]))
