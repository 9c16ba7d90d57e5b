from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.worker_side import FakeServer

from hostler.placement.process.frames import encode

TIMEOUT_S = 10.0


class Waiter:
    """A thread that waits for an answer of its own, by the key in the frame."""

    def __init__(self, server, key):
        self.signal = server.channel.signal()
        self.answer = None
        self.key = key

    def take(self, frame):
        if frame.header["key"] == self.key:
            self.answer = frame.header["value"]
            self.signal.notify_all()

    def wait(self, server):
        with server.channel.lock:
            server.channel.wait(self.signal, lambda: self.answer is not None, TIMEOUT_S)
            return self.answer


def waiters(server, count):
    made = [Waiter(server, key) for key in range(count)]

    def hand_out(frame):
        for waiter in made:
            waiter.take(frame)

    server.channel.on("for", hand_out)
    return made


def test_orders_come_in_order_one_byte_at_a_time():
    with FakeServer() as server:
        for byte in encode({"op": "a"}, [b"x"]) + encode({"op": "b"}):
            server.send_bytes(bytes([byte]))
        first, second = server.channel.receive(), server.channel.receive()
        assert (first.header, bytes(first.body)) == ({"op": "a"}, b"x")
        assert (second.header, bytes(second.body)) == ({"op": "b"}, b"")


@pytest.mark.parametrize("size", [100, 256 * 1024, 256 * 1024 + 1, 1_000_000])
def test_bodies_of_any_size_belong_to_their_frame(size):
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with FakeServer() as server, ThreadPoolExecutor() as pool:
        sent = pool.submit(lambda: [server.send({"op": "a", "n": n}, [body]) for n in range(3)])
        frames = [server.channel.receive() for _ in range(3)]
        sent.result()
    assert [frame.header["n"] for frame in frames] == [0, 1, 2]
    assert all(frame.body == body for frame in frames)
    frames[0].body[0] = 1
    assert frames[1].body == body


def test_nothing_comes_within_the_time():
    with FakeServer() as server:
        assert server.channel.receive(0.001) is None
        server.send({"op": "a"})
        assert server.channel.receive(0.001).header == {"op": "a"}


def test_frames_with_a_handler_are_no_orders():
    seen = []
    with FakeServer() as server:
        server.channel.on("news", lambda frame: seen.append(frame.header["n"]))
        for n in range(3):
            server.send({"op": "news", "n": n})
        server.send({"op": "run"})
        assert server.channel.receive().header == {"op": "run"}
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_whoever_leads_hands_others_theirs_and_another_takes_over(order):
    with FakeServer() as server, ThreadPoolExecutor(5) as pool:
        made = waiters(server, 4)
        answers = [pool.submit(waiter.wait, server) for waiter in made]
        run = pool.submit(server.channel.receive)
        for key in order:
            server.send({"op": "for", "key": key, "value": key * 10})
            assert answers[key].result(TIMEOUT_S) == key * 10
        server.send({"op": "run"})
        assert run.result(TIMEOUT_S).header == {"op": "run"}


def test_one_that_gives_up_leaves_the_lead_to_another():
    with FakeServer() as server, ThreadPoolExecutor(2) as pool:
        (waiter,) = waiters(server, 1)
        leading = pool.submit(server.channel.receive, 0.02)
        following = pool.submit(waiter.wait, server)
        assert leading.result(TIMEOUT_S) is None
        server.send({"op": "for", "key": 0, "value": 7})
        assert following.result(TIMEOUT_S) == 7


def test_everybody_hears_that_the_server_has_gone():
    with FakeServer() as server, ThreadPoolExecutor(3) as pool:
        made = waiters(server, 2)
        waiting = [pool.submit(waiter.wait, server) for waiter in made]
        waiting.append(pool.submit(server.channel.receive))
        server.close()
        for future in waiting:
            with pytest.raises(EOFError):
                future.result(TIMEOUT_S)
        with pytest.raises(EOFError):
            server.channel.receive()


def test_what_is_no_frame_ends_the_conversation():
    with FakeServer() as server:
        server.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(EOFError):
            server.channel.receive()


def test_frames_of_many_threads_are_never_mixed():
    count = 50
    with FakeServer() as server, ThreadPoolExecutor(8) as pool:
        for n in range(count):
            pool.submit(server.channel.send, {"op": "x", "n": n}, [bytes([n]) * (n * 100)])
        heard = [server.heard() for _ in range(count)]
    assert sorted(frame.header["n"] for frame in heard) == list(range(count))
    for frame in heard:
        n = frame.header["n"]
        assert bytes(frame.body) == bytes([n]) * (n * 100)


def test_halves_of_characters_are_replaced_and_whole_ones_stay():
    with FakeServer() as server:
        server.channel.send({"op": "x", "text": "a\ud800\u00e9\U0001f600"})
        assert server.heard().header["text"] == "a?\u00e9\U0001f600"
