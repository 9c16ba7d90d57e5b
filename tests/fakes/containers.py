"""hostler as a SageMaker container, and the platform that asks it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.onnx_models import affine
from fakes.server import ServerProcess

MIB = 1024 * 1024
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
MANY = {"SAGEMAKER_MULTI_MODEL": "true"}


@contextmanager
def container(
    root: Path, *flags: str, env: Mapping[str, str] | None = None, wait: bool = True
) -> Iterator[ServerProcess]:
    """A container whose /opt/ml is this folder, on a port of the test's own."""
    place = f"gateway.container_dir={root}"
    flags = ("--container", "sagemaker", "--host", "127.0.0.1", "--set", place, *flags)
    with ServerProcess([], *flags, env=env, wait=False, cwd=root) as server:
        if wait:
            server.wait_event("server.ready")
        yield server


def onnx_folder(folder: Path, factor: float = 2.0, pad_bytes: int = 0) -> Path:
    affine(folder / "model.onnx", factor, pad_bytes=pad_bytes)
    return folder


def handler_folder(folder: Path, script: str) -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(textwrap.dedent(script))
    return folder


def error_of(text: bytes) -> str:
    return str(json.loads(text)["error"])


def ask(server: ServerProcess, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", "/invocations", body, {"content-type": "text/csv", **fields})


class Platform:
    """What SageMaker does with a multi-model container."""

    def __init__(self, server: ServerProcess, root: Path) -> None:
        self.server = server
        self.root = root

    def url(self, name: str) -> str:
        return str(self.root / "models" / name / "model")

    def load(self, name: str, url: str | None = None) -> tuple[int, dict[str, Any]]:
        document = {"model_name": name, "url": url or self.url(name)}
        status, _, text = self.server.post("/models", document)
        return status, json.loads(text)

    def ask(self, name: str, rows: Any) -> tuple[int, Any]:
        headers = {"content-type": "application/json", "x-amzn-sagemaker-target-model": "m.tar.gz"}
        body = json.dumps(rows).encode()
        status, _, text = self.server.request("POST", f"/models/{name}/invoke", body, headers)
        return status, json.loads(text)

    def page(self, query: str = "") -> dict[str, Any]:
        status, _, text = self.server.get(f"/models{query}")
        assert status == 200, text
        return dict(json.loads(text))

    def names(self) -> list[str]:
        return [row["modelName"] for row in self.page()["models"]]


HANDLER = """
    import os, time

    def wait_for(name):
        while not os.path.exists(os.path.join(os.environ["GATES"], name)):
            time.sleep(0.01)

    def model_fn(model_dir):
        if os.environ.get("SLOW"):
            wait_for("load")
        return model_dir

    class Refused(Exception):
        status_code = 503

    def pieces(last):
        for number in range(3):
            yield "piece %d;" % number
            if number == 0:
                wait_for("piece")
        if last == "fail":
            raise RuntimeError("the model broke")

    def transform_fn(model, body, content_type, accept, context):
        said = body if isinstance(body, str) else body.decode()
        if said == "crash":
            raise RuntimeError("no such luck")
        if said == "busy":
            raise Refused("come back later")
        if said == "exit":
            os._exit(3)
        if said in ("stream", "fail"):
            return pieces(said), "text/event-stream"
        if said == "variables":
            return repr((os.environ.get("MY_FACTOR"), os.environ.get("HOSTLER_TEST"))), "text/plain"
        name = "X-Amzn-SageMaker-Custom-Attributes"
        sent = context.get_request_header(0, name)
        if sent:
            context.set_response_header(0, name, sent + "; back")
        return "%s %s %s" % (said, content_type, accept), accept or "text/plain"
"""
