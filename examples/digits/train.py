"""Train small real models on handwritten digits and lay them out as a model repository.

    python examples/digits/train.py demo-models

Three models answer the same question in three ways (the third where PyTorch is installed):

    demo-models/
      repository/
        digits_onnx/1/model.onnx                       a neural network, exported to ONNX
        digits_python/1/{model.py, classifier.joblib}  scikit-learn behind Triton's Python backend
        digits_torch/{config.pbtxt, 1/model.pt2}       a convolutional network, PyTorch export
      held_out.npz                                     digits that no model has seen
      complete.json                                    written last: what this was made from

All take `pixels` FP32 `[batch, 64]`, an 8 x 8 image of 0..16 in row-major order.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import numpy.typing as npt
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from trained import HERE, MARK, has_torch, mark_complete

SEED = 7
HELD_OUT = 360  # of 1,797 digits


class Digits(NamedTuple):
    """The bundled digits: pixels `[n, 64]` float32 of 0..16, labels `[n]` int64."""

    train_pixels: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_pixels: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def split_digits() -> Digits:
    """Split scikit-learn's bundled digits the same way at every call."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(
        pixels.astype(np.float32),
        labels.astype(np.int64),
        test_size=HELD_OUT,
        random_state=SEED,
        stratify=labels,
    )
    return Digits(parts[0], parts[2], parts[1], parts[3])


def train_onnx(digits: Digits, folder: Path) -> None:
    """Write a scaled network as ONNX: `label` INT64 `[n]`, `probabilities` FP32 `[n, 10]`."""
    network = make_pipeline(
        MinMaxScaler(),
        MLPClassifier(hidden_layer_sizes=(64,), max_iter=400, alpha=0.01, random_state=SEED),
    )
    network.fit(digits.train_pixels, digits.train_labels)
    graph = to_onnx(
        network,
        initial_types=[("pixels", FloatTensorType([None, 64]))],
        # A plain tensor of probabilities, not a list of dictionaries.
        options={id(network): {"zipmap": False}},
        target_opset=17,
        name="digits",  # the default is random, and the file would differ at every run
    )
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.onnx").write_bytes(graph.SerializeToString())


def train_python(digits: Digits, folder: Path) -> None:
    """Write a support-vector classifier and the `model.py` that serves it."""
    classifier = SVC(gamma=0.001, C=10.0, random_state=SEED)
    classifier.fit(digits.train_pixels, digits.train_labels)
    (folder / "1").mkdir(parents=True, exist_ok=True)
    joblib.dump(classifier, folder / "1" / "classifier.joblib")
    shutil.copy(HERE / "model.py", folder / "1" / "model.py")


def build(folder: Path) -> None:
    """Train everything into the folder, replacing what an earlier run left in it."""
    repository = folder / "repository"
    (folder / MARK).unlink(missing_ok=True)
    shutil.rmtree(repository, ignore_errors=True)
    digits = split_digits()
    train_onnx(digits, repository / "digits_onnx")
    train_python(digits, repository / "digits_python")
    if has_torch():
        trainer = importlib.import_module("train_torch")
        trainer.train_torch(
            digits.train_pixels, digits.train_labels, repository / "digits_torch", SEED
        )
    np.savez(folder / "held_out.npz", pixels=digits.test_pixels, labels=digits.test_labels)
    mark_complete(folder)


def main() -> None:
    """Train into the folder named on the command line (default `demo-models`)."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-models")
    build(folder)
    sys.stdout.write(f"wrote {folder}\n")


if __name__ == "__main__":
    main()
