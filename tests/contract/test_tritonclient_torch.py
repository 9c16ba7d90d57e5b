"""PyTorch packages through tritonclient: TorchScript and exported programs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.packages import write_package
from fakes.python_models import tensors
from fakes.server import ServerProcess
from fakes.triton_client import TIMEOUT_S, connect, floats
from tritonclient.http import InferenceServerClient, InferRequestedOutput
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.torch

K, OFFSET = 3.0, 1.0


def write_torch_models(folder: Path) -> Path:
    """`y = x * 3 + 1` over [batch, 4]: TorchScript with a config, an exported program without.

    A third one fails for some numbers, to see that neighbours in a batch do not suffer.
    """
    import torch

    class Affine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.k = torch.nn.Parameter(torch.tensor(K))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.k + OFFSET

    class Lookup(torch.nn.Module):
        """y = x, through a table of the numbers 0 to 9: any other index fails the whole run."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(10.0).index_select(0, x.long().flatten()).reshape(x.shape)

    for name in ("script", "exported", "picky"):
        (folder / name / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(Affine(), torch.zeros(2, 4))
        traced.save(str(folder / "script" / "1" / "model.pt"))
        index = torch.jit.trace(Lookup(), torch.zeros(2, 4))
        index.save(str(folder / "picky" / "1" / "model.pt"))
        rows = torch.export.Dim("rows", min=1, max=64)
        program = torch.export.export(
            Affine(), (torch.zeros(2, 4),), dynamic_shapes={"x": {0: rows}}, strict=False
        )
        torch.export.save(program, str(folder / "exported" / "1" / "model.pt2"))
    config = 'platform: "pytorch_libtorch"\nmax_batch_size: 64\n'
    config += tensors("FP32", "4", "INPUT__0", "OUTPUT__0")
    for name in ("script", "picky"):
        write_package(folder / name, {"config.pbtxt": config})
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_torch_models(tmp_path_factory.mktemp("torch"))
    with ServerProcess(folder, ready_s=90) as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server) as connected:
        yield connected


@pytest.mark.parametrize(
    ("model", "given", "answered"),
    [("script", "INPUT__0", "OUTPUT__0"), ("exported", "x", "OUTPUT__0")],
)
def test_infer(client: InferenceServerClient, model: str, given: str, answered: str) -> None:
    rows = [[0.0, 1.0, -2.0, 0.5]] * 3
    for binary in (True, False):
        outputs = [InferRequestedOutput(answered, binary_data=binary)]
        result = client.infer(model, [floats(given, *rows, binary=binary)], outputs=outputs)
        wanted = np.array(rows, np.float32) * K + OFFSET
        assert result.as_numpy(answered).tolist() == wanted.tolist()


@pytest.mark.parametrize(("model", "given"), [("script", "INPUT__0"), ("exported", "x")])
def test_metadata(client: InferenceServerClient, model: str, given: str) -> None:
    metadata = client.get_model_metadata(model)
    assert metadata["platform"] == "pytorch_libtorch"
    assert metadata["inputs"] == [{"name": given, "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "OUTPUT__0", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize(("model", "given"), [("script", "INPUT__0"), ("exported", "x")])
def test_wrong_shape(client: InferenceServerClient, model: str, given: str) -> None:
    with pytest.raises(InferenceServerException, match="unexpected shape") as caught:
        client.infer(model, [floats(given, [1.0, 2.0])])
    assert caught.value.status() == "400"


def test_bad_item_fails_alone(server: ServerProcess) -> None:
    with connect(server, concurrency=8) as client:
        numbers = [1, 2, 99, 3, 4, 5, 99, 6] * 4
        requests = [
            (n, client.async_infer("picky", [floats("INPUT__0", [n] * 4)])) for n in numbers
        ]
        for number, request in requests:
            if number == 99:
                with pytest.raises(InferenceServerException, match="picky") as caught:
                    request.get_result(timeout=TIMEOUT_S)
                assert caught.value.status() == "500"
            else:
                result = request.get_result(timeout=TIMEOUT_S)
                assert result.as_numpy("OUTPUT__0").tolist() == [[number] * 4]
