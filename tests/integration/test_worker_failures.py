"""Worker processes that die, hang, refuse and eat: who is told what, and what is left."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes.invoke import NoInvoke
from fakes.workers import (
    ECHO,
    QUICK,
    RecordingWatcher,
    Running,
    alive,
    open_descriptors,
    python_spec,
    request,
)

from hostler.core import Code, HostlerError, InferResponse, InstanceGroup, Stats, SystemClock
from hostler.placement.process import ProcessPlacement
from hostler.scheduler import Config as SchedulerConfig
from hostler.scheduler import Scheduler

OBEY = """
def execute(self, requests):
    command = int(requests[0].inputs()[0].as_numpy()[0])
    if command == 1:
        os._exit(7)
    if command == 2:
        time.sleep(600)
    if command == 3:
        raise ValueError("no threes")
    if command == 4:
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("mine", 3))] * len(requests)
    if command == 5:
        return None
    if command == 6:
        return []
    if command == 7:
        return [pb_utils.InferenceResponse([pb_utils.Tensor("NO", np.zeros(1, np.float32))])]
    if command == 8:
        return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", np.zeros(1, np.int64))])]
    if command == 9:
        self.hoard = np.ones(int(4e9 // 8))
    if command == 10:
        sys.exit(3)
    if command == 11:
        os.kill(os.getpid(), signal.SIGSEGV)
    if command == 12:
        os.closerange(3, 4096)
    if command == 13:
        return "x"
    if command == 14:
        return [5] * len(requests)
    return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", r.inputs()[0].as_numpy())])
            for r in requests]
"""


def order(command):
    return request(np.array([command], np.float32))


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (3, Code.MODEL_ERROR, r"'m' failed in execute: ValueError: no threes \(1/model.py:\d+\)"),
        (4, Code.INVALID_ARGUMENT, "mine"),
        (5, Code.MODEL_ERROR, "'m' let go of this request .* must return a list"),
        (6, Code.MODEL_ERROR, "'m'.* given 1 requests and returned 0 responses"),
        (7, Code.MODEL_ERROR, "'m'.* output 'NO', which is not in the model's configuration"),
        (10, Code.MODEL_ERROR, "'m' failed in execute: SystemExit: 3"),
        (13, Code.MODEL_ERROR, "'m'.* it returned str"),
        (14, Code.MODEL_ERROR, "'m'.* its list holds int"),
    ],
)
async def test_mistakes_of_user_code_are_told_and_the_worker_lives(tmp_path, command, code, says):
    async with Running(python_spec(tmp_path, OBEY)) as model:
        pid = model.pid
        errors = await model.ask(order(command))
        for error in errors:
            assert isinstance(error, HostlerError)
            assert error.code is code
            assert re.search(says, error.message)
        (answer,) = await model.ask(order(0))
        assert isinstance(answer, InferResponse)
        assert (model.pid, model.model.restarts) == (pid, 0)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (1, "exited with code 7"),
        (11, "was killed by SIGSEGV"),
        (12, "closed its connection|exited with code 1"),
    ],
)
async def test_a_dead_worker_fails_its_batch_alone_and_comes_back(tmp_path, command, says):
    async with Running(python_spec(tmp_path, OBEY)) as model:
        pid = model.pid
        errors = await model.ask(order(command), order(0))
        for error in errors:
            assert error.code is Code.WORKER_LOST
            assert re.search(f"'m'.*({says}).*restarted", error.message)
        events = await model.watcher.until(3)
        assert events == ["ready m:1/0", "gone m:1/0", "ready m:1/0"]
        assert model.pid != pid
        assert model.model.restarts == 1
        (answer,) = await model.ask(order(0))
        assert answer.outputs[0].data.tolist() == [0.0]


async def test_kill_9_in_the_middle_of_a_run_and_again(tmp_path):
    async with Running(python_spec(tmp_path, OBEY)) as model:
        for lives in range(3):
            sink = model.begin([order(2)])
            await asyncio.sleep(0.05)
            os.kill(model.pid, signal.SIGKILL)
            (error,) = await sink.answers()
            assert error.code is Code.WORKER_LOST
            assert "SIGKILL (out of memory, or by hand)" in error.message
            await model.watcher.until(3 + 2 * lives)


async def test_a_queued_request_survives_the_death_of_the_worker(tmp_path):
    spec = python_spec(tmp_path, OBEY)
    clock = SystemClock()
    scheduler = Scheduler(spec, Stats(), clock, SchedulerConfig())
    prepared = await ProcessPlacement(QUICK, clock).prepare(spec)
    model = await prepared.start(spec, scheduler, NoInvoke())
    try:
        lost, queued = scheduler.submit(order(1)), scheduler.submit(order(0))
        with pytest.raises(HostlerError, match="exited with code 7"):
            await asyncio.wait_for(lost, 20)
        answer = await asyncio.wait_for(queued, 20)
        assert answer.outputs[0].data.tolist() == [0.0]
    finally:
        await model.close()


async def test_the_other_replica_is_untouched(tmp_path):
    spec = python_spec(tmp_path, OBEY, instances=(InstanceGroup(count=2),))
    async with Running(spec) as model:
        other = model.watcher.ready[1].worker.pid
        await model.ask(order(1))
        assert alive(other)
        await model.watcher.until(4)
        assert model.watcher.ready[0].worker.pid == other
        (answer,) = await model.ask(order(0))
        assert isinstance(answer, InferResponse)


async def test_a_grandchild_does_not_hide_the_death(tmp_path):
    body = """
        def execute(self, requests):
            child = os.fork()
            if not child:
                time.sleep(600)
            with open(os.path.join(os.path.dirname(__file__), "child"), "w") as f:
                f.write(str(child))
            os._exit(5)
    """
    spec = python_spec(tmp_path, body)
    async with Running(spec) as model:
        (error,) = await model.ask(request())
        assert "exited with code 5" in error.message
        child = int((spec.file.parent / "child").read_text())
        await _gone(child)


async def _gone(pid, within_s=5.0):
    async with asyncio.timeout(within_s):
        while alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_hang_is_ended_by_the_execute_timeout(tmp_path):
    spec = python_spec(tmp_path, OBEY, options={"execute_timeout_s": "0.3"})
    async with Running(spec) as model:
        await model.ask(order(0))
        (error,) = await model.ask(order(2))
        assert error.code is Code.WORKER_LOST
        assert "did not answer within 0.3 s (execute_timeout_s)" in error.message
        await model.watcher.until(3)
        (answer,) = await model.ask(order(0))
        assert isinstance(answer, InferResponse)


async def test_a_hang_past_every_deadline_is_ended_after_a_grace(tmp_path):
    config = msgspec.structs.replace(QUICK, deadline_grace_s=0.3, execute_timeout_s=0.0)
    async with Running(python_spec(tmp_path, OBEY), config) as model:
        soon = SystemClock().now() + 0.1
        errors = await model.ask(
            request(np.array([2], np.float32), deadline=soon),
            request(np.array([0], np.float32), deadline=soon - 1.0),
        )
        assert [error.code for error in errors] == [Code.WORKER_LOST] * 2
        assert "deadline of every request" in errors[0].message


async def test_a_cancelled_request_is_seen_by_user_code_and_does_not_kill(tmp_path):
    body = """
        def execute(self, requests):
            while not requests[0].is_cancelled():
                time.sleep(0.01)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", np.ones(1, np.float32))])]
    """
    async with Running(python_spec(tmp_path, body)) as model:
        asked = request()
        sink = model.begin([asked])
        await asyncio.sleep(0.1)
        asked.context.cancel()
        (answer,) = await sink.answers()
        assert isinstance(answer, InferResponse)
        assert model.model.restarts == 0


async def test_an_allocation_past_the_limit_fails_in_user_code(tmp_path):
    spec = python_spec(tmp_path, OBEY, options={"worker_memory_bytes_max": str(256 << 20)})
    async with Running(spec) as model:
        (error,) = await model.ask(order(9))
        assert error.code is Code.MODEL_ERROR
        assert "268435456 bytes (worker_memory_bytes_max)" in error.message
        (answer,) = await model.ask(order(0))
        assert isinstance(answer, InferResponse)
        assert model.model.restarts == 0


async def test_memory_that_slips_past_the_limit_is_found(tmp_path):
    body = """
        def execute(self, requests):
            import mmap
            self.hoard = mmap.mmap(-1, 300 << 20)  # shared: no part of the data limit
            for page in range(0, 300 << 20, 4096):
                self.hoard[page] = 1
            time.sleep(600)
    """
    config = msgspec.structs.replace(QUICK, worker_memory_bytes_max=128 << 20, memory_sample_s=0.05)
    async with Running(python_spec(tmp_path, body), config) as model:
        (error,) = await model.ask(request())
        assert error.code is Code.WORKER_LOST
        assert "more than its limit of 134217728 (worker_memory_bytes_max)" in error.message


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("import nothing_of_the_kind", Code.MODEL_ERROR, r"nothing_of_the_kind.*\(1/model.py:1\)"),
        ("def broken(:", Code.MODEL_ERROR, r"SyntaxError.*model.py, line 1"),
        ("x = 1", Code.INVALID_ARGUMENT, "model.py must define a class TritonPythonModel"),
        ("import os; print('last words', flush=True); os._exit(4)", Code.UNAVAILABLE,
         "exited with code 4 while loading; its last output: last words"),
        ("import time; time.sleep(600)", Code.UNAVAILABLE, "within 0.5 s .load_timeout_s"),
        ("raise SystemExit(9)", Code.MODEL_ERROR, "SystemExit: 9"),
    ],
)  # fmt: skip
async def test_a_package_that_cannot_be_opened_leaves_nothing(tmp_path, source, code, says):
    spec = python_spec(tmp_path)
    spec.file.write_text(source + "\n")
    config = msgspec.structs.replace(QUICK, load_timeout_s=0.5)
    if code is not Code.UNAVAILABLE or "last words" in source:
        config = QUICK
    before = open_descriptors()
    with pytest.raises(HostlerError, match=says) as caught:
        await ProcessPlacement(config, SystemClock()).prepare(spec)
    assert caught.value.code is code
    assert "'m'" in caught.value.message
    assert open_descriptors() == before
    assert not _children()


def _children():
    listed = Path("/proc/self/task") / str(os.getpid()) / "children"
    return [pid for pid in listed.read_text().split() if alive(int(pid))]


async def test_a_failed_initialize_leaves_nothing_of_any_replica(tmp_path):
    body = """
        def initialize(self, args):
            if args["model_instance_name"] == "m_1":
                raise RuntimeError("not today")
    """
    body = textwrap.dedent(body) + ECHO
    spec = python_spec(tmp_path, body, instances=(InstanceGroup(count=3),))
    before = open_descriptors()
    prepared = await ProcessPlacement(QUICK, SystemClock()).prepare(spec)
    watcher = RecordingWatcher()
    with pytest.raises(HostlerError, match=r"failed in initialize: RuntimeError: not today"):
        await prepared.start(spec, watcher, NoInvoke())
    await prepared.close()
    assert watcher.events == []
    assert open_descriptors() == before
    assert not _children()


async def test_a_prepared_model_that_is_not_started_is_closed(tmp_path):
    before = open_descriptors()
    prepared = await ProcessPlacement(QUICK, SystemClock()).prepare(python_spec(tmp_path))
    await prepared.close()
    await prepared.close()
    assert open_descriptors() == before
    assert not _children()


async def test_cancelling_a_load_leaves_nothing(tmp_path):
    spec = python_spec(tmp_path)
    spec.file.write_text("import time; time.sleep(600)\n")
    before = open_descriptors()
    task = asyncio.create_task(ProcessPlacement(QUICK, SystemClock()).prepare(spec))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert open_descriptors() == before
    assert not _children()


async def test_a_model_that_cannot_be_brought_back_is_unhealthy_until_it_can(tmp_path):
    config = msgspec.structs.replace(QUICK, failures_max=3)
    spec = python_spec(tmp_path, OBEY)
    good = spec.file.read_text()
    async with Running(spec, config) as model:
        spec.file.write_text("raise RuntimeError('bad disk')\n")
        await model.ask(order(1))
        await model.watcher.until(3)
        assert model.watcher.events[2] == "unhealthy"
        error = model.watcher.errors[0]
        assert error.code is Code.UNAVAILABLE
        assert "'m' is unhealthy" in error.message
        assert "RuntimeError: bad disk" in error.message
        spec.file.write_text(good)
        await model.watcher.until(5)
        assert model.watcher.events[3:] == ["healed", "ready m:1/0"]
        (answer,) = await model.ask(order(0))
        assert isinstance(answer, InferResponse)


async def test_close_finalizes_and_leaves_nothing(tmp_path):
    body = (
        ECHO
        + """
def finalize(self):
    with open(os.path.join(os.path.dirname(__file__), "finalized"), "w") as f:
        f.write("yes")
"""
    )
    spec = python_spec(tmp_path, body)
    gc.collect()
    before = open_descriptors()
    async with Running(spec) as model:
        await model.ask(request(np.zeros(100_000, np.float32)))
        pid = model.pid
        await asyncio.gather(model.model.close(), model.model.close())
    assert (spec.file.parent / "finalized").read_text() == "yes"
    assert not alive(pid)
    gc.collect()
    assert open_descriptors() == before


@pytest.mark.parametrize("stubborn", [False, True])
async def test_close_ends_a_worker_that_is_busy(tmp_path, stubborn):
    body = OBEY
    if stubborn:
        body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + OBEY
    config = msgspec.structs.replace(QUICK, stop_timeout_s=0.2)
    async with Running(python_spec(tmp_path, body), config) as model:
        pid = model.pid
        sink = model.begin([order(2)])
        begun = time.monotonic()
        await model.model.close()
        (error,) = await sink.answers()
        assert error.code is Code.UNAVAILABLE
        assert "'m' was unloaded" in error.message
        assert not alive(pid)
        assert time.monotonic() - begun < 5.0


async def test_closing_while_a_worker_is_being_restarted(tmp_path):
    slow = "import time; time.sleep(0.5)\n"
    spec = python_spec(tmp_path, OBEY)
    before = open_descriptors()
    async with Running(spec) as model:
        spec.file.write_text(slow + spec.file.read_text())
        await model.ask(order(1))
        await asyncio.sleep(0.2)
    assert not _children()
    assert open_descriptors() == before


PARENT = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[1])
from fakes.workers import Running, python_spec
async def main():
    async with Running(python_spec(pathlib.Path(sys.argv[2]))) as model:
        print(model.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_no_worker_outlives_the_server(tmp_path):
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", PARENT, tests, str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        worker = int(await asyncio.to_thread(parent.stdout.readline))
        assert alive(worker)
        parent.kill()
        parent.wait()
        await _gone(worker)


@pytest.mark.parametrize("name", ["worker_memory_bytes_max", "execute_timeout_s"])
@pytest.mark.parametrize("value", ["much", "-1", "nan"])
async def test_an_option_that_is_no_number_leaves_nothing(tmp_path, name, value):
    before = open_descriptors()
    with pytest.raises(HostlerError, match=f"'m': parameter {name} is '{value}'") as caught:
        async with Running(python_spec(tmp_path, options={name: value})):
            pass
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert open_descriptors() == before
    assert not _children()
