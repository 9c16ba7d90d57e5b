"""What Triton's public image clients do, with classifiers made of scikit-learn's bundled images.

The examples are those of https://github.com/triton-inference-server/client, src/python/examples.

| Public example        | Here                                                                     |
|-----------------------|--------------------------------------------------------------------------|
| image_client          | test_images_in_batches, test_images_one_at_a_time, test_what_it_checks   |
| grpc_image_client     | test_images_through_the_bare_stub                                        |
| ensemble_image_client | test_image_files_through_an_ensemble                                     |

And of https://github.com/triton-inference-server/python_backend, examples/preprocessing:
test_an_image_file_as_numbers.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest
from fakes.image_models import DIGITS, HEIGHT, PHOTOGRAPHS, WIDTH, write_image_models
from fakes.public_clients import TIMEOUT_S, Wire
from fakes.server import ServerProcess
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

datasets = pytest.importorskip("sklearn.datasets")
Image = pytest.importorskip("PIL.Image")

FILES = {
    name: Path(datasets.__file__).parent / "images" / file
    for name, file in zip(PHOTOGRAPHS, ("china.jpg", "flower.jpg"), strict=True)
}


class Shape(NamedTuple):
    """What a model wants of its images, by its own metadata and configuration."""

    batched: bool
    input: str
    output: str
    height: int
    width: int
    channels: int
    channels_first: bool


def read_image(source: Any, shape: Shape) -> np.ndarray:
    """A picture file as the model wants it, scaled to -1..1."""
    picture = Image.open(source).convert("L" if shape.channels == 1 else "RGB")
    resized = picture.resize((shape.width, shape.height), Image.BILINEAR)
    pixels = np.asarray(resized, np.float32).reshape(shape.height, shape.width, shape.channels)
    scaled = pixels / np.float32(127.5) - 1
    return scaled.transpose(2, 0, 1) if shape.channels_first else scaled


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], np.ndarray]:
    """Digits as picture files, and the mean of each digit in -1..1, flat."""
    folder = tmp_path_factory.mktemp("digits")
    bunch = datasets.load_digits()
    pictures = (bunch.images * 255 / 16).astype(np.uint8)
    scaled = pictures.reshape(len(pictures), -1).astype(np.float32) / np.float32(127.5) - 1
    means = np.stack([scaled[bunch.target == digit].mean(axis=0) for digit in range(10)])
    paths = [folder / f"{digit}.png" for digit in range(10)]
    for digit, path in enumerate(paths):  # of each one that is like the most
        apart = ((scaled - means[digit]) ** 2).sum(axis=1)
        chosen = int(np.where(bunch.target == digit, apart, np.inf).argmin())
        Image.fromarray(pictures[chosen]).save(path)
    return paths, means.astype(np.float32)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[Path], np.ndarray]
) -> Iterator[ServerProcess]:
    flat = Shape(False, "", "", HEIGHT, WIDTH, 3, True)
    photographs = np.stack([read_image(path, flat).ravel() for path in FILES.values()])
    folder = write_image_models(tmp_path_factory.mktemp("models"), drawn[1], photographs)
    with ServerProcess(folder) as process:
        yield process
        process.stop()


@pytest.fixture(scope="module", params=["http", "grpc"])
def wire(request: pytest.FixtureRequest) -> Wire:
    return Wire(request.param)


def shape_of(wire: Wire, client: Any, model: str) -> Shape:
    """As the examples find it out, and with what they insist on."""
    metadata = wire.document(client.get_model_metadata(model))
    config = wire.document(client.get_model_config(model))
    config = config.get("config", config)
    (one,), (other,) = metadata["inputs"], metadata["outputs"]
    assert (one["datatype"], other["datatype"]) == ("FP32", "FP32")
    batched = config.get("max_batch_size", 0) > 0
    sizes = [int(size) for size in one["shape"]][batched:]
    assert sum(int(size) > 1 for size in other["shape"]) == 1, "one vector a picture"
    form = config["input"][0]["format"]
    assert form in model_config_pb2.ModelInput.Format.keys()  # noqa: SIM118 - no dictionary
    first = form == "FORMAT_NCHW"
    channels, height, width = sizes if first else (sizes[2], *sizes[:2])
    return Shape(batched, one["name"], other["name"], height, width, channels, first)


def classes(result: Any, output: str) -> list[list[str]]:
    """The labels of each picture, best first; every class is `value:index:label`."""
    found = []
    for row in np.atleast_2d(result.as_numpy(output)):
        parts = [bytes(item).decode().split(":") for item in row]
        assert all(0 <= float(value) <= 1 and index.isdigit() for value, index, _ in parts)
        assert [part[0] for part in parts] == sorted((p[0] for p in parts), reverse=True)
        found.append([part[2] for part in parts])
    return found


def ask(wire: Wire, client: Any, how: str, asked: list[dict[str, Any]]) -> list[Any]:
    """All requests, at once unless `how` is sync; the results in the order of their ids."""
    if how == "sync":
        return [client.infer(**request) for request in asked]
    if wire.name == "http":
        pending = [client.async_infer(**request) for request in asked]
        return [one.get_result(timeout=TIMEOUT_S) for one in pending]
    found: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def keep(result: Any, error: Any) -> None:
        found.put((result, error))

    if how == "stream":
        client.start_stream(keep)
    for request in asked:
        if how == "stream":
            client.async_stream_infer(**request)
        else:
            client.async_infer(callback=keep, **request)
    results = {}
    for _ in asked:
        result, error = found.get(timeout=TIMEOUT_S)
        assert error is None, error
        results[int(result.get_response().id)] = result
    if how == "stream":
        client.stop_stream()
    return [results[number] for number in sorted(results)]


@pytest.mark.parametrize(
    ("wire", "how"),
    [("http", "sync"), ("http", "async"), ("grpc", "sync"), ("grpc", "async"), ("grpc", "stream")],
    indirect=["wire"],
)
@pytest.mark.parametrize(("batch", "best"), [(1, 1), (3, 2), (8, 10)])
def test_images_in_batches(
    server: ServerProcess,
    drawn: tuple[list[Path], np.ndarray],
    wire: Wire,
    how: str,
    batch: int,
    best: int,
) -> None:
    """A folder of pictures, from the first again until the last batch is full."""
    more = {"concurrency": 20} if wire.name == "http" else {}
    with wire.connect(server, **more) as client:
        shape = shape_of(wire, client, "digits")
        assert shape[3:] == (8, 8, 1, False)
        pictures = [read_image(path, shape) for path in drawn[0]]
        order = [number % 10 for number in range(-(-10 // batch) * batch)]
        groups = [order[start : start + batch] for start in range(0, len(order), batch)]
        asked = [
            {
                "model_name": "digits",
                "inputs": wire.inputs(**{shape.input: np.stack([pictures[n] for n in group])}),
                "outputs": wire.wanted(shape.output, classes=best),
                "request_id": str(number),
            }
            for number, group in enumerate(groups)
        ]
        results = ask(wire, client, how, asked)
    for group, result in zip(groups, results, strict=True):
        found = classes(result, shape.output)
        assert [row[0] for row in found] == [DIGITS[digit] for digit in group]
        assert {len(row) for row in found} == {best}


def test_images_one_at_a_time(server: ServerProcess, wire: Wire) -> None:
    """A model without batches, whose graph has one: shapes that the configuration changes."""
    with wire.connect(server) as client:
        shape = shape_of(wire, client, "photograph")
        assert (shape.batched, *shape[3:]) == (False, HEIGHT, WIDTH, 3, True)
        for label, path in FILES.items():
            inputs = wire.inputs(**{shape.input: read_image(path, shape)})
            outputs = wire.wanted(shape.output, classes=2)
            result = client.infer("photograph", inputs, outputs=outputs)
            assert result.as_numpy(shape.output).shape == (2,)
            ((first, second),) = classes(result, shape.output)
            assert (first, {first, second}) == (label, set(PHOTOGRAPHS))


def test_what_it_checks(server: ServerProcess, wire: Wire) -> None:
    with wire.connect(server) as client:
        shape = shape_of(wire, client, "photographs")
        pictures = np.stack([read_image(path, shape) for path in FILES.values()])
        inputs = wire.inputs(**{shape.input: pictures})
        plain = client.infer("photographs", inputs).as_numpy(shape.output)
        assert (plain.argmax(axis=1).tolist(), plain.dtype) == ([0, 1], np.float32)
        for index, row in enumerate(classes(
            client.infer("photographs", inputs, outputs=wire.wanted(shape.output, classes=9)),
            shape.output,
        )):  # fmt: skip
            assert row[0] == PHOTOGRAPHS[index], "more classes than there are means all of them"
        inputs = wire.inputs(**{shape.input: pictures.transpose(0, 2, 3, 1)})
        with pytest.raises(InferenceServerException, match="unexpected shape for input"):
            client.infer("photographs", inputs)


# -- without the client's own classes --------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "future", "stream"])
def test_images_through_the_bare_stub(
    server: ServerProcess, drawn: tuple[list[Path], np.ndarray], how: str
) -> None:
    shape = Shape(True, "x", "y", 8, 8, 1, False)
    pictures = [read_image(path, shape) for path in drawn[0]]

    def requests() -> Iterator[Any]:
        for start in range(0, 10, 2):
            pair = pictures[start : start + 2]
            message = service_pb2.ModelInferRequest(model_name="digits", id=str(start))
            message.inputs.add(name="x", datatype="FP32", shape=[2, 8, 8, 1])
            message.outputs.add(name="y").parameters["classification"].int64_param = 1
            message.raw_input_contents.append(b"".join(picture.tobytes() for picture in pair))
            yield message

    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        if how == "sync":
            answers = [stub.ModelInfer(message, timeout=TIMEOUT_S) for message in requests()]
        elif how == "future":
            begun = [stub.ModelInfer.future(message, timeout=TIMEOUT_S) for message in requests()]
            answers = [call.result(TIMEOUT_S) for call in begun]
        else:
            streamed = list(stub.ModelStreamInfer(requests(), timeout=TIMEOUT_S))
            assert not any(answer.error_message for answer in streamed)
            answers = [answer.infer_response for answer in streamed]
    found = {}
    for answer in answers:
        (output,), (raw,) = answer.outputs, answer.raw_output_contents
        assert (output.datatype, list(output.shape)) == ("BYTES", [2, 1])
        labels = [bytes(item).decode().split(":")[2] for item in deserialize_bytes_tensor(raw)]
        found[int(answer.id)] = labels
    assert [label for start in sorted(found) for label in found[start]] == list(DIGITS)


# -- files in, classes out -------------------------------------------------------------------------


def test_image_files_through_an_ensemble(server: ServerProcess, wire: Wire) -> None:
    """The labels are those of the model that makes the output; the ensemble names none."""
    with wire.connect(server) as client:
        metadata = wire.document(client.get_model_metadata("labelled"))
        (one,), outputs = metadata["inputs"], [output["name"] for output in metadata["outputs"]]
        assert (one["datatype"], [int(n) for n in one["shape"]]) == ("BYTES", [-1, 1])
        files = np.array([[path.read_bytes()] for path in FILES.values()], np.object_)
        for rows in (files, files[::-1], files[1:]):
            result = client.infer(
                "labelled",
                wire.inputs(**{one["name"]: rows}),
                outputs=wire.wanted("CLASS", classes=1),
            )
            labels = [label for (label,) in classes(result, outputs[0])]
            known = {path.read_bytes(): label for label, path in FILES.items()}
            assert labels == [known[bytes(row[0])] for row in rows]
        broken = wire.inputs(**{one["name"]: np.array([[b"no picture"]], np.object_)})
        with pytest.raises(InferenceServerException, match="cannot identify image file"):
            client.infer("labelled", broken)


def test_an_image_file_as_numbers(server: ServerProcess, wire: Wire) -> None:
    with wire.connect(server) as client:
        for index, path in enumerate(FILES.values()):
            raw = np.fromfile(path, np.uint8)[np.newaxis]
            result = client.infer("labelled_bytes", wire.inputs(INPUT=raw))
            scores = result.as_numpy("CLASS")
            assert (scores.shape, int(scores.argmax())) == ((1, 2), index)
