"""The credit of streams: a worker is never too far ahead, and never waits for ever."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
from fakes.replica_stage import Stage
from fakes.workers import QUICK
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=40)


class Sender:
    """What the worker does: sends while it has room, and keeps what it heard of for later."""

    def __init__(self, stage, sizes, count_max, bytes_max):
        self.stage = stage
        self.left = list(sizes)
        self.count_max, self.bytes_max = count_max, bytes_max
        self.count = self.bytes = 0
        self.heard = 0

    def can_send(self):
        return self.left and self.count < self.count_max and self.bytes < self.bytes_max

    def send(self):
        size = self.left.pop(0)
        self.count += 1
        self.bytes += size
        outputs = [["O0", "UINT8", [size], 0, 0, size]]
        header = {"op": "response", "run": 1, "index": 0, "final": False, "parameters": {}}
        self.stage.say({**header, "outputs": outputs}, b"x" * size)

    def hear(self):
        credits_ = self.stage.worker.told("credit")
        if self.heard < len(credits_):
            self.count -= credits_[self.heard]["count"]
            self.bytes -= credits_[self.heard]["bytes"]
            self.heard += 1


@given(SIZES, st.integers(1, 6), st.integers(1, 100), st.lists(st.sampled_from("srh"), max_size=80))
def test_credit(sizes, count_max, bytes_max, steps):
    config = msgspec.structs.replace(
        QUICK, stream_responses_max=count_max, stream_bytes_max=bytes_max
    )

    async def play(folder):
        stage = Stage(Path(folder), "python", config, decoupled=True)
        sink = stage.begin(1.0, reads=False)
        sender = Sender(stage, sizes, count_max, bytes_max)
        # As it happens to come, and at the end whatever can still be done.
        for step in [*steps, *"srh" * (3 * len(sizes))]:
            if step == "s" and sender.can_send():
                sender.send()
            elif step == "r":
                sink.read(0, 1)
            elif step == "h":
                sender.hear()
            unread = [len(answer.outputs[0].data) for answer in sink.streams[0]]
            unread = unread[len(unread) - len(sink.unread[0]) :]
            assert len(unread) <= count_max
            assert sum(unread[:-1]) < bytes_max
            assert min(sender.count, sender.bytes) >= 0
        assert not sender.left
        stage.respond(final=True)
        await sink.answers()
        stage.reply(None)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(folder))
