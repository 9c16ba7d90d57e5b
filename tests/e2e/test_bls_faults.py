"""Models that ask models, while memory is short, workers die, callers leave, and all at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import onnx_models
from fakes.clients import Answer, Client, Crowd
from fakes.python_models import python_model, scale, tensors
from fakes.server import ServerProcess, wait_for
from fakes.streams import (
    Bystanders,
    busy,
    row_of,
    unload,
    wait_settled,
    worker_pid,
)

# x[0] says whom to ask: 0 nobody. The error of whom is asked is passed on, or told where x[1].
CALLER = """
NAMES = [None, "a", "b", "c", "working", "endless"]

def initialize(self, args):
    config = json.loads(args["model_config"])
    mib = int(config["parameters"]["mib"]["string_value"])
    self.ballast = np.ones(mib << 20, np.uint8)

def execute(self, requests):
    return [self.answer(request) for request in requests]

def answer(self, request):
    x = request.inputs()[0].as_numpy()
    whom, told = self.NAMES[int(x.flat[0])], x.flat[1]
    if whom is None:
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])
    inner = np.array([x.flat[2:].tolist() + [0, 0]], np.float32)
    asked = pb_utils.InferenceRequest(
        model_name=whom, requested_output_names=["y"], inputs=[pb_utils.Tensor("x", inner)]
    )
    response = asked.exec()
    if response.has_error() and told:
        print("told:", response.error().message())
        y = np.full((1, 4), -1, np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", y)])
    return response
"""

NOBODY, A, B, C, WORKING, ENDLESS = map(float, range(6))

# Works until it is cancelled, or for x[0] seconds.
WORKING_BODY = """
def execute(self, requests):
    responses = []
    for request in requests:
        x = request.inputs()[0].as_numpy()
        print("works")
        until = time.monotonic() + float(x.flat[0])
        while time.monotonic() < until and not request.is_cancelled():
            time.sleep(0.01)
        print("cancelled" if request.is_cancelled() else "done")
        responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
    return responses
"""

ENDLESS_BODY = """
def execute(self, requests):
    import threading
    for request in requests:
        threading.Thread(target=self.run, args=(request.get_response_sender(),)).start()

def run(self, sender):
    number = 0
    while not sender.is_cancelled():
        y = pb_utils.Tensor("y", np.full((1, 4), number, np.float32))
        sender.send(pb_utils.InferenceResponse([y]))
        number += 1
    print("cancelled")
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# Iterates over `endless` and leaves in the middle, in each way there is.
ITERATING_BODY = """
def execute(self, requests):
    orders = [int(request.inputs()[0].as_numpy().flat[0]) for request in requests]
    return [self.answer(order) for order in orders]

def numbers(self):
    asked = pb_utils.InferenceRequest(
        model_name="endless", requested_output_names=["y"],
        inputs=[pb_utils.Tensor("x", np.zeros((1, 4), np.float32))],
    )
    for response in asked.exec(decoupled=True):
        assert not response.has_error(), response.error().message()
        yield float(response.output_tensors()[0].as_numpy().flat[0])

def answer(self, order):
    numbers = self.numbers()
    found = [next(numbers) for _ in range(40)]
    assert found == list(range(40)), found
    if order == 0:
        numbers.close()
    elif order == 1:
        del numbers
    elif order == 2:
        raise ValueError("half-way")
    elif order == 3:
        self.kept = numbers  # until the next request
    elif order == 4:
        sys.exit(1)
    elif order == 5:
        for number in numbers:
            time.sleep(0.01)
    return pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros((1, 4), np.float32))])
"""

ROWS = "max_batch_size: 4\n" + tensors("FP32", "4", "x", "y")


def caller(folder: Path, name: str, mib: int = 1) -> None:
    config = f'parameters {{ key: "mib" value {{ string_value: "{mib}" }} }}\n'
    python_model(folder, name, CALLER, ROWS + config)


def settings(*flags: str) -> list[str]:
    flags = ("workers.restart_delay_s=0.05", *flags)
    control = ["--model-control", "explicit", "--load-model", "*"]
    return control + [word for flag in flags for word in ("--set", flag)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("bls")
    onnx_models.affine(folder / "healthy_onnx" / "1" / "model.onnx", 3.0)
    scale(folder, "healthy_python", 5.0)
    for name in "abc":
        caller(folder, name)
    python_model(folder, "working", WORKING_BODY, ROWS)
    python_model(folder, "iterating", ITERATING_BODY, ROWS)
    decoupled = "model_transaction_policy { decoupled: true }\n"
    python_model(folder, "endless", ENDLESS_BODY, ROWS + decoupled)
    with ServerProcess(folder, *settings()) as process:
        yield process
        process.stop()
        assert process.events("gateway.internal_error") == []
        assert process.events("worker.call_failed") == []


@pytest.fixture
def others(server: ServerProcess) -> Iterator[None]:
    """Clients of other models, who must not notice."""
    with Bystanders(server, healthy_onnx=3.0, healthy_python=5.0) as bystanders:
        yield
        bystanders.check()


def infer(server: ServerProcess, model: str, *x: float) -> Answer:
    with Client(server) as client:
        return client.infer(model, x=[[*x, *[0.0] * (4 - len(x))]])


# -- memory ----------------------------------------------------------------------------------------


def test_memory_for_one_of_two(tmp_path: Path) -> None:
    """`big` is asked by `asking`, and the budget holds either: told at once, and nothing stuck."""
    body = CALLER.replace('"a", "b"', '"big", "asking"')
    ballast = 'parameters { key: "mib" value { string_value: "100" } }\n'
    for name in ("asking", "big"):
        python_model(tmp_path, name, body, ROWS + ballast)
    scale(tmp_path, "small", 3.0)
    flags = ("--memory-budget", "200MiB", "--set", "serving.drift_free_bytes=1GiB")
    with ServerProcess(tmp_path, *flags) as server:
        for turn in range(3):
            answer = infer(server, "asking", 1.0)
            assert answer.status == 507, answer.document
            assert "no memory for model 'big:1': it needs " in answer.error
            assert "of the budget of 200.0 MiB" in answer.error
            assert answer.seconds < (5.0 if turn == 0 else 0.5)  # the first measures `big`
            assert infer(server, "small", 1.0).output() == [3.0, 0.0, 0.0, 0.0]
            assert infer(server, "asking", NOBODY).status == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: infer(server, "asking", 1.0), range(16)))
        assert {answer.status for answer in answers} == {507}
        assert max(answer.seconds for answer in answers) < 5.0
        wait_settled(server, "asking", "big", "small")
        assert infer(server, "big", NOBODY).status == 200  # who is idle makes room
        assert not row_of(server, "asking")["loaded"]
        assert infer(server, "asking", NOBODY).status == 200
        assert server.get("/v2/health/ready")[0] == 200
        server.stop()


def test_memory_for_both(tmp_path: Path) -> None:
    body = CALLER.replace('"a", "b"', '"big", "asking"')
    ballast = 'parameters { key: "mib" value { string_value: "100" } }\n'
    for name in ("asking", "big"):
        python_model(tmp_path, name, body, ROWS + ballast)
    flags = ("--memory-budget", "320MiB", "--set", "serving.drift_free_bytes=1GiB")
    with ServerProcess(tmp_path, *flags) as server:
        for _ in range(3):
            assert infer(server, "asking", 1.0, 0.0, NOBODY, 7.0).output() == [0.0, 7.0, 0.0, 0.0]
        server.stop()


# -- circles ---------------------------------------------------------------------------------------


def test_a_model_that_asks_itself_is_told_the_circle(server: ServerProcess, others: None) -> None:
    for whom, path in (([A], "a -> a"), ([B, 0.0, A], "a -> b -> a")):
        answer = infer(server, "a", *whom)
        assert answer.status == 400, answer.document
        assert path in answer.error
        assert answer.seconds < 2.0
    wait_settled(server, "a", "b")


def test_models_that_ask_one_another_never_wait_for_ever(
    server: ServerProcess, others: None
) -> None:
    """Two, and three in a circle, each with one replica, from many clients at once."""

    seen = {200: 0, 503: 0}
    crowd = Crowd()

    def ask(client: Client, turn: int) -> None:
        model, whom = [("a", B), ("b", C), ("c", A), ("b", A)][turn % 4]
        answer = client.infer(model, x=[[whom, 0.0, NOBODY, 7.0]])
        if answer.status == 200 and answer.output() == [NOBODY, 7.0, 0.0, 0.0]:
            seen[200] += 1
        elif answer.status == 503 and "would wait for one another" in answer.error:
            seen[503] += 1
        else:
            crowd.fail(f"{model}: {answer.status} {answer.document}")
        if answer.seconds > 5.0:
            crowd.fail(f"{model}: {answer.seconds:.1f} s")

    with crowd:
        crowd.add(server, ask, 16)
        crowd.run_for(3.0)
    assert crowd.failures == []
    assert seen[200] > 50, seen
    wait_settled(server, "a", "b", "c")
    for model, whom in (("a", B), ("b", C), ("c", A)):
        assert infer(server, model, whom).status == 200


# -- workers die -----------------------------------------------------------------------------------


def working(server: ServerProcess) -> int:
    """How often `working` was begun."""
    return len(server.events("worker.output", line="works"))


@pytest.mark.parametrize("told", [0.0, 1.0], ids=["passed_on", "told"])
def test_the_worker_of_whom_is_asked_dies(server: ServerProcess, others: None, told: float) -> None:
    begun = working(server)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(infer, server, "a", WORKING, told, 60.0)
        wait_for(lambda: working(server) > begun, 5, "it to work")
        os.kill(worker_pid(server, "working"), signal.SIGKILL)
        killed = time.monotonic()
        answer = waiting.result(10)
    assert time.monotonic() - killed < 2.0
    if told:
        assert answer.output() == [-1.0] * 4
    else:
        assert answer.status == 503, answer.document
        assert "model 'working': its worker process was killed by SIGKILL" in answer.error
    wait_settled(server, "a", "working")
    back(server, "working")
    assert infer(server, "a", WORKING, 0.0, 0.01).status == 200


def test_the_worker_of_the_caller_dies(server: ServerProcess, others: None) -> None:
    begun = working(server)
    cancelled = len(server.events("worker.output", line="cancelled"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(infer, server, "a", WORKING, 0.0, 60.0)
        wait_for(lambda: working(server) > begun, 5, "it to work")
        os.kill(worker_pid(server, "a"), signal.SIGKILL)
        answer = waiting.result(10)
        assert answer.status == 503
        assert "model 'a': its worker process was killed by SIGKILL" in answer.error
        was_cancelled(server, cancelled)
    wait_settled(server, "a", "working")
    back(server, "a")
    assert infer(server, "a", WORKING, 0.0, 0.01).status == 200
    reload(server, "a", "working")


def test_the_client_of_the_caller_leaves(server: ServerProcess, others: None) -> None:
    begun = working(server)
    cancelled = len(server.events("worker.output", line="cancelled"))
    with Client(server, timeout_s=0.5) as client, pytest.raises(TimeoutError):
        client.infer("a", x=[[WORKING, 0.0, 60.0, 0.0]])
    assert working(server) > begun
    was_cancelled(server, cancelled)
    wait_settled(server, "a", "working")


def was_cancelled(server: ServerProcess, before: int) -> None:
    def told() -> bool:
        return len(server.events("worker.output", line="cancelled")) > before

    wait_for(told, 2, "user code to see that nobody waits")


def back(server: ServerProcess, model: str) -> None:
    wait_for(lambda: server.get(f"/v2/models/{model}/ready")[0] == 200, 10, f"{model} to be back")
    wait_for(lambda: infer(server, model, NOBODY).status == 200, 10, f"{model} to answer")


def reload(server: ServerProcess, *models: str) -> None:
    for model in models:
        unload(server, model)
        assert server.post(f"/v2/repository/models/{model}/load")[0] == 200


# -- iterations that are left ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", range(5), ids=["closed", "let_go", "raises", "kept_for_a_while", "exits"]
)
def test_an_iteration_left_half_way_is_freed(
    server: ServerProcess, others: None, order: int
) -> None:
    cancelled = len(server.events("worker.output", line="cancelled"))
    answer = infer(server, "iterating", float(order))
    assert answer.status == (500 if order in (2, 4) else 200), answer.document
    if order == 3:
        assert busy(server, "endless") > 0
        assert infer(server, "iterating", 0.0).status == 200
        assert infer(server, "iterating", 3.0).status == 200
        reload(server, "iterating")
    was_cancelled(server, cancelled)
    wait_settled(server, "iterating", "endless")
    reload(server, "endless")


def test_the_client_of_an_iteration_leaves(server: ServerProcess, others: None) -> None:
    cancelled = len(server.events("worker.output", line="cancelled"))
    with Client(server, timeout_s=0.5) as client, pytest.raises(TimeoutError):
        client.infer("iterating", x=[[5.0, 0.0, 0.0, 0.0]])
    was_cancelled(server, cancelled)
    wait_settled(server, "iterating", "endless")
    reload(server, "iterating", "endless")
