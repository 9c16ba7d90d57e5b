"""Archives that hold a model repository, as Triton's SageMaker image takes them."""

import logging

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import HostlerError
from hostler.repository import Config, Container, read_container
from hostler.repository.archived import DEFAULT_MODEL

IMAGE = "sagemaker-tritonserver:24.09-py3"
ONE = {"1/model.onnx": STUB, "config.pbtxt": CONFIG}
PIPE = """
name: "pipe" platform: "ensemble"
input [ { name: "x" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
ensemble_scheduling { step [ {
  model_name: "%s" model_version: -1
  input_map { key: "x" value: "x" } output_map { key: "y" value: "y" }
} ] }
"""


def under(folder, files):
    return {f"{folder}/{path}": content for path, content in files.items()}


def pipe(step="a"):
    return {"config.pbtxt": PIPE % step, "1/": ""}


def read(tmp_path, files, image=IMAGE, instances=1, **environment):
    write_package(tmp_path, files)
    return read_container("e", tmp_path, "t", Container(image, environment), instances, Config())


def names(found):
    return [package.name for package in found.packages]


@pytest.mark.parametrize("image", ["", IMAGE, "hostler:1"])
@pytest.mark.parametrize(
    "files",
    [
        ONE,
        {"1/model.onnx": STUB},
        {"1/model.onnx": STUB, "config.pbtxt": 'name: "own" ' + CONFIG},
        under("resnet", ONE),
        under("resnet", {"1/model.onnx": STUB}),
        under("models/resnet", {"1/model.onnx": STUB, "config.pbtxt": 'name: "resnet" ' + CONFIG}),
        {**under("models/resnet", ONE), "code/readme.md": "", "readme.md": ""},
    ],
)
def test_one_model_wherever_it_lies(tmp_path, files, image):
    found = read(tmp_path, files, image)
    assert names(found) == [found.entry] == ["e"]
    (spec,) = found.packages[0].versions
    assert (spec.name, spec.config["name"], spec.runtime) == ("e", "e", "onnx")
    assert spec.file.is_file()


def test_several_models_need_a_word_which_answers(tmp_path):
    files = {**under("b", ONE), **under("a", ONE)}
    with pytest.raises(HostlerError, match=f"2 models, 'a', 'b'; .*{DEFAULT_MODEL}"):
        read(tmp_path, files)
    found = read(tmp_path, files, **{DEFAULT_MODEL: "b"})
    assert (found.entry, names(found)) == ("e", ["e", "e/a"])
    with pytest.raises(HostlerError, match="is 'c', and the archive holds 'a', 'b'"):
        read(tmp_path, files, **{DEFAULT_MODEL: "c"})


def test_an_ensemble_answers_and_its_steps_get_their_new_names(tmp_path):
    found = read(tmp_path, {**under("pipe", pipe()), **under("a", ONE)})
    assert names(found) == ["e", "e/a"]
    (spec,) = found.packages[0].versions
    assert [step.model for step in spec.ensemble.steps] == ["e/a"]
    assert [s["model_name"] for s in spec.config["ensemble_scheduling"]["step"]] == ["e/a"]


def test_of_ensembles_in_one_another_the_outer_one_answers(tmp_path):
    outer = {"config.pbtxt": (PIPE % "pipe").replace('"pipe" platform', '"z" platform'), "1/": ""}
    files = {**under("pipe", pipe()), **under("a", ONE), **under("z", outer)}
    found = read(tmp_path, files)
    assert names(found) == ["e", "e/a", "e/pipe"]
    assert found.packages[0].versions[0].ensemble.steps[0].model == "e/pipe"


def test_a_step_that_is_not_in_the_archive(tmp_path):
    with pytest.raises(HostlerError, match=r"step\[0\] \(model 'x'\).*it holds 'a', 'pipe'"):
        read(tmp_path, {**under("pipe", pipe("x")), **under("a", ONE)})


def test_a_broken_model_counts_only_for_those_who_need_it(tmp_path, caplog):
    bad = {"1/": "", "config.pbtxt": "nonsense"}
    files = {**under("a", ONE), **under("bad", bad)}
    with caplog.at_level(logging.WARNING, "hostler.repository"):
        found = read(tmp_path, files, **{DEFAULT_MODEL: "a"})
    assert names(found) == ["e"]
    assert [record.message for record in caplog.records] == ["repository.sibling_ignored"]
    with pytest.raises(HostlerError, match="nonsense"):
        read(tmp_path, files, **{DEFAULT_MODEL: "bad"})
    with pytest.raises(HostlerError, match="nonsense"):
        read(tmp_path, {**files, **under("pipe", pipe("bad"))}, **{DEFAULT_MODEL: "pipe"})


def test_instances_multiply_what_the_models_say(tmp_path):
    groups = "instance_group [ { count: 2 kind: KIND_CPU }, { count: 3 kind: KIND_CPU } ]"
    files = {"1/model.py": STUB, "config.pbtxt": 'backend: "python" ' + CONFIG + groups}
    (spec,) = read(tmp_path, files, instances=4).packages[0].versions
    assert [group.count for group in spec.instances] == [8, 12]
    assert [group["count"] for group in spec.config["instance_group"]] == [8, 12]


def test_python_models_get_the_containers_variables(tmp_path):
    (spec,) = read(tmp_path, {"1/model.py": STUB}, TOKEN="t").packages[0].versions
    assert spec.variables["TOKEN"] == "t"
    assert spec.runtime == "python"


def test_two_folders_of_models_are_not_told_apart(tmp_path):
    files = {**under("x/a", ONE), **under("y/a", ONE)}
    with pytest.raises(HostlerError, match="holds no model repository"):
        read(tmp_path, files)


def test_bare_files_count_for_our_own_image_alone(tmp_path):
    files = {**under("a", ONE), "b.onnx": STUB}
    assert names(read(tmp_path, files)) == ["e"]
    assert names(read(tmp_path, files, "hostler", **{DEFAULT_MODEL: "b"})) == ["e", "e/a"]
    assert names(read(tmp_path / "t", {"top/b.onnx": STUB}, "hostler")) == ["e"]
