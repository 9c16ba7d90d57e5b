"""Sequences through the driver: a fake replica that adds up, stepped by hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from fakes.clock import FakeClock
from fakes.replicas import FakeReplica

from hostler.core import (
    DATATYPES,
    Batch,
    Batching,
    Clock,
    Code,
    HostlerError,
    InferRequest,
    InferResponse,
    ModelSpec,
    SequenceControl,
    SequenceState,
    Sequencing,
    Signature,
    Sink,
    Stats,
    SystemClock,
    Tensor,
    TensorSpec,
)
from hostler.scheduler import Config, Scheduler

INT32 = DATATYPES["INT32"]
FLAGS = tuple(
    SequenceControl(kind.upper(), kind, INT32) for kind in ("start", "end", "ready")
)  # fmt: skip
STATES = (SequenceState("SI", "SO", INT32, (1,), (1,)),)


def column(name: str, value: int) -> Tensor:
    return Tensor(name, INT32, (1, 1), np.array([[value]], np.int32))


class SumReplica(FakeReplica):
    """Keeps each batch until told; then answers x + the state, which it also leaves behind.

    `eager`: is told by itself on the next turn of the loop.
    """

    eager = False

    def run(self, batch: Batch, sink: Sink) -> None:
        super().run(batch, sink)
        if self.eager:
            asyncio.get_running_loop().call_soon(self.answer)

    def rows(self) -> list[tuple[int, ...]]:
        """x, START, END, READY of every row of the batch it holds."""
        names = ("x", "START", "END", "READY")
        return [
            tuple(int(r.inputs[n].numpy().item()) for n in names) for r in self.batches[-1].requests
        ]

    def answer(self) -> None:
        sink, self._sink = self._sink, None
        assert sink is not None
        sink.timings(0.001, 0.002, 0.003)
        for index, request in enumerate(self.batches[-1].requests):
            total = sum(int(request.inputs[name].numpy().item()) for name in ("x", "SI"))
            outputs = [column(name, total) for name in ("y", "SO")]
            wanted = [o.name for o in request.outputs or ()]
            sink.send(index, InferResponse([t for t in outputs if t.name in wanted]))


def make(
    sequencing: Sequencing | None = None, *, clock: Clock | None = None, **config: int
) -> tuple[Scheduler, SumReplica]:
    signature = Signature(
        (TensorSpec("x", INT32, (1,)),), (TensorSpec("y", INT32, (1,)),), batched=True
    )
    spec = ModelSpec(
        "m", 1, Path("m"), Path("m/1/model.onnx"), "onnx", signature=signature,
        batching=Batching(rows_max=4, tuned=False, preferred=(4,)),
        sequencing=sequencing or Sequencing(slots=4, controls=FLAGS, states=STATES),
    )  # fmt: skip
    scheduler = Scheduler(
        spec, Stats(), clock or SystemClock(), Config(**config), retry_singly=True
    )
    replica = SumReplica()
    scheduler.replica_ready(replica)
    return scheduler, replica


def asked(text: str, value: int = 0) -> InferRequest:
    """`1>` starts sequence 1, `1` goes on, `1.` ends it."""
    parameters = {
        "sequence_id": int(text.strip(">.")),
        "sequence_start": ">" in text,
        "sequence_end": "." in text,
    }
    return InferRequest({"x": column("x", value)}, id=text, parameters=parameters)


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def total(future: asyncio.Future[InferResponse]) -> int:
    [output] = future.result().outputs
    assert output.name == "y", "the state is not for clients"
    return int(output.numpy().item())


async def serve(scheduler: Scheduler, replica: SumReplica, *asks: tuple[str, int]) -> list[int]:
    futures = [scheduler.submit(asked(text, value)) for text, value in asks]
    await turn()
    while replica.busy:
        replica.answer()
        await turn()
    return [total(future) for future in futures]


@pytest.mark.parametrize("direct", [True, False])
async def test_interleaved_sequences_have_sums_of_their_own(direct: bool) -> None:
    sequencing = Sequencing(direct=direct, slots=4, controls=FLAGS, states=STATES)
    scheduler, replica = make(sequencing)
    asks = [("1>", 1), ("2>", 10), ("1", 2), ("2", 20), ("3>", 100), ("1.", 3), ("2.", 30)]
    assert await serve(scheduler, replica, *asks) == [1, 10, 3, 30, 100, 6, 60]
    assert await serve(scheduler, replica, ("1>", 5), ("3", 1), ("3>", 7)) == [5, 101, 7]
    stats = scheduler.stats
    assert stats.success_count == stats.inference_count == 10
    assert (stats.queue_depth, scheduler.pending) == (0, 0)
    assert stats.sequences == 2, "1 and 3; 2 has ended"


async def test_rows_keep_their_number_and_empty_ones_count_nowhere() -> None:
    scheduler, replica = make()
    await serve(scheduler, replica, ("1>", 1), ("2>", 2), ("3>", 3))
    futures = [scheduler.submit(asked("3", 30)), scheduler.submit(asked("1.", 10))]
    await turn()
    assert replica.rows() == [(10, 0, 1, 1), (0, 0, 0, 0), (30, 0, 0, 1)]
    assert replica.batches[-1].rows == 3
    replica.answer()
    await turn()
    assert [total(future) for future in futures] == [33, 11]
    assert {rows: b.count for rows, b in scheduler.stats.batches.items()} == {3: 1, 2: 1}
    assert scheduler.stats.inference_count == 5


async def test_without_a_ready_control_there_are_no_empty_rows() -> None:
    scheduler, replica = make(Sequencing(slots=4, controls=FLAGS[:2], states=STATES))
    await serve(scheduler, replica, ("1>", 1), ("2>", 2))
    future = scheduler.submit(asked("2", 3))
    await turn()
    assert len(replica.batches[-1].requests) == 1
    replica.answer()
    assert total(future) == 5


async def test_an_empty_row_may_answer_last() -> None:
    scheduler, replica = make()
    await serve(scheduler, replica, ("1>", 1), ("2>", 2))
    future = scheduler.submit(asked("2", 3))
    await turn()
    sink = replica._sink
    assert sink is not None
    sink.send(1, InferResponse([column("y", 5), column("SO", 5)]))
    assert total(future) == 5
    later = scheduler.submit(asked("1", 1))
    await turn()
    assert len(replica.batches) == 2, "the replica is still busy with the other row"
    replica._sink = None
    sink.send(0, HostlerError(Code.MODEL_ERROR, "nobody asked"))
    await turn()
    assert replica.rows() == [(1, 0, 0, 1)]
    replica.answer()
    await turn()
    assert total(later) == 2


async def test_a_failed_join_is_repeated_row_by_row() -> None:
    scheduler, replica = make()
    await serve(scheduler, replica, ("1>", 1), ("2>", 2))
    futures = [scheduler.submit(asked(text, 5)) for text in ("1", "2", "1")]
    await turn()
    replica.finish(HostlerError(Code.MODEL_ERROR, "together"))
    await turn()
    assert replica.rows() == [(5, 0, 0, 1)]
    replica.finish(HostlerError(Code.MODEL_ERROR, "alone, too"))
    await turn()
    assert replica.rows() == [(0, 0, 0, 0), (5, 0, 0, 1)]
    replica.answer()
    await turn()
    replica.answer()
    with pytest.raises(HostlerError, match="alone, too"):
        futures[0].result()
    assert [total(future) for future in futures[1:]] == [7, 6], "the failed one added nothing"
    assert scheduler.stats.queue_depth == 0


async def test_an_idle_sequence_is_forgotten() -> None:
    sequencing = Sequencing(slots=1, idle_s=0.02, controls=FLAGS, states=STATES)
    scheduler, replica = make(sequencing)
    waiting = scheduler.submit(asked("1>", 1))
    await turn()
    backlog = scheduler.submit(asked("2>", 2))
    replica.answer()
    await turn()
    assert (total(waiting), replica.busy) == (1, False)
    replica.eager = True
    await asyncio.wait_for(backlog, 5)
    assert total(backlog) == 2
    with pytest.raises(HostlerError, match="START") as e:
        scheduler.submit(asked("1"))
    assert e.value.code is Code.INVALID_ARGUMENT
    assert (scheduler.stats.rejected, scheduler.stats.sequences) == (1, 1)
    scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    assert scheduler.stats.sequences == 0


async def test_a_lost_replica_ends_its_sequences() -> None:
    scheduler, replica = make()
    running = scheduler.submit(asked("1>", 1))
    await turn()
    queued = [scheduler.submit(asked(text, 1)) for text in ("1", "1>")]
    scheduler.replica_gone(replica)
    replica.finish(HostlerError(Code.WORKER_LOST, "killed"))
    await turn()
    with pytest.raises(HostlerError, match="killed"):
        running.result()
    with pytest.raises(HostlerError, match=r"sequence 1 .* start it again") as e:
        queued[0].result()
    assert e.value.code is Code.WORKER_LOST
    assert scheduler.stats.queue_depth == 1
    scheduler.replica_ready(replica)
    await turn()
    assert replica.rows() == [(1, 1, 0, 1)]
    replica.answer()
    await turn()
    assert total(queued[1]) == 1
    assert scheduler.pending == 0


async def test_a_client_that_leaves_takes_its_sequence_with_it() -> None:
    scheduler, replica = make(Sequencing(slots=1, controls=FLAGS, states=STATES))
    first = scheduler.submit(asked("1>", 1))
    await turn()
    gone, behind, other = asked("1", 2), asked("1.", 3), asked("2>", 4)
    futures = [scheduler.submit(request) for request in (gone, behind, other)]
    gone.context.cancel()
    for future in futures[:2]:
        assert isinstance(future.exception(), HostlerError)
    assert scheduler.stats.cancelled == 1
    replica.answer()
    await turn()
    assert total(first) == 1
    replica.answer()
    assert total(futures[2]) == 4
    assert (scheduler.stats.queue_depth, scheduler.pending) == (0, 0)


async def test_replicas_are_looked_at_one_by_one() -> None:
    """The first idle replica may have nothing to run while the second has."""
    scheduler, first = make(Sequencing(slots=1, controls=FLAGS, states=STATES))
    second = SumReplica("m:1/1")
    scheduler.replica_ready(second)
    futures = [scheduler.submit(asked(text, 1)) for text in ("1>", "2>")]
    await turn()
    first.answer()
    second.answer()
    await turn()
    for text, replica in (("2", second), ("2", second), ("1", first), ("2", second)):
        futures.append(scheduler.submit(asked(text, 1)))
        await turn()
        assert replica.busy, text
        replica.answer()
        await turn()
    assert [total(future) for future in futures] == [1, 1, 2, 3, 2, 4]


async def test_the_next_runs_while_another_answer_of_the_batch_is_still_to_come() -> None:
    """A decoupled model gives its replica back before it has answered everything."""
    scheduler, replica = make(Sequencing(direct=False, slots=4, controls=FLAGS))
    futures = [scheduler.submit(asked(text)) for text in ("1>", "2>", "1")]
    await turn()
    sink, replica._sink = replica._sink, None
    assert sink is not None
    sink.idle()
    await turn()
    assert len(replica.batches) == 1, "sequence 1 waits for its answer"
    sink.send(0, InferResponse([]))
    await turn()
    assert replica.ids == ["1"]
    replica.finish()
    sink.send(1, InferResponse([]))
    await turn()
    assert all(future.done() for future in futures)
    assert scheduler.pending == 0


async def test_a_full_backlog_refuses_at_once() -> None:
    scheduler, _ = make(
        Sequencing(slots=1, controls=FLAGS), clock=FakeClock(), queue_requests_max=2
    )
    futures = [scheduler.submit(asked("1>"))]
    await turn()
    futures += [scheduler.submit(asked(text)) for text in ("2>", "3>")]
    with pytest.raises(HostlerError) as e:
        scheduler.submit(asked("4>"))
    assert e.value.code is Code.QUEUE_FULL
    scheduler.close(HostlerError(Code.UNAVAILABLE, "over"))
    assert all(isinstance(future.exception(), HostlerError) for future in futures)
    assert (scheduler.stats.queue_depth, scheduler.pending) == (0, 0)
