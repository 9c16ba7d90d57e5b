"""What a package says about inputs whose shapes differ from request to request.

Source: Triton's `allow_ragged_batch`, BatchInput and BatchOutput. Padding is our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hostler.core.tensor import DataType

__all__ = ["BatchInput", "PaddedInput", "Shaping"]


@dataclass(frozen=True, slots=True)
class PaddedInput:
    """An input whose variable dimensions are filled up before requests are joined.

    `buckets`: ascending sizes; a dimension grows to the first that holds the longest of the batch,
    and to the longest itself where none does or there are none. `value`: what fills, an element as
    `Tensor` holds it (BF16: its bits; BYTES: a byte string).
    """

    name: str
    buckets: tuple[int, ...] = ()
    value: float | int | bytes = 0


@dataclass(frozen=True, slots=True)
class BatchInput:
    """Inputs of the model that the server makes from the shapes of `source` in a batch.

    `kind`: Triton's word, such as BATCH_ELEMENT_COUNT. `names`: the model's inputs, all alike.
    """

    kind: str
    names: tuple[str, ...]
    datatype: DataType
    source: str


@dataclass(frozen=True, slots=True)
class Shaping:
    """How requests of different shapes run together.

    `padded`: inputs to fill up. `cut`: outputs to the padded input whose variable dimensions theirs
    are cut back to, the first to the first and so on. `ragged`: inputs that are joined end to end
    as one dimension, whatever their shapes. `batch_inputs`: see there. `scattered`: outputs that
    come the same way, to the input whose shapes say where each request's part ends.
    """

    padded: tuple[PaddedInput, ...] = ()
    cut: Mapping[str, str] = field(default_factory=dict)
    ragged: frozenset[str] = frozenset()
    batch_inputs: tuple[BatchInput, ...] = ()
    scattered: Mapping[str, str] = field(default_factory=dict)

    @property
    def joins(self) -> bool:
        """Whether the requests of a batch become one, beyond stacking row on row."""
        return bool(self.ragged or self.batch_inputs or self.scattered)
