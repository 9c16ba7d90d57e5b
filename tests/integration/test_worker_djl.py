"""DJL's Python models through real worker processes."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest
from fakes.payloads import ask, container_spec, refusal
from fakes.workers import Running

from hostler.core import Code, Context, HostlerError, InferRequest, payload_request

MODEL = """
    import os, sys
    from djl_python import Input, Output
    from djl_python.inputs import Input as Same
    from djl_python.outputs import Output as Also
    from helper import double

    assert Same is Input and Also is Output
    state = {}

    def handle(inputs: Input) -> Output:
        if inputs.is_empty():
            state["init"] = dict(inputs.get_properties())
            return None
        kind = inputs.get_property("content-type") or ""
        if kind.startswith("application/json"):
            asked = inputs.get_as_json()
            if asked.get("ask") == "state":
                return Output().add_as_json({**state, "env": os.environ.get("OMP_WAIT")})
            if asked.get("ask") == "raise":
                raise ValueError("bad mood")
            if asked.get("ask") == "memory":
                raise MemoryError("no more")
            if asked.get("ask") == "error":
                return Output().error("wrong shape", code=400, message="no")
            if asked.get("ask") == "none":
                return None
            if asked.get("ask") == "text":
                return "text"
            output = Output().add_as_json({"y": [double(v) for v in asked["x"]]})
            output.add_property("Content-Type", "application/json")
            output.add_property("X-Amzn-SageMaker-Custom-Attributes", "seen=" +
                                str(inputs.get_property("REQUEST-TAG")))
            output.finalize(lambda n: state.update(finalized=n), 7)
            return output
        if kind == "text/plain":
            words = iter(inputs.get_as_string().split())
            output = Output().add_stream_content(words)
            return output.add_property("content-type", "application/jsonlines")
        if kind == "text/raw":
            def pieces():
                try:
                    yield "a"
                    yield b"b"
                    yield {"c": 1}
                    raise RuntimeError("broken off")
                finally:
                    state["closed"] = True
            return Output().add_stream_content(pieces(), output_formatter=None)
        if kind.startswith("multipart/"):
            return Output().add_as_json({k: len(v) for k, v in zip(
                inputs.get_content().get_keys(), inputs.get_content().get_values())})
        if kind == "application/x-www-form-urlencoded":
            return Output().add(inputs.get_as_string("b"), key="b").add("first", key="data")
        if kind == "tensor/ndlist":
            return Output().add_as_numpy([a * 2 for a in inputs.get_as_numpy()])
        return Output().add(inputs.get_as_bytes()[::-1])
"""


def put(folder: Path, script: str = MODEL, **files: str) -> None:
    (folder / "model.py").write_text(textwrap.dedent(script))
    (folder / "helper.py").write_text("def double(v): return 2 * v\n")
    (folder / "serving.properties").write_text(
        "# a comment\nengine=Python\noption.task: text\\\n  -work\noption.env=OMP_WAIT=x,B=2\n"
    )
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text))


def ask_for(what: str) -> bytes:
    return json.dumps({"ask": what}).encode()


JSON = "application/json"


async def test_answers(tmp_path: Path) -> None:
    put(tmp_path)
    async with Running(container_spec(tmp_path, OPTION_MODEL_ID="m", OPTION_TASK="no")) as running:
        pieces, parameters = await ask(running, b'{"x": [1, 2]}', JSON, "", "request-tag=7;b=1")
        assert json.loads(pieces[0]) == {"y": [2, 4]}
        assert parameters == {"content_type": JSON, "custom_attributes": "seen=7"}
        (piece,), parameters = await ask(running, ask_for("state"), JSON)
        told = json.loads(piece)
        # The file says more than the variables, and all of it comes with the first call.
        assert told["init"] == {
            "engine": "Python",
            "task": "text-work",
            "model_id": "m",
            "device_id": "-1",
            "model_dir": str(tmp_path),
        }
        assert (told["finalized"], told["env"]) == (7, "x")
        assert parameters == {"content_type": "application/octet-stream"}
        assert await ask(running, b"abc") == ([b"cba"], parameters)
        # An empty body is a request, not the call that initialises.
        assert await ask(running, b"") == ([b""], parameters)
        assert await ask(running, ask_for("none"), JSON) == ([b""], {})
    assert not [folder for folder, _, _ in os.walk(tmp_path) if "__pycache__" in folder]


async def test_forms_and_arrays(tmp_path: Path) -> None:
    put(tmp_path)
    body = (
        b'preface\r\n--xyz\r\nContent-Disposition: form-data; name="a"; filename="name=q"\r\n'
        b"Content-Type: image/png\r\n\r\n\r\n\x00\xff\n\r\n--xyz\r\n"
        b'Content-Disposition: form-data; name="b"\r\n\r\ntext\r\n--xyz--\r\n'
    )
    async with Running(container_spec(tmp_path)) as running:
        (piece,), _ = await ask(running, body, 'multipart/form-data; boundary="xyz"')
        assert json.loads(piece) == {"a": 5, "b": 4}
        status, text = await refusal(running, body, "multipart/form-data")
        assert (status, "without a boundary" in text) == (400, True)
        form = await ask(running, b"a=1&b=x%20y", "application/x-www-form-urlencoded")
        assert form == ([b"first"], {"content_type": "application/octet-stream"})
        # One FLOAT32 array [1.5], as DJL's own NDList has it.
        array = bytes.fromhex(
            "00000001" "00044e444152" "00000003" "00" "000764656661756c74" "0007464c4f41543332"
            "00000001" "0000000000000001" "00000001" "003f" "3c" "00000004"
        )  # fmt: skip
        (piece,), _ = await ask(running, array + b"\0\0\xc0?", "tensor/ndlist")
        assert piece == array + b"\0\0\x40@"


async def test_streams(tmp_path: Path) -> None:
    put(tmp_path)
    async with Running(container_spec(tmp_path)) as running:
        many = " ".join(map(str, range(100))).encode()
        pieces, parameters = await ask(running, many, "text/plain")
        assert pieces[:2] == [b'{"outputs": "0"}\n', b'{"outputs": "1"}\n']
        assert len(pieces) == 100
        assert parameters == {"content_type": "application/jsonlines"}
        assert (await ask(running, b"", "text/plain"))[0] == [b""]
        sink = running.begin([_request(b"x", "text/raw")])
        await sink.answers()
        *found, error = sink.streams[0]
        assert len(found) == 3
        assert isinstance(error, HostlerError)
        assert error.details == {"status": 424}
        assert "RuntimeError: broken off" in error.message
        (piece,), _ = await ask(running, ask_for("state"), JSON)
        assert json.loads(piece)["closed"] is True


def _request(body: bytes, content_type: str) -> InferRequest:
    return payload_request(body, {"content_type": content_type}, Context())


async def test_errors_keep_their_status(tmp_path: Path) -> None:
    put(tmp_path)
    async with Running(container_spec(tmp_path)) as running:
        status, text = await refusal(running, ask_for("raise"), JSON)
        assert (status, text) == (
            424,
            "model 'e/1' failed in handle: ValueError: bad mood (model.py:21)",
        )
        assert (await refusal(running, ask_for("memory"), JSON))[0] == 507
        status, text = await refusal(running, ask_for("error"), JSON)
        assert (status, json.loads(text)) == (
            400,
            {"code": 400, "message": "no", "error": "wrong shape"},
        )
        status, text = await refusal(running, ask_for("text"), JSON)
        assert status == 424
        assert "must return an Output or None, it returned str" in text


ASYNC = """
    import asyncio
    from djl_python import Output

    async def handle(inputs):
        await asyncio.sleep(0)
        if inputs.is_empty():
            return None
        return Output().add(inputs.get_as_bytes() + b"!")
"""
ASYNC_STREAM = """
    import asyncio
    from djl_python import Output

    def handle(inputs):
        return None if inputs.is_empty() else answers(inputs)

    async def answers(inputs):
        for word in inputs.get_as_string().split():
            await asyncio.sleep(0)
            yield Output().add(word)
"""


async def test_asynchronous_handlers(tmp_path: Path) -> None:
    put(tmp_path, ASYNC)
    async with Running(container_spec(tmp_path)) as running:
        assert (await ask(running, b"a"))[0] == [b"a!"]
    put(tmp_path, ASYNC_STREAM)
    async with Running(container_spec(tmp_path)) as running:
        assert (await ask(running, b"a b"))[0] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import nothing_like_this", "No module named 'nothing_like_this'"),
        ("x = 1", r"model.py must define handle\(inputs\)"),
        ("def handle(inputs): raise RuntimeError('no weights')", "RuntimeError: no weights"),
        (
            "from djl_python import Output\n"
            "def handle(inputs): return Output().error('no weights')",
            "initialises it with 424: .*no weights",
        ),
    ],
)
async def test_models_that_cannot_start(tmp_path: Path, script: str, words: str) -> None:
    put(tmp_path, script)
    with pytest.raises(HostlerError, match=f"(?s)e/1.*{words}") as caught:
        async with Running(container_spec(tmp_path)):
            pass
    assert caught.value.code in (Code.MODEL_ERROR, Code.INVALID_ARGUMENT)
