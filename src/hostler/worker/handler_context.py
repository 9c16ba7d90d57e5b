"""What handler functions get where they take a context.

Source: Context and RequestProcessor of multi-model-server and TorchServe.
"""

from __future__ import annotations

from typing import Any

from .task import Task

__all__ = ["CUSTOM_ATTRIBUTES", "Context"]

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


class Context:
    """Facts of the model, headers of the request, and what the handler says of its answer.

    `system_properties`: `model_dir`, `gpu_id` (None on a CPU), `batch_size`. `answer_headers`,
    `answer_type`, `answer_status`: as set, "" and 0 where nothing was.
    """

    def __init__(self, task: Task, headers: dict[str, str] | None = None, id: str = "") -> None:
        self.model_name = task.model
        self.manifest: dict[str, Any] = {"model": {"modelName": task.model}}
        self.system_properties: dict[str, Any] = {
            "model_dir": task.directory,
            "gpu_id": task.device if task.kind == "gpu" else None,
            "batch_size": 1,
        }
        self.request_ids = {0: id}
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._given = dict(headers or {})
        self.answer_headers: dict[str, str] = {}
        self.answer_type = ""
        self.answer_status = 0

    @property
    def request_processor(self) -> list[Context]:
        """One request at a time, which this object is about."""
        return [self]

    def get_request_id(self, index: int = 0) -> str:
        """The request's id."""
        return self.request_ids[0]

    def get_request_header(self, index: int, key: str) -> str | None:
        """A header by its name in any case, None where there is none."""
        return self._headers.get(key.lower())

    def get_all_request_header(self, index: int = 0) -> dict[str, str]:
        """All headers."""
        return dict(self._given)

    def get_request_properties(self) -> dict[str, str]:
        """All headers."""
        return dict(self._given)

    def get_request_property(self, key: str) -> str | None:
        """A header by its name in any case, None where there is none."""
        return self._headers.get(key.lower())

    def set_response_content_type(self, index: int, value: str) -> None:
        """The answer's content type, unless the handler returns one."""
        self.answer_type = str(value)

    def set_response_header(self, index: int, key: str, value: str) -> None:
        """A header of the answer; SageMaker passes on its custom attributes alone."""
        if key.lower() == "content-type":
            self.answer_type = str(value)
        self.answer_headers[key.lower()] = str(value)

    def set_response_status(self, code: int = 200, phrase: str = "", index: int = 0) -> None:
        """The answer's status; from 400 on, what the handler returns is an error's message."""
        self.answer_status = int(code)
