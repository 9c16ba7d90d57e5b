"""Values through real worker processes: what goes in comes out."""

import asyncio
import gc

import numpy as np
import pytest
from fakes.workers import ECHO, QUICK, Running, config_of, open_descriptors, python_spec, request

from hostler.core import DATATYPES, BytesArray, Code, Tensor

KINDS = [name for name in DATATYPES if name != "BYTES"]


def tensor_of(kind, count):
    datatype = DATATYPES[kind]
    if datatype.is_bytes:
        items = [b"", b"\x00\xff", "grüß".encode()] * count
        return Tensor("I0", datatype, (len(items),), BytesArray.from_items(items))
    raw = np.random.default_rng(0).integers(0, 2 if kind == "BOOL" else 100, count)
    return Tensor("I0", datatype, (count,), raw.astype(datatype.numpy))


@pytest.mark.parametrize("kind", [*KINDS, "BYTES"])
async def test_every_datatype_in_every_size_comes_back(tmp_path, kind):
    async with Running(python_spec(tmp_path, kind=kind)) as model:
        for count in (0, 1, 7, 10_000, 300_000 if kind != "BYTES" else 30_000):
            given = tensor_of(kind, count)
            (answer,) = await model.ask(request(given))
            (output,) = answer.outputs
            assert (output.name, output.datatype, output.shape) == (
                "O0",
                DATATYPES[kind],
                given.shape,
            )
            if kind == "BYTES":
                assert output.data.items() == given.data.items()
            else:
                assert output.data.tobytes() == given.data.tobytes()
                assert not output.data.flags.writeable


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 0), (2, 3, 4), (1, 70_000)])
async def test_shapes_are_kept(tmp_path, shape):
    given = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    async with Running(python_spec(tmp_path)) as model:
        (answer,) = await model.ask(request(given))
    np.testing.assert_array_equal(answer.outputs[0].data, given)


async def test_requests_of_a_batch_are_never_mixed(tmp_path):
    sizes = [1, 5000, 3, 200_000, 0, 4096]
    async with Running(python_spec(tmp_path)) as model:
        for _ in range(3):
            given = [np.full(n, i, np.float32) for i, n in enumerate(sizes)]
            answers = await model.ask(*[request(x) for x in given])
            for x, answer in zip(given, answers, strict=True):
                np.testing.assert_array_equal(answer.outputs[0].data, x)


async def test_answers_stay_as_they_are_while_later_ones_come(tmp_path):
    async with Running(python_spec(tmp_path)) as model:
        held = []
        for i in range(40):
            (answer,) = await model.ask(request(np.full(1_000_000, i, np.float32)))
            held.append(answer.outputs[0].data)
        for i, data in enumerate(held):
            assert data[0] == data[-1] == i


async def test_input_that_user_code_keeps_is_not_overwritten(tmp_path):
    body = """
        kept = []
        def execute(self, requests):
            array = requests[0].inputs()[0].as_numpy()
            assert not array.flags.writeable
            self.kept.append(array)
            firsts = np.array([a[0] for a in self.kept], np.float32)
            if len(self.kept) == 5:
                self.kept.clear()
            return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", firsts)])]
    """
    async with Running(python_spec(tmp_path, body)) as model:
        for round_ in range(2):
            for i in range(5):
                value = round_ * 10 + i
                (answer,) = await model.ask(request(np.full(100_000, value, np.float32)))
                assert answer.outputs[0].data.tolist() == [round_ * 10 + j for j in range(i + 1)]
        del answer
        gc.collect()
        async with asyncio.timeout(10):
            while model.watcher.ready[0]._arena.used_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_batch_larger_than_the_arena_is_refused_and_the_worker_serves_on(tmp_path):
    import msgspec

    config = msgspec.structs.replace(QUICK, arena_bytes=1 << 16, arena_bytes_max=1 << 20)
    async with Running(python_spec(tmp_path), config) as model:
        (error,) = await model.ask(request(np.zeros(1_000_000, np.float32)))
        assert error.code is Code.RESOURCE_EXHAUSTED
        assert "4000000" in error.message
        for count in (10, 50_000, 200_000):
            (answer,) = await model.ask(request(np.ones(count, np.float32)))
            assert answer.outputs[0].data.sum() == count


async def test_a_result_larger_than_was_granted_comes_in_the_message(tmp_path):
    body = """
        def execute(self, requests):
            n = int(requests[0].inputs()[0].as_numpy()[0])
            out = np.arange(n, dtype=np.float32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", out)])]
    """
    async with Running(python_spec(tmp_path, body)) as model:
        for n in (10, 500_000, 100, 2_000_000, 500_000):
            (answer,) = await model.ask(request(np.array([n], np.float32)))
            np.testing.assert_array_equal(answer.outputs[0].data, np.arange(n, dtype=np.float32))


async def test_what_execute_is_given(tmp_path):
    body = """
        def initialize(self, args):
            self.args = args
        def execute(self, requests):
            r = requests[0]
            import json, os
            told = [r.request_id(), str(r.correlation_id()), str(r.flags()), str(r.timeout()),
                    r.parameters(), ",".join(r.requested_output_names()),
                    str(r.is_cancelled()), ",".join(sorted(self.args)),
                    self.args["model_instance_kind"], json.loads(self.args["model_config"])["name"],
                    ",".join(sorted(os.environ)), str(os.getsid(0) == os.getpid())]
            out = np.array([t.encode() for t in told], object)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", out)])]
    """
    parameters = {"sequence_id": 9, "sequence_start": True, "timeout": 50, "mine": "x"}
    async with Running(python_spec(tmp_path, body, kind="BYTES")) as model:
        asked = request(tensor_of("BYTES", 1), id="abc", parameters=parameters)
        asked.context.cancelled = True
        (answer,) = await model.ask(asked)
    told = [item.decode() for item in answer.outputs[0].data.items()]
    assert told[:7] == ["abc", "9", "1", "50", '{"mine": "x"}', "O0", "True"]
    assert told[7].split(",") == [
        "model_config",
        "model_instance_device_id",
        "model_instance_kind",
        "model_instance_name",
        "model_name",
        "model_repository",
        "model_version",
    ]
    assert told[8:10] == ["CPU", "m"]
    assert {"PATH", "HOME", "LANG", "OMP_NUM_THREADS"} <= set(told[10].split(","))
    assert "USERNAME" not in told[10]
    assert told[11] == "True"


async def test_siblings_are_imported_and_ours_do_not_get_in_the_way(tmp_path):
    body = """
        def execute(self, requests):
            import channel, helper
            out = np.array([channel.VALUE, helper.VALUE], np.float32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("O0", out)])]
    """
    spec = python_spec(tmp_path, body)
    (spec.directory / "1" / "channel.py").write_text("VALUE = 1\n")
    (spec.directory / "helper.py").write_text("VALUE = 2\n")
    async with Running(spec) as model:
        (answer,) = await model.ask(request())
    assert answer.outputs[0].data.tolist() == [1.0, 2.0]
    assert not list(spec.directory.rglob("__pycache__"))


async def test_auto_complete_config_is_the_inspection(tmp_path):
    body = (
        """
@staticmethod
def auto_complete_config(config):
    config.add_input({"name": "I0", "data_type": "TYPE_FP32", "dims": [-1]})
    config.add_output({"name": "O0", "data_type": "TYPE_FP32", "dims": [-1]})
    config.set_max_batch_size(8)
    return config
"""
        + ECHO
    )
    spec = python_spec(tmp_path, body, config={"name": "m"})
    async with Running(spec) as model:
        assert model.inspection.config == {
            "name": "m",
            "input": [{"name": "I0", "data_type": "TYPE_FP32", "dims": [-1]}],
            "output": [{"name": "O0", "data_type": "TYPE_FP32", "dims": [-1]}],
            "max_batch_size": 8,
        }
    quiet = python_spec(tmp_path, body, config=config_of({}, {}), auto_complete=False)
    async with Running(quiet) as model:
        assert model.inspection.config is None


async def test_two_instances_are_two_processes_and_nothing_is_left(tmp_path):
    from fakes.workers import alive

    from hostler.core import InstanceGroup

    async with Running(python_spec(tmp_path)) as warm:
        await warm.ask(request(np.zeros(100_000, np.float32)))
    gc.collect()
    before = open_descriptors()
    spec = python_spec(tmp_path, instances=(InstanceGroup(count=2),))
    async with Running(spec) as model:
        pids = {replica.worker.pid for replica in model.watcher.ready}
        assert len(pids) == 2
        assert model.model.footprint_bytes > 2 << 20
        await model.ask(request(np.zeros(100_000, np.float32)))
    gc.collect()
    assert not any(alive(pid) for pid in pids)
    assert open_descriptors() == before
