"""Sequences as tritonclient's users send them, against a real server.

After the public examples simple_http_sequence_sync_infer_client.py and its models.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.client import HTTPConnection

import numpy as np
import pytest
from fakes.sequence_models import write_sequence_models
from fakes.server import ServerProcess, wait_for
from fakes.triton_client import connect, given
from tritonclient.http import InferenceServerClient, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

VALUES = [11, 7, 5, 3, 2, 0, 1]

ACCUMULATORS = ["direct", "oldest", "two_replicas", "py_direct", "py_oldest"]

Name = int | str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = write_sequence_models(tmp_path_factory.mktemp("models"))
    with ServerProcess(folder) as process:
        yield process
        process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[InferenceServerClient]:
    with connect(server) as connected:
        yield connected


def ask(
    client: InferenceServerClient,
    model: str,
    name: Name,
    value: int,
    marks: str = "",
    outputs: list[InferRequestedOutput] | None = None,
) -> InferResult:
    """One request of a sequence; `marks`: ">" on its first, "." on its last."""
    array = np.full((1, 1), value, np.float32 if model == "remembers" else np.int32)
    return client.infer(
        model,
        [given("INPUT", array, "FP32" if model == "remembers" else "INT32")],
        outputs=outputs,
        sequence_id=name,
        sequence_start=">" in marks,
        sequence_end="." in marks,
    )


def total(result: InferResult) -> int:
    return int(result.as_numpy("OUTPUT").item())


def send(client: InferenceServerClient, model: str, name: Name, values: list[int]) -> list[int]:
    """A whole sequence, one request after another."""
    last = len(values) - 1
    return [
        total(ask(client, model, name, value, ">" * (index == 0) + "." * (index == last)))
        for index, value in enumerate(values)
    ]


def sums(values: list[int]) -> list[int]:
    return [int(n) for n in np.cumsum(values)]


@pytest.mark.parametrize("model", ACCUMULATORS)
@pytest.mark.parametrize("name", [1000, 2**64 - 1, str(uuid.UUID(int=7))])
def test_a_sequence_has_a_sum_of_its_own(
    client: InferenceServerClient, model: str, name: Name
) -> None:
    for first in (0, 100):
        values = [first, *VALUES]
        assert send(client, model, name, values) == sums(values)


@pytest.mark.parametrize("model", ACCUMULATORS)
def test_interleaved_sequences_never_mix(client: InferenceServerClient, model: str) -> None:
    names: list[Name] = [1, 2, "three", 4]
    sent: dict[Name, list[int]] = {name: [] for name in names}
    rounds = 6
    for step in range(rounds):
        for index, name in enumerate(names):
            value = (-1) ** index * (step + 10**index)
            sent[name].append(value)
            marks = ">" * (step == 0) + "." * (step == rounds - 1)
            got = ask(client, model, name, value, marks)
            assert total(got) == sum(sent[name])


@pytest.mark.parametrize("model", ACCUMULATORS)
def test_sequences_at_a_time_from_many_clients(server: ServerProcess, model: str) -> None:
    """More sequences than slots: some wait for others to end, and all are right."""
    got: dict[int, list[int]] = {}

    def one(number: int) -> None:
        with connect(server) as client:
            got[number] = send(client, model, 500 + number, [number * v for v in VALUES])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == {number: sums([number * v for v in VALUES]) for number in range(12)}


@pytest.mark.parametrize(("model", "name"), [("dyna", 1002), ("string_dyna", "1002")])
def test_the_end_and_the_correlation_id_reach_a_graph(
    client: InferenceServerClient, model: str, name: Name
) -> None:
    wanted = sums(VALUES)
    wanted[-1] += 1002
    assert send(client, model, name, VALUES) == wanted


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        (
            "direct",
            42,
            "inference request for sequence 42 to model 'direct' must specify the START flag on "
            "the first request of the sequence",
        ),
        ("oldest", "ab", "for sequence ab to model 'oldest' must specify the START flag"),
        ("py_direct", 42, "must specify the START flag"),
        ("direct", 0, "to model 'direct' must specify a non-zero or non-empty correlation ID"),
        ("py_controlled", "text", "takes the correlation ID as INT32"),
        ("string_dyna", 7, "takes the correlation ID as BYTES"),
    ],
)
def test_who_is_refused(
    client: InferenceServerClient, model: str, name: Name, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message) as e:
        ask(client, model, name, 1)
    assert e.value.status() == "400"


def test_a_sequence_that_has_ended_must_start_anew(client: InferenceServerClient) -> None:
    assert send(client, "direct", 77, [1, 2]) == [1, 3]
    with pytest.raises(InferenceServerException, match="START"):
        ask(client, "direct", 77, 1)
    assert send(client, "direct", 77, [5, 2]) == [5, 7]


def test_a_start_begins_anew(client: InferenceServerClient) -> None:
    asks = ((3, ">"), (4, ""), (5, ">"), (6, "."))
    got = [total(ask(client, "direct", 78, value, marks)) for value, marks in asks]
    assert got == [3, 7, 5, 11]


def test_one_row_at_a_time(client: InferenceServerClient) -> None:
    rows = given("INPUT", np.ones((2, 1), np.int32), "INT32")
    with pytest.raises(InferenceServerException, match="batch-size 1") as e:
        client.infer("direct", [rows], sequence_id=5, sequence_start=True)
    assert e.value.status() == "400"


def test_an_idle_sequence_is_freed(client: InferenceServerClient, server: ServerProcess) -> None:
    for name in (1, 2, 3, 4):
        ask(client, "idle", name, 10, ">")
    # All slots are taken, so that this one is answered once another has been idle for too long.
    assert total(ask(client, "idle", 5, 7, ">")) == 7

    def forgotten() -> bool:
        try:
            ask(client, "idle", 1, 1)
        except InferenceServerException as error:
            return error.status() == "400" and "START" in str(error)
        return False

    wait_for(forgotten, 10, "the end of an idle sequence", poll_s=0.5)


def test_clients_see_neither_controls_nor_states(client: InferenceServerClient) -> None:
    metadata = client.get_model_metadata("direct")
    assert [item["name"] for item in metadata["inputs"]] == ["INPUT"]
    assert [item["name"] for item in metadata["outputs"]] == ["OUTPUT"]
    config = client.get_model_config("direct")
    assert [item["name"] for item in config["input"]] == ["INPUT"]
    batching = config["sequence_batching"]
    assert [item["name"] for item in batching["control_input"]] == ["START", "READY"]
    assert int(batching["max_sequence_idle_microseconds"]) == 60_000_000
    result = ask(client, "direct", 91, 5, ">.")
    assert [output["name"] for output in result.get_response()["outputs"]] == ["OUTPUT"]
    start = given("START", np.ones((1, 1), np.int32), "INT32")
    with pytest.raises(InferenceServerException, match="unexpected inference input 'START'"):
        client.infer("direct", [start], sequence_id=92, sequence_start=True)
    assert {"sequence", "sequence(string_id)"} <= set(client.get_server_metadata()["extensions"])


def test_a_listed_state_is_shown(client: InferenceServerClient) -> None:
    result = ask(client, "shows_state", 1, 5, ">")
    assert total(result) == 5
    assert result.as_numpy("STATE_OUT").item() == 5
    wanted = [InferRequestedOutput("OUTPUT")]
    result = ask(client, "shows_state", 1, 5, ".", outputs=wanted)
    assert total(result) == 10
    assert result.as_numpy("STATE_OUT") is None


def test_state_of_variable_length_that_a_file_starts(client: InferenceServerClient) -> None:
    for step in range(4):
        for name in (1, 2):
            result = ask(client, "remembers", name, 10 * name + step, ">" * (step == 0))
            wanted = [0.5, 0.25, *(10 * name + n for n in range(step + 1))]
            assert result.as_numpy("OUTPUT").tolist() == [wanted]
    ask(client, "remembers", 1, 7, ".")
    result = ask(client, "remembers", 2, 9, ".")
    assert result.as_numpy("OUTPUT").tolist() == [[0.5, 0.25, 20, 21, 22, 23, 9]]


@pytest.mark.parametrize(("name", "seen"), [(12, b"int:12"), ("twelve", b"str:twelve")])
def test_python_models_know_their_sequence(
    client: InferenceServerClient, name: Name, seen: bytes
) -> None:
    result = ask(client, "py_direct", name, 5, ">.")
    assert result.as_numpy("NAME").item() == seen


def test_python_models_get_their_controls(client: InferenceServerClient) -> None:
    for marks, start in ((">", 1), ("", 0), (".", 0)):
        result = ask(client, "py_controlled", 2**32 + 7, 0, marks)
        assert result.as_numpy("SEEN").tolist() == [[start, 1, 7]]


def test_a_model_without_a_batch_has_one_slot(client: InferenceServerClient) -> None:
    x = [given("INPUT", np.array([3], np.int32), "INT32")]
    for step, wanted in enumerate((3, 6, 9)):
        result = client.infer(
            "py_unbatched", x, sequence_id=5, sequence_start=step == 0, sequence_end=step == 2
        )
        assert int(result.as_numpy("OUTPUT").item()) == wanted


def test_a_dead_worker_ends_its_sequences(client: InferenceServerClient) -> None:
    ask(client, "py_oldest", 31, 1, ">")
    ask(client, "py_oldest", 32, 1, ">")
    with pytest.raises(InferenceServerException) as e:
        ask(client, "py_oldest", 31, 666)
    assert e.value.status() == "503"
    for name in (31, 32):
        with pytest.raises(InferenceServerException, match="START") as e:
            ask(client, "py_oldest", name, 1)
        assert e.value.status() == "400"
    assert send(client, "py_oldest", 31, VALUES) == sums(VALUES)


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": -1, "sequence_start": True},
        {"sequence_id": 1.5, "sequence_start": True},
        {"sequence_id": 1, "sequence_start": "true"},
        {"sequence_id": "x" * 129, "sequence_start": True},
    ],
)
def test_malformed_parameters(server: ServerProcess, parameters: dict[str, object]) -> None:
    x = {"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [1]}
    connection = HTTPConnection(server.host, server.port, timeout=15)
    try:
        body = json.dumps({"inputs": [x], "parameters": parameters})
        connection.request("POST", "/v2/models/direct/infer", body)
        response = connection.getresponse()
        assert response.status == 400
        assert "sequence_" in json.loads(response.read())["error"]
    finally:
        connection.close()
