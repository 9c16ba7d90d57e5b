"""Classifiers of images, made of scikit-learn's bundled data, and an ensemble around one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fakes import onnx_models
from fakes.ensembles import steps_text
from fakes.packages import write_package
from fakes.python_models import python_model
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DIGITS", "HEIGHT", "PHOTOGRAPHS", "WIDTH", "nearest", "write_image_models"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PHOTOGRAPHS = ("temple", "flower")
HEIGHT, WIDTH = 24, 36

PREPROCESS = f"""
def execute(self, requests):
    import io
    from PIL import Image
    responses = []
    for request in requests:
        images = []
        for row in pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy():
            file = row[0] if row.dtype == object else row.tobytes()
            image = Image.open(io.BytesIO(file)).convert("RGB")
            pixels = np.asarray(image.resize(({WIDTH}, {HEIGHT}), Image.BILINEAR), np.float32)
            images.append((pixels / np.float32(127.5) - 1).transpose(2, 0, 1))
        tensor = pb_utils.Tensor("OUTPUT", np.stack(images))
        responses.append(pb_utils.InferenceResponse([tensor]))
    return responses
"""


def nearest(path: Path, templates: np.ndarray, image: list[int], shape: list[int]) -> Path:
    """Probabilities of a pixel image being each template: the nearest has the highest.

    `templates`: [class, pixel] float32. `image`: [batch, *image] of the input, where 0 is a
    variable batch; `shape`: the output's own, in the same way.
    """
    share = np.float32(1 / templates.shape[1])
    weights = (templates.T * share).astype(np.float32)
    offsets = (-0.5 * share * (templates**2).sum(axis=1)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weights", "offsets"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("Reshape", ["probabilities", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nearest",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, _dims(image))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, _dims(shape))],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(offsets, "offsets"),
            numpy_helper.from_array(np.array(shape, np.int64), "shape"),
        ],
    )
    return onnx_models.save(graph, path)


def _dims(shape: list[int]) -> list[int | str]:
    return [size or "batch" for size in shape]


def _tensor(kind: str, name: str, dims: object, more: str = "", word: str = "FP32") -> str:
    return f'{kind} [ {{ name: "{name}" data_type: TYPE_{word} dims: {dims} {more} }} ]\n'


def write_image_models(folder: Path, digits: np.ndarray, photographs: np.ndarray) -> Path:
    """Models of images whose templates are given, scaled to -1..1.

    `digits`: [10, 64]; `photographs`: [2, 3 * HEIGHT * WIDTH], channels first.

    digits: [8, 8, 1], in batches. photograph: [3, HEIGHT, WIDTH] without batches, whose graph has
    one and an output of four dimensions, as the public densenet_onnx. photographs: the same in
    batches. labelled: image files in, classes out; a file is text in it, and in labelled_bytes
    a row of numbers.
    """
    rows = "max_batch_size: 8\n"
    nearest(folder / "digits" / "1" / "model.onnx", digits, [0, 8, 8, 1], [0, 10])
    config = rows + _tensor("input", "x", [8, 8, 1], "format: FORMAT_NHWC")
    config += _tensor("output", "y", [10], 'label_filename: "labels.txt"') + "dynamic_batching {}\n"
    files: dict[str, str | bytes] = {"config.pbtxt": config, "labels.txt": "\n".join(DIGITS)}
    write_package(folder / "digits", files)
    labels = {"labels.txt": "\n".join(PHOTOGRAPHS) + "\n"}
    image = [3, HEIGHT, WIDTH]
    path = folder / "photograph" / "1" / "model.onnx"
    nearest(path, photographs, [1, *image], [1, 2, 1, 1])
    one = f"format: FORMAT_NCHW reshape {{ shape: {[1, *image]} }}"
    two = 'label_filename: "labels.txt" reshape { shape: [ 1, 2, 1, 1 ] }'
    config = (
        "max_batch_size: 0\n" + _tensor("input", "x", image, one) + _tensor("output", "y", [2], two)
    )
    write_package(folder / "photograph", {"config.pbtxt": config, **labels})
    nearest(folder / "photographs" / "1" / "model.onnx", photographs, [0, *image], [0, 2])
    config = rows + _tensor("input", "x", image, "format: FORMAT_NCHW")
    config += _tensor("output", "y", [2], 'label_filename: "labels.txt"')
    write_package(folder / "photographs", {"config.pbtxt": config, **labels})
    for name, dims, word in (("labelled", [1], "STRING"), ("labelled_bytes", [-1], "UINT8")):
        file = _tensor("input", "INPUT", dims, word=word)
        pixels = _tensor("output", "OUTPUT", image)
        python_model(folder, f"preprocess_{name}", PREPROCESS, rows + file + pixels)
        steps = steps_text(
            f"preprocess_{name}: INPUT=INPUT -> OUTPUT=pixels",
            "photographs: x=pixels -> y=CLASS",
        )
        config = f'platform: "ensemble"\n{rows}{file}{_tensor("output", "CLASS", [2])}{steps}'
        write_package(folder / name, {"1/": "", "config.pbtxt": config})
    return folder
