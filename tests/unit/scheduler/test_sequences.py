"""Where sequences live and in which order their requests run, with time as a number."""

from __future__ import annotations

import pytest

from hostler.core import (
    DATATYPES,
    NEVER,
    Batching,
    Code,
    Context,
    HostlerError,
    InferRequest,
    SequenceControl,
    Sequencing,
)
from hostler.scheduler.cost import CostModel
from hostler.scheduler.queue import Waiting
from hostler.scheduler.sequences import Sequences
from hostler.scheduler.slots import Held

A, B = "replica a", "replica b"


def make(
    sequencing: Sequencing | None = None, batching: Batching | None = None, requests_max: int = 100
) -> Sequences[Waiting]:
    batching = batching or Batching(rows_max=4, tuned=False, preferred=(4,))
    sequencing = sequencing or Sequencing(slots=2, idle_s=1.0)
    return Sequences("m", sequencing, batching, CostModel(4), requests_max)


def asked(text: str, now: float = 0.0, **context: float) -> Waiting:
    """`1>` starts sequence 1, `1` goes on, `1.` ends it, `1>.` is all of it; a name is a text."""
    name = text.strip(">.")
    parameters = {
        "sequence_id": int(name) if name.isdigit() else name,
        "sequence_start": ">" in text,
        "sequence_end": "." in text,
    }
    request = InferRequest({}, id=text, parameters=parameters, context=Context(**context))  # type: ignore[arg-type]
    return Waiting(request, now)


def put(machine: Sequences[Waiting], *texts: str) -> list[Waiting]:
    items = [asked(text) for text in texts]
    for item in items:
        machine.put(item)
    return items


def run(machine: Sequences[Waiting], replica: object = A, now: float = 0.0) -> list[str]:
    """Take a batch and complete it at once; gives the ids of its requests."""
    take = machine.take(now, replica)
    for item in take.items:
        machine.completed(item, now, None)
    return [item.request.id for item in take.items]


def runs(machine: Sequences[Waiting], replica: object = A) -> list[list[str]]:
    """All batches until nothing may run."""
    batches = []
    while batch := run(machine, replica):
        batches.append(batch)
    return batches


# -- who is admitted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "rows", "message"),
    [
        ({}, 1, "model 'm' must specify a non-zero or non-empty correlation ID"),
        ({"sequence_id": 0, "sequence_start": True}, 1, "non-zero or non-empty correlation ID"),
        ({"sequence_id": "", "sequence_start": True}, 1, "non-zero or non-empty correlation ID"),
        (
            {"sequence_id": 42},
            1,
            "inference request for sequence 42 to model 'm' must specify the START flag on the "
            "first request of the sequence",
        ),
        ({"sequence_id": "ab", "sequence_end": True}, 1, "for sequence ab to model 'm' must"),
        ({"sequence_id": 1, "sequence_start": True}, 2, "must specify batch-size 1"),
        ({"sequence_id": True, "sequence_start": True}, 1, "whole number"),
        ({"sequence_id": 1.5, "sequence_start": True}, 1, "whole number"),
        ({"sequence_id": -1, "sequence_start": True}, 1, "whole number"),
        ({"sequence_id": 2**64, "sequence_start": True}, 1, "whole number"),
        ({"sequence_id": "x" * 129, "sequence_start": True}, 1, "128 characters"),
    ],
)
def test_who_is_refused(parameters: dict[str, object], rows: int, message: str) -> None:
    machine = make()
    machine.joined(A)
    request = InferRequest({}, parameters=parameters)  # type: ignore[arg-type]
    request.rows = rows
    with pytest.raises(HostlerError, match=message) as e:
        machine.put(Waiting(request, 0.0))
    assert e.value.code is Code.INVALID_ARGUMENT
    assert (len(machine), machine.live) == (0, 0)


@pytest.mark.parametrize(
    ("datatype", "text", "fits"),
    [
        ("UINT64", "7>", True),
        ("UINT64", "x>", False),
        ("BYTES", "7>", False),
        ("BYTES", "x>", True),
    ],
)
def test_an_id_is_of_the_kind_that_the_model_takes(datatype: str, text: str, fits: bool) -> None:
    control = SequenceControl("CORRID", "corrid", DATATYPES[datatype])
    machine = make(Sequencing(controls=(control,)))
    if fits:
        machine.put(asked(text))
    else:
        with pytest.raises(HostlerError, match=f"takes the correlation ID as {datatype}"):
            machine.put(asked(text))


def test_a_number_and_its_text_are_two_sequences() -> None:
    machine = make()
    machine.joined(A)
    machine.put(asked("7>"))
    text = asked("7>")
    text.request.parameters = {"sequence_id": "7", "sequence_start": True}
    machine.put(text)
    assert machine.live == 2


def test_after_its_end_a_sequence_must_start_anew() -> None:
    machine = make()
    machine.joined(A)
    put(machine, "1>", "1.")
    with pytest.raises(HostlerError, match="START"):
        put(machine, "1")
    put(machine, "1>")
    assert runs(machine) == [["1>"], ["1."], ["1>"]]


def test_a_full_queue_refuses_at_once() -> None:
    machine = make(requests_max=2)
    put(machine, "1>", "2>")
    with pytest.raises(HostlerError) as e:
        put(machine, "3>")
    assert e.value.code is Code.QUEUE_FULL
    assert e.value.retry_after_s
    assert machine.live == 2
    machine.joined(A)
    assert runs(machine) == [["1>", "2>"]]


# -- order and slots -------------------------------------------------------------------------


def test_one_at_a_time_and_in_order() -> None:
    machine = make()
    machine.joined(A)
    put(machine, "1>", "1", "2>", "1.")
    first = machine.take(0.0, A)
    assert [item.request.id for item in first.items] == ["1>", "2>"]
    assert machine.take(0.0, A).items == [], "the next of a sequence waits for the one before"
    machine.completed(first.items[0], 0.0, None)
    assert run(machine) == ["1"]
    machine.completed(first.items[1], 0.0, None)
    assert run(machine) == ["1."]
    assert machine.live == 1


def test_a_sequence_stays_where_it_began() -> None:
    machine = make(Sequencing(slots=2))
    machine.joined(A)
    machine.joined(B)
    put(machine, "1>", "2>", "3>", "4>")
    assert (run(machine, A), run(machine, B)) == (["1>", "3>"], ["2>", "4>"])
    put(machine, "2", "1", "4")
    assert (run(machine, A), run(machine, B)) == (["1"], ["2", "4"])
    assert run(machine, "nobody knows this one") == []


def test_direct_rows_stay_and_are_filled_from_below() -> None:
    machine = make(Sequencing(slots=3))
    machine.joined(A)
    put(machine, "1>", "2>", "3>")
    assert list(machine.take(0.0, A).rows) == [0, 1, 2]
    machine = make(Sequencing(slots=3))
    machine.joined(A)
    put(machine, "1>.", "2>", "3>")
    assert run(machine) == ["1>.", "2>", "3>"]
    put(machine, "3")
    take = machine.take(0.0, A)
    assert list(take.rows) == [2], "rows 0 and 1 have nothing to run"
    put(machine, "4>", "2")
    take = machine.take(0.0, A)
    assert [i.request.id for i in take.items] == ["4>", "2"]
    assert list(take.rows) == [0, 1], "the freed row is taken again"


def test_the_backlog_is_in_the_order_of_arrival() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    put(machine, "1>", "2>", "3>.", "2.", "1.")
    assert runs(machine) == [["1>"], ["1."], ["2>"], ["2."], ["3>."]]
    assert (machine.live, len(machine)) == (0, 0)


def test_the_same_id_again_waits_behind_the_others() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    put(machine, "1>.", "2>.", "1>", "1.")
    assert runs(machine) == [["1>."], ["2>."], ["1>"], ["1."]]


def test_a_new_replica_takes_from_the_backlog() -> None:
    machine = make(Sequencing(slots=1))
    put(machine, "1>", "2>")
    assert run(machine, A) == []
    machine.joined(A)
    machine.joined(A)
    machine.joined(B)
    assert (run(machine, A), run(machine, B)) == (["1>"], ["2>"])


def test_a_start_on_a_live_sequence_begins_with_fresh_state() -> None:
    machine = make()
    machine.joined(A)
    kept = Held({})
    for text, found in (("1>", None), ("1", kept), ("1>", None), ("1", kept)):
        [item] = put(machine, text)
        assert machine.take(0.0, A).items == [item]
        assert machine.held(item) is found, text
        machine.completed(item, 0.0, kept)
    assert machine.live == 1


def test_a_failed_request_leaves_the_state_as_it_was() -> None:
    machine = make()
    machine.joined(A)
    kept = Held({})
    for text, left in (("1>", kept), ("1", None), ("1", None)):
        [item] = put(machine, text)
        machine.take(0.0, A)
        machine.completed(item, 0.0, left)
    [item] = put(machine, "1")
    machine.take(0.0, A)
    assert machine.held(item) is kept


def test_what_does_not_stack_runs_apart() -> None:
    for direct in (True, False):
        machine = make(Sequencing(direct=direct, slots=3))
        machine.joined(A)
        items = [asked("1>"), asked("2>"), asked("3>")]
        items[1].request.join_key = "other shapes"
        for item in items:
            machine.put(item)
        assert runs(machine) == [["1>", "3>"], ["2>"]]
    machine = make(Sequencing(slots=2))
    machine.joined(A)
    for text, key in (("1>", "long"), ("2>", None)):
        [item] = put(machine, text)
        machine.take(0.0, A)
        machine.completed(item, 0.0, Held({}, key))
    put(machine, "1", "2")
    assert runs(machine) == [["1"], ["2"]], "states of different shapes do not stack either"


def test_the_oldest_of_all_candidates_are_joined() -> None:
    machine = make(Sequencing(direct=False, slots=10), Batching(rows_max=2, tuned=False))
    machine.joined(A)
    put(machine, "1>", "2>", "3>", "1", "2")
    assert runs(machine) == [["1>", "2>"], ["3>", "1"], ["2"]]


def test_a_preferred_size_is_waited_for() -> None:
    batching = Batching(rows_max=4, tuned=False, preferred=(2,), delay_s=0.5)
    machine = make(Sequencing(direct=False, slots=10), batching)
    machine.joined(A)
    put(machine, "1>")
    take = machine.take(0.1, A)
    assert (take.items, take.ask_again) == ([], 0.5)
    assert run(machine, now=0.5) == ["1>"]
    put(machine, "2>", "3>", "4>")
    assert run(machine, now=0.1) == ["2>", "3>"]


def test_direct_slots_are_waited_for() -> None:
    machine = make(Sequencing(slots=4, delay_s=0.5, slot_utilisation_min=0.5))
    machine.joined(A)
    put(machine, "1>")
    take = machine.take(0.1, A)
    assert (take.items, take.ask_again) == ([], 0.5)
    put(machine, "2>")
    assert run(machine, now=0.1) == ["1>", "2>"]
    put(machine, "1")
    assert run(machine, now=0.4) == []
    assert run(machine, now=0.5) == ["1"]


def test_what_is_put_back_runs_alone_and_first() -> None:
    for direct in (True, False):
        machine = make(Sequencing(direct=direct, slots=3))
        machine.joined(A)
        put(machine, "1>", "2>", "1", "3>")
        items = machine.take(0.0, A).items
        for item in items:
            assert machine.put_back(item)
            machine.completed(item, 0.0, None)  # says nothing about one that was put back
        assert runs(machine) == [["1>"], ["2>"], ["3>"], ["1"]]


# -- how sequences end -----------------------------------------------------------------------


def test_an_idle_sequence_frees_its_slot() -> None:
    machine = make(Sequencing(slots=1, idle_s=1.0))
    machine.joined(A)
    put(machine, "1>", "2>")
    assert run(machine, now=5.0) == ["1>"]
    assert machine.next_deadline == 6.0
    assert machine.expire(5.9) == []
    assert run(machine) == []
    assert machine.expire(6.0) == []
    assert run(machine, now=6.0) == ["2>"]
    with pytest.raises(HostlerError, match="START"):
        put(machine, "1")


def test_queued_and_running_requests_keep_a_sequence() -> None:
    machine = make(Sequencing(slots=1, idle_s=1.0))
    machine.joined(A)
    [first] = put(machine, "1>")
    machine.take(0.0, A)
    machine.expire(100.0)
    put(machine, "1")
    machine.completed(first, 100.0, None)
    machine.expire(200.0)
    assert run(machine, now=200.0) == ["1"]
    machine.expire(200.9)
    assert machine.live == 1
    machine.expire(201.0)
    assert machine.live == 0
    assert machine.next_deadline == NEVER


def test_a_client_that_leaves_ends_its_sequence() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    items = put(machine, "1>", "1", "1", "1.", "1>", "2>")
    machine.discard(items[1])
    assert [item for item, _ in machine.fallen()] == items[2:4]
    assert machine.fallen() == []
    assert len(machine) == 3
    assert runs(machine) == [["1>"], ["1>"]]
    machine.discard(items[5])
    assert machine.fallen() == []
    assert (machine.live, len(machine)) == (1, 0)


@pytest.mark.parametrize("place", ["slot", "backlog", "running"])
def test_a_sequence_that_lost_a_request_takes_no_more(place: str) -> None:
    machine = make(Sequencing(slots=1))
    if place != "backlog":
        machine.joined(A)
    items = put(machine, "1>", "1")
    if place == "running":
        machine.take(0.0, A)
    machine.discard(items[place == "running"])
    fallen = machine.fallen()
    assert [item for item, _ in fallen] == ([] if place == "running" else items[1:])
    assert all(error.code is Code.CANCELLED for _, error in fallen)
    with pytest.raises(HostlerError, match="START"):
        put(machine, "1")
    if place == "running":
        machine.completed(items[0], 0.0, None)
    assert (machine.live, len(machine)) == (0, 0)
    machine.joined(A)
    put(machine, "2>")
    assert run(machine) == ["2>"], "its slot is free"


def test_a_late_request_ends_its_sequence() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    items = [asked("1>"), asked("1", deadline=2.0), asked("1"), asked("1", deadline=1.5)]
    for item in items:
        machine.put(item)
    assert machine.next_deadline == 1.5
    assert machine.expire(1.0) == []
    assert machine.expire(2.0) == [items[1], items[3]]
    [(fallen, error)] = machine.fallen()
    assert (fallen, error.code) == (items[2], Code.DEADLINE_EXCEEDED)
    assert run(machine) == ["1>"]
    assert machine.live == 0


def test_a_client_s_wish_counts_in_the_backlog_alone() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    seated = asked("1>", queue_timeout_s=1.0)
    backlog = [asked("2>", queue_timeout_s=1.0), asked("3>", queue_timeout_s=3.0)]
    for item in (seated, *backlog):
        machine.put(item)
    assert machine.expire(2.0) == backlog[:1]
    assert run(machine, now=2.0) == ["1>"]
    put(machine, "1.")
    assert run(machine, now=2.0) == ["1."]
    assert machine.expire(2.99) == []
    machine.expire(10.0)
    assert run(machine, now=10.0) == ["3>"], "it has had its slot since 2"


def test_a_lost_replica_ends_its_sequences() -> None:
    machine = make(Sequencing(slots=2))
    machine.joined(A)
    machine.joined(B)
    first = put(machine, "1>", "2>", "3>")
    for replica in (A, B):
        machine.take(0.0, replica)
    queued = put(machine, "1", "1.", "1>", "2", "4>")
    machine.left(A)
    machine.left(A)
    fallen = machine.fallen()
    assert [item for item, _ in fallen] == queued[:2]
    assert all(error.code is Code.WORKER_LOST for _, error in fallen)
    with pytest.raises(HostlerError, match="START"):
        put(machine, "3")
    for item in first:
        machine.completed(item, 0.0, Held({}))
        assert not machine.put_back(item), "nobody runs it again"
    assert runs(machine, B) == [["2", "4>"]], "nothing of 4 had run, so it starts on the other"
    put(machine, "2.", "4.")
    assert runs(machine, B) == [["2.", "4."], ["1>"]]


def test_clear_gives_everything_back() -> None:
    machine = make(Sequencing(slots=1))
    machine.joined(A)
    items = put(machine, "1>", "1", "2>")
    machine.take(0.0, A)
    assert machine.clear() == items[1:]
    assert (len(machine), machine.live) == (0, 1)
    with pytest.raises(HostlerError, match="START"):
        put(machine, "1")
    machine.completed(items[0], 0.0, None)
    assert machine.live == 0
    put(machine, "2>")
    assert run(machine) == ["2>"]
