"""Archives for DJL, MLflow and TensorFlow Serving: what is read of them, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakes.packages import write_package

from hostler.core import OPAQUE_SIGNATURE, Code, HostlerError, Inspection, ModelSpec
from hostler.repository import Config, Container, complete, read_container
from hostler.repository.formats.djl import parse_properties

HANDLE = "def handle(inputs): ..."
PYFUNC = "flavors:\n  python_function:\n    loader_module: m\n"
DJL = "djl-inference:0.33"
TFS = "tensorflow/serving:2"


def read(
    folder: Path, files: dict[str, str], image: str = "", instances: int = 1, **environment: str
) -> ModelSpec:
    write_package(folder, files)
    container = Container(image, environment)
    found = read_container("e/1", folder, "t", container, instances, Config())
    (package,) = found.packages
    (spec,) = package.versions
    assert spec.opaque
    assert complete(spec, Inspection()).signature == OPAQUE_SIGNATURE
    return spec


def refused(folder: Path, files: dict[str, str], image: str = "", **environment: str) -> str:
    with pytest.raises(HostlerError) as caught:
        read(folder, files, image, **environment)
    code = caught.value.code
    assert code in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
    return f"{code.value} {caught.value.message}"


# -- DJL -----------------------------------------------------------------------------------


def test_djl_properties_and_variables(tmp_path: Path) -> None:
    text = (
        "engine=Python\noption.handler=go\noption.entryPoint=src/serve.py\nminWorkers=2\n"
        "option.env=A=1, B = x=y ,C\noption.task=own\noption.tensor_parallel_degree=2\n"
    )
    files = {"serving.properties": text, "src/serve.py": HANDLE, "requirements.txt": "numpy"}
    spec = read(tmp_path, files, instances=3, OPTION_TASK="other", OPTION_MODEL_ID="m", X="1")
    assert (spec.runtime, spec.decoupled) == ("djl", True)
    assert spec.file == tmp_path / "src" / "serve.py"
    assert spec.instance_count == 6
    assert spec.options["handler"] == "go"
    assert spec.options["tensor_parallel_degree"] == "2"
    given = json.loads(spec.options["properties"])
    assert given == {
        "engine": "Python",
        "handler": "go",
        "entryPoint": "src/serve.py",
        "minWorkers": "2",
        "task": "own",
        "tensor_parallel_degree": "2",
        "model_id": "m",
    }
    assert {key: spec.variables[key] for key in "ABX"} == {"A": "1", "B": "x=y", "X": "1"}
    assert spec.environment is not None
    assert spec.environment.source == tmp_path / "requirements.txt"


@pytest.mark.parametrize("stated", ["./model.py", "model", "model.py"])
def test_djl_entry_points(tmp_path: Path, stated: str) -> None:
    files = {"serving.properties": f"option.entryPoint={stated}", "model.py": HANDLE}
    assert read(tmp_path, files).file == tmp_path / "model.py"


def test_djl_in_a_folder_of_its_own(tmp_path: Path) -> None:
    spec = read(tmp_path, {"m/serving.properties": "", "m/model.py": HANDLE})
    assert spec.file == tmp_path / "m" / "model.py"
    assert spec.environment is None


def test_djl_by_its_image_needs_no_properties(tmp_path: Path) -> None:
    spec = read(tmp_path, {"model.py": HANDLE}, DJL, OPTION_ENTRYPOINT="model.py", HF_MODEL_ID="h")
    assert spec.runtime == "djl"
    assert json.loads(spec.options["properties"])["model_id"] == "h"


@pytest.mark.parametrize(
    ("properties", "files", "words"),
    [
        ("engine=MPI", {}, "UNIMPLEMENTED .*engine 'MPI' is not served, only Python is; .*LMI"),
        ("engine=OnnxRuntime", {}, "UNIMPLEMENTED .*'OnnxRuntime' .*needs no serving.properties"),
        ("option.rolling_batch=vllm", {}, "UNIMPLEMENTED .*rolling_batch 'vllm'"),
        ("option.entryPoint=https://x/model.py", {}, "UNIMPLEMENTED .*is not fetched"),
        ("option.entryPoint=djl_python.huggingface", {}, "UNIMPLEMENTED .*djl_python.huggingface"),
        ("option.entryPoint=../x.py", {}, "INVALID_ARGUMENT .*no '../x.py' in the archive"),
        ("option.entryPoint=other.py", {}, "INVALID_ARGUMENT .*no 'other.py' .*holds 'model.py'"),
        ("minWorkers=0", {}, "INVALID_ARGUMENT .*minWorkers is '0'"),
        ("minWorkers=99999999999", {}, "INVALID_ARGUMENT .*minWorkers"),
        ("option.tensor_parallel_degree=x", {}, "INVALID_ARGUMENT .*degree is 'x'"),
        ("", {"a.whl": ""}, r"INVALID_ARGUMENT .*'a.whl', .*add ./a.whl to requirements.txt"),
        ("", {"a.whl": "", "requirements.txt": "numpy"}, "INVALID_ARGUMENT .*add ./a.whl"),
    ],
)
def test_djl_refusals(tmp_path: Path, properties: str, files: dict[str, str], words: str) -> None:
    package = {"serving.properties": properties, "model.py": HANDLE, **files}
    assert re.match(words, refused(tmp_path, package))


def test_djl_without_its_own_handler(tmp_path: Path) -> None:
    found = refused(tmp_path, {"serving.properties": "option.model_id=gpt2"})
    assert "UNIMPLEMENTED" in found
    assert "option.model_id without a model.py" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# a=1\n! b=2\n\n  c = 3  ", {"c": "3"}),
        ("a=1\na=2", {"a": "2"}),
        ("a:1\nb 2\nc", {"a": "1", "b": "2", "c": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("a=1,\\\n   2,\\\n3\nb=4", {"a": "1,2,3", "b": "4"}),
        (r"a\=b\:c\ d=x", {"a=b:c d": "x"}),
        (r"a=\u00fc\tx\\", {"a": "ü\tx\\"}),
        ("a=1\\", {"a": "1"}),
        ("a=x\\\\\nb=1", {"a": "x\\", "b": "1"}),
        ("\\", {"": ""}),
    ],
)
def test_java_properties(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


# -- MLflow --------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "model/"])
def test_mlflow(tmp_path: Path, root: str) -> None:
    files = {f"{root}MLmodel": PYFUNC, f"{root}requirements.txt": "mlflow", f"{root}conda.yaml": ""}
    spec = read(tmp_path, files)
    assert (spec.runtime, spec.decoupled) == ("mlflow", False)
    assert spec.file == tmp_path / f"{root}MLmodel"
    assert spec.environment is not None
    assert spec.environment.source == tmp_path / f"{root}requirements.txt"
    assert ("mlflow", "mlflow-skinny") in spec.environment.beside


def test_mlflow_on_the_servers_own_python(tmp_path: Path) -> None:
    text = '{"flavors": {"python_function": {}}}'
    assert read(tmp_path, {"MLmodel": text}).environment is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"MLmodel": "flavors:\n  onnx: {}\n"}, "UNIMPLEMENTED .*no flavour python_function"),
        ({"MLmodel": "python_function: no\n"}, "UNIMPLEMENTED"),
        ({"a/MLmodel": PYFUNC, "b/MLmodel": PYFUNC}, "2 models, a/MLmodel, b/MLmodel; keep one"),
        ({"MLmodel": PYFUNC, "conda.yaml": ""}, "conda.yaml without a requirements.txt"),
    ],
)
def test_mlflow_refusals(tmp_path: Path, files: dict[str, str], words: str) -> None:
    assert re.search(words, refused(tmp_path, files))


def test_mlflow_by_its_image(tmp_path: Path) -> None:
    assert "no MLmodel in the archive; it holds 'x'" in refused(
        tmp_path, {"x": ""}, "mlflow-pyfunc:3.1"
    )


# -- TensorFlow ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "folder", "name"),
    [
        (["half/1"], "half/1", "half"),
        (["half/2", "half/10"], "half/10", "half"),
        (["export/Servo/1"], "export/Servo/1", "Servo"),
        (["7"], "7", "e/1"),
        (["."], ".", "e/1"),
        (["m"], "m", "m"),
    ],
)
def test_saved_models(tmp_path: Path, files: list[str], folder: str, name: str) -> None:
    spec = read(tmp_path, {f"{place}/saved_model.pb": "" for place in files})
    assert spec.runtime == "tensorflow"
    assert spec.file == tmp_path / folder / "saved_model.pb"
    assert spec.options["served_name"] == name
    assert spec.environment is None


def test_a_saved_model_with_a_script(tmp_path: Path) -> None:
    files = {"m/1/saved_model.pbtxt": "", "code/inference.py": "", "code/requirements.txt": "numpy"}
    spec = read(tmp_path, files, TFS)
    assert spec.options["script"] == "code/inference.py"
    assert spec.file.name == "saved_model.pbtxt"
    assert spec.environment is not None
    assert any("tensorflow-cpu" in names for names in spec.environment.beside)


def test_one_of_several_saved_models(tmp_path: Path) -> None:
    files = {"a/1/saved_model.pb": "", "b/9/saved_model.pb": "", "b/10/saved_model.pb": ""}
    assert "2 models, 'a', 'b'; name one in SAGEMAKER_TFS_DEFAULT_MODEL_NAME" in refused(
        tmp_path, files
    )
    spec = read(tmp_path, files, SAGEMAKER_TFS_DEFAULT_MODEL_NAME="b")
    assert spec.file == tmp_path / "b" / "10" / "saved_model.pb"
    assert "but the archive holds 'a', 'b'" in refused(
        tmp_path, files, SAGEMAKER_TFS_DEFAULT_MODEL_NAME="c"
    )
    assert "no SavedModel in the archive" in refused(tmp_path / "none", {"x": ""}, TFS)
