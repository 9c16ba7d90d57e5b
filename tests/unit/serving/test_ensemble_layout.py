"""Ensembles held against what their models say of themselves."""

import pytest
from fakes.ensembles import ensemble, layout_of, part, tensors

from hostler.core import Code, HostlerError

X, Y = "X:FP32[2]", "Y:FP32[2]"
CHAIN = ("a: x=X -> y=t", "b: x=t -> y=Y")


def test_a_layout_tells_what_each_step_needs_and_leads_to():
    spec = ensemble(X, Y, *CHAIN)
    layout = layout_of(spec, part("a", outputs="y:FP32[-1] z:BOOL[1]"), part("b"))
    first, second = layout.steps
    assert [link.name for link in first.links] == ["x"]
    assert [output.name for output in first.asked or ()] == ["y"], "z goes nowhere"
    assert second.asked is None
    assert layout.consumers == {"X": [0], "t": [1]}
    assert layout.wanted(["Y"]) == {0, 1}
    assert not layout.spec.decoupled
    assert layout.last_region == 0


def test_steps_for_outputs_that_nobody_asks_for_are_not_wanted():
    spec = ensemble(X, "Y:FP32[2] Z:FP32[2]", "a: x=X -> y=Y", "b: x=X -> y=t", "c: x=t -> y=Z")
    layout = layout_of(spec, part("a"), part("b"), part("c"))
    assert layout.wanted(["Y"]) == {0}
    assert layout.wanted(["Z"]) == {1, 2}
    assert layout.wanted([]) == set()


def test_a_condition_is_wanted_with_its_step():
    spec = ensemble(
        X, Y, "a: x=X -> y=c", "b: x=X -> y=Y", "d: x=X -> y=Y", run_if={1: "c", 2: "!c"}
    )
    layout = layout_of(spec, part("a", outputs="y:BOOL[1]"), part("b"), part("d"))
    assert layout.wanted(["Y"]) == {0, 1, 2}


def test_labels_of_a_model_are_those_of_the_ensemble():
    labelled = part("b")
    output = tensors("y:FP32[2]")[0]
    object.__setattr__(output, "labels", ("cat", "dog"))
    object.__setattr__(labelled.signature, "outputs", (output,))
    layout = layout_of(ensemble(X, Y, *CHAIN), part("a"), labelled)
    assert layout.spec.signature.output("Y").labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("own_rows", "a", "b"),
    [
        pytest.param(4, {"rows": 4}, {"rows": 8}, id="as-many-rows-or-more"),
        pytest.param(0, {"rows": 4}, {"rows": 4}, id="batch-dimension-added"),
        pytest.param(4, {"inputs": "x:FP32[-1, 2]"}, {"rows": 4}, id="model-without-one"),
        pytest.param(4, {}, {"rows": 4}, id="model-for-one-row"),
        pytest.param(4, {"rows": 4, "outputs": "y:FP32[-1]"}, {"rows": 4}, id="variable"),
    ],
)
def test_shapes_that_may_agree_are_accepted(own_rows, a, b):
    spec = ensemble(X, Y, *CHAIN, text=f"max_batch_size: {own_rows}")
    assert layout_of(spec, part("a", **a), part("b", **b)).spec.signature.rows_max == own_rows


@pytest.mark.parametrize(
    ("a", "b", "options", "place", "words"),
    [
        pytest.param(
            {"inputs": "q:FP32[2]"}, {}, {}, "step[0] (model 'a').input_map", "no input 'x'",
            id="unknown-input",
        ),
        pytest.param(
            {"outputs": "q:FP32[2]"}, {}, {}, "step[0] (model 'a').output_map", "no output 'y'",
            id="unknown-output",
        ),
        pytest.param(
            {}, {"inputs": "x:FP32[2] z:FP32[2]"}, {}, "step[1] (model 'b').input_map",
            "lacks input 'z'", id="input-not-mapped",
        ),
        pytest.param(
            {"inputs": "x:INT32[2]"}, {}, {}, "step[0] (model 'a')",
            "'X' is FP32 in ensemble 'e', but INT32 in model 'a:1'", id="datatype-of-an-input",
        ),
        pytest.param(
            {"outputs": "y:INT64[2]"}, {}, {}, "step[1] (model 'b')",
            "'t' is INT64 in model 'a:1', but FP32 in model 'b:1'", id="datatype-between",
        ),
        pytest.param(
            {}, {"outputs": "y:FP64[2]"}, {}, "step[1] (model 'b')",
            "'Y' is FP32 in ensemble 'e', but FP64", id="datatype-of-an-output",
        ),
        pytest.param(
            {"outputs": "y:FP32[3]"}, {}, {}, "step[1] (model 'b')",
            "'t' has shape [3] in model 'a:1', but [2] in model 'b:1'", id="shape-between",
        ),
        pytest.param(
            {"inputs": "x:FP32[-1, 2]"}, {}, {}, "step[0] (model 'a')",
            "'X' has shape [2] in ensemble 'e', but [-1, 2]", id="rank",
        ),
        pytest.param(
            {"rows": 4}, {"rows": 2}, {"text": "max_batch_size: 4"}, "step[1] (model 'b')",
            "max_batch_size is 4, but 'b:1' takes at most 2", id="fewer-rows",
        ),
        pytest.param(
            {}, {}, {"run_if": {1: "X"}}, "step[1] (model 'b')",
            "run_if: ensemble tensor 'X' is FP32", id="condition-is-no-bool",
        ),
        pytest.param(
            {}, {}, {"inputs": "X:FP32[2]?"}, "step[0] (model 'a').input_map",
            "ensemble input 'X' is optional", id="optional-into-required",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_step(a, b, options, place, words):
    spec = ensemble(options.pop("inputs", X), Y, *CHAIN, **options)
    with pytest.raises(HostlerError) as caught:
        layout_of(spec, part("a", **a), part("b", **b))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("model 'e:1': ensemble_scheduling.")
    assert place in caught.value.message
    assert words in caught.value.message


# -- decoupled models ----------------------------------------------------------------------


def test_an_ensemble_of_a_decoupled_model_is_decoupled():
    layout = layout_of(ensemble(X, Y, *CHAIN), part("a", decoupled=True), part("b"))
    assert layout.spec.decoupled
    assert layout.spec.config["model_transaction_policy"] == {"decoupled": True}
    assert [(s.region, s.leads_to) for s in layout.steps] == [(0, 1), (1, 1)]
    assert layout.given == {0: {"X"}, 1: {"t"}}
    assert layout.last_region == 1


def test_the_policy_follows_the_models_and_not_the_config():
    text = "model_transaction_policy { decoupled: true }"
    layout = layout_of(ensemble(X, Y, *CHAIN, text=text), part("a"), part("b"))
    assert not layout.spec.decoupled
    assert layout.spec.config["model_transaction_policy"] == {"decoupled": False}


def test_inputs_from_different_decoupled_models_are_refused():
    steps = ("a: x=X -> y=t", "b: x=X -> y=u", "c: x=t m=u -> y=Y")
    join = part("c", inputs="x:FP32[2] m:FP32[2]")
    with pytest.raises(HostlerError, match=r"step\[2\] \(model 'c'\).*different decoupled"):
        layout_of(ensemble(X, Y, *steps), part("a", decoupled=True), part("b"), join)


def test_outputs_from_different_decoupled_models_are_refused():
    spec = ensemble(X, "Y:FP32[2] Z:FP32[2]", "a: x=X -> y=Y", "b: x=X -> y=Z")
    with pytest.raises(HostlerError, match="output: 'Y' and 'Z' originate from different"):
        layout_of(spec, part("a", decoupled=True), part("b", decoupled=True))


def test_decoupled_steps_may_take_turns_but_not_with_others():
    steps = ("a: x=X -> y=t", "b: x=X -> y=t", "c: x=t -> y=Y")
    spec = ensemble(X + " m:BOOL[1]", Y, *steps, run_if={0: "m", 1: "!m"})
    layout = layout_of(spec, part("a", decoupled=True), part("b", decoupled=True), part("c"))
    assert layout.last_region == 1
    with pytest.raises(HostlerError, match=r"step\[1\].*only some are decoupled"):
        layout_of(spec, part("a", decoupled=True), part("b"), part("c"))
