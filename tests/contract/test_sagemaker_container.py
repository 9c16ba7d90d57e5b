"""hostler as a SageMaker container of one model, asked as the platform asks: a real process."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.containers import (
    ATTRIBUTES,
    HANDLER,
    ask,
    container,
    error_of,
    handler_folder,
    onnx_folder,
)
from fakes.guarded import write as write_keys
from fakes.keys import BOB, document
from fakes.ports import quiet_port
from fakes.server import ServerProcess, wait_for

# -- one model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("single")
    onnx_folder(root / "model")
    with container(root) as server:
        yield server
        server.stop()


def npy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows, np.float32))
    return file.getvalue()


V2 = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}'

FORMATS = [
    ("application/json", "", b"[[1, 2, 3, 4]]", "application/json", b"[[2"),
    ("application/json", "", b'{"instances": [[1, 2, 3, 4]]}', "application/json", b'{"predict'),
    ("application/json", "", V2, "application/json", b'{"model_name"'),
    ("text/csv", "", b"1,2,3,4\n", "text/csv", b"2.0,4.0,6.0,8.0"),
    ("text/csv", "application/json", b"1,2,3,4\n", "application/json", b"[[2.0,4.0,6.0,8.0]]"),
    ("application/jsonlines", "", b"[1, 2, 3, 4]\n", "application/jsonlines", b"[2.0,4.0,6.0,8.0]"),
    ("application/x-npy", "", npy([[1, 2, 3, 4]]), "application/x-npy", npy([[2, 4, 6, 8]])),
]


@pytest.mark.parametrize("row", FORMATS, ids=[f"{r[0]}-{i}" for i, r in enumerate(FORMATS)])
def test_media_types(single: ServerProcess, row: tuple[str, str, bytes, str, bytes]) -> None:
    content_type, accept, body, answered, begins = row
    headers = {"content-type": content_type, **({"accept": accept} if accept else {})}
    status, fields, text = single.request("POST", "/invocations", body, headers)
    assert (status, fields["content-type"].startswith(answered)) == (200, True), text
    assert text.startswith(begins)
    assert ATTRIBUTES not in fields


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"[[1, 2", {"content-type": "application/json"}, 400, "JSON"),
        (b"[[1, 2]]", {"content-type": "application/json"}, 400, "4"),
        (b"1,2,x,4", {"content-type": "text/csv"}, 400, "CSV"),
        (b"<x/>", {"content-type": "text/xml"}, 415, "text/xml"),
        (b"1,2,3,4", {"content-type": "text/csv", "accept": "image/png"}, 406, "image/png"),
    ],
)
def test_refusals(
    single: ServerProcess, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answered, _, text = single.request("POST", "/invocations", body, headers)
    assert (answered, said.lower() in error_of(text).lower()) == (status, True), text
    good = single.request("POST", "/invocations", b"1,2,3,4", {"content-type": "text/csv"})
    assert good[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ping", 200),
        ("POST", "/ping", 405),
        ("GET", "/invocations", 405),
        ("GET", "/models", 404),
        ("POST", "/models", 404),
        ("DELETE", "/models/m", 404),
        ("POST", "/models/m/invoke", 404),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/metrics", 200),
        ("POST", "/endpoints/e/invocations", 404),
        ("POST", "/", 404),
        ("GET", "/v2/models/container%2Fmodel", 404),
    ],
)
def test_what_a_container_of_one_model_shows(
    single: ServerProcess, method: str, path: str, status: int
) -> None:
    headers = {"x-amz-target": "SageMaker.ListModels"} if path == "/" else {}
    assert single.request(method, path, b"{}", headers)[0] == status
    if path == "/ping" and method == "GET":
        assert single.request(method, path)[2] == b""


def test_nothing_but_the_container_is_there(single: ServerProcess) -> None:
    assert not single.events("gateway.grpc_listening")
    folder = Path(f"/proc/{single.pid}/cwd").resolve()
    assert [path.name for path in folder.iterdir()] == ["model"]  # nothing is written
    answer = single.raw(b"GET /models/.. HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")


# -- a handler of the package's own ----------------------------------------------------------


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory, gates: Path) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("handler")
    handler_folder(root / "model", HANDLER)
    env = {"GATES": str(gates), "MY_FACTOR": "2", "HOSTLER_TEST": "x"}
    with container(root, env=env) as server:
        yield server
        server.stop()


def test_a_handler_gets_all_and_says_all(handler: ServerProcess) -> None:
    status, fields, text = ask(handler, b"hello", accept="text/html", **{ATTRIBUTES: "trace=7"})
    assert (status, text) == (200, b"hello text/csv text/html")
    assert fields["content-type"].startswith("text/html")
    assert fields[ATTRIBUTES] == "trace=7; back"
    assert fields["content-length"] == str(len(text))
    assert ATTRIBUTES not in ask(handler, b"hello")[1]


def test_variables_of_the_image_reach_the_handler(handler: ServerProcess) -> None:
    assert ask(handler, b"variables")[2] == b"('2', None)"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [(b"crash", 500, "no such luck"), (b"busy", 503, "come back later")],
)
def test_errors_of_a_handler(handler: ServerProcess, body: bytes, status: int, said: str) -> None:
    answered, _, text = ask(handler, body)
    assert (answered, said in error_of(text)) == (status, True), text
    assert ask(handler, b"after")[0] == 200


def test_an_answer_in_pieces_is_chunked(handler: ServerProcess, gates: Path) -> None:
    (gates / "piece").unlink(missing_ok=True)
    connection = HTTPConnection(handler.host, handler.port, timeout=20)
    connection.request("POST", "/invocations", b"stream", {"content-type": "text/csv"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("transfer-encoding")) == (200, "chunked")
    assert answer.getheader("content-type") == "text/event-stream"
    assert answer.read1() == b"piece 0;"  # while the handler waits for the gate
    (gates / "piece").touch()
    assert answer.read() == b"piece 1;piece 2;"
    connection.request("POST", "/invocations", b"again", {"content-type": "text/csv"})
    assert connection.getresponse().read().startswith(b"again")
    connection.close()


def test_a_broken_stream_does_not_look_whole(handler: ServerProcess, gates: Path) -> None:
    (gates / "piece").touch()
    connection = HTTPConnection(handler.host, handler.port, timeout=20)
    connection.request("POST", "/invocations", b"fail", {"content-type": "text/csv"})
    answer = connection.getresponse()
    with pytest.raises((IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    assert ask(handler, b"after")[0] == 200
    assert not handler.events("gateway.internal_error")


def test_a_worker_that_died_comes_back(handler: ServerProcess) -> None:
    assert ask(handler, b"exit")[0] in (500, 503)
    wait_for(lambda: ask(handler, b"back")[0] == 200, 30, "the model to be back")
    wait_for(lambda: handler.get("/ping")[0] == 200, 10, "ping")


def test_ping_tells_when_the_model_is_there(tmp_path: Path) -> None:
    handler_folder(tmp_path / "model", HANDLER)
    with container(tmp_path, env={"GATES": str(tmp_path), "SLOW": "1"}, wait=False) as server:
        status, _, text = server.get("/ping")
        assert (status, error_of(text)) == (503, "the model is not loaded yet")
        assert ask(server, b"early")[0] == 503
        (tmp_path / "load").touch()
        wait_for(lambda: server.get("/ping")[0] == 200, 30, "ping")
        assert ask(server, b"now")[0] == 200
        server.stop()


def test_sigterm_lets_requests_finish(tmp_path: Path) -> None:
    handler_folder(tmp_path / "model", HANDLER)
    with container(tmp_path, env={"GATES": str(tmp_path)}) as server:
        said: list[bytes] = []
        connection = HTTPConnection(server.host, server.port, timeout=20)
        connection.request("POST", "/invocations", b"stream", {"content-type": "text/csv"})
        answer = connection.getresponse()
        said.append(answer.read1())
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        server.wait_event("server.stopping")
        (tmp_path / "piece").touch()
        said.append(answer.read())
        connection.close()
        stopping.join(30)
        assert b"".join(said) == b"piece 0;piece 1;piece 2;"
        assert not stopping.is_alive()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "is not there; the platform unpacks model.tar.gz into it"),
        ({"model/readme.txt": "nothing"}, "looked for"),
        (
            {"model/code/inference.py": "def model_fn(d):\n    raise OSError('no weights')\n"},
            "no we",
        ),
    ],
)
def test_a_container_that_cannot_serve_ends_and_says_why(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    with container(tmp_path, wait=False) as server:
        assert server.wait_exit() == 1
        assert said in server.output_path.read_text()


def test_the_platform_s_port_and_every_address(tmp_path: Path) -> None:
    port = quiet_port()
    onnx_folder(tmp_path / "model")
    flags = ("--container", "sagemaker", "--set", f"gateway.container_dir={tmp_path}")
    env = {"SAGEMAKER_BIND_TO_PORT": str(port)}
    with ServerProcess([], *flags, env=env, wait=False, cwd=tmp_path) as server:
        server.wait_event("server.ready")
        listening = server.wait_event("gateway.listening")
        assert (listening["host"], listening["port"]) == ("0.0.0.0", port)
        assert server.get("/ping")[0] == 200
        server.stop()


def test_an_address_that_is_set_is_kept(single: ServerProcess) -> None:
    assert single.wait_event("gateway.listening")["host"] == "127.0.0.1"


def test_a_triton_repository_as_the_model(tmp_path: Path) -> None:
    onnx_folder(tmp_path / "model" / "digits" / "1")
    with container(tmp_path, env={"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "digits"}) as server:
        headers = {"content-type": "application/json"}
        status, _, text = server.request("POST", "/invocations", V2, headers)
        assert status == 200, text
        [output] = json.loads(text)["outputs"]
        assert output["data"] == [2.0, 4.0, 6.0, 8.0]
        server.stop()


def test_variables_alone_make_a_container(tmp_path: Path) -> None:
    """As in docs/container.md: an image whose command is `hostler serve`."""
    onnx_folder(tmp_path / "app" / "model")
    env = {
        "HOSTLER_GATEWAY__CONTAINER": "sagemaker",
        "HOSTLER_GATEWAY__CONTAINER_DIR": str(tmp_path / "app"),
    }
    with ServerProcess([], "--host", "127.0.0.1", env=env, wait=False, cwd=tmp_path) as server:
        server.wait_event("server.ready")
        assert server.get("/ping")[0] == 200
        assert ask(server, b"1,2,3,4")[2] == b"2.0,4.0,6.0,8.0\n"
        server.stop()


def test_keys_are_asked_for_where_there_are_some(tmp_path: Path) -> None:
    onnx_folder(tmp_path / "model")
    keys = write_keys(tmp_path / "keys.yaml", document())
    with container(tmp_path, "--keys", str(keys)) as server:
        assert server.get("/ping")[0] == 200
        assert ask(server, b"1,2,3,4")[0] == 401
        bearer = {"authorization": f"Bearer {BOB}"}
        assert ask(server, b"1,2,3,4", **bearer)[0] == 200
        assert ask(server, b"1,2,3,4", authorization="Bearer x")[0] == 401
        server.stop()
