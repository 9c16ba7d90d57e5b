"""Full disks, places nobody may write to, inputs that go or change while a job runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest
from fakes.s3_answers import Refusal
from fakes.s3_buckets import Bucket
from fakes.s3_server import s3_server
from fakes.transform_jobs import Files, Job, csv_rows, laborious, patient, write_lines

OBJECTS: Final = 8
ONE_AFTER_THE_OTHER: Final = ("--set", "jobs.objects_max=1", "--concurrency", "1")

FULL_DISK = """
import errno, os
_write, _left = os.write, [LEFT]
def _full(descriptor, data):
    if ".hostler-put-" in os.readlink(f"/proc/self/fd/{descriptor}"):
        _left[0] -= len(data)
        if _left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
    return _write(descriptor, data)
os.write = _full
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A row takes some milliseconds."""
    return laborious(tmp_path_factory.mktemp("models") / "model.onnx", 150)


def fill(folder: Path) -> None:
    for index in range(OBJECTS):
        write_lines(folder / f"{index}.csv", csv_rows(index, 40))


def answer(index: int) -> bytes:
    rows = [[2.0 * int(x) for x in row.split(",")] for row in csv_rows(index, 40)]
    return "".join(f"{','.join(map(str, row))}\n" for row in rows).encode()


ALL: Final = {f"{index}.csv.out": answer(index) for index in range(OBJECTS)}


def test_a_disk_that_fills_up(tmp_path: Path, model: Path) -> None:
    fill(tmp_path / "in")
    place = Files(tmp_path / "out")
    prelude = FULL_DISK.replace("LEFT", "3500")
    failed = Job(model, tmp_path / "in", tmp_path / "out", prelude=prelude).run()
    found = place.look()
    assert failed.code == 1, failed
    assert failed.told["status"] == "Failed"
    assert 0 < failed.told["objects"] == len(found.files) < OBJECTS
    assert "the disk is full" in failed.told["reason"]
    assert found.files.items() <= ALL.items()
    assert (found.drafts, found.has_marker) == (0, True)
    again = Job(model, tmp_path / "in", tmp_path / "out").run()
    assert (again.code, again.told["before"]) == (0, len(found.files))
    assert place.look().files == ALL


def test_a_disk_that_is_full(tmp_path: Path, model: Path) -> None:
    fill(tmp_path / "in")
    prelude = FULL_DISK.replace("LEFT", "0")
    failed = Job(model, tmp_path / "in", tmp_path / "out", prelude=prelude).run()
    assert failed.code == 1, failed
    assert "the disk is full" in failed.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path, model: Path) -> None:
    fill(tmp_path / "in")
    (tmp_path / "out").write_text("here")
    failed = Job(model, tmp_path / "in", tmp_path / "out").run()
    assert failed.code == 2, failed
    assert "is a file; a folder is expected" in failed.stderr
    assert (tmp_path / "out").read_text() == "here"


class ReadOnly(Bucket):
    """Nobody may put anything but what its name begins with `but`."""

    but = "nothing"

    def put(self, key: str, stored: Any) -> None:
        if not key.startswith(self.but):
            raise Refusal(403, "AccessDenied", "Access Denied")
        super().put(key, stored)


@pytest.mark.parametrize("but", ["nothing", "out/.hostler"], ids=["all", "outputs"])
def test_a_store_that_takes_nothing(tmp_path: Path, model: Path, but: str) -> None:
    fill(tmp_path / "in")
    with s3_server() as s3:
        s3.buckets["bucket"] = bucket = ReadOnly()
        bucket.but = but
        flags = ("--set", f"storage.s3_endpoint_url={s3.url}")
        failed = Job(model, tmp_path / "in", "s3://bucket/out/", flags).run()
    assert failed.code == 1, failed
    if but == "nothing":
        assert "access is refused" in failed.stderr
        return
    assert failed.told["failed"] == OBJECTS
    assert all("access is refused" in one["error"] for one in failed.told["failures"])


def test_an_input_that_is_removed(tmp_path: Path, model: Path) -> None:
    fill(tmp_path / "in")
    job = Job(model, tmp_path / "in", tmp_path / "out", ONE_AFTER_THE_OTHER)
    place = Files(tmp_path / "out")
    with job.start() as process:
        for _ in patient(60, "an output"):
            if place.count():
                break
        (tmp_path / "in" / "6.csv").unlink()
        failed = process.wait()
    assert failed.code == 1, failed
    [failure] = failed.told["failures"]
    assert failure["key"].endswith("/6.csv.out")
    assert failure["code"] == "NOT_FOUND"
    rest = {name: body for name, body in ALL.items() if name != "6.csv.out"}
    assert place.look().files == rest
    again = job.run()
    assert (again.code, again.told["before"]) == (0, OBJECTS - 1)
    assert not place.look().has_marker


def test_an_input_that_changes(tmp_path: Path, model: Path) -> None:
    """It is done as it is by then."""
    with s3_server(["bucket"]) as s3:
        for index in range(OBJECTS):
            s3.put("bucket", f"in/{index}.csv", "\n".join(csv_rows(index, 40)).encode())
        flags = ("--set", f"storage.s3_endpoint_url={s3.url}", *ONE_AFTER_THE_OTHER)
        with Job(model, "s3://bucket/in/", "s3://bucket/out/", flags).start() as process:
            for _ in patient(60, "an output"):
                if s3.keys("bucket", "out/0"):
                    break
            s3.put("bucket", "in/6.csv", "\n".join(csv_rows(60, 40)).encode())
            found = process.wait()
        written = {key: s3.get("bucket", key) for key in s3.keys("bucket", "out/")}
    assert found.code == 0, found
    expected = {f"out/{name}": body for name, body in ALL.items()}
    assert written == expected | {"out/6.csv.out": answer(60)}


def test_an_input_that_changes_all_the_time(tmp_path: Path, model: Path) -> None:
    fill(tmp_path / "in")
    long = ",".join(["1." + "0" * 5000] * 4)
    write_lines(tmp_path / "in" / "6.csv", [long] * 200)  # more than is read in one go
    flags = (*ONE_AFTER_THE_OTHER, "--max-payload", "100KB")
    flags += ("--set", "jobs.object_retries_max=1", "--set", "jobs.in_flight_bytes_max=1MiB")
    with Job(model, tmp_path / "in", tmp_path / "out", flags).start() as process:
        while process.alive:
            with (tmp_path / "in" / "6.csv").open("ab") as file:
                file.write(b"1,2,3,4\n")
            time.sleep(0.01)
        failed = process.wait()
    assert failed.code == 1, failed
    [failure] = failed.told["failures"]
    assert failure["key"].endswith("/6.csv.out")
    assert "has changed meanwhile" in failure["error"]
    rest = {name: body for name, body in ALL.items() if name != "6.csv.out"}
    assert Files(tmp_path / "out").look().files == rest
