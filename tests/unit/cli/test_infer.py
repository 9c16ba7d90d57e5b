"""`hostler infer`: inputs of every kind to requests, answers to what is printed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.http_connection import FakeServer, Reply

METADATA = "/v2/models/m"
INFER = "/v2/models/m/infer"


def tensor(name: str, datatype: str, *shape: int) -> dict[str, object]:
    """One tensor of a model's metadata."""
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def model(*inputs: dict[str, object]) -> Reply:
    """Metadata of a model with these inputs."""
    described = {"name": "m", "versions": ["1"], "inputs": list(inputs), "outputs": []}
    return Reply(json.dumps(described).encode())


def json_answer(*outputs: dict[str, object]) -> Reply:
    """An answer without binary tensors."""
    return Reply(json.dumps({"model_name": "m", "outputs": list(outputs)}).encode())


ANSWER = json_answer({**tensor("y", "FP32", 1, 2), "data": [0.25, 1e-9]})
PLAIN = tensor("x", "FP32", -1, 4)
TWO = (tensor("a", "INT32", 2), tensor("b", "BYTES", -1))


@pytest.fixture
def ask(
    run: Any, serve_replies: Callable[..., FakeServer]
) -> Callable[..., tuple[Any, FakeServer]]:
    """Ask a model with these inputs; gives what was printed, and what the server got."""

    def ask(
        inputs: tuple[dict[str, object], ...], *arguments: str, answer: Reply = ANSWER,
        stdin: bytes = b"",
    ) -> tuple[Any, FakeServer]:  # fmt: skip
        server = serve_replies({METADATA: model(*inputs), INFER: answer})
        return run("infer", "m", *arguments, stdin=stdin), server

    return ask


def sent(server: FakeServer) -> list[Any]:
    """Name, datatype, shape and data of each input of the JSON request."""
    body = server.asked[-1].body
    assert body is not None
    inputs = json.loads(body)["inputs"]
    return [(i["name"], i["datatype"], i["shape"], i["data"]) for i in inputs]


REQUESTS = [
    ((PLAIN,), ("[1, 2, 3, 4]",), [("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])]),
    ((PLAIN,), ("[[1, 2, 3, 4]]",), [("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])]),
    ((PLAIN,), ("x=[1, 2, 3, 4]",), [("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])]),
    ((PLAIN,), ('{"x": [1, 2, 3, 4]}',), [("x", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0])]),
    ((tensor("x", "INT8", 1),), ("-7",), [("x", "INT8", [1], [-7])]),
    ((tensor("x", "BOOL", 2),), ("[true, false]",), [("x", "BOOL", [2], [True, False])]),
    ((tensor("x", "BYTES", 1),), ("a = b",), [("x", "BYTES", [1], ["a = b"])]),
    ((tensor("x", "BYTES", 1),), ('"quoted"',), [("x", "BYTES", [1], ["quoted"])]),
    ((tensor("x", "BYTES", -1, 1),), ('["ä", "b"]',), None),
    (TWO, ("a=[1,2]", "b=text"), [("a", "INT32", [2], [1, 2]), ("b", "BYTES", [1], ["text"])]),
    (
        TWO,
        ('{"a": [1, 2], "b": ["p", "q"]}',),
        [("a", "INT32", [2], [1, 2]), ("b", "BYTES", [2], ["p", "q"])],
    ),
]


@pytest.mark.parametrize(("inputs", "values", "expected"), REQUESTS)
def test_values_become_requests(
    ask: Any, inputs: Any, values: tuple[str, ...], expected: Any
) -> None:
    ran, server = ask(inputs, *[word for value in values for word in ("--input", value)])
    if expected is None:
        assert ran.code == 1
        assert "wants shape [-1, 1], got [2]" in ran.error
    else:
        assert ran.error == ""
        assert sent(server) == expected


MISTAKES = [
    ((PLAIN,), ("[1, 2",), 2, "is neither a file nor JSON"),
    ((PLAIN,), ("none.npy",), 2, "'none.npy' is neither a file nor JSON, for input 'x'"),
    ((PLAIN,), ("y=[1]",), 2, "the model has no input 'y'; it has 'x'"),
    ((PLAIN,), ('{"y": [1]}',), 2, "the model has no input 'y'"),
    ((PLAIN,), ("[1,2,3,4]", "x=[1,2,3,4]"), 2, "input 'x' is given twice"),
    ((PLAIN,), ("[1, 2, 3]",), 1, "input 'x' wants shape [-1, 4], got [3]"),
    ((PLAIN,), ('["a", "b", "c", "d"]',), 1, "takes FP32: a number or lists of numbers"),
    ((PLAIN,), ("[[1, 2], [3]]",), 1, "all of one length"),
    ((tensor("x", "UINT8", 1),), ("256",), 1, "cannot hold"),
    (TWO, ("[1, 2]",), 2, "name the input that '[1, 2]' is for"),
    ((PLAIN,), ("{1}",), 2, "not valid JSON"),
]


@pytest.mark.parametrize(("inputs", "values", "code", "said"), MISTAKES)
def test_mistakes_are_one_line(
    ask: Any, inputs: Any, values: tuple[str, ...], code: int, said: str
) -> None:
    ran, _ = ask(inputs, *[word for value in values for word in ("--input", value)])
    assert (ran.code, ran.error.count("\n"), ran.out) == (code, 1, "")
    assert said in ran.error


def npy(array: Any) -> bytes:
    """The bytes of a .npy file."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


@pytest.mark.parametrize("content", [npy(np.arange(4)), npy(np.ones((1, 2, 2))), b"[0, 1, 2, 3]"])
def test_files_and_stdin_are_told_apart_by_what_is_in_them(
    ask: Any, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "any.name"
    path.write_bytes(content)
    by_file = ask((PLAIN,), "--input", str(path))[1]
    by_stdin = ask((PLAIN,), "--input", "-", stdin=content)[1]
    assert sent(by_file) == sent(by_stdin)
    assert sent(by_file)[0][2] == [1, 4]


def test_a_pickled_npy_is_not_opened(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    ran, server = ask((PLAIN,), "--input", str(path))
    assert ran.code == 1
    assert "is not a .npy file that can be read" in ran.error
    assert [asked.path for asked in server.asked] == [METADATA]


IMAGES: list[tuple[dict[str, object], tuple[str, ...], list[int], list[float]]] = [
    (tensor("x", "UINT8", -1, 2, 2, 3), (), [1, 2, 2, 3], [255, 0, 0]),
    (tensor("x", "FP32", -1, 3, 2, 2), (), [1, 3, 2, 2], [1.0, 1.0, 1.0]),
    (tensor("x", "UINT8", -1, 4, 4), (), [1, 4, 4], [76, 76, 76]),
    (tensor("x", "FP32", -1, 4), ("--white", "16"), [1, 4], [76 * 16 / 255] * 3),
    (tensor("x", "UINT8", -1, 4), ("--white", "16"), [1, 4], [5, 5, 5]),
    (tensor("x", "UINT8", -1, -1, -1, 3), (), [1, 4, 4, 3], [255, 0, 0]),
]


@pytest.mark.parametrize(("given", "arguments", "shape", "first"), IMAGES)
def test_images_take_the_inputs_layout(
    ask: Any, tmp_path: Path, given: Any, arguments: Any, shape: list[int], first: list[float]
) -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4), (255, 0, 0))
    image.save(tmp_path / "red.png")
    ran, server = ask((given,), "--input", str(tmp_path / "red.png"), *arguments)
    assert ran.error == ""
    [(_, _, sent_shape, data)] = sent(server)
    assert sent_shape == shape
    assert data[:3] == pytest.approx(first)


def test_a_broken_image_is_named(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"\x89PNG but not quite")
    ran, _ = ask((tensor("x", "UINT8", -1, 4, 4),), "--input", str(tmp_path / "x.png"))
    assert ran.code == 1
    assert "is no image that can be read" in ran.error


def test_an_image_for_a_bytes_input_is_sent_as_it_is(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    _, server = ask((tensor("x", "BYTES", -1, 1),), "--input", str(tmp_path / "x.jpg"))
    assert (server.asked[-1].body or b"").endswith(b"\x04\0\0\0\xff\xd8\xff\xe0")


def test_binary_puts_raw_tensors_behind_the_json(ask: Any) -> None:
    """Source: extension_binary_data.md; BYTES elements are a u32 length and their bytes."""
    ran, server = ask(TWO, "-i", "a=[1, 2]", "-i", 'b=["a", "bcd"]', "--binary", "--want", "y")
    assert ran.code == 0
    asked = server.asked[-1]
    size = int(asked.headers["Inference-Header-Content-Length"])
    assert asked.body is not None
    head = json.loads(asked.body[:size])
    assert [i["parameters"] for i in head["inputs"]] == [
        {"binary_data_size": 8},
        {"binary_data_size": 12},
    ]
    assert head["parameters"] == {"binary_data_output": True}
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    assert asked.body[size:].hex() == "01000000020000000100000061" + "03000000626364"
    assert asked.headers["Content-Type"] == "application/octet-stream"


def test_bf16_travels_raw_for_want_of_a_json_form(ask: Any) -> None:
    _, server = ask((tensor("x", "BF16", 2),), "--input", "[1, -2]")
    assert (server.asked[-1].body or b"").endswith(bytes.fromhex("803f00c0"))


def test_a_whole_request_is_sent_as_it_is(ask: Any) -> None:
    body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "id": "7"}'
    ran, server = ask((PLAIN,), "--input", "-", "--output", "json", stdin=body)
    assert ran.code == 0
    assert [(asked.path, asked.body) for asked in server.asked] == [(INFER, body)]


def test_versions_and_names_are_quoted_in_the_path(run: Any, serve_replies: Any) -> None:
    server = serve_replies({})
    run("infer", "a b/c", "--version", "2", "--input", "1")
    assert server.asked[0].path == "/v2/models/a%20b%2Fc/versions/2"


BINARY_HEAD = json.dumps(
    {
        "model_name": "m",
        "outputs": [
            {**tensor("y", "BF16", 2), "parameters": {"binary_data_size": 4}},
            {**tensor("s", "BYTES", 1), "parameters": {"binary_data_size": 6}},
            {**tensor("z", "INT64", 1), "data": [9]},
        ],
    }
).encode()
BINARY_ANSWER = Reply(
    BINARY_HEAD + bytes.fromhex("803f00c0") + b"\x02\0\0\0hi",
    headers={"Inference-Header-Content-Length": str(len(BINARY_HEAD))},
)


def test_mixed_answers_are_read(ask: Any) -> None:
    ran, _ = ask((PLAIN,), "--input", "[1,2,3,4]", "--output", "json", answer=BINARY_ANSWER)
    outputs = json.loads(ran.out)["outputs"]
    assert [(o["name"], o["data"]) for o in outputs] == [("y", [1, -2]), ("s", ["hi"]), ("z", [9])]


def test_the_table(ask: Any) -> None:
    ran, _ = ask((PLAIN,), "--input", "[1,2,3,4]")
    assert ran.out.splitlines()[0].split() == ["OUTPUT", "TYPE", "SHAPE", "VALUES"]
    assert ran.out.splitlines()[1].split()[:2] == ["y", "FP32"]


def test_npy_is_one_array_on_stdout(ask: Any) -> None:
    ran, server = ask((PLAIN,), "--input", "[1,2,3,4]", "--output", "npy")
    assert np.load(io.BytesIO(ran.raw)).tolist() == [[0.25, pytest.approx(1e-9)]]
    assert json.loads(server.asked[-1].body or b"")["parameters"]["binary_data_output"] is True


def test_npy_of_several_outputs_asks_which(ask: Any) -> None:
    ran, _ = ask((PLAIN,), "--input", "[1,2,3,4]", "--output", "npy", answer=BINARY_ANSWER)
    assert ran.code == 2
    assert "--want one of y, s, z" in ran.error


BROKEN = [b"", b"[]", b"{}", b'{"outputs": [{}]}', b'{"outputs": [3]}',
          json.dumps({"outputs": [{**tensor("y", "FP32", 3), "data": [1]}]}).encode()]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN)
def test_an_answer_that_breaks_the_protocol_is_one_line(ask: Any, body: bytes) -> None:
    ran, _ = ask((PLAIN,), "--input", "[1,2,3,4]", answer=Reply(body))
    assert (ran.code, ran.error.count("\n")) == (1, 1)
    assert "breaks the Open Inference Protocol" in ran.error


def test_a_refusal_is_in_the_servers_words(ask: Any) -> None:
    refusal = Reply(b'{"error": "model \'m\' is unhealthy"}', 503)
    ran, _ = ask((PLAIN,), "--input", "[1,2,3,4]", answer=refusal)
    assert (ran.code, ran.error) == (1, "hostler: error: model 'm' is unhealthy (status 503)\n")
