"""The models that are measured, built once into a folder that git ignores.

Each lies in a model repository of its own, so that a server can be started on just one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench import graphs
from bench.harness import ROOT

__all__ = ["IMAGE_VALUES", "MODELS", "Subject", "run_once", "small_copies", "subject"]

MODELS: Final = ROOT / "bench" / ".models"
IMAGE_VALUES: Final = 3 * 224 * 224
"""Values of one image; 602 kB of FP32."""


@dataclass(frozen=True)
class Subject:
    """One model to measure.

    `repository`: the folder to serve. `file`: the graph itself. `inputs`: `rows` differing
    examples, `[rows, *item]`; `input` and `output` name the tensors.
    """

    name: str
    repository: Path
    file: Path
    input: str
    output: str
    inputs: npt.NDArray[np.generic]


def _digits() -> bytes:
    """The network that the demo serves, trained by the demo's own script."""
    folder = MODELS / "trained"
    script = ROOT / "examples" / "digits" / "train.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return (folder / "repository" / "digits_onnx" / "1" / "model.onnx").read_bytes()


def _digit_rows(rows: int) -> npt.NDArray[np.generic]:
    pixels: npt.NDArray[np.generic] = np.load(MODELS / "trained" / "held_out.npz")["pixels"]
    return pixels[:rows]


def _uniform(*item: int) -> Callable[[int], npt.NDArray[np.generic]]:
    def rows(count: int) -> npt.NDArray[np.generic]:
        return np.random.default_rng(7).random((count, *item), np.float32)

    return rows


def _tokens(rows: int) -> npt.NDArray[np.generic]:
    return np.random.default_rng(7).integers(0, graphs.VOCABULARY, (rows, graphs.SEQUENCE))


@dataclass(frozen=True)
class _Recipe:
    build: Callable[[], bytes]
    input: str
    output: str
    examples: Callable[[int], npt.NDArray[np.generic]]


RECIPES: Final = {
    "digits": _Recipe(_digits, "pixels", "probabilities", _digit_rows),
    "resnet18": _Recipe(graphs.resnet18, "image", "scores", _uniform(3, 224, 224)),
    "encoder": _Recipe(graphs.encoder, "input_ids", "pooled", _tokens),
    "mean": _Recipe(lambda: graphs.mean(IMAGE_VALUES), "values", "mean", _uniform(IMAGE_VALUES)),
    "forty_megabytes": _Recipe(
        lambda: graphs.stack_of_matrices(10, 1000), "values", "result", _uniform(1000)
    ),
}


def subject(name: str, rows: int = 1) -> Subject:
    """The model of this name, built if it is not there yet, with `rows` example rows."""
    recipe = RECIPES[name]
    file = MODELS / name / name / "1" / "model.onnx"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_bytes(recipe.build())
        partial.rename(file)
    if name == "mean":
        _python_twin(file)
    return Subject(
        name=name,
        repository=MODELS / name,
        file=file,
        input=recipe.input,
        output=recipe.output,
        inputs=recipe.examples(rows),
    )


def _python_twin(file: Path) -> None:
    """Beside `mean` lay `mean_python`, which computes the same in a worker process."""
    folder = file.parents[2] / "mean_python" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "bench" / "mean_model.py", folder / "model.py")


def small_copies(count: int) -> Path:
    """A repository of `count` copies of the digits network under names of their own."""
    source = subject("digits").file
    folder = MODELS / f"copies_{count}"
    for index in range(count):
        file = folder / f"digits_{index:03d}" / "1" / "model.onnx"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, file)
    return folder


def run_once(model: Subject) -> npt.NDArray[np.generic]:
    """What onnxruntime answers to the example inputs; the measure of a right answer."""
    session = onnxruntime.InferenceSession(str(model.file), providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.generic] = session.run([model.output], {model.input: model.inputs})[0]
    return result
