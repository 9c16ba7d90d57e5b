"""A plan of models that answer together: tensors go from one to the next by name.

Source: Triton's ModelEnsembling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EnsemblePlan", "EnsembleStep"]


@dataclass(frozen=True, slots=True)
class EnsembleStep:
    """One model of an ensemble.

    `version`: None for whatever is its default. `inputs`, `outputs`: the model's tensor names to
    the ensemble's. `run_if`: the ensemble's BOOL tensor that must be true for the step to run (or
    false, with `negated`); "" runs it always.
    """

    model: str
    version: int | None
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    run_if: str = ""
    negated: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The ensemble's tensors that must be known before the step can be decided on."""
        names = dict.fromkeys(self.inputs.values())
        if self.run_if:
            names[self.run_if] = None
        return tuple(names)


@dataclass(frozen=True, slots=True)
class EnsemblePlan:
    """All steps.

    `inflight_max`: responses of one step that one request may have in the steps after it, 0 for
    what the server thinks right.
    """

    steps: tuple[EnsembleStep, ...] = field(default_factory=tuple)
    inflight_max: int = 0

    def place(self, index: int) -> str:
        """How messages name a step."""
        return f"ensemble_scheduling.step[{index}] (model '{self.steps[index].model}')"

    def producers(self) -> dict[str, list[int]]:
        """The steps that give each tensor, by its name; several only where all are conditional."""
        found: dict[str, list[int]] = {}
        for index, step in enumerate(self.steps):
            for tensor in step.outputs.values():
                found.setdefault(tensor, []).append(index)
        return found
