"""Which step can run, which is skipped, and what comes out: without models or a loop."""

import pytest
from fakes.ensembles import asking, bools, ensemble, floats, layout_of, part

from hostler.core import DATATYPES, Code, HostlerError, InferResponse, Tensor
from hostler.serving.ensemble_progress import Progress, held_inputs

X, Y = "X:FP32[2]", "Y:FP32[2]"


class Walk:
    """A progress and the calls that it has asked for."""

    def __init__(self, layout, *inputs, outputs=None):
        self.layout = layout
        signature = layout.spec.signature
        given = asking(*inputs).inputs
        signature.check_inputs(given, "e")
        names = outputs or [spec.name for spec in signature.outputs]
        self.specs = [signature.output(name) for name in names]
        self.named = outputs is not None
        self.progress = Progress(layout, 0, layout.wanted(names), held_inputs(layout, given))
        self.calls = {call.step.model: call for call in self.progress.start()}

    def finish(self, model, *outputs, **parameters):
        """Answer a call; gives the models that can run now."""
        call = self.calls.pop(model)
        calls = self.progress.finish(call.step, InferResponse(outputs, parameters))
        self.calls.update({call.step.model: call for call in calls})
        return [call.step.model for call in calls]

    @property
    def outputs(self):
        return {t.name: t for t in self.progress.outputs(self.specs, named=self.named)}


def test_steps_run_as_soon_as_their_inputs_are_there():
    steps = ("a: x=X -> y=t", "b: x=t -> y=u", "c: x=t -> y=v", "d: x=u m=v -> y=Y")
    join = part("d", inputs="x:FP32[2] m:FP32[2]")
    walk = Walk(layout_of(ensemble(X, Y, *steps), part("a"), part("b"), part("c"), join),
                floats("X", 1, 2))  # fmt: skip
    assert list(walk.calls) == ["a"]
    assert walk.finish("a", floats("y", 3, 4)) == ["b", "c"]
    assert walk.finish("c", floats("y", 5, 6)) == []
    assert walk.finish("b", floats("y", 7, 8)) == ["d"]
    assert [t.name for t in walk.calls["d"].inputs.values()] == ["x", "m"]
    walk.finish("d", floats("y", 9, 10))
    assert walk.outputs["Y"].numpy().tolist() == [9, 10]


def test_tensors_are_handed_on_without_a_copy():
    layout = layout_of(ensemble(X, Y, "a: x=X -> y=t", "b: x=t -> y=Y"), part("a"), part("b"))
    sent, between, last = floats("X", 1, 2), floats("y", 3, 4), floats("y", 5, 6)
    walk = Walk(layout, sent)
    assert walk.calls["a"].inputs["x"].data is sent.data
    walk.finish("a", between)
    assert walk.calls["b"].inputs["x"].data is between.data
    walk.finish("b", last)
    assert walk.outputs["Y"].data is last.data


def test_only_what_the_wanted_outputs_need_is_run():
    spec = ensemble(X, "Y:FP32[2] Z:FP32[2]", "a: x=X -> y=Y", "b: x=X -> y=Z")
    walk = Walk(layout_of(spec, part("a"), part("b")), floats("X", 1, 2), outputs=["Z"])
    assert list(walk.calls) == ["b"]
    walk.finish("b", floats("y", 1, 2))
    assert list(walk.outputs) == ["Z"]


# -- conditions ----------------------------------------------------------------------------

BRANCH = ("a: x=X -> y=c", "b: x=X -> y=Y", "d: x=X -> y=Y", "g: x=Y -> y=Z")


def branch(outputs="Y:FP32[2] Z:FP32[2]", run_if=None, *, named=None):
    spec = ensemble(X, outputs, *BRANCH, run_if=run_if or {1: "c", 2: "!c"})
    layout = layout_of(spec, part("a", outputs="y:BOOL[-1]"), part("b"), part("d"), part("g"))
    return Walk(layout, floats("X", 1, 2), outputs=named)


@pytest.mark.parametrize(("answer", "model"), [(True, "b"), (False, "d")])
def test_one_of_two_branches_runs_and_what_follows_goes_on(answer, model):
    walk = branch()
    assert walk.finish("a", bools("y", answer, answer)) == [model]
    assert walk.finish(model, floats("y", 1, 2)) == ["g"]
    walk.finish("g", floats("y", 3, 4))
    assert list(walk.outputs) == ["Y", "Z"]


def test_what_a_skipped_step_would_give_is_left_out_and_so_is_what_needs_it():
    walk = branch(run_if={1: "c", 2: "c"})
    assert walk.finish("a", bools("y", False)) == []
    assert walk.outputs == {}


def test_an_output_that_was_asked_for_by_name_must_exist():
    walk = branch(run_if={1: "c", 2: "c"}, named=["Z"])
    assert walk.finish("a", bools("y", False)) == []
    with pytest.raises(HostlerError, match=r"output 'Z' does not exist.*step\[3\]"):
        _ = walk.outputs


def test_two_steps_that_give_the_same_tensor_must_exclude_one_another():
    walk = branch(run_if={1: "c", 2: "c"})
    assert walk.finish("a", bools("y", True)) == ["b", "d"]
    walk.finish("b", floats("y", 1, 2))
    with pytest.raises(HostlerError, match="'Y' was given twice") as caught:
        walk.finish("d", floats("y", 1, 2))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("answer", "words"),
    [(bools("y", True, False), "true for some"), (bools("y"), "is empty")],
    ids=["rows-disagree", "empty"],
)
def test_a_condition_has_one_answer(answer, words):
    walk = branch()
    with pytest.raises(HostlerError, match=words) as caught:
        walk.finish("a", answer)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "step[1] (model 'b')" in caught.value.message
    assert "separate requests" in caught.value.message


def test_an_optional_input_of_a_skipped_step_is_left_out():
    steps = ("a: x=X -> y=t", "b: x=X m=t -> y=Y")
    model = part("b", inputs="x:FP32[2] m:FP32[2]?")
    spec = ensemble(X + " C:BOOL[1]", Y, *steps, run_if={0: "C"})
    layout = layout_of(spec, part("a"), model)
    walk = Walk(layout, floats("X", 1, 2), bools("C", False))
    assert list(walk.calls) == ["b"]
    assert list(walk.calls["b"].inputs) == ["x"]
    walk = Walk(layout, floats("X", 1, 2), bools("C", True))
    assert list(walk.calls) == ["a"]
    walk.finish("a", floats("y", 1, 2))
    assert list(walk.calls["b"].inputs) == ["x", "m"]


def test_a_step_that_is_left_without_any_input_is_skipped():
    steps = ("a: x=X -> y=t", "b: x=t -> y=Y")
    spec = ensemble(X + " C:BOOL[1]", Y, *steps, run_if={0: "C"})
    walk = Walk(layout_of(spec, part("a"), part("b", inputs="x:FP32[2]?")),
                floats("X", 1, 2), bools("C", False))  # fmt: skip
    assert walk.calls == {}
    assert walk.outputs == {}


def test_a_condition_that_does_not_exist_is_not_met():
    steps = ("a: x=X -> y=c", "b: x=X -> y=Y")
    spec = ensemble(X + " C:BOOL[1]", Y, *steps, run_if={0: "C", 1: "!c"})
    walk = Walk(layout_of(spec, part("a", outputs="y:BOOL[1]"), part("b")),
                floats("X", 1, 2), bools("C", False))  # fmt: skip
    assert walk.calls == {}


# -- optional inputs -----------------------------------------------------------------------


def test_an_optional_input_that_was_not_sent_is_left_out():
    spec = ensemble(X + " M:FP32[2]?", Y, "a: x=X m=M -> y=Y")
    layout = layout_of(spec, part("a", inputs="x:FP32[2] m:FP32[2]?"))
    assert list(Walk(layout, floats("X", 1, 2)).calls["a"].inputs) == ["x"]
    walk = Walk(layout, floats("X", 1, 2), floats("M", 1, 2))
    assert list(walk.calls["a"].inputs) == ["x", "m"]


def test_an_output_that_a_model_leaves_out_is_optional_to_the_next_or_an_error():
    spec = ensemble(X, Y, "a: x=X -> y=t z=u", "b: x=t m=u -> y=Y")
    a = part("a", outputs="y:FP32[2] z:FP32[2]")
    walk = Walk(layout_of(spec, a, part("b", inputs="x:FP32[2] m:FP32[2]?")), floats("X", 1, 2))
    assert walk.finish("a", floats("y", 1, 2)) == ["b"]
    assert list(walk.calls["b"].inputs) == ["x"]
    walk = Walk(layout_of(spec, a, part("b", inputs="x:FP32[2] m:FP32[2]")), floats("X", 1, 2))
    with pytest.raises(HostlerError, match=r"step\[1\] \(model 'b'\) needs input 'm'.*step\[0\]"):
        walk.finish("a", floats("y", 1, 2))


def test_an_output_that_a_model_leaves_out_is_left_out_of_the_answer():
    walk = Walk(layout_of(ensemble(X, Y, "a: x=X -> y=Y"), part("a")), floats("X", 1, 2),
                outputs=["Y"])  # fmt: skip
    walk.finish("a")
    assert walk.outputs == {}


# -- shapes and parameters -----------------------------------------------------------------


def test_a_batch_dimension_is_added_and_taken_away_as_models_need_it():
    spec = ensemble(X, Y, "a: x=X -> y=t", "b: x=t -> y=Y")
    walk = Walk(layout_of(spec, part("a", rows=4), part("b")), floats("X", 1, 2))
    assert walk.calls["a"].inputs["x"].shape == (1, 2)
    walk.finish("a", floats("y", 1, 2, shape=(1, 2)))
    assert walk.calls["b"].inputs["x"].shape == (2,)
    walk.finish("b", floats("y", 1, 2))
    assert walk.outputs["Y"].shape == (2,)


def test_a_batch_goes_whole_to_a_model_that_takes_it_as_a_plain_dimension():
    spec = ensemble(X, Y, "a: x=X -> y=Y", text="max_batch_size: 4")
    layout = layout_of(spec, part("a", "x:FP32[-1, 2]", "y:FP32[-1, 2]"))
    walk = Walk(layout, floats("X", 1, 2, 3, 4, shape=(2, 2)))
    assert walk.calls["a"].inputs["x"].shape == (2, 2)
    walk.finish("a", floats("y", 1, 2, 3, 4, shape=(2, 2)))
    assert walk.outputs["Y"].shape == (2, 2)


def test_reshape_is_what_the_steps_see_and_dims_what_the_client_sees():
    spec = ensemble("", "", "a: x=X -> y=Y", text=(
        "max_batch_size: 4 "
        "input { name: 'X' data_type: TYPE_FP32 dims: [ -1, 1 ] reshape { shape: [ 1, -1 ] } } "
        "output { name: 'Y' data_type: TYPE_FP32 dims: [ 1, -1 ] reshape { shape: [ -1 ] } }"
    ))  # fmt: skip
    layout = layout_of(spec, part("a", "x:FP32[1, -1]", "y:FP32[-1]", rows=4))
    walk = Walk(layout, floats("X", 1, 2, 3, shape=(1, 3, 1)))
    assert walk.calls["a"].inputs["x"].shape == (1, 1, 3)
    walk.finish("a", floats("y", 1, 2, 3, shape=(1, 3)))
    assert walk.outputs["Y"].shape == (1, 1, 3)


def test_text_is_handed_on_in_another_shape_too():
    spec = ensemble("X:BYTES[1]", "Y:BYTES[1]", "a: x=X -> y=Y")
    layout = layout_of(spec, part("a", "x:BYTES[1]", "y:BYTES[1]", rows=4))
    items = Tensor.from_numpy("X", floats("X", 1).numpy().astype(str).astype(object),
                              DATATYPES["BYTES"])  # fmt: skip
    walk = Walk(layout, items)
    assert walk.calls["a"].inputs["x"].shape == (1, 1)
    assert walk.calls["a"].inputs["x"].data is items.data


def test_sequence_parameters_of_a_response_go_to_what_follows():
    spec = ensemble(X, Y, "a: x=X -> y=t", "b: x=t -> y=Y")
    walk = Walk(layout_of(spec, part("a"), part("b")), floats("X", 1, 2))
    assert walk.calls["a"].sequence is None
    walk.finish("a", floats("y", 1, 2), sequence_id=7, sequence_start=True, other="x")
    assert walk.calls["b"].sequence == {"sequence_id": 7, "sequence_start": True}
    walk.finish("b", floats("y", 1, 2), sequence_end=True)
    assert walk.progress.sequence(walk.specs) == {"sequence_end": True}
