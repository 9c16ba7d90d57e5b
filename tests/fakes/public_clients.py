"""tritonclient over either protocol: the same calls, and answers in one form."""

from __future__ import annotations

from typing import Any

import numpy as np
from fakes.server import ServerProcess
from google.protobuf.json_format import MessageToDict
from tritonclient import grpc, http
from tritonclient.utils import np_to_triton_dtype

__all__ = ["TIMEOUT_S", "Wire"]

TIMEOUT_S = 20.0

_STATUSES = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNAVAILABLE": 503}


class Wire:
    """`module`: tritonclient.http or tritonclient.grpc."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.module: Any = {"http": http, "grpc": grpc}[name]

    def connect(self, server: ServerProcess, **more: Any) -> Any:
        """A client, to be closed by the caller."""
        if self.name == "grpc":
            return grpc.InferenceServerClient(server.grpc_url, **more)
        limits = {"connection_timeout": TIMEOUT_S, "network_timeout": TIMEOUT_S}
        return http.InferenceServerClient(server.url, **limits, **more)

    def tensor(self, name: str, array: np.ndarray) -> Any:
        """An input from an array."""
        made = self.module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        made.set_data_from_numpy(array)
        return made

    def inputs(self, **arrays: np.ndarray) -> list[Any]:
        """Inputs by name."""
        return [self.tensor(name, array) for name, array in arrays.items()]

    def wanted(self, *names: str, classes: int = 0) -> list[Any]:
        """Outputs to ask for."""
        return [self.module.InferRequestedOutput(name, class_count=classes) for name in names]

    def document(self, answered: Any) -> dict[str, Any]:
        """What the server said, as a JSON document, whichever way it was asked."""
        if self.name == "http":
            return dict(answered)
        return dict(MessageToDict(answered, preserving_proto_field_name=True))

    def rows(self, answered: Any) -> list[dict[str, Any]]:
        """The same of an answer that is a list: an array of HTTP, the one field of a message."""
        if self.name == "http":
            return list(answered)
        (field,) = self.document(answered).values()
        return list(field.values() if isinstance(field, dict) else field)

    def status(self, error: Any) -> int:
        """The HTTP status of an InferenceServerException, or the one its gRPC code stands for."""
        text = str(error.status())
        return int(text) if text.isdigit() else _STATUSES[text.removeprefix("StatusCode.")]
