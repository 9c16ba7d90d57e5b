"""An object larger than memory goes through `hostler transform` in little of it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from fakes.s3_buckets import Body, Stored
from fakes.s3_server import s3_server
from fakes.transform_jobs import Finished, Job

from bench import graphs

WIDTH: Final = 8192
LINES: Final = 64
"""Different ones; a large object repeats them."""

BYTES: Final = 2 << 30
OVER_IDLE_MAX: Final = 300 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def lines() -> list[bytes]:
    """Records of some 56 kB whose means are all different, and exact."""
    draw = np.random.default_rng(3)
    rows = draw.integers(0, 1024, (LINES, WIDTH)) / 1024
    return [",".join(f"{x:.4f}" for x in row).encode() + b"\n" for row in rows]


def write_large(path: Path, size: int) -> int:
    """Lines again and again, of so many bytes uncompressed; how many."""
    path.parent.mkdir(parents=True)
    block = b"".join(lines())
    blocks = -(-size // len(block))
    if path.suffix == ".gz":
        block = gzip.compress(block, 1, mtime=0)  # members in a row are one gzip
    with path.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
    return blocks * LINES


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(graphs.mean(WIDTH))
    return path


def idle(model: Path, folder: Path, *flags: str) -> tuple[int, list[bytes]]:
    """The peak memory of a job over one of each line, and the answers to them."""
    (folder / "few").mkdir()
    (folder / "few" / "a.csv").write_bytes(b"".join(lines()))
    (folder / "one").mkdir()
    (folder / "one" / "a.csv").write_bytes(lines()[0])
    assert Job(model, folder / "few", folder / "answers", flags).run().code == 0
    answers = (folder / "answers" / "a.csv.out").read_bytes().splitlines(keepends=True)
    assert len(set(answers)) == LINES
    return Job(model, folder / "one", folder / "none", flags).run().rss_max, answers


def check(found: Finished, before: int, count: int) -> None:
    over = found.rss_max - before
    print(f"idle {before >> 20} MiB, peak {found.rss_max >> 20} MiB, {found.told}")
    assert found.code == 0, found
    assert found.told["records"] == count
    assert over < OVER_IDLE_MAX


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_large_object(tmp_path: Path, model: Path, name: str) -> None:
    before, answers = idle(model, tmp_path)
    large = tmp_path / "large" / name
    count = write_large(large, BYTES)
    try:
        found = Job(model, large.parent, tmp_path / "out").run(timeout_s=600)
    finally:
        large.unlink()
    check(found, before, count)
    out = tmp_path / "out" / f"{name}.out"
    assert out.read_bytes() == b"".join(answers) * (count // LINES)


def test_a_large_object_of_a_bucket(tmp_path: Path, model: Path) -> None:
    before, answers = idle(model, tmp_path)
    large = tmp_path / "large" / "a.csv"
    count = write_large(large, BYTES)
    (tmp_path / "s3").mkdir()
    with s3_server(["bucket"], tmp_path / "s3") as s3:
        body = Body([(large.stat().st_size, large)])
        s3.buckets["bucket"].put("in/a.csv", Stored(body, '"large"'))
        flags = ("--set", f"storage.s3_endpoint_url={s3.url}")
        try:
            found = Job(model, "s3://bucket/in/", "s3://bucket/out/", flags).run(timeout_s=600)
        finally:
            large.unlink()
        check(found, before, count)
        assert s3.get("bucket", "out/a.csv.out") == b"".join(answers) * (count // LINES)
