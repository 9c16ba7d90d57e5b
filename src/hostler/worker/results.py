"""Results as headers and buffers of frames."""

from __future__ import annotations

import math
from typing import Any, Mapping

from .channel import Slab
from .errors import Failure, failure_of
from .task import Answer, Task
from .tensors import Writer

__all__ = ["ResultWriter", "plain_parameters"]

NO_GRANT = [0, 0]
INTEGER_MIN, INTEGER_END = -(2**63), 2**64


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that every wire can carry. Raises: Failure naming the one that none can."""
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise Failure("MODEL_ERROR", "parameter name {!r} is not text".format(name))
        if isinstance(value, (str, bool)):
            continue
        if isinstance(value, int) and INTEGER_MIN <= value < INTEGER_END:
            continue
        if isinstance(value, float) and math.isfinite(value):
            continue
        raise Failure(
            "MODEL_ERROR",
            "parameter '{}' is {!r}; parameters are text, booleans, integers of 64 bits or finite "
            "numbers".format(name, value)[:500],
        )
    return dict(parameters)


class ResultWriter:
    """Writes what a model answered.

    `inline_bytes_max`: up to so many bytes go into the frame though the slab has room.
    `frame_bytes_max`: the largest body that the server takes.
    """

    def __init__(self, task: Task, inline_bytes_max: int, frame_bytes_max: int) -> None:
        self._task = task
        self._inline_bytes_max = inline_bytes_max
        self.frame_bytes_max = frame_bytes_max

    def one(self, result: Answer | Failure) -> tuple[dict[str, Any], list[Any], int]:
        """A result that goes into a frame of its own: header, buffers, and their bytes."""
        writer = Writer(None, NO_GRANT, 0)
        described = self._describe(result, writer)
        if writer.body_bytes > self.frame_bytes_max:
            return self._refused(writer.body_bytes), [], 0
        return described, writer.buffers, writer.body_bytes

    def all(
        self, results: list[Answer | Failure | None], slab: Slab | None, grant: list[int]
    ) -> tuple[dict[str, Any], list[Any]]:
        """The results of a run, None for a request whose response sender answers it."""
        writer = Writer(slab, grant, self._inline_bytes_max)
        described: list[Any] = [
            None if result is None else self._describe(result, writer) for result in results
        ]
        if writer.body_bytes > self.frame_bytes_max:
            refused = self._refused(writer.body_bytes)
            refusals = [None if result is None else refused for result in results]
            return {"results": refusals, "bytes": writer.bytes_total}, []
        return {"results": described, "bytes": writer.bytes_total}, writer.buffers

    def failure(self, error: BaseException, doing: str) -> Failure:
        """What a caller is told of an exception of user code. `doing`: "failed in execute"."""
        task = self._task
        where = "model '{}' {}".format(task.model, doing)
        memory = task.memory_bytes_max
        if task.options.get("script", "").startswith("code/"):
            return failure_of(error, where, task.directory, memory, "code/requirements.txt")
        return failure_of(error, where, task.directory, memory)

    def _describe(self, result: Answer | Failure, writer: Writer) -> dict[str, Any]:
        if isinstance(result, Failure):
            return {"error": result.told()}
        try:
            return {
                "outputs": writer.write(result.outputs),
                "parameters": result.parameters,
            }
        except (Exception, SystemExit) as error:  # noqa: BLE001 - str() of user objects
            failure = self.failure(error, "returned an output that cannot be read")
            return {"error": failure.told()}

    def _refused(self, size: int) -> dict[str, Any]:
        text = (
            "model '{}': its outputs of {} bytes exceed both the shared memory granted to "
            "them and the limit of {} bytes for one message (worker frame_bytes_max)".format(
                self._task.model, size, self.frame_bytes_max
            )
        )
        return {"error": ["RESOURCE_EXHAUSTED", text]}
