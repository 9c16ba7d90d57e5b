import msgspec
import pytest

from hostler.repository import Config, check_image
from hostler.repository.images import BUILT_IN, READERS, image_forms

AWS = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("image", "reader"),
    [
        # As the SageMaker Python SDK's image_uris.retrieve gives them.
        (f"{AWS}/sagemaker-tritonserver:24.09-py3", "triton"),
        (f"{AWS}/tensorflow-inference:2.14-cpu", "tensorflow"),
        (f"{AWS}/tensorflow-inference-graviton:2.9.1-cpu-py38-ubuntu20.04-sagemaker", "tensorflow"),
        ("520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tensorflow-serving:1.12-cpu",
         "tensorflow"),
        (f"{AWS}/pytorch-inference:2.3-cpu-py311", "pytorch"),
        ("520713654638.dkr.ecr.us-east-1.amazonaws.com/sagemaker-pytorch:1.1-cpu-py3", "pytorch"),
        (f"{AWS}/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310", "pytorch"),
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
         "sklearn"),
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1", "xgboost"),
        ("811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:1", "xgboost"),
        (f"{AWS}/djl-inference:0.30.0-lmi12.0.0-cu124", "djl"),
        ("deepjavalibrary/djl-serving:0.30.0", "djl"),
        ("nvcr.io/nvidia/tritonserver:24.09-py3", "triton"),
        ("tensorflow/serving:2.14.1", "tensorflow"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/mlflow-pyfunc:2.9.2", "mlflow"),
        ("hostler", "hostler"),
        ("ghcr.io/acme/hostler:1.0", "hostler"),
        ("registry.local:5000/mirror/pytorch-inference:2.3", "pytorch"),
        (f"{AWS}/pytorch-inference@sha256:{'0' * 64}", "pytorch"),
        # Nobody's but their owners'.
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/churn:7", ""),
        ("acme/xgboost-churn:1", ""),
        (f"{AWS}/pytorch-training:2.3-cpu-py311", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_images(image, reader):
    assert check_image(image, Config()) == reader


def test_rows_of_the_setting_come_first_and_leave_the_others_in_place():
    config = Config(images=("churn*=sklearn", "*/pytorch-inference:1*=detect", "y.z/*:2=djl"))
    assert check_image("acme/churn:7", config) == "sklearn"
    assert check_image(f"{AWS}/pytorch-inference:1.9", config) == ""
    assert check_image(f"{AWS}/pytorch-inference:2.3", config) == "pytorch"
    assert check_image("y.z/a:2", config) == "djl"
    assert check_image(f"{AWS}/sagemaker-tritonserver:24.09-py3", config) == "triton"


@pytest.mark.parametrize("row", ["churn", "churn=", "=triton", "churn=trition", "a=b=triton"])
def test_a_row_that_cannot_be_meant_is_refused_with_the_settings(row):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"images": [row]}, Config)


def test_every_reader_has_an_image():
    assert {row.rpartition("=")[2] for row in BUILT_IN} == set(READERS)
    msgspec.convert({"images": list(BUILT_IN)}, Config)


def test_forms():
    assert image_forms(" localhost:5000/a/b:1@sha256:0 ") == (
        "localhost:5000/a/b:1@sha256:0", "localhost:5000/a/b:1", "localhost:5000/a/b",
        "a/b:1@sha256:0", "a/b:1", "a/b",
        "b:1", "b",
    )  # fmt: skip
