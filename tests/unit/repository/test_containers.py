import os
import re

import pytest
from fakes.packages import CONFIG, STUB, write_package

from hostler.core import OPAQUE_SIGNATURE, Code, HostlerError, Inspection
from hostler.repository import Config, Container, check_container, complete, read_container
from hostler.repository.images import READERS

SCRIPT = "def model_fn(model_dir): ..."


def read(tmp_path, files, image="", instances=1, token="t", **environment):
    write_package(tmp_path, files)
    return read_container(
        "e/1", tmp_path, token, Container(image, environment), instances, Config()
    )


def only(found):
    (package,) = found.packages
    assert package.name == found.entry == "e/1"
    assert package.error is None
    (spec,) = package.versions
    return spec


def refused(tmp_path, files, image="", **environment):
    with pytest.raises(HostlerError) as caught:
        read(tmp_path, files, image, **environment)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("files", "toolkit", "file"),
    [
        ({"model.pt": STUB}, "pytorch", "model.pt"),
        ({"net.pth": STUB, "readme.md": ""}, "pytorch", "net.pth"),
        ({"model.pth": STUB, "code/inference.py": SCRIPT}, "pytorch", "code/inference.py"),
        ({"model.joblib": STUB}, "sklearn", "model.joblib"),
        ({"anything.bin": STUB, "code/inference.py": SCRIPT}, "sklearn", "code/inference.py"),
        ({"inference.py": SCRIPT}, "sklearn", "inference.py"),
        ({"xgboost-model": STUB}, "xgboost", "xgboost-model"),
        ({"xgboost-model.json": STUB}, "xgboost", "xgboost-model.json"),
    ],
)
def test_detected_by_what_lies_there(tmp_path, files, toolkit, file):
    spec = only(read(tmp_path, files))
    assert (spec.runtime, spec.options["toolkit"]) == ("handler", toolkit)
    assert spec.file == tmp_path / file
    assert spec.directory == tmp_path
    assert spec.opaque
    assert spec.decoupled
    assert complete(spec, Inspection()).signature == OPAQUE_SIGNATURE


@pytest.mark.parametrize(
    "name", [b"\xff.joblib", b"xgboost-model\xff", b"\xff/1/saved_model.pb", b"\xff/inference.py"]
)
def test_names_that_are_no_text_are_nobodys_model(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(STUB)
    assert "holds no files" in refused(tmp_path, {})
    spec = only(read(tmp_path, {"model.joblib": STUB, "data.bin": STUB}))
    assert spec.options["models"] == "model.joblib"


@pytest.mark.parametrize(
    ("files", "runtime"),
    [
        ({"MLmodel": "flavors:\n  python_function:\n    loader_module: x\n"}, "mlflow"),
        ({"serving.properties": "engine=Python\n", "model.py": "def handle(i): ..."}, "djl"),
        ({"m/1/saved_model.pb": STUB, "code/inference.py": SCRIPT}, "tensorflow"),
    ],
)
def test_detected_by_the_one_file_that_only_they_have(tmp_path, files, runtime):
    spec = only(read(tmp_path, {**files, "model.pkl": STUB}))
    assert (spec.runtime, spec.opaque) == (runtime, True)


def test_every_reader_that_images_name_is_there(tmp_path):
    empty = write_package(tmp_path / "empty", {"a/": ""})
    text = refused(tmp_path / "a", {"a.bin": STUB})
    for reader in READERS:
        assert f" {reader}: " in text
        config = Config(images=(f"*={reader}",))
        with pytest.raises(HostlerError) as caught:
            read_container("e/1", empty, "", Container("x"), 1, config)
        assert caught.value.code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)


def test_detected_as_our_own(tmp_path):
    assert only(read(tmp_path / "a", {"x.onnx": STUB})).runtime == "onnx"
    assert only(read(tmp_path / "b", {"x.pt2": STUB})).runtime == "torch"
    spec = only(read(tmp_path / "c", {"x.pt": STUB}, "hostler:1"))
    assert (spec.runtime, spec.opaque) == ("torch", False)


def test_an_image_decides_what_is_looked_for(tmp_path):
    files = {"model.joblib": STUB, "weights": STUB}
    spec = only(read(tmp_path, files, "sagemaker-xgboost:1.7-1"))
    assert spec.options["toolkit"] == "xgboost"
    assert spec.options["models"] == "model.joblib\nweights", "the algorithm takes any name"
    text = refused(tmp_path, {}, "sagemaker-tritonserver:24.09")
    assert "config.pbtxt" in text
    text = refused(tmp_path, {}, "pytorch-inference:2.3")
    assert "model.pt" in text
    assert "'model.joblib', 'weights'" in text


def test_nothing_known_says_what_was_looked_for_reader_by_reader(tmp_path):
    text = refused(tmp_path, {"weights.bin": STUB}, "acme/churn:7")
    assert "'acme/churn:7'" in text
    assert "'weights.bin'" in text
    for word in ("triton: config.pbtxt", "pytorch: ", "sklearn: ", "xgboost: xgboost-model*"):
        assert word in text.replace("code/inference.py, or ", ""), word


def test_files_are_named_up_to_ten(tmp_path):
    text = refused(tmp_path, {f"{i:02}.bin": STUB for i in range(14)})
    assert "'09.bin' and 4 more" in text
    assert "'10.bin'" not in text


@pytest.mark.parametrize(
    ("environment", "files", "script"),
    [
        ({}, {"code/inference.py": ""}, "code/inference.py"),
        ({"SAGEMAKER_PROGRAM": "serve.py"}, {"code/serve.py": "", "code/inference.py": ""},
         "code/serve.py"),
        ({"SAGEMAKER_PROGRAM": "serve"}, {"code/serve.py": ""}, "code/serve.py"),
        ({"SAGEMAKER_PROGRAM": "pkg/serve.py"}, {"code/pkg/serve.py": ""}, "code/pkg/serve.py"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/src"},
         {"src/inference.py": "", "code/inference.py": ""}, "src/inference.py"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "file:///opt/ml/model/code"}, {"code/inference.py": ""},
         "code/inference.py"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "s3://b/source.tar.gz"}, {"code/inference.py": ""},
         "code/inference.py"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model"}, {"inference.py": ""}, "inference.py"),
        ({}, {"code/other.py": ""}, ""),
    ],
)  # fmt: skip
def test_the_script(tmp_path, environment, files, script):
    spec = only(read(tmp_path, {"model.joblib": STUB, **files}, **environment))
    assert spec.options["script"] == script
    assert spec.variables.items() >= environment.items()
    assert spec.variables["SM_MODEL_DIR"] == str(tmp_path)


def test_a_script_that_is_not_there(tmp_path):
    text = refused(tmp_path, {"model.joblib": STUB}, SAGEMAKER_PROGRAM="../../etc/serve.py")
    assert "SAGEMAKER_PROGRAM is '../../etc/serve.py'" in text
    files, program = {"code/a.py": "", "m.joblib": STUB}, {"SAGEMAKER_PROGRAM": "b.py"}
    submitted = {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://b/source.tar.gz"}
    text = refused(tmp_path, files, "sagemaker-scikit-learn:1", **program, **submitted)
    assert "not fetched" in text


def test_a_link_out_of_the_archive_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.pt").symlink_to("/etc/hostname")
    assert "leaves the repository" in refused(tmp_path / "a", {})


def test_several_models_without_a_script(tmp_path):
    files = {"a.joblib": STUB, "b.joblib": STUB}
    assert "2 model files, a.joblib, b.joblib" in refused(tmp_path, files)
    files["code/inference.py"] = SCRIPT
    assert only(read(tmp_path, files)).options["script"] == "code/inference.py"
    boosters = {f"xgboost-model-{i}": STUB for i in range(3)}
    models = only(read(tmp_path / "x", boosters)).options["models"]
    assert models.split("\n") == sorted(boosters)


def test_requirements_come_with_the_framework(tmp_path):
    files = {"model.pt": STUB, "code/inference.py": SCRIPT, "code/requirements.txt": "pandas"}
    environment = only(read(tmp_path, files)).environment
    assert environment.source == tmp_path / "code" / "requirements.txt"
    assert environment.package == tmp_path
    assert environment.beside == (("torch",),)
    off = Config(environments=False)
    found = read_container("e/1", tmp_path, "", Container(), 1, off)
    assert only(found).environment is None


def test_instances(tmp_path):
    spec = only(read(tmp_path, {"model.pt": STUB}, instances=3))
    assert complete(spec, Inspection()).instance_count == 3
    with pytest.raises(HostlerError, match="0 instances"):
        read(tmp_path, {}, instances=0)


def test_the_fingerprint_is_of_content_container_and_instances(tmp_path):
    files = {"model.pt": STUB}
    first = only(read(tmp_path / "a", files)).fingerprint
    same = only(read(tmp_path / "b", {**files, "more": ""})).fingerprint
    assert first == same, "the token stands for the content, wherever it lies"
    others = [
        only(read(tmp_path / "a", files, token="u")),
        only(read(tmp_path / "a", files, instances=2)),
        only(read(tmp_path / "a", files, "pytorch-inference:2")),
        only(read(tmp_path / "a", files, A="1")),
        only(read(tmp_path / "a", files, token="")),
        only(read(tmp_path / "b", files, token="")),
        only(read(tmp_path / "a", {"1/model.onnx": STUB, "config.pbtxt": CONFIG})),
    ]
    assert len({first, *(spec.fingerprint for spec in others)}) == 8


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({f"A{i}": "" for i in range(101)}, "101 variables; at most 100"),
        ({"A B": ""}, "letters, digits and underscores"),
        ({"1A": ""}, "letters, digits"),
        ({"": ""}, "letters, digits"),
        ({"A\n": ""}, "letters, digits"),
        ({"A" * 1025: ""}, "letters, digits"),
        ({"A": "x" * 1025}, "1025 characters; at most 1024"),
        ({"A": "a\0b"}, "zero byte"),
    ],
)
def test_environments_that_no_container_has(environment, text):
    with pytest.raises(HostlerError, match=re.escape(text)) as caught:
        check_container(Container("", environment))
    assert caught.value.code is Code.INVALID_ARGUMENT
