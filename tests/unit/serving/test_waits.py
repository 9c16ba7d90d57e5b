"""Sub-calls that would wait for ever are refused; all others are not."""

import pytest

from hostler.core import Code, HostlerError
from hostler.serving.waits import Waits, refuse_recursion


@pytest.mark.parametrize(
    ("path", "model", "names"),
    [
        (("a",), "a", "a -> a"),
        (("a", "b"), "a", "a -> b -> a"),
        (("x", "a", "b"), "a", "a -> b -> a"),
    ],
)
def test_a_model_cannot_ask_itself(path, model, names):
    with pytest.raises(HostlerError) as caught:
        refuse_recursion(path, model)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert names in caught.value.message


def test_a_model_may_ask_others():
    refuse_recursion(("a", "b"), "c")
    refuse_recursion((), "a")


def waits(**replicas):
    return Waits(lambda name: replicas.get(name, 1))


@pytest.mark.parametrize(
    ("calls", "last", "circle"),
    [
        pytest.param([("a", "b")], ("b", "a"), ["b", "a", "b"], id="two"),
        pytest.param([("a", "b"), ("b", "c")], ("c", "a"), ["c", "a", "b", "c"], id="three"),
        pytest.param([("a", "b"), ("b", "c")], ("c", "b"), ["c", "b", "c"], id="not-all-of-them"),
        pytest.param(
            [("a", "b"), ("x", "y"), ("a", "y")], ("b", "a"), ["b", "a", "b"], id="others-beside"
        ),
    ],
)
def test_a_circle_of_waiting_models_is_not_closed(calls, last, circle):
    held = waits()
    for caller, model in calls:
        assert held.begin((caller,), model) == (caller, model)
    with pytest.raises(HostlerError) as caught:
        held.begin((last[0],), last[1])
    error = caught.value
    assert error.code is Code.UNAVAILABLE
    assert error.retry_after_s
    assert " -> ".join(circle) in error.message
    assert error.details == {"models": circle}


def test_a_call_that_is_over_is_in_nobodys_way():
    held = waits()
    first, second = held.begin(("a",), "b"), held.begin(("a",), "b")
    held.end(first)
    with pytest.raises(HostlerError):
        held.begin(("b",), "a")
    held.end(second)
    assert held.begin(("b",), "a") == ("b", "a")


def test_a_replica_to_spare_keeps_a_circle_open():
    held = waits(a=2)
    held.begin(("a",), "b")
    back = held.begin(("b",), "a")
    assert back == ("b", "a")
    with pytest.raises(HostlerError):
        held.begin(("a",), "b")  # the last replica of a would wait for b, which waits for a
    held.end(back)
    assert held.begin(("a",), "b") == ("a", "b")


def test_ensembles_hold_no_replica():
    held = waits(e=0, f=0)
    assert held.begin(("e",), "a") is None, "a client's own call"
    assert held.begin((), "a") is None
    assert held.begin(("a",), "e") is None, "its steps will wait, not the ensemble"
    assert held.begin(("a", "e", "f"), "b") == ("a", "b")
    with pytest.raises(HostlerError):
        held.begin(("b", "e"), "a")
