"""hostler as a SageMaker container of many models: what the platform loads and unloads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.containers import (
    HANDLER,
    MANY,
    MIB,
    Platform,
    ask,
    container,
    error_of,
    handler_folder,
    onnx_folder,
)
from fakes.onnx_models import identity
from fakes.server import ServerProcess


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for number in range(5):
        onnx_folder(root / "models" / f"h{number}" / "model", float(number + 2))
    identity(root / "models" / "secret.onnx", "FP32", ["batch", "n"])
    (root / "outside").mkdir()
    (root / "models" / "link").symlink_to(root / "outside")
    (root / "models" / "loop").symlink_to(root / "models" / "loop")
    (root / "models" / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def many(root: Path) -> Iterator[ServerProcess]:
    with container(root, env=MANY) as server:
        yield server
        server.stop()


@pytest.fixture
def platform(many: ServerProcess, root: Path) -> Iterator[Platform]:
    platform = Platform(many, root)
    yield platform
    for name in platform.names():
        platform.server.request("DELETE", f"/models/{name}")


def test_the_life_of_a_target_model(platform: Platform) -> None:
    server = platform.server
    assert platform.ask("h0", [[1, 2, 3, 4]])[0] == 404
    assert platform.load("h0")[0] == 200
    status, document = platform.load("h0")
    assert (status, document["error"]) == (409, "model 'h0' is already loaded")
    assert platform.load("h1")[0] == 200
    assert platform.ask("h0", [[1, 2, 3, 4]]) == (200, [[2.0, 4.0, 6.0, 8.0]])
    assert platform.ask("h1", [[1, 2, 3, 4]]) == (200, [[3.0, 6.0, 9.0, 12.0]])
    row = {"modelName": "h0", "modelUrl": platform.url("h0")}
    assert json.loads(server.get("/models/h0")[2]) == row
    assert platform.page()["models"][0] == row
    assert server.request("DELETE", "/models/h0")[0] == 200
    assert server.request("DELETE", "/models/h0")[0] == 404
    assert server.get("/models/h0")[0] == 404
    assert platform.ask("h0", [[1, 2, 3, 4]])[0] == 404
    assert platform.names() == ["h1"]
    assert platform.load("h0")[0] == 200


def test_pages(platform: Platform) -> None:
    for number in range(5):
        assert platform.load(f"h{number}")[0] == 200
    first = platform.page("?limit=2")
    assert [row["modelName"] for row in first["models"]] == ["h0", "h1"]
    second = platform.page(f"?limit=2&next_page_token={first['nextPageToken']}")
    third = platform.page(f"?next_page_token={second['nextPageToken']}&limit=2")
    assert [row["modelName"] for row in second["models"]] == ["h2", "h3"]
    assert third == {"models": [{"modelName": "h4", "modelUrl": platform.url("h4")}]}
    assert "nextPageToken" not in platform.page()
    for wrong in ("0", "-1", "x", "1000000", "%00"):
        assert platform.server.get(f"/models?limit={wrong}")[0] == 400


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("/dev/shm", 400, "does not lie in"),
        ("/proc/self/cwd", 400, "does not lie in"),
        ("/sys/kernel", 400, "does not lie in"),
        ("{models}/../outside", 400, "does not lie in"),
        ("{models}/link", 400, "does not lie in"),
        ("{models}/loop/model", 400, "url"),
        ("{models}", 400, "does not lie in"),
        ("h0/model", 400, "does not lie in"),
        ("file:///etc", 400, "does not lie in"),
        ("{models}/h0/\0", 400, "null byte"),
        ("{models}/" + "x" * 300, 400, "too long"),
        ("{models}/" + "x/" * 4000, 400, "at most 4096"),
        ("{models}/h9/model", 404, "no such folder"),
        ("{models}/secret.onnx", 404, "no such folder"),
        ("{models}/empty", 400, "looked for"),
    ],
)
def test_urls_that_are_refused(platform: Platform, url: str, status: int, said: str) -> None:
    found, document = platform.load("bad", url.replace("{models}", str(platform.root / "models")))
    assert (found, said in document["error"]) == (status, True), document
    assert platform.names() == []
    assert platform.load("h0", f"file://{platform.url('h0')}")[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model_name": "h0"}', 400),
        (b'{"model_name": 7, "url": "/"}', 400),
        (b'{"model_name": "h\xff", "url": "/"}', 400),
        (b'{"model_name": "", "url": "/"}', 400),
        (b'{"model_name": "..", "url": "/"}', 400),
        (b'{"model_name": "a/b", "url": "/"}', 400),
        (b'{"model_name": "' + b"x" * 257 + b'", "url": "/"}', 400),
        (b'{"model_name": "m", "url": "' + b"x" * 70_000 + b'"}', 413),
    ],
)
def test_requests_that_are_refused(platform: Platform, body: bytes, status: int) -> None:
    answered, _, text = platform.server.request("POST", "/models", body)
    assert answered == status, text
    assert error_of(text)
    assert platform.server.get("/ping")[0] == 200


def test_a_container_of_many_has_no_invocations(platform: Platform) -> None:
    assert ask(platform.server, b"1,2,3,4")[0] == 404
    assert platform.server.request("PUT", "/models/h0")[0] == 405
    assert platform.server.request("GET", "/models/h0/invoke")[0] == 405


def test_loads_of_one_model_at_the_same_time(platform: Platform) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(platform.load("h2")[0])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] + [409] * 5


def test_memory_is_the_platform_s_to_give(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        onnx_folder(tmp_path / "models" / name / "model", pad_bytes=40 * MIB)
    with container(tmp_path, "--memory-budget", "128MiB", env=MANY) as server:
        platform = Platform(server, tmp_path)
        loaded = [name for name in ("a", "b", "c") if platform.load(name)[0] == 200]
        assert loaded[0] == "a"
        assert loaded != ["a", "b", "c"]
        began = time.monotonic()
        status, document = platform.load("c")
        assert (status, "budget" in document["error"]) == (507, True), document
        assert time.monotonic() - began < 3  # the platform is to unload others now
        assert platform.names() == loaded  # nobody was evicted behind its back
        for name in loaded:
            assert platform.ask(name, [[1, 1, 1, 1]])[0] == 200
        assert server.request("DELETE", "/models/a")[0] == 200
        assert platform.load("c")[0] == 200  # at once: its memory is free
        server.stop()


def test_a_failed_load_leaves_nothing(tmp_path: Path) -> None:
    script = "def model_fn(model_dir):\n    raise OSError('no weights')\n"
    handler_folder(tmp_path / "models" / "bad" / "model", script)
    handler_folder(tmp_path / "models" / "good" / "model", HANDLER)
    with container(tmp_path, env={**MANY, "GATES": str(tmp_path)}) as server:
        platform = Platform(server, tmp_path)
        status, document = platform.load("bad")
        assert (status, "no weights" in document["error"]) == (500, True)
        assert platform.names() == []
        assert not server.children()
        assert platform.load("good")[0] == 200
        workers = server.children()
        answer = server.request("POST", "/models/good/invoke", b"x", {"content-type": "text/csv"})
        assert (answer[0], answer[2][:1]) == (200, b"x")
        assert server.request("DELETE", "/models/good")[0] == 200
        assert not [worker for worker in workers if worker.is_running()]
        server.stop()
