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
