"""Source: default_pytorch_inference_handler.py of sagemaker-pytorch-inference-toolkit."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch

from .. import handler_codec as codec
from ..task import Task
from ..torchscript import check_script_archive
from . import model_files, no_default

__all__ = ["PyTorchToolkit", "new_toolkit"]


def new_toolkit(task: Task) -> PyTorchToolkit:
    """The defaults for PyTorch."""
    return PyTorchToolkit(task)


class PyTorchToolkit:
    """TorchScript in, tensors through it, lists of numbers out."""

    accept = codec.JSON

    def __init__(self, task: Task) -> None:
        self._task = task
        torch.set_num_threads(task.threads)
        gpu = torch.cuda.is_available() and task.kind != "cpu"
        self._device = torch.device("cuda", task.device) if gpu else torch.device("cpu")

    def model_fn(self, model_dir: str) -> Any:
        """The only TorchScript file."""
        files = model_files(self._task)
        if len(files) != 1:
            raise no_default(self._task, "PyTorch", "one of model.pt, model.pth, *.pt, *.pth")
        path = os.path.join(model_dir, files[0])
        check_script_archive(path, self._task.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            load: Any = torch.jit.load
            return load(path, map_location=self._device).eval()

    def input_fn(self, body: str | bytes, content_type: str) -> Any:
        """A tensor on the model's device; float32 where it was text."""
        array = codec.decode(body, content_type)
        try:
            if codec.media_type(content_type) in codec.TEXTS:
                array = array.astype("float32")
            tensor = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise codec.malformed("tensor", error) from error
        return tensor.to(self._device)

    def predict_fn(self, data: Any, model: Any) -> Any:
        """What the model returns."""
        if isinstance(model, torch.nn.Module):
            model.eval().to(self._device)
        with torch.no_grad():
            return model(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        """As lists of numbers, or as an array for CSV and NPY."""
        return codec.encode(_plain(prediction), accept)


def _plain(value: Any) -> Any:
    """Tensors as arrays, wherever they are."""
    if isinstance(value, torch.Tensor):
        return (
            value.detach().cpu().float().numpy()
            if value.dtype == torch.bfloat16
            else (value.detach().cpu().numpy())
        )
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
