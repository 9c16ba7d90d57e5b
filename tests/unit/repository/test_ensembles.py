"""What an ensemble may look like, before its models are known."""

import pytest
from fakes.ensembles import ensemble
from fakes.packages import write_package

from hostler.core import Code, HostlerError, Inspection
from hostler.protocols.oip.model_config import parse_text, to_json
from hostler.repository import Config, Repository, complete
from hostler.repository.ensembles import ensemble_plan

X, Y = "X:FP32[2]", "Y:FP32[2]"
CHAIN = ("a: x=X -> y=t", "b: x=t -> y=Y")


def test_a_plan_holds_steps_versions_conditions_and_the_limit():
    spec = ensemble(
        "X:FP32[2] is_digit:BOOL[1]",
        Y,
        "a@3: x=X -> y=t",
        "b: x=t -> y=Y",
        "c: x=t -> y=Y",
        run_if={1: "is_digit", 2: "! is_digit"},
    )
    plan = spec.ensemble
    assert [step.model for step in plan.steps] == ["a", "b", "c"]
    assert [step.version for step in plan.steps] == [3, None, None]
    assert plan.steps[0].inputs == {"x": "X"}
    assert plan.steps[0].outputs == {"y": "t"}
    assert [(s.run_if, s.negated) for s in plan.steps] == [
        ("", False),
        ("is_digit", False),
        ("is_digit", True),
    ]
    assert plan.inflight_max == 0
    assert spec.runtime == "ensemble"
    assert spec.config["instance_group"] == []
    assert spec.config["default_model_filename"] == ""


def test_a_version_that_is_not_stated_is_the_default_one():
    text = (
        "platform: 'ensemble' input { name: 'X' } output { name: 'Y' } ensemble_scheduling { "
        "max_inflight_requests: 7 step { model_name: 'a' "
        "input_map { key: 'x' value: 'X' } output_map { key: 'y' value: 'Y' } } }"
    )
    plan = ensemble_plan("e", to_json(parse_text(text, "config.pbtxt")))
    assert plan.steps[0].version is None
    assert plan.inflight_max == 7


def test_an_input_may_be_an_output_and_feed_several_steps():
    spec = ensemble(X, "Y:FP32[2] Z:FP32[2] X:FP32[2]", "a: x=X -> y=Y", "b: x=X -> y=Z")
    assert len(spec.ensemble.steps) == 2


@pytest.mark.parametrize(
    ("steps", "options", "place", "words"),
    [
        ((), {}, "ensemble_scheduling.step", "missing"),
        (CHAIN, {"text": "backend: 'python'"}, "backend", "empty"),
        (CHAIN, {"text": "instance_group { count: 2 }"}, "instance_group", "models"),
        (CHAIN, {"text": "optimization { graph { level: 1 } }"}, "optimization", "models"),
        (("e: x=X -> y=Y",), {}, "step[0] (model 'e')", "a step of itself"),
        ((": x=X -> y=Y",), {}, "step[0].model_name", "missing"),
        (("a@-2: x=X -> y=Y",), {}, "step[0] (model 'a').model_version", "-2"),
        (("a: -> y=Y",), {}, "step[0] (model 'a').input_map", "missing"),
        (("a: x=X ->",), {}, "step[0] (model 'a').output_map", "missing"),
        (("a: x= -> y=Y",), {}, "step[0] (model 'a').input_map", "empty"),
        (("a: x=X -> =Y",), {}, "step[0] (model 'a').output_map", "empty"),
        (("a: x=X -> y=Y z=Y",), {}, "step[0] (model 'a').output_map", "two outputs"),
        (
            ("a: x=X -> y=Y", "b: x=X -> y=Y"),
            {},
            "step[1] (model 'b')",
            "'Y' is given by step[0] already",
        ),
        (
            ("a: x=X -> y=Y", "b: x=X -> y=Y z=c"),
            {"run_if": {1: "c"}},
            "step[1] (model 'b')",
            "all of them are conditional",
        ),
        (("a: x=X -> y=Y", "b: x=Y -> y=X"), {}, "step[1] (model 'b')", "'X' is an input of"),
        (("a: x=X m=nowhere -> y=Y",), {}, "step[0] (model 'a')", "'nowhere', which no step gives"),
        (("a: x=X -> y=Y",), {"run_if": {0: "c"}}, "step[0] (model 'a')", "'c', which no step"),
        (
            ("a: x=X m=u -> y=t", "b: x=t -> y=u z=Y"),
            {},
            "ensemble_scheduling",
            "step[0] (model 'a') -> step[1] (model 'b') -> step[0] (model 'a')",
        ),
        (
            ("a: x=X -> y=t", "b: x=t m=b -> y=Y z=b"),
            {},
            "ensemble_scheduling",
            "step[1] (model 'b') -> step[1] (model 'b')",
        ),
        (
            ("a: x=X -> y=t", "b: x=t -> y=Y z=c", "c: x=Y -> y=Z"),
            {"run_if": {0: "c"}},
            "ensemble_scheduling",
            "step[0] (model 'a') -> step[1] (model 'b') -> step[0] (model 'a')",
        ),
        (("a: x=X -> y=t",), {}, "output 'Y'", "given by no step"),
        (("a: x=X -> y=Y z=t",), {}, "step[0] (model 'a')", "'t' is unused"),
        (CHAIN, {"run_if": {2: "X"}}, "step[2].run_if", "there are 2 steps"),
        (CHAIN, {"run_if": {0: "!"}}, "step[0].run_if", "names no tensor"),
        (
            CHAIN,
            {"text": "parameters { key: 'step[0].runif' value { string_value: 'c' } }"},
            "step[0].runif",
            "not known",
        ),
        (
            CHAIN,
            {"text": "parameters { key: 'step[0]' value { string_value: 'c' } }"},
            "step[0]",
            "not known",
        ),
        (tuple(f"m{i}: x=X -> y=t{i}" for i in range(257)), {}, "step", "at most 256"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_step(steps, options, place, words):
    with pytest.raises(HostlerError) as caught:
        ensemble(X, Y, *steps, **options)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("model 'e': ")
    assert place in caught.value.message
    assert words in caught.value.message


def test_an_input_that_no_step_takes_is_refused():
    with pytest.raises(HostlerError, match=r"input 'Z': is used by no step"):
        ensemble("X:FP32[2] Z:FP32[2]", Y, "a: x=X -> y=Y")


def test_steps_are_for_the_platform_ensemble_alone():
    text = "platform: 'onnxruntime_onnx' ensemble_scheduling { step { model_name: 'a' } }"
    with pytest.raises(HostlerError, match="platform 'ensemble', which is 'onnxruntime_onnx'"):
        ensemble_plan("e", to_json(parse_text(text, "config.pbtxt")))
    assert ensemble_plan("m", to_json(parse_text("platform: 'onnxruntime_onnx'", "c"))) is None


def test_a_package_needs_a_version_folder_and_no_file(tmp_path):
    config = (
        "platform: 'ensemble' input { name: 'X' data_type: TYPE_FP32 dims: 2 } "
        "output { name: 'Y' data_type: TYPE_FP32 dims: 2 } ensemble_scheduling { step { "
        "model_name: 'a' input_map { key: 'x' value: 'X' } output_map { key: 'y' value: 'Y' } } }"
    )
    write_package(tmp_path / "e", {"1/": "", "3/": "", "config.pbtxt": config})
    package = Repository([tmp_path], Config()).scan()["e"]
    assert package.error is None
    (spec,) = package.versions
    assert (spec.version, spec.runtime, spec.platform, spec.backend) == (
        3,
        "ensemble",
        "ensemble",
        "",
    )
    assert spec.file_bytes == 0
    assert spec.ensemble is not None
    completed = complete(spec, Inspection())
    assert completed.ensemble == spec.ensemble
    assert [tensor.name for tensor in completed.signature.inputs] == ["X"]
