"""`hostler transform` over a store that throttles, stalls, cuts connections, or is away."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from fakes.s3_buckets import KINDS
from fakes.s3_server import Faults, S3Server, s3_server
from fakes.transform_jobs import Finished, Job, csv_rows, laborious, patient

SMALL: Final = 40
WIDE: Final = 500
QUICK: Final = ("--set", "storage.stall_timeout_s=0.5")
IMPATIENT: Final = ("--set", "storage.retries_max=1")
AWAY_S: Final = 2.0
"""Longer than an impatient store's client tries, and than the first pause of a job."""

CHANCES: Final = dict.fromkeys(KINDS, 0.04) | {"stall": 0.015, "stall_body": 0.015}


def body_of(index: int, count: int) -> bytes:
    return "".join(f"{row}\n" for row in csv_rows(index, count)).encode()


def answer_to(body: bytes, repeat: int) -> bytes:
    lines = body.decode().splitlines()
    rows = [",".join(str(2.0 * int(x)) for x in line.split(",")) for line in lines]
    return "".join(f"{','.join([row] * repeat)}\n" for row in rows).encode()


def fill(s3: S3Server, large: int) -> dict[str, bytes]:
    """Inputs of a page and more, some with an output of several parts; the outputs to come."""
    s3.page_max = 7
    counts = {f"{index:02}.csv": 20 for index in range(SMALL)}
    counts |= {f"large/{index}.csv": 2000 for index in range(large)}
    expected = {}
    for index, (name, count) in enumerate(counts.items()):
        body = body_of(index, count)
        s3.put("bucket", f"in/{name}", body)
        expected[f"out/{name}.out"] = answer_to(body, WIDE)
    return expected


def job_of(tmp_path: Path, s3: S3Server, *flags: str) -> Job:
    model = laborious(tmp_path / "m" / "model.onnx", 2, repeat=WIDE)
    where = ("--set", f"storage.s3_endpoint_url={s3.url}")
    return Job(model, "s3://bucket/in/", "s3://bucket/out/", (*where, *QUICK, *flags))


def check(s3: S3Server, finished: Finished, expected: dict[str, bytes]) -> None:
    assert finished.code == 0, (finished, s3.failed)
    assert finished.told["objects"] == len(expected)
    assert s3.keys("bucket", "out/") == sorted(expected), "lost, or more than there should be"
    for key, body in expected.items():
        assert s3.get("bucket", key) == body, key


def run_through_faults(tmp_path: Path, seed: int, large: int) -> Counter[str]:
    """What befell the requests of a job that finished well all the same."""
    with s3_server(["bucket"]) as s3:
        expected = fill(s3, large)
        parts = [body for body in expected.values() if len(body) > 16 << 20]
        assert len(parts) == large, "they are to have several parts"
        s3.faults = Faults(chances=CHANCES, seed=seed, in_a_row_max=2, stall_s=3)
        finished = job_of(tmp_path, s3).run()
        check(s3, finished, expected)
        assert s3.uploads == {}
        return s3.failed


def test_a_bad_network(tmp_path: Path) -> None:
    failed = run_through_faults(tmp_path, seed=1, large=1)
    assert sum(failed.values()) > 15, "too tame"


def test_a_refusal_that_breaks_off(tmp_path: Path) -> None:
    """The first that a job asks is for its marker, which is not there."""
    with s3_server(["bucket"]) as s3:
        expected = fill(s3, 0)
        s3.faults = Faults(at={("GetObject", 1): "cut_body"})
        check(s3, job_of(tmp_path, s3).run(), expected)
        assert s3.failed == {"cut_body": 1}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(2, 8))
def test_very_bad_networks(tmp_path: Path, seed: int) -> None:
    failed = run_through_faults(tmp_path, seed, large=4)
    assert sum(failed.values()) > 30, "too tame"
    assert len(failed) >= len(KINDS) - 2, "too tame"


@pytest.mark.parametrize("kind", ["throttle", "cut"])
def test_a_store_that_is_away_for_some_seconds(tmp_path: Path, kind: str) -> None:
    with s3_server(["bucket"]) as s3:
        expected = fill(s3, 0)
        s3.delay_s = 0.02
        job = job_of(tmp_path, s3, "--set", "jobs.objects_max=4", *IMPATIENT)
        with job.start() as process:
            for _ in patient(60, "some outputs"):
                if len(s3.keys("bucket", "out/")) > 5:
                    break
            s3.faults = Faults(chances={kind: 1.0})
            back = threading.Timer(AWAY_S, setattr, (s3, "faults", Faults()))
            back.start()
            finished = process.wait()
            back.join()
        check(s3, finished, expected)
        assert s3.failed[kind] >= 4


@pytest.mark.parametrize("operation", ["ListObjectsV2", "DeleteObject"])
def test_a_store_that_lists_or_deletes_only_later(tmp_path: Path, operation: str) -> None:
    """The first thing that a job asks for, and the last: that its marker goes."""
    with s3_server(["bucket"]) as s3:
        expected = fill(s3, 0)
        s3.faults = Faults(chances={"throttle": 1.0}, only=lambda asked, _: asked == operation)
        # Of a listing, the store's client alone sees to it that it goes on.
        job = job_of(tmp_path, s3, *(IMPATIENT if operation == "DeleteObject" else ()))
        with job.start() as process:
            for _ in patient(60, "the first request of its kind"):
                if s3.asked[operation]:
                    break
            back = threading.Timer(AWAY_S, setattr, (s3, "faults", Faults()))
            back.start()
            finished = process.wait()
            back.join()
        check(s3, finished, expected)
