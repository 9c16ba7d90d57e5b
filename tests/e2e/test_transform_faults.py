"""kill -9 and signals in the middle of `hostler transform`: it goes on, and nothing is partial."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Final

import pytest
from fakes.python_models import python_model, tensors
from fakes.s3_server import S3Server, s3_server
from fakes.transform_jobs import (
    Files,
    Job,
    Objects,
    Seen,
    csv_rows,
    laborious,
    patient,
    sleeping_model,
    tf_records,
    write_lines,
    write_table,
)

OBJECTS: Final = 30
STARTUP_S: Final = 0.9  # a process that nobody disturbs has its first output about then
MOMENT_S: Final = 0.03  # an object takes about as long
ROUNDS: Final = 40  # of the model: a record takes about a millisecond
LAST_KILL: Final = 0.8  # of the outputs: a job that has ended would begin anew
FEW_AT_A_TIME: Final = ("--set", "jobs.objects_max=2", "--concurrency", "1")


def fill(folder: Path, form: str, count: int = OBJECTS) -> tuple[str, ...]:
    """Objects of a form, and the flags that go with them."""
    for index in range(count):
        rows = csv_rows(index, 40, bad_every=13 if form == "bad" else 0)
        name = folder / f"{index % 3}" / f"{index:02}"
        if form == "table":
            write_table(name.with_suffix(".parquet"), rows)
        elif form == "records":
            name.parent.mkdir(parents=True, exist_ok=True)
            name.with_suffix(".tfrecord").write_bytes(tf_records(rows))
        else:
            write_lines(name.with_suffix(".csv.gz"), rows, compress=True)
    return {
        "lines": (),
        "bad": ("--on-error", "skip", "--strategy", "MultiRecord", "--max-payload", "200B"),
        "records": ("--split", "TFRecord", "--content-type", "text/csv", "--accept", "text/csv"),
        "table": ("--map", "x=a,b,c,d", "--keep", "a"),
    }[form]


class Kills:
    """Kills a job again and again, each time a little later, and looks at what is there.

    `drafts`, `counts`, `workers`: files or uploads that were unfinished after each kill, outputs
    that were there, worker processes that were seen. `moment_s`: how long after an output at most.
    """

    def __init__(self, job: Job, place: Files | Objects, expected: dict[str, bytes]) -> None:
        self._job = job
        self._place = place
        self._expected = expected
        self._before = Seen({}, {}, False, 0)
        self.outputs = sum(".out" in name for name in expected)
        self.drafts: list[int] = []
        self.counts: list[int] = []
        self.workers = 0
        self.moment_s = MOMENT_S

    def run(self, kills: int, seed: int) -> None:
        """So many kills, then to its end."""
        draw = random.Random(seed)
        last = self.outputs * LAST_KILL
        for index in range(kills):
            after = 0 if index < 2 else int((index - 2 + draw.random()) * last / (kills - 2))
            self._kill(after, draw.random() * (self.moment_s if after else STARTUP_S))
        self._begin()
        finished = self._job.run()
        assert finished.code == 0, finished
        assert finished.told["objects"] == self.outputs
        assert finished.told["before"] == sum(".out" in name for name in self._before.finished())
        self._check(self._place.look())
        assert self._before.files == self._expected
        assert not self._before.has_marker

    def _kill(self, after: int, moment_s: float) -> None:
        self._begin()
        there = self._place.count()
        if after and there < self.outputs * LAST_KILL:  # not before it has done something
            after = max(after, there + 1)
        with self._job.start() as process:
            for _ in patient(60, f"{after} outputs"):
                if self._place.count() >= after:
                    break
                assert process.alive, process.stderr()
            time.sleep(moment_s)
            was_alive = (
                process.kill()
            )  # a fast machine is through before a kill that counts nothing
            assert was_alive or not after, f"it had ended before\n{process.stderr()}"
            for _ in patient(10, "its workers to end"):
                if not process.orphans():
                    break
            self.workers += len(process.children)
        self._place.settle()
        self._check(self._place.look())
        self.drafts.append(self._before.drafts)
        self.counts.append(self._place.count())
        if not self._before.has_marker:  # it was over, and what is begun next is a new job
            self._before = Seen({}, {}, False, 0)

    def _begin(self) -> None:
        if isinstance(self._place, Objects):
            self._place.asked.clear()

    def _check(self, found: Seen) -> None:
        for name, body in found.files.items():
            assert body == self._expected[name], f"{name} is partial"
        finished = self._before.finished()
        for name, stamp in finished.items():
            assert found.stamps[name] == stamp, f"{name} was written again"
        assert found.has_marker or not found.files or found.files == self._expected
        if isinstance(self._place, Objects):
            asked = {key for operation, key in self._place.asked if operation == "GetObject"}
            done = {name.partition(".out")[0] for name in finished if ".out" in name}
            assert not done & {key.removeprefix("in/") for key in asked}, "read again"
        self._before = found


def undisturbed(job: Job, folder: Path) -> dict[str, bytes]:
    """What a job writes that nobody disturbs."""
    whole = Job(job.model, job.source, folder, job.flags)
    assert whole.run().code == 0
    found = Files(folder).look()
    assert found.drafts == 0
    assert not found.has_marker
    return found.files


def test_killed_ten_times(tmp_path: Path) -> None:
    flags = fill(tmp_path / "in", "bad")
    model = laborious(tmp_path / "m" / "model.onnx", ROUNDS)
    job = Job(model, tmp_path / "in", tmp_path / "out", (*flags, *FEW_AT_A_TIME))
    expected = undisturbed(job, tmp_path / "expected")
    assert len(expected) == 2 * OBJECTS  # each has bad records
    kills = Kills(job, Files(tmp_path / "out"), expected)
    kills.run(10, seed=1)
    assert Files(tmp_path / "out").look().drafts == 0


def test_killed_while_it_begins_over_outputs_of_another(tmp_path: Path) -> None:
    """Outputs of another model are not taken for finished ones, even if they are of this moment."""
    fill(tmp_path / "in", "lines", 3)
    place = Files(tmp_path / "out")
    old = laborious(tmp_path / "old" / "model.onnx", 1, repeat=2)
    assert Job(old, tmp_path / "in", tmp_path / "out").run().code == 0
    for path in (tmp_path / "out").rglob("*.out"):
        os.utime(path, (time.time() + 3, time.time() + 3))  # the new job has to wait for its turn
    new = laborious(tmp_path / "new" / "model.onnx", 1)
    job = Job(new, tmp_path / "in", tmp_path / "out")
    with job.start() as process:
        for _ in patient(60, "the marker"):
            if place.look().has_marker:
                break
        assert process.kill()
    finished = job.run()
    assert (finished.code, finished.told["before"]) == (0, 0), finished
    assert place.look().files == undisturbed(job, tmp_path / "expected")


def to_s3(s3: S3Server, folder: Path) -> tuple[str, ...]:
    """Put the objects of a folder into a bucket; how its store is found."""
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put("bucket", f"in/{path.relative_to(folder)}", path.read_bytes())
    return ("--set", f"storage.s3_endpoint_url={s3.url}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("form", ["lines", "bad", "records", "table"])
def test_killed_ten_times_in_every_form(tmp_path: Path, form: str, seed: int) -> None:
    flags = (*fill(tmp_path / "in", form), *FEW_AT_A_TIME)
    model = laborious(tmp_path / "m" / "model.onnx", ROUNDS)
    job = Job(model, tmp_path / "in", tmp_path / "out", flags)
    expected = undisturbed(job, tmp_path / "expected")
    kills = Kills(job, Files(tmp_path / "out"), expected)
    kills.run(10, seed)
    assert Files(tmp_path / "out").look().drafts == 0
    with s3_server(["bucket"]) as s3:
        s3.delay_s = 0.002
        where = to_s3(s3, tmp_path / "in")
        job = Job(model, "s3://bucket/in/", "s3://bucket/out/", (*flags, *where))
        Kills(job, Objects(s3, "bucket", "out/"), expected).run(10, seed)
        assert s3.uploads == {}  # outputs of less than a part are never uploads


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_while_it_uploads_parts(tmp_path: Path) -> None:
    """An interrupted upload is no object; what remains of it is for the bucket's lifecycle rule."""
    for index in range(14):
        write_lines(tmp_path / "in" / f"{index}.csv", csv_rows(index, 300))
    model = laborious(tmp_path / "m" / "model.onnx", ROUNDS, repeat=2000)
    slowly = (*FEW_AT_A_TIME, "--max-payload", "500B")
    job = Job(model, tmp_path / "in", "", slowly)
    expected = undisturbed(job, tmp_path / "expected")
    assert min(map(len, expected.values())) > 9 << 20, "not larger than a part"
    with s3_server(["bucket"]) as s3:
        s3.delay_s = 0.4
        flags = (*slowly, *to_s3(s3, tmp_path / "in"))
        job = Job(model, "s3://bucket/in/", "s3://bucket/out/", flags)
        kills = Kills(job, Objects(s3, "bucket", "out/"), expected)
        kills.moment_s = 0.6
        kills.run(10, seed=4)
        assert any(kills.drafts), "too tame"
        assert len(s3.uploads) <= 2 * 10
        assert {upload.key for upload in s3.uploads.values()} <= {f"out/{k}" for k in expected}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_with_a_worker(tmp_path: Path) -> None:
    flags = fill(tmp_path / "in", "lines", 10)
    model = sleeping_model(tmp_path, 0.004, instances=2)
    job = Job(model, tmp_path / "in", tmp_path / "out", (*flags, *FEW_AT_A_TIME))
    expected = undisturbed(job, tmp_path / "expected")
    kills = Kills(job, Files(tmp_path / "out"), expected)
    kills.run(5, seed=5)
    assert kills.workers


# -- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_stopped_by_a_signal_and_resumed(tmp_path: Path, number: signal.Signals) -> None:
    fill(tmp_path / "in", "lines")
    model = laborious(tmp_path / "m" / "model.onnx", ROUNDS)
    job = Job(model, tmp_path / "in", tmp_path / "out", FEW_AT_A_TIME)
    place = Files(tmp_path / "out")
    with job.start() as process:
        for _ in patient(60, "some outputs"):
            if place.count() >= 5:
                break
        process.process.send_signal(number)
        stopped = process.wait(20)
    assert stopped.code == 130, stopped
    assert stopped.told["status"] == "Stopped"
    found = place.look()
    assert found.has_marker
    assert found.drafts == 0
    # What was being written when the signal came may have become whole, and not be counted: of
    # two objects at a time the one that was just done and the one that was given up.
    assert 5 <= len(found.files) <= stopped.told["objects"] + 2 * 2
    assert stopped.told["objects"] <= len(found.files)
    assert len(found.files) < OBJECTS
    finished = job.run()
    assert (finished.code, finished.told["before"]) == (0, len(found.files))
    for index in range(OBJECTS):
        rows = [[2.0 * int(x) for x in row.split(",")] for row in csv_rows(index, 40)]
        body = "".join(f"{','.join(map(str, row))}\n" for row in rows)
        assert place.look().files[f"{index % 3}/{index:02}.csv.gz.out"] == body.encode()


def test_stopped_while_it_uploads_parts(tmp_path: Path) -> None:
    write_lines(tmp_path / "in" / "a.csv", csv_rows(0, 1500))
    model = laborious(tmp_path / "m" / "model.onnx", ROUNDS, repeat=1000)
    with s3_server(["bucket"]) as s3:
        flags = ("--concurrency", "1", "--max-payload", "500B", *to_s3(s3, tmp_path / "in"))
        job = Job(model, "s3://bucket/in/", "s3://bucket/out/", flags)
        with job.start() as process:
            for _ in patient(60, "an upload"):
                if s3.asked["UploadPart"]:
                    break
            process.process.send_signal(signal.SIGTERM)
            stopped = process.wait(20)
        assert stopped.code == 130, stopped
        assert s3.uploads == {}
        assert s3.asked["AbortMultipartUpload"] == 1
        assert [key for key in s3.keys("bucket", "out/") if key.endswith(".out")] == []
        assert job.run().code == 0
        assert s3.get("bucket", "out/a.csv.out").count(b"\n") == 1500


STUBBORN = """
def execute(self, requests):
    open(os.path.join(os.path.dirname(__file__), "..", "asked"), "w").close()
    time.sleep(60)
"""


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    config = "max_batch_size: 8\n" + tensors("FP32", "4", "x", "y")
    model = python_model(tmp_path, "stubborn", STUBBORN, config)
    write_lines(tmp_path / "in" / "a.csv", csv_rows(0, 3))
    with Job(model, tmp_path / "in", tmp_path / "out").start() as process:
        for _ in patient(60, "the model to be asked"):
            if (model / "asked").exists():
                break
        process.look()
        assert process.children
        process.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        is_waiting = process.alive
        process.process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        stopped = process.wait(20)
        assert stopped.code == 130, stopped
        assert time.monotonic() - begun < 2
        for _ in patient(10, "its worker to end"):
            if not process.orphans():
                break
    assert is_waiting, "the first signal did not have to wait for anything"
    assert list(Files(tmp_path / "out").look().files) == []
