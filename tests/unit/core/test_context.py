"""What sub-calls have from the request in whose behalf they are made."""

from hostler.core import NEVER, Context


def test_sub_calls_lose_a_deadline_that_is_lifted():
    context = Context(deadline=5.0)
    child = context.child("a")
    grandchild = child.child("b")
    own = context.child("a")
    own.deadline = 3.0  # earlier, and its own
    context.lift_deadline()
    context.lift_deadline()
    assert (context.deadline, child.deadline, grandchild.deadline) == (NEVER, NEVER, NEVER)
    assert own.deadline == 3.0
    assert context.child("a").deadline == NEVER


def test_a_sub_call_keeps_no_deadline_from_its_callers():
    context = Context(deadline=5.0)
    child = context.child("a")
    child.lift_deadline()
    assert (context.deadline, child.deadline) == (5.0, NEVER)


def test_sub_calls_are_cancelled_with_the_request():
    context = Context()
    child = context.child("a")
    grandchild = child.child("b")
    heard = []
    grandchild.on_cancel(lambda: heard.append("cancelled"))
    context.cancel()
    context.cancel()
    assert child.cancelled
    assert heard == ["cancelled"]
    assert context.child("late").cancelled
    assert grandchild.call_path == ("a", "b")


def test_the_time_of_a_run_counts_from_its_beginning() -> None:
    context = Context()
    context.run_timeout_s = 5.0
    step = context.child("a")
    assert (context.deadline, step.deadline) == (NEVER, NEVER)
    context.begin(100.0)
    assert (context.deadline, step.deadline) == (105.0, NEVER)
    step.begin(103.0)
    assert step.deadline == 108.0
    context.begin(200.0)  # again, alone
    assert context.deadline == 205.0
    asked = Context(deadline=7.0)
    asked.run_timeout_s = 5.0
    asked.begin(4.0)
    assert asked.deadline == 7.0
    plain = Context(deadline=7.0)
    plain.begin(100.0)
    assert plain.deadline == 7.0


def test_parts_and_sub_calls_of_a_job_are_of_the_job() -> None:
    context = Context(deadline=5.0, background=True, principal="p", call_path=("e",))
    child, part = context.child("a"), context.part()
    assert child.background
    assert part.background
    assert not Context().child("a").background
    assert (part.deadline, part.principal, part.call_path) == (5.0, "p", ("e",))
    assert child.call_path == ("e", "a")
    context.cancel()
    assert child.cancelled
    assert part.cancelled
