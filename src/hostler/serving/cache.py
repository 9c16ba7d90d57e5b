"""The response cache: equal questions to a model that allows it get the answer that was given.

One cache for all models, bounded in bytes; the answer that was asked for longest ago goes first.
Source: Triton `response_cache.md`. Unlike there a key is 256 bits, so that two questions never
have the same, and it covers requested outputs and parameters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from hostler.core import (
    BytesArray,
    Clock,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    Replica,
    ResponseStream,
    Stats,
    Tensor,
)
from hostler.serving.live import Scheduler

__all__ = ["CachedScheduler", "ResponseCache", "request_key"]

_ENTRY_BYTES: Final = 1024
_TENSOR_BYTES: Final = 512
"""What Python takes around the data of an answer, so that tiny answers are bounded, too."""

# How a request is queued and answered, but nothing that a model sees.
_NOT_IN_KEY: Final = frozenset(("priority", "timeout", "binary_data_output"))


class _Entry:
    __slots__ = ("load", "response", "size")

    def __init__(self, load: int, response: InferResponse, size: int) -> None:
        self.load = load
        self.response = response
        self.size = size


class ResponseCache:
    """Answers by key, of all models. Loop thread only.

    `bytes_max`: 0 for no cache at all. `held_bytes`: never more than that.
    """

    def __init__(self, bytes_max: int, clock: Clock) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        self.clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._loads = itertools.count(1)

    def __len__(self) -> int:
        return len(self._entries)

    def over(self, scheduler: Scheduler, spec: ModelSpec, stats: Stats) -> Scheduler:
        """The scheduler to use for one load of a model: with the cache where its package asks."""
        if not spec.cached or not self.bytes_max:
            return scheduler
        return CachedScheduler(self, scheduler, next(self._loads), stats)

    def find(self, key: bytes) -> InferResponse | None:
        """A new response over the tensors that are kept, which nobody may write to."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return InferResponse(entry.response.outputs, entry.response.parameters)

    def keep(self, key: bytes, load: int, response: InferResponse) -> None:
        """Keep a copy of an answer; not of one that is larger than the whole cache."""
        size = _ENTRY_BYTES + sum([tensor.nbytes + _TENSOR_BYTES for tensor in response.outputs])
        if size > self.bytes_max:
            return
        replaced = self._entries.pop(key, None)  # of an equal question at the same time
        if replaced is not None:
            self.held_bytes -= replaced.size
        while self.held_bytes + size > self.bytes_max:
            _, oldest = self._entries.popitem(last=False)
            self.held_bytes -= oldest.size
        self._entries[key] = _Entry(load, _owned(response), size)
        self.held_bytes += size

    def forget(self, load: int) -> None:
        """Drop the answers of a load that is over: nobody can ask for them any more."""
        for key in [key for key, entry in self._entries.items() if entry.load == load]:
            self.held_bytes -= self._entries.pop(key).size


class CachedScheduler:
    """A scheduler that first looks whether the answer is known; see `live.Scheduler`.

    `load`: a number that no other load has, so that a model that was changed answers anew.
    """

    def __init__(self, cache: ResponseCache, scheduler: Scheduler, load: int, stats: Stats) -> None:
        self._cache = cache
        self._scheduler = scheduler
        self._load = load
        self._stats = stats
        self._now = cache.clock.now
        self._closed = False

    @property
    def pending(self) -> int:
        """See `live.Scheduler`."""
        return self._scheduler.pending

    @property
    def background_rows(self) -> int:
        """See `live.Scheduler`."""
        return self._scheduler.background_rows

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """See `live.Scheduler`; a known answer takes no place in the queue."""
        stats, start = self._stats, self._now()
        key = request_key(self._load, request)
        known = self._cache.find(key)
        took_s = self._now() - start
        if known is not None:
            stats.cache_hit_count += 1
            stats.cache_hit_s += took_s
            stats.succeed(took_s)
            stats.last_inference_wall_s = self._cache.clock.wall()
            found: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()
            found.set_result(known)
            return found
        stats.cache_miss_count += 1
        stats.cache_miss_s += took_s
        answer = self._scheduler.submit(request)
        answer.add_done_callback(lambda future: self._keep(key, future))
        return answer

    def _keep(self, key: bytes, future: asyncio.Future[InferResponse]) -> None:
        if future.cancelled() or future.exception() is not None or self._closed:
            return
        start = self._now()
        self._cache.keep(key, self._load, future.result())
        self._stats.cache_miss_s += self._now() - start

    def stream(self, request: InferRequest) -> ResponseStream:
        """See `live.Scheduler`; a model that is cached has one response."""
        stream = ResponseStream(request.context.cancel)
        answer = self.submit(request)

        def finish(future: asyncio.Future[InferResponse]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is None and not future.cancelled():
                stream.put(future.result())
            stream.end(error if isinstance(error, HostlerError) else None)

        answer.add_done_callback(finish)
        return stream

    async def drain(self, timeout_s: float) -> bool:
        """See `live.Scheduler`."""
        return await self._scheduler.drain(timeout_s)

    def close(self, error: HostlerError) -> None:
        """See `live.Scheduler`; what is known of this load is forgotten."""
        self._closed = True
        self._cache.forget(self._load)
        self._scheduler.close(error)

    def replica_ready(self, replica: Replica) -> None:
        """See `core.ReplicaWatcher`."""
        self._scheduler.replica_ready(replica)

    def replica_gone(self, replica: Replica, *, lost: bool = True) -> None:
        """See `core.ReplicaWatcher`."""
        self._scheduler.replica_gone(replica, lost=lost)

    def unhealthy(self, error: HostlerError | None) -> None:
        """See `core.ReplicaWatcher`."""
        self._scheduler.unhealthy(error)


def request_key(load: int, request: InferRequest) -> bytes:
    """What tells a question from others: a digest over all that its answer may depend on.

    That is the load of a model, its inputs whatever their order, the outputs asked for and the
    parameters that models see; not the request's id, as in Triton.
    """
    digest = blake2b(digest_size=32)
    outputs = None if request.outputs is None else [output.name for output in request.outputs]
    parameters = sorted(
        (key, type(value).__name__, repr(value))
        for key, value in request.parameters.items()
        if key not in _NOT_IN_KEY
    )
    digest.update(repr((load, outputs, parameters, len(request.inputs))).encode("utf-8", "replace"))
    for name in sorted(request.inputs):
        tensor = request.inputs[name]
        # repr() tells where a name ends, and the sizes where the data does.
        head = (name, tensor.datatype.name, tensor.shape, tensor.nbytes)
        digest.update(repr(head).encode("utf-8", "replace"))
        digest.update(tensor.wire())
    return digest.digest()


def _owned(response: InferResponse) -> InferResponse:
    """A copy that holds on to nothing: outputs may be views of a worker's shared memory."""
    return InferResponse(tuple(map(_copy, response.outputs)), dict(response.parameters))


def _copy(tensor: Tensor) -> Tensor:
    data = tensor.data
    if isinstance(data, BytesArray):
        own = BytesArray(bytes(data.wire()), data.offsets - data.offsets[0])
        return Tensor(tensor.name, tensor.datatype, tensor.shape, own)
    array = data.copy()
    array.flags.writeable = False
    return Tensor(tensor.name, tensor.datatype, tensor.shape, array)
