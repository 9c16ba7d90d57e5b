"""What a package says about sequences: requests that share state and go to one place, in order.

Source: Triton's ModelSequenceBatching.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostler.core.tensor import DataType

__all__ = ["SequenceControl", "SequenceState", "Sequencing"]


@dataclass(frozen=True, slots=True)
class SequenceControl:
    """An input that the server fills in, one element a row. `kind`: start, end, ready or corrid.

    `false_true`: the two values of a flag; of no meaning for corrid.
    """

    name: str
    kind: str
    datatype: DataType
    false_true: tuple[float, float] = (0, 1)


@dataclass(frozen=True, slots=True)
class SequenceState:
    """Implicit state: an output of one request that is an input of the next of its sequence.

    `dims`: without the batch dimension; -1 is variable. `initial_dims`: of the value that a
    sequence starts with, all fixed. `initial`: that value's raw little-endian bytes (BYTES: each
    element behind its length), or None for zeros.
    """

    input_name: str
    output_name: str
    datatype: DataType
    dims: tuple[int, ...]
    initial_dims: tuple[int, ...]
    initial: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sequencing:
    """How sequences are served.

    `direct`: each sequence has a row of its own in every batch of its replica; else (oldest) the
    oldest requests of the sequences of a replica are joined, as `Batching` says. `slots`: most
    sequences a replica; more wait for one to end. `idle_s`: a sequence that asks nothing for so
    long is forgotten. `delay_s`: longest time to hold a direct batch back until the share
    `slot_utilisation_min` of the slots has a request.
    """

    direct: bool = True
    slots: int = 1
    idle_s: float = 1.0
    controls: tuple[SequenceControl, ...] = ()
    states: tuple[SequenceState, ...] = ()
    delay_s: float = 0.0
    slot_utilisation_min: float = 0.0

    def control(self, kind: str) -> SequenceControl | None:
        """The input that carries this kind of signal."""
        return next((control for control in self.controls if control.kind == kind), None)
