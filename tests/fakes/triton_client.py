"""Short words for tritonclient's HTTP tensors, for tests that ask a real server."""

from __future__ import annotations

import numpy as np
from fakes.server import ServerProcess
from tritonclient.http import InferenceServerClient, InferInput

TIMEOUT_S = 20.0


def connect(server: ServerProcess, concurrency: int = 1) -> InferenceServerClient:
    """A client whose every call ends within a bounded time."""
    return InferenceServerClient(
        server.url,
        concurrency=concurrency,
        connection_timeout=TIMEOUT_S,
        network_timeout=TIMEOUT_S,
    )


def given(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> InferInput:
    """An input from an array."""
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def floats(name: str, *rows: list[float], binary: bool = True) -> InferInput:
    """An FP32 input from rows."""
    return given(name, np.array(rows, np.float32), "FP32", binary=binary)


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Assert that two arrays agree in shape, dtype and every bit."""
    assert got.shape == wanted.shape
    if wanted.dtype == np.object_:  # JSON brings text where binary data brings bytes
        items = [x.encode() if isinstance(x, str) else x for x in got.flat]
        assert items == wanted.ravel().tolist()
    else:
        assert got.dtype == wanted.dtype
        assert got.tobytes() == wanted.tobytes()
