"""Requests to measure with: made up from the signature, or from a file's content. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hostler.analysis.ask import Ask
from hostler.core import (
    BytesArray,
    Code,
    HostlerError,
    InferRequest,
    Signature,
    Tensor,
    TensorSpec,
    element_count,
)
from hostler.protocols.oip import decode_request

__all__ = ["again", "requests_of"]

_REQUESTS_MAX: Final = 10_000
_BYTES_MAX: Final = 1 << 30
_TEXT_LETTERS: Final = 8
_INTEGER_MAX: Final = 16
"""Made-up integers stay below: they may be places in one of the model's tables."""

_ZIP_MAGIC: Final = b"PK"


def requests_of(ask: Ask, signature: Signature) -> list[InferRequest]:
    """The requests to send in turn, at least one, each checked against the signature.

    Raises: INVALID_ARGUMENT saying what is missing or does not fit.
    """
    if ask.data is None:
        requests = _made_up(ask, signature)
    elif ask.data.startswith(_ZIP_MAGIC):
        requests = _from_npz(ask, ask.data, signature)
    else:
        requests = _from_json(ask.data, signature)
    for request in requests:
        request.rows, request.join_key = signature.check_inputs(request.inputs, ask.model)
    return requests


# -- made up -----------------------------------------------------------------------------------


def _made_up(ask: Ask, signature: Signature) -> list[InferRequest]:
    for name in ask.shapes:
        if signature.input(name) is None:
            listed = ", ".join(f"'{spec.name}'" for spec in signature.inputs)
            raise _invalid(f"--shape: model '{ask.model}' has no input '{name}'; it has {listed}")
    wanted = [spec for spec in signature.inputs if not spec.optional or spec.name in ask.shapes]
    open_ones = [spec for spec in wanted if min(spec.dims, default=0) < 0]
    missing = [spec for spec in open_ones if spec.name not in ask.shapes]
    if missing:
        flags = " ".join(f"--shape {s.name}={_example(s.dims)}" for s in missing)
        dims = ", ".join(f"'{s.name}' {list(s.dims)}" for s in missing)
        raise _invalid(
            f"model '{ask.model}' leaves dimensions of its inputs open ({dims}); say which to "
            f"measure with, as in {flags}, or give real requests with --data"
        )
    count = max((len(shapes) for shapes in ask.shapes.values()), default=1)
    generator = np.random.default_rng(0)
    requests = []
    for index in range(count):
        tensors = {}
        for spec in wanted:
            given = ask.shapes.get(spec.name, ())
            item = _dims(spec, given[index % len(given)]) if given else spec.dims
            shape = (ask.rows, *item) if signature.batched else item
            tensors[spec.name] = _tensor(spec, shape, generator)
        requests.append(InferRequest(tensors))
    return requests


def _example(dims: Sequence[int]) -> str:
    return ",".join(str(dim if dim >= 0 else 128) for dim in dims)


def _dims(spec: TensorSpec, given: tuple[int, ...]) -> tuple[int, ...]:
    fits = len(given) == len(spec.dims) and all(
        dim in (-1, size) for dim, size in zip(spec.dims, given, strict=True)
    )
    if not fits or min(given, default=1) < 1:
        text = ",".join(map(str, given))
        raise _invalid(
            f"--shape {spec.name}={text} does not fit its dimensions {list(spec.dims)} (the batch "
            "is not among them)"
        )
    return given


def _tensor(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> Tensor:
    count = element_count(shape)
    size = count * (spec.datatype.itemsize or _TEXT_LETTERS)
    if size > _BYTES_MAX:
        raise _invalid(
            f"input '{spec.name}' of shape {list(shape)} takes {size} bytes; {_BYTES_MAX} at most"
        )
    dtype = spec.datatype.numpy
    if spec.datatype.is_bytes:
        letters = generator.integers(97, 123, (count, _TEXT_LETTERS), np.uint8)
        texts = BytesArray.from_items(row.tobytes() for row in letters)
        return Tensor(spec.name, spec.datatype, shape, texts)
    array: npt.NDArray[Any]
    if spec.datatype.name == "BF16":  # the upper half of a float32
        array = generator.random(shape, np.float32).view(np.uint32) >> 16
    elif dtype.kind == "f":
        array = generator.random(shape)
    else:
        high = {"?": 2, "B": 256}.get(dtype.char, _INTEGER_MAX)
        array = generator.integers(0, high, shape)
    return Tensor.from_numpy(spec.name, np.asarray(array).astype(dtype), spec.datatype)


# -- from files --------------------------------------------------------------------------------


def _from_json(data: bytes, signature: Signature) -> list[InferRequest]:
    """One V2 request, or a list of them."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise _invalid(f"--data is neither JSON nor .npz: {error}") from None
    documents = document if isinstance(document, list) else [document]
    if not 1 <= len(documents) <= _REQUESTS_MAX:
        raise _invalid(f"--data holds {len(documents)} requests; 1 to {_REQUESTS_MAX}")
    requests = []
    for index, item in enumerate(documents):
        try:
            requests.append(decode_request(json.dumps(item).encode(), None, signature))
        except HostlerError as error:
            raise _invalid(f"--data, request {index}: {error.message}") from None
    return requests


def _from_npz(ask: Ask, data: bytes, signature: Signature) -> list[InferRequest]:
    """Arrays by input; their first dimension is cut into requests of `ask.rows` each."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise _invalid(f"--data cannot be read as .npz: {error}") from None
    tensors = {name: _array(ask, name, array, signature) for name, array in arrays.items()}
    if not tensors:
        raise _invalid("--data holds no arrays; name them as the model's inputs")
    if not signature.batched:
        return [InferRequest(tensors)]
    counts = {tensor.shape[:1] for tensor in tensors.values()}
    if len(counts) != 1 or counts == {()}:
        listed = ", ".join(f"'{name}' {list(t.shape)}" for name, t in tensors.items())
        raise _invalid(f"--data: the arrays differ in their first dimension, the rows: {listed}")
    total = next(iter(counts))[0]
    if total < ask.rows:
        raise _invalid(f"--data holds {total} rows, and --rows asks for {ask.rows} in a request")
    return [
        InferRequest({n: t.rows(at, at + ask.rows) for n, t in tensors.items()})
        for at in range(0, total - ask.rows + 1, ask.rows)
    ][:_REQUESTS_MAX]


def _array(ask: Ask, name: str, array: npt.NDArray[Any], signature: Signature) -> Tensor:
    spec = signature.input(name)
    if spec is None:
        listed = ", ".join(f"'{s.name}'" for s in signature.inputs)
        raise _invalid(f"--data: model '{ask.model}' has no input '{name}'; it has {listed}")
    if spec.datatype.is_bytes:
        if array.dtype.kind not in "SU":
            raise _invalid(f"--data: input '{name}' is BYTES; an array of text is expected")
        return Tensor.from_numpy(name, array.astype(object), spec.datatype)
    if not np.can_cast(array.dtype, spec.datatype.numpy, "same_kind"):
        raise _invalid(
            f"--data: input '{name}' is {spec.datatype.name}, which an array of {array.dtype} "
            "does not fit"
        )
    return Tensor.from_numpy(name, array.astype(spec.datatype.numpy), spec.datatype)


def _invalid(message: str) -> HostlerError:
    return HostlerError(Code.INVALID_ARGUMENT, message)


def again(request: InferRequest) -> InferRequest:
    """The same question, to be asked once more."""
    parameters: Mapping[str, Any] = request.parameters
    return InferRequest(dict(request.inputs), outputs=request.outputs, parameters=parameters)
