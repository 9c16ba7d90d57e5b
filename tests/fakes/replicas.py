"""Replicas that a test steps by hand."""

from __future__ import annotations

from hostler.core import Batch, HostlerError, InferResponse, Sink


class FakeReplica:
    """Keeps each batch until the test answers it."""

    def __init__(self, name: str = "m:1/0") -> None:
        self.name = name
        self.batches: list[Batch] = []
        self._sink: Sink | None = None

    def run(self, batch: Batch, sink: Sink) -> None:
        assert self._sink is None, "a replica was given a batch while it was busy"
        self.batches.append(batch)
        self._sink = sink

    @property
    def busy(self) -> bool:
        return self._sink is not None

    @property
    def ids(self) -> list[str]:
        """The ids of the requests in the batch it holds."""
        return [request.id for request in self.batches[-1].requests]

    def finish(self, error: HostlerError | None = None) -> None:
        """Answer every request of its batch with an empty response, or with the error."""
        sink, self._sink = self._sink, None
        assert sink is not None
        if error is None:
            sink.timings(0.001, 0.002, 0.003)
        for index, request in enumerate(self.batches[-1].requests):
            sink.send(index, error or InferResponse([], {"id": request.id}))
