"""ensemble_scheduling -> EnsemblePlan, and whether its steps can follow one another. Pure.

What needs the composing models' own words (names, datatypes, shapes) is checked when they are
there, in `serving`. Conditional steps are ours: Triton's schema has no place for them, so they are
entries of the ensemble's `parameters`.

    parameters { key: "step[1].run_if" value { string_value: "is_digit" } }

Source: Triton core `ValidateEnsembleSchedulingConfig`, `BuildEnsembleGraph`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hostler.core import EnsemblePlan, EnsembleStep
from hostler.repository.package import contradiction

__all__ = ["ENSEMBLE", "ensemble_plan"]

ENSEMBLE: Final = "ensemble"
"""The platform and the runtime of an ensemble."""

STEPS_MAX: Final = 256
"""Each is looked at for every response of a request."""

_PLACE: Final = "ensemble_scheduling"
_STEP_KEY: Final = re.compile(r"step\[(\d{1,6})\]\.(\w+)")
_LOOKS_LIKE_STEP: Final = re.compile(r"step\s*\[")


def ensemble_plan(model: str, config: Mapping[str, Any]) -> EnsemblePlan | None:
    """The checked plan of a config in its JSON form; None for a model of another kind.

    Raises: INVALID_ARGUMENT naming the step and what does not fit.
    """
    scheduling = config.get("ensemble_scheduling")
    if config["platform"] != ENSEMBLE:
        if scheduling is None:
            return None
        raise contradiction(
            model, _PLACE, f"is for platform '{ENSEMBLE}', which is '{config['platform']}' here"
        )
    if scheduling is None or not scheduling["step"]:
        raise contradiction(model, f"{_PLACE}.step", "is missing; an ensemble needs one or more")
    _check_unused_parts(model, config)
    if len(scheduling["step"]) > STEPS_MAX:
        raise contradiction(
            model, f"{_PLACE}.step", f"has {len(scheduling['step'])} steps; at most {STEPS_MAX}"
        )
    steps = [_step(model, index, stated) for index, stated in enumerate(scheduling["step"])]
    steps = _conditional(model, steps, config["parameters"])
    plan = EnsemblePlan(tuple(steps), scheduling["max_inflight_requests"])
    _check_graph(model, plan, config)
    return plan


def _check_unused_parts(model: str, config: Mapping[str, Any]) -> None:
    """What would be about the models within, and belongs into their own packages."""
    if config["backend"]:
        raise contradiction(model, "backend", f"must be empty where platform is '{ENSEMBLE}'")
    for name in ("instance_group", "optimization", "model_warmup"):
        if config.get(name):
            raise contradiction(
                model, name, "an ensemble has none; set it for the models that it is made of"
            )


def _step(model: str, index: int, stated: Mapping[str, Any]) -> EnsembleStep:
    place = f"{_PLACE}.step[{index}]"
    if not stated["model_name"]:
        raise contradiction(model, f"{place}.model_name", "is missing")
    place = f"{place} (model '{stated['model_name']}')"
    if stated["model_name"] == model:
        raise contradiction(model, place, "an ensemble cannot be a step of itself")
    if stated["model_namespace"]:
        raise contradiction(model, f"{place}.model_namespace", "is reserved; leave it out")
    for name in ("input_map", "output_map"):
        mapping = stated[name]
        if not mapping:
            raise contradiction(model, f"{place}.{name}", "is missing")
        for key, value in mapping.items():
            if not key or not value:
                raise contradiction(
                    model, f"{place}.{name}", f"maps '{key}' to '{value}'; neither may be empty"
                )
    outputs = list(stated["output_map"].values())
    for tensor in outputs:
        if outputs.count(tensor) > 1:
            raise contradiction(
                model, f"{place}.output_map", f"maps two outputs to ensemble tensor '{tensor}'"
            )
    version = stated["model_version"]
    if version < -1:
        raise contradiction(
            model, f"{place}.model_version", f"is {version}; a version, or -1 for the default one"
        )
    return EnsembleStep(
        stated["model_name"],
        version if version > 0 else None,  # 0 is what the schema shows where none is stated
        dict(stated["input_map"]),
        dict(stated["output_map"]),
    )


def _conditional(
    model: str, steps: list[EnsembleStep], parameters: Mapping[str, Any]
) -> list[EnsembleStep]:
    for key, stated in parameters.items():
        match = _STEP_KEY.fullmatch(key)
        if match is None:
            if _LOOKS_LIKE_STEP.match(key):
                raise contradiction(model, f"parameters '{key}'", _what_is_known())
            continue
        index, word = int(match[1]), match[2]
        place = f"parameters '{key}'"
        if word != "run_if":
            raise contradiction(model, place, _what_is_known())
        if index >= len(steps):
            raise contradiction(
                model, place, f"there are {len(steps)} steps, counted from 0, so none is {index}"
            )
        text = stated["string_value"].strip()
        tensor = text.removeprefix("!").strip()
        if not tensor:
            raise contradiction(
                model, place, "names no tensor; set string_value to 'tensor' or '!tensor'"
            )
        steps[index] = replace(steps[index], run_if=tensor, negated=text.startswith("!"))
    return steps


def _what_is_known() -> str:
    return "is not known; 'step[0].run_if' makes the first step conditional"


# -- the graph -----------------------------------------------------------------------------


def _check_graph(model: str, plan: EnsemblePlan, config: Mapping[str, Any]) -> None:
    inputs = [tensor["name"] for tensor in config["input"]]
    outputs = [tensor["name"] for tensor in config["output"]]
    producers = plan.producers()
    _check_produced_once(model, plan, producers, inputs)
    consumed = {tensor for step in plan.steps for tensor in step.needs}
    for index, step in enumerate(plan.steps):
        for tensor in step.needs:
            if tensor not in producers and tensor not in inputs:
                raise contradiction(
                    model,
                    plan.place(index),
                    f"needs ensemble tensor '{tensor}', which no step gives and which is no input "
                    f"of the ensemble; its inputs are {_listed(inputs)}",
                )
    cycle = _cycle(plan, producers)
    if cycle:
        places = " -> ".join(f"step[{i}] (model '{plan.steps[i].model}')" for i in cycle)
        raise contradiction(model, _PLACE, f"steps wait for one another: {places}")
    for name in inputs:
        if name not in consumed:
            raise contradiction(
                model, f"input '{name}'", "is used by no step; map it in an input_map or remove it"
            )
    for name in outputs:
        if name not in producers and name not in inputs:
            raise contradiction(
                model, f"output '{name}'", "is given by no step; map it in an output_map"
            )
    for tensor, steps in producers.items():
        if tensor not in consumed and tensor not in outputs:
            raise contradiction(
                model,
                plan.place(steps[0]),
                f"output_map: ensemble tensor '{tensor}' is unused: no step takes it and it is no "
                f"output of the ensemble; its outputs are {_listed(outputs)}",
            )


def _check_produced_once(
    model: str, plan: EnsemblePlan, producers: Mapping[str, Sequence[int]], inputs: Sequence[str]
) -> None:
    for tensor, steps in producers.items():
        if tensor in inputs:
            raise contradiction(
                model,
                plan.place(steps[0]),
                f"output_map: '{tensor}' is an input of the ensemble; choose another name",
            )
        if len(steps) > 1 and not all(plan.steps[index].run_if for index in steps):
            raise contradiction(
                model,
                plan.place(steps[1]),
                f"output_map: ensemble tensor '{tensor}' is given by step[{steps[0]}] already; "
                "several may give it only if all of them are conditional "
                f"(parameters 'step[{steps[1]}].run_if')",
            )


def _cycle(plan: EnsemblePlan, producers: Mapping[str, Sequence[int]]) -> list[int]:
    """Steps that wait for one another, the first of them at the end again; [] if there are none."""
    before = [
        sorted({i for tensor in step.needs for i in producers.get(tensor, ())})
        for step in plan.steps
    ]
    left = set(range(len(plan.steps)))
    while free := [index for index in left if left.isdisjoint(before[index])]:
        left.difference_update(free)
    if not left:
        return []
    path = [min(left)]
    while True:
        index = next(i for i in before[path[-1]] if i in left)
        if index in path:
            return [index, *reversed(path[path.index(index) :])]
        path.append(index)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
