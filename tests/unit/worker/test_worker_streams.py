"""What response senders say to the server, and what makes them wait."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes.worker_side import FakeServer

from hostler.worker.errors import Failure
from hostler.worker.model_config import TritonModelException
from hostler.worker.pb_response import InferenceResponse, InferenceResponseSender, Origin
from hostler.worker.pb_tensor import Tensor, TritonError
from hostler.worker.task import Answer
from hostler.worker.tensors import Output

TIMEOUT_S = 10.0
FINAL = 1


def write(response, wanted):
    if response.has_error():
        return Failure("NOT_FOUND", response.error().message())
    tensors = response.output_tensors()
    return Answer([Output(t.name(), "FP32", t.as_numpy()) for t in tensors])


def sender_of(server, *, decoupled=True, place=(7, 2)):
    origin = Origin(server.exchange.streams, place, None, write, decoupled)
    return InferenceResponseSender(origin, "m")


def response(*values):
    return InferenceResponse([Tensor("O", np.array(values, np.float32))])


def test_golden_frames():
    with FakeServer() as server:
        sender = sender_of(server)
        sender.send(response(1.0))
        frame = server.heard()
        assert frame.header == {
            "op": "response", "run": 7, "index": 2, "final": False, "parameters": {},
            "outputs": [["O", "FP32", [1], 0, 0, 4]],
        }  # fmt: skip
        assert bytes(frame.body) == np.array([1.0], np.float32).tobytes()
        sender.send(flags=FINAL)
        assert server.heard().header == {"op": "response", "run": 7, "index": 2, "final": True}


def test_an_error_is_the_last_response_whatever_follows():
    with FakeServer() as server:
        sender = sender_of(server)
        sender.send(InferenceResponse(error=TritonError("no")))
        assert server.heard().header == {
            "op": "response", "run": 7, "index": 2, "final": True, "error": ["NOT_FOUND", "no"],
        }  # fmt: skip
        sender.send(response(1.0))
        sender.send(flags=FINAL)
        assert server.is_quiet()
        with pytest.raises(TritonModelException, match="has been closed"):
            sender.send(flags=FINAL)


def credit(count, size):
    return {"op": "credit", "run": 7, "index": 2, "count": count, "bytes": size}


def test_a_full_window_makes_the_sender_wait_for_credit():
    with FakeServer(count_max=3) as server, ThreadPoolExecutor() as pool:
        sender = sender_of(server)
        sending = pool.submit(lambda: [sender.send(response(n)) for n in range(8)])
        for _ in range(3):
            server.heard()
        assert server.is_quiet()
        server.send(credit(2, 8))
        assert [server.heard().header["final"] for _ in range(2)] == [False, False]
        assert server.is_quiet()
        server.send({**credit(9, 90), "index": 1})  # another request's
        server.send(credit(3, 12))
        for _ in range(3):
            server.heard()
        sending.result(TIMEOUT_S)


def test_bytes_fill_a_window_too_and_may_pass_it_by_one_response():
    with FakeServer(count_max=100, bytes_max=10) as server, ThreadPoolExecutor() as pool:
        sender = sender_of(server)
        sending = pool.submit(lambda: [sender.send(response(n, n)) for n in range(4)])
        assert [len(server.heard().body) for _ in range(2)] == [8, 8]
        assert server.is_quiet()
        server.send(credit(1, 8))
        server.heard()
        server.send(credit(2, 16))
        server.heard()
        sending.result(TIMEOUT_S)


def test_the_last_response_never_waits():
    with FakeServer(count_max=1) as server:
        sender = sender_of(server)
        sender.send(response(1.0))
        sender.send(response(2.0), flags=FINAL)
        assert [server.heard().header["final"] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("index", [2, None])
def test_a_sender_whose_request_is_gone_is_let_off(index):
    with FakeServer(count_max=1) as server, ThreadPoolExecutor() as pool:
        sender = sender_of(server)
        sending = pool.submit(lambda: [sender.send(response(n)) for n in range(5)])
        server.heard()
        # Somebody must read: the sender does, because it waits.
        server.send({"op": "gone", "run": 7, "index": index})
        sending.result(TIMEOUT_S)
        assert server.is_quiet()
        sender.send(flags=FINAL)
        assert server.heard().header["final"] is True


def test_a_sender_that_is_closed_while_it_waits_is_let_off():
    with FakeServer(count_max=1) as server, ThreadPoolExecutor() as pool:
        sender = sender_of(server)
        sending = pool.submit(lambda: [sender.send(response(n)) for n in range(2)])
        server.heard()
        assert sender._close()
        assert not sender._close()
        server.send({"op": "credit", "run": 0, "index": 0, "count": 0, "bytes": 0})
        # It waited, or had not begun to: in both cases it goes on.
        assert isinstance(sending.exception(TIMEOUT_S), TritonModelException | None)


def test_a_sender_that_is_let_go_ends_its_request_with_an_error():
    with FakeServer() as server:
        for decoupled, says in ((True, "its response sender"), (False, "execute() must return")):
            sender = sender_of(server, decoupled=decoupled)
            sender.send(response(1.0))
            server.heard()
            del sender
            gc.collect()
            header = server.heard().header
            code, message = header.pop("error")
            assert header == {"op": "response", "run": 7, "index": 2, "final": True}
            assert code == "MODEL_ERROR"
            assert message.startswith("model 'm' let go of this request after 1 responses; " + says)


@pytest.mark.parametrize("close", [lambda s: s.send(flags=FINAL), lambda s: s._close()])
def test_one_that_is_closed_says_nothing_more_when_it_is_let_go(close):
    with FakeServer() as server:
        sender = sender_of(server)
        close(sender)
        del sender
        gc.collect()
        other = sender_of(server)
        other.send(response(1.0))
        heard = [server.heard().header]
        if heard[0]["final"]:
            heard.append(server.heard().header)
        assert all("error" not in header for header in heard)


@pytest.mark.parametrize(
    ("decoupled", "sends", "says"),
    [
        (True, [(None, 2)], "Unsupported flag"),
        (True, [(None, 0)], "must be provided when the response flags is set to zero"),
        (True, [("text", 0)], "Expected an InferenceResponse, got str"),
        (True, [(None, 1), (None, 1)], "has been closed"),
        (False, [(None, 1)], "cannot send complete final before sending a response"),
        (False, [(response(1.0), 0), (response(1.0), 0)], "more than one response"),
        (False, [(response(1.0), 1), (None, 1)], "has been closed"),
    ],
)
def test_misuse(decoupled, sends, says):
    with FakeServer() as server:
        sender = sender_of(server, decoupled=decoupled)
        *before, last = sends
        for arguments in before:
            sender.send(*arguments)
        with pytest.raises(TritonModelException, match=says):
            sender.send(*last)


def test_a_server_that_has_gone_is_told_to_the_sender():
    with FakeServer(count_max=1) as server, ThreadPoolExecutor() as pool:
        sender = sender_of(server)
        sending = pool.submit(lambda: [sender.send(response(n)) for n in range(2)])
        server.heard()
        server.close()
        with pytest.raises(TritonModelException, match="The server has gone"):
            sending.result(TIMEOUT_S)


def test_cancellation_is_asked_by_many_and_answered_to_each():
    with FakeServer() as server, ThreadPoolExecutor(4) as pool:
        senders = [sender_of(server, place=(7, index)) for index in range(4)]
        asking = [pool.submit(sender.is_cancelled) for sender in senders]
        asked = {f.header["index"]: f.header["ask"] for f in (server.heard() for _ in range(4))}
        for index in (3, 0, 2, 1):
            server.send({"op": "answer", "ask": asked[index], "cancelled": index % 2 == 1})
        assert [future.result(TIMEOUT_S) for future in asking] == [False, True, False, True]
        assert senders[1].is_cancelled()  # once is for ever
        senders[0].send(flags=FINAL)
        assert not senders[0].is_cancelled()  # it is answered
        assert server.heard().header["op"] == "response"
        assert server.is_quiet()


def test_a_response_larger_than_a_frame_may_be_is_refused_and_ends_the_request():
    with FakeServer(frame_bytes_max=100) as server:
        sender = sender_of(server)
        sender.send(response(*range(30)))
        header = server.heard().header
        assert header["error"][0] == "RESOURCE_EXHAUSTED"
        assert "outputs of 120 bytes" in header["error"][1]
        assert header["final"]
        for _ in range(10):
            sender.send(response(1.0))  # it has ended: nobody need wait for room
        assert server.is_quiet()
