"""A TorchScript model whose state the server keeps, through tritonclient."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from fakes.packages import write_package
from fakes.python_models import tensors
from fakes.sequence_models import CONTROL, LATER, sequences
from fakes.server import ServerProcess
from fakes.triton_client import connect, floats

pytestmark = pytest.mark.torch


def write_accumulator(folder: Path) -> Path:
    """A running sum: arguments are x, START, READY and the state, results y and the state."""
    import torch

    class Accumulator(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, start: torch.Tensor, ready: torch.Tensor, state: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            total = x + torch.where(start > 0, torch.zeros_like(state), state)
            return total * ready, total * ready + (ready - 1) * 1000.0

    (folder / "sums" / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        column = torch.zeros(2, 1)
        script = torch.jit.trace(Accumulator(), (column, column, column, column))
        script.save(str(folder / "sums" / "1" / "model.pt"))
    flag = "fp32_false_true: [ 0, 1 ]"
    controls = CONTROL.format("START", flag).replace('"START"', '"START__1"')
    controls += CONTROL.format("READY", flag).replace('"READY"', '"READY__2"')
    state = (
        'state [ { input_name: "STATE__3" output_name: "STATE__1" data_type: TYPE_FP32 '
        "dims: [ 1 ] } ]"
    )
    config = 'platform: "pytorch_libtorch"\nmax_batch_size: 4\n'
    config += tensors("FP32", "1", "INPUT__0", "OUTPUT__0")
    write_package(folder / "sums", {"config.pbtxt": config + sequences(LATER + controls + state)})
    return folder


def test_interleaved_sums(tmp_path: Path) -> None:
    with ServerProcess(write_accumulator(tmp_path)) as server, connect(server) as client:
        for step in range(4):
            for name in (1, 2, 3):
                result = client.infer(
                    "sums",
                    [floats("INPUT__0", [10.0 * name + step])],
                    sequence_id=name,
                    sequence_start=step == 0,
                    sequence_end=step == 3,
                )
                wanted = sum(10.0 * name + n for n in range(step + 1))
                assert np.array_equal(result.as_numpy("OUTPUT__0"), [[wanted]])
                assert [o["name"] for o in result.get_response()["outputs"]] == ["OUTPUT__0"]
        server.stop()
