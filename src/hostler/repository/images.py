"""Which container images stand for which way of reading an archive. Pure.

Images are never pulled. Rows are tried in order, the setting's before the ones that are built in;
the first pattern that matches one of the forms of a reference wins:

    1234.dkr.ecr.us-east-1.amazonaws.com/mirror/sagemaker-tritonserver:24.09-py3     as it is
    1234.dkr.ecr.us-east-1.amazonaws.com/mirror/sagemaker-tritonserver               no tag, digest
    mirror/sagemaker-tritonserver:24.09-py3, mirror/sagemaker-tritonserver           no registry
    sagemaker-tritonserver:24.09-py3, sagemaker-tritonserver                         its last part

Source: `image_uri_config` of the SageMaker Python SDK, https://aws.github.io/deep-learning-containers,
mlflow.sagemaker (`DEFAULT_IMAGE_NAME`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

__all__ = ["BUILT_IN", "DETECT", "READERS", "image_forms", "reader_of"]

READERS: Final = (
    "triton",
    "tensorflow",
    "pytorch",
    "sklearn",
    "xgboost",
    "djl",
    "mlflow",
    "hostler",
)
DETECT: Final = "detect"
"""In place of a reader: look into the archive, whatever rows come later."""

BUILT_IN: Final = (
    "sagemaker-tritonserver*=triton",
    "tritonserver*=triton",
    "tensorflow-inference*=tensorflow",
    "sagemaker-tensorflow-serving*=tensorflow",
    "tensorflow/serving*=tensorflow",
    "pytorch-inference*=pytorch",
    "huggingface-pytorch-inference*=pytorch",
    "sagemaker-pytorch*=pytorch",
    "sagemaker-scikit-learn*=sklearn",
    "sagemaker-xgboost*=xgboost",
    "xgboost=xgboost",
    "djl-inference*=djl",
    "djl-serving*=djl",
    "mlflow-pyfunc*=mlflow",
    "hostler*=hostler",
)
"""Families of images, whatever their version and processor (`-gpu`, `-graviton`)."""


def reader_of(image: str, rows: Sequence[str]) -> str:
    """The reader that the first matching row names, "" where none does or it says to detect.

    `rows`: the setting `repository.images`, as checked by its type.
    """
    forms = image_forms(image)
    for row in (*rows, *BUILT_IN):
        pattern, _, reader = row.rpartition("=")
        if any(fnmatchcase(form, pattern) for form in forms):
            return "" if reader == DETECT else reader
    return ""


def image_forms(image: str) -> tuple[str, ...]:
    """What patterns are held against: the reference with and without registry, tag and digest."""
    whole = image.strip()
    tagged = whole.partition("@")[0]
    folder, slash, last = tagged.rpartition("/")
    bare = f"{folder}{slash}{last.partition(':')[0]}"
    forms = [whole, tagged, bare]
    forms += [_without_registry(form) for form in forms]
    forms += [last, last.partition(":")[0]]
    return tuple(dict.fromkeys(form for form in forms if form))


def _without_registry(reference: str) -> str:
    """Docker's rule: what stands before the first slash is a host if it looks like one."""
    first, slash, rest = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return rest
    return reference
