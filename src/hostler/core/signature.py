"""What a model takes and gives, and the check of a request against it.

Source: Triton's model_config.proto, ModelInput and ModelOutput.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hostler.core.errors import Code, HostlerError
from hostler.core.images import ImageRule
from hostler.core.tensor import DataType, Tensor

__all__ = ["Signature", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    `dims`: without the batch dimension where the signature is batched; -1 is variable.
    `reshape`: the shape the framework wants instead of `dims`, or None.
    `labels`: class names in index order for an output with a label file. `joins_any`: requests may
    be joined whatever the variable dimensions of this input are (it is padded or ragged).
    """

    name: str
    datatype: DataType
    dims: tuple[int, ...]
    optional: bool = False
    reshape: tuple[int, ...] | None = None
    labels: tuple[str, ...] = ()
    joins_any: bool = False


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of one model version.

    `batched`: tensors have a leading batch dimension that is not in `dims`.
    `rows_max`: most rows in one request, 0 for no limit; meaningful only when batched.
    `image`: how pictures become an input; None where nothing is said of it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = False
    rows_max: int = 0
    image: ImageRule | None = None
    _by_name: Mapping[str, TensorSpec] = field(init=False, repr=False, compare=False)
    _fixed: bool = field(init=False, repr=False, compare=False)
    _unkeyed: frozenset[str] = field(init=False, repr=False, compare=False)
    _output_names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {spec.name: spec for spec in self.inputs})
        unkeyed = {s.name for s in self.inputs if s.joins_any or min(s.dims, default=0) >= 0}
        fixed = all(not spec.optional and spec.name in unkeyed for spec in self.inputs)
        object.__setattr__(self, "_fixed", fixed)
        object.__setattr__(self, "_unkeyed", frozenset(unkeyed))
        object.__setattr__(self, "_output_names", frozenset(s.name for s in self.outputs))

    def input(self, name: str) -> TensorSpec | None:
        """The input of this name."""
        return self._by_name.get(name)

    def output(self, name: str) -> TensorSpec | None:
        """The output of this name."""
        return next((spec for spec in self.outputs if spec.name == name), None)

    def metadata_shape(self, spec: TensorSpec) -> list[int]:
        """The shape that metadata shows: -1 in front of `dims` when batched."""
        return [-1, *spec.dims] if self.batched else list(spec.dims)

    def check_outputs(self, names: Sequence[str], model: str) -> None:
        """Raises: INVALID_ARGUMENT for a requested output that the model does not have."""
        for name in names:
            if name not in self._output_names:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"unexpected inference output '{name}' for model '{model}'; it has "
                    f"{_listed(self.outputs)}",
                )

    def check_inputs(self, inputs: Mapping[str, Tensor], model: str) -> tuple[int, object]:
        """Hold a request against the signature.

        Returns `(rows, join_key)`: the size of the batch dimension (1 where there is none), and a
        hashable that is equal only for requests whose inputs may be stacked with one another.
        Raises: INVALID_ARGUMENT naming the input, the value and what was expected.
        """
        by_name = self._by_name
        if len(inputs) != len(by_name) or any(name not in by_name for name in inputs):
            self._check_names(inputs, model)
        rows = -1
        for name, tensor in inputs.items():
            spec = by_name[name]
            if tensor.datatype is not spec.datatype:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"inference input '{name}' data-type is '{tensor.datatype.name}', but model "
                    f"'{model}' expects '{spec.datatype.name}'",
                )
            shape = tensor.shape
            if self.batched:
                if not shape:
                    raise self._shape_error(spec, shape, model)
                if rows < 0:
                    rows = shape[0]
                elif rows != shape[0]:
                    raise HostlerError(
                        Code.INVALID_ARGUMENT,
                        f"input '{name}' batch size does not match other inputs for '{model}': "
                        f"{shape[0]} and {rows}",
                    )
                shape = shape[1:]
            if shape != spec.dims:
                self._check_dims(spec, shape, tensor.shape, model)
        if self.batched:
            self._check_rows(rows, model)
        else:
            rows = 1
        if self._fixed:
            return rows, None
        unkeyed, first = self._unkeyed, int(self.batched)
        return rows, tuple(
            sorted(
                (name, () if name in unkeyed else tensor.shape[first:])
                for name, tensor in inputs.items()
            )
        )

    def _check_names(self, inputs: Mapping[str, Tensor], model: str) -> None:
        for name in inputs:
            if name not in self._by_name:
                raise HostlerError(
                    Code.INVALID_ARGUMENT,
                    f"unexpected inference input '{name}' for model '{model}'; it takes "
                    f"{_listed(self.inputs)}",
                )
        missing = [s.name for s in self.inputs if not s.optional and s.name not in inputs]
        if missing:
            required = sum(not s.optional for s in self.inputs)
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"expected {required} inputs but got {len(inputs)} inputs for model '{model}'; "
                f"missing: {', '.join(missing)}",
            )

    def _check_dims(
        self, spec: TensorSpec, dims: tuple[int, ...], shape: tuple[int, ...], model: str
    ) -> None:
        if len(dims) != len(spec.dims) or any(
            want not in (-1, got) for want, got in zip(spec.dims, dims, strict=True)
        ):
            raise self._shape_error(spec, shape, model)

    def _shape_error(self, spec: TensorSpec, shape: tuple[int, ...], model: str) -> HostlerError:
        return HostlerError(
            Code.INVALID_ARGUMENT,
            f"unexpected shape for input '{spec.name}' for model '{model}'. Expected "
            f"{self.metadata_shape(spec)}, got {list(shape)}",
        )

    def _check_rows(self, rows: int, model: str) -> None:
        if rows < 1:
            raise HostlerError(
                Code.INVALID_ARGUMENT, f"inference request batch-size must be >= 1 for '{model}'"
            )
        if self.rows_max and rows > self.rows_max:
            raise HostlerError(
                Code.INVALID_ARGUMENT,
                f"inference request batch-size must be <= {self.rows_max} for '{model}', got "
                f"{rows}; send fewer rows at a time or raise max_batch_size in its config.pbtxt",
            )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"'{spec.name}'" for spec in specs) or "none"
